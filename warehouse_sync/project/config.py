"""The YAML file, read and checked: `load_config` gives a frozen `Config` or one report of everything that is wrong.

file -> document.read_document   values, positions, variables; duplicate keys, YAML's traps
     -> keys of later versions    taken out, each with its own message
     -> dbt_config                dbt's project, and a profile's target in place of `warehouse: {dbt: …}`
     -> settings.Config           pydantic: keys, types, ranges
     -> complaints.complain       its errors, in the user's words, at their line
     -> rules between keys        that no single key can break
     -> of_models                 the YAML's header keys, the models they are for, selections

A value whose variable is not set, or is empty where an empty text will not do, is judged by nobody. Whether that is an
error is up to the verb: `load_config` is told which sections it does not use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError

from warehouse_sync.errors import ConfigError, UsageError
from warehouse_sync.project import places
from warehouse_sync.project.dbt import config as dbt_config
from warehouse_sync.project.quantities import Allowance, format_size
from warehouse_sync.project.yaml.complaints import complain, warehouse_type
from warehouse_sync.project.yaml.connections import (
    DuckDBWarehouse,
    PostgresWarehouse,
    Section,
    SnowflakeWarehouse,
    SqlAlchemyWarehouse,
)
from warehouse_sync.project.yaml.document import FAULT, Document, KeyPath, dotted, read_document
from warehouse_sync.project.yaml.environment import Expanded, secret_variables, unset_in
from warehouse_sync.project.yaml.fields import Context
from warehouse_sync.project.yaml.layout import keys_of, kind_of, section_at
from warehouse_sync.project.yaml.schema import json_schema
from warehouse_sync.project.yaml.settings import Batch, Config, Job, Models, State

CONFIG_VARIABLE = "WAREHOUSE_SYNC_CONFIG"

ROOT_FILE = "warehouse_sync"
"""Name of a YAML file that stands in the project's root, where `../` leads out of the project."""

# Known from the first day, so that nobody hunts for a typing error in a key of the manual.
NOT_BUILT = ("privacy", "freshness", "notify", "metrics", "row_log")
_NOT_BUILT = "is not built yet in this version: leave it out"

_AnySection = TypeVar("_AnySection", bound=Section)


def load_config(path: Path, environ: Mapping[str, str], unused: Collection[str] | None = ()) -> Config:
    """Read the YAML file at `path` with the variables of `environ`.

    A file of a newer version gets only that one problem: its other keys would be judged by the wrong rules.
    In the sections `unused` (None: in all of them) a missing variable is no problem of the file; a key that holds one
    is a ConfigError when it is read.

    Raises:
        ConfigError: with every problem of the file, sorted by line; none shows a secret or the value of a variable.
    """
    document = read_document(path, environ, kind_of)
    file = path.absolute()
    config = None
    if document.value is not FAULT:
        config = _validated(document, Context(file.parent.resolve(), environ.get("HOME")), environ)
    missing = [
        problem
        for key, problems in document.unset.items()
        if unused is not None and not set(key[:1]) & set(unused)
        for problem in problems
    ]
    if config is None or document.problems or missing:
        raise ConfigError([*document.problems, *missing])
    config._file = file
    config._positions = document.positions()
    config._more_secrets = tuple(SecretStr(text) for text in secret_variables(environ))
    return config


def find_config(option: Path | None, environ: Mapping[str, str]) -> Path:
    """The YAML file to use: the option, $WAREHOUSE_SYNC_CONFIG, warehouse_sync.yml, or the only file in configs/.

    Raises:
        UsageError: there is none, or more than one; the message says where was looked.
    """
    named = environ.get(CONFIG_VARIABLE)
    for chosen, origin in ((option, "--config"), (Path(named) if named else None, CONFIG_VARIABLE)):
        if chosen is not None:
            if chosen.is_file():
                return chosen
            what = "is a folder, not a file" if chosen.is_dir() else "does not exist"
            raise UsageError(f"{chosen} ({origin}) {what}", hint="name the YAML file: --config configs/prod.yml")
    here = [Path(f"{ROOT_FILE}.{ending}") for ending in ("yml", "yaml")]
    for place in (here, sorted([*Path("configs").glob("*.yml"), *Path("configs").glob("*.yaml")])):
        files = [file for file in place if file.is_file()]
        if len(files) == 1:
            return files[0]
        if files:
            names = ", ".join(str(file) for file in files)
            raise UsageError(f"more than one YAML file: {names}", hint=f"choose one with --config or {CONFIG_VARIABLE}")
    above = next((folder for folder in Path.cwd().parents if _has_project(folder)), None)
    raise UsageError(
        f"no YAML file: looked for --config, {CONFIG_VARIABLE}, warehouse_sync.yml and configs/*.yml in {Path.cwd()}",
        hint=f"there is one in {above}: go there, or name it with --config"
        if above
        else "`warehouse-sync init` writes a project to begin with",
    )


def _has_project(folder: Path) -> bool:
    """True where a YAML file would be found, and is ours: others have a folder `configs` too."""
    models = any(folder.glob("models_sql/*.sql"))
    return any(folder.glob("warehouse_sync.y*ml")) or (models and any(folder.glob("configs/*.y*ml")))


def _validated(document: Document, context: Context, environ: Mapping[str, str]) -> Config | None:
    raw = document.value
    if not isinstance(raw, dict):
        document.report((), "the file must be a mapping: lines of `key: value`")
        return None
    version = raw.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > 1:
        document.problems.clear()
        document.unset.clear()
        document.report(
            ("version",), f"this file needs a newer warehouse-sync: version {version}, and this one reads 1"
        )
        return None
    _take_out_later_keys(document, raw)
    for key, value in raw.items():
        # A section whose keys are all commented out is there, and empty.
        if value is None and (key == "warehouse" or section_at((key,), None)):
            raw[key] = {}
    project = dbt_config.project_of(document, context, environ)
    targets = dbt_config.put_in_profile(document, context, environ, project)
    config = _checked(document, context)
    if config is not None:
        config._dbt_project, config._dbt_targets = project, targets
    wrong = {problem.key for problem in document.problems} | {dotted(path) for path in document.unset}
    of_config = (*_known(dbt_config.rules(config)), *_known(_snapshot_rules(config))) if config else ()
    of_file = (*_sizes(document, wrong), *credentials(raw), *_model_rules(raw, context), *_places(document))
    for path, message in (*of_file, *of_config):
        if dotted(path) not in wrong and not document.covers(path):
            document.report(path, message, at_key=True)
    return config


def _checked(document: Document, context: Context) -> Config | None:
    """The values in their types; None where one is wrong. Each round takes empty variables for missing ones."""
    while True:
        warehouse, found = document.value.get("warehouse"), len(document.unset)
        if isinstance(warehouse, dict) and any(unset_in(warehouse.get("type"))):
            # Which keys it can have is not known.
            document.value["warehouse"] = warehouse["type"]
        try:
            return Config.model_validate(document.value, context=context)
        except ValidationError as error:
            complain(error, document)
        if document.problems or len(document.unset) == found:
            return None


def _model_rules(raw: dict[str, Any], context: Context) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong in the sections that speak of models. Jinja and the models' folder are looked at only for those."""
    models = raw.get("models")
    if raw.get("selectors") or (isinstance(models, dict) and (models.get("config") or models.get("overrides"))):
        from warehouse_sync.project import of_models

        yield from of_models.rules(raw, context)


def _places(document: Document) -> Iterator[tuple[KeyPath, str]]:
    """In the project's root no place may be left to its default: projects side by side would share one state store."""
    if document.file.stem != ROOT_FILE:
        return
    of: tuple[tuple[str, type[Section], str], ...] = (
        ("models", Models, "path"), ("state", State, "url"), ("state", State, "dir"),
    )  # fmt: skip
    for section, kind, key in of:
        if (section, key) not in document.keys:
            default = kind.model_fields[key].default
            inside = default.replace("../", "")
            yield (section, key), f"give it here, `{key}: {inside}`: left out it is {default}, outside of this folder"


def _known(rules: Iterator[tuple[KeyPath, str]]) -> Iterator[tuple[KeyPath, str]]:
    """What rules find, as far as the variables that they ask for are there."""
    with suppress(ConfigError):
        yield from rules


def _take_out_later_keys(document: Document, raw: dict[str, Any]) -> None:
    for key in NOT_BUILT:
        if raw.pop(key, None) is not None or (key,) in document.keys:
            document.report((key,), _NOT_BUILT, at_key=True)


def _snapshot_rules(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """What the keys of `snapshot` need of each other, and of the warehouse."""
    inside, kind = config.snapshot.where == "warehouse", config.warehouse.type
    if inside and kind == "sqlalchemy":
        yield ("snapshot", "where"), "`warehouse` goes with duckdb, postgres and snowflake, not with sqlalchemy"
    if inside and config.snapshot.schema_name is None:
        yield ("snapshot", "schema"), "required with `where: warehouse`: the schema that holds the snapshot tables"
    if not inside and config.snapshot.schema_name is not None:
        yield ("snapshot", "schema"), "goes with `where: warehouse`"


def _sizes(document: Document, wrong: set[str]) -> Iterator[tuple[KeyPath, str]]:
    """A line must fit into a batch and a batch into a job; judged wherever both numbers are readable."""
    batch, job = _readable(Batch, "batch", document, wrong), _readable(Job, "job", document, wrong)
    rules = (
        (
            ("batch", "max_line"),
            batch.max_line,
            ("batch", "max_bytes"),
            batch.max_bytes,
            "a line must fit into a batch",
        ),
        (("batch", "max_bytes"), batch.max_bytes, ("job", "max_bytes"), job.max_bytes, "a batch must fit into a job"),
        (("batch", "max_rows"), batch.max_rows, ("job", "max_rows"), job.max_rows, "a batch must fit into a job"),
    )
    for small, less, large, more, rule in rules:
        if less <= more or wrong & {dotted(small), dotted(large), small[0], large[0]}:
            continue
        shown = [str(value) if small[1] == "max_rows" else format_size(value) for value in (less, more)]
        place = small if small in document.keys else large
        message = f"{rule}: {dotted(small)} is {shown[0]}, {dotted(large)} only {shown[1]}"
        yield place, message


def _readable(section: type[_AnySection], name: str, document: Document, wrong: set[str]) -> _AnySection:
    """A section from those of its keys that have no problem, the others at their defaults."""
    raw = document.value.get(name)
    values = raw if isinstance(raw, dict) else {}
    known = keys_of(section)
    return section.model_validate(
        {key: value for key, value in values.items() if key in known and f"{name}.{key}" not in wrong}
    )


def credentials(raw: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Keys of a Snowflake login that need, or exclude, each other."""
    if warehouse_type(raw) != "snowflake":
        return
    given = {key: value for key, value in raw["warehouse"].items() if not _is_blank(value)}
    unset = {key for key, value in given.items() if any(unset_in(value))}
    authenticator = "unset" if "authenticator" in unset else str(given.get("authenticator", "")).lower()
    above = "warehouse"
    if "user" not in given and not authenticator.startswith(("oauth", "workload", "unset")):
        yield (above, "user"), "required, but missing"
    if "private_key" in given and "private_key_path" in given:
        yield (above, "private_key_path"), "stands beside `private_key`: give one of them"
    if "private_key_passphrase" in given and not given.keys() & {"private_key", "private_key_path"}:
        yield (above, "private_key_passphrase"), "has no key to open: `private_key` and `private_key_path` are missing"
    if "token" in given and not authenticator:
        yield (above, "token"), "needs `authenticator`: oauth or programmatic_access_token"
    if not authenticator and not given.keys() & {"password", "private_key", "private_key_path", "token"}:
        yield (above,), "no way to log in: give `private_key_path`, `private_key`, `password` or `token`"
    if given.get("protocol") == "http" and "host" not in unset and not places.is_loopback(str(given.get("host", ""))):
        yield (above, "protocol"), "plain http is only for a host on this machine (127.0.0.1, localhost)"


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, Expanded) and value.absent)


__all__ = [
    "CONFIG_VARIABLE", "NOT_BUILT", "Allowance", "Config", "DuckDBWarehouse", "PostgresWarehouse", "SnowflakeWarehouse",
    "SqlAlchemyWarehouse", "find_config", "json_schema", "load_config",
]  # fmt: skip
