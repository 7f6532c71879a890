"""dbt's profiles.yml as the settings of a warehouse: `warehouse: {dbt: {profiles_dir, profile, target}}`.

Looked for as dbt does (docs.getdbt.com/docs/core/connect-data-platform/connection-profiles): the named folder,
$DBT_PROFILES_DIR, the project, the working directory, ~/.dbt. `{{ env_var() }}` is put in after parsing; keys that mean
nothing to a sync (`threads`, `retries`, …) are passed over. No message shows a value of the file. Of dbt's variables
those that begin with DBT_ENGINE_ go before the older names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warehouse_sync.errors import ConfigError, Problem
from warehouse_sync.project.dbt.project_file import (
    DbtProject,
    Place,
    RenderError,
    UnsetVariable,
    read_mapping,
    render,
    variable,
)
from warehouse_sync.project.names import nearest
from warehouse_sync.project.yaml.connections import ProfileChoice
from warehouse_sync.project.yaml.environment import Expanded, unset_in
from warehouse_sync.project.yaml.layout import WAREHOUSES, keys_of

FILE = "profiles.yml"

_REDSHIFT_PORT = 5439
_TEXTS = ("password", "pass", "user", "dbname", "database", "schema")
_ATTACHED = ("path", "alias", "type")
_PLACE = ("database", "dbname", "schema", "path")

_Placed = tuple[str, Place]


class ProfileError(Exception):
    """The profile cannot be used; the message is a sentence without values of the file."""


class UnsetInProfile(ProfileError):
    """Which target to use, or of which type it is, depends on a variable that is not set."""


@dataclass(frozen=True)
class ProfileSearch:
    """Where a profile is looked for: environment, home directory (None: the system's), dbt project, working folder."""

    environ: Mapping[str, str]
    home: str | None = None
    project: DbtProject | None = None
    folder: Path = Path()


@dataclass(frozen=True)
class Profile:
    """One target; `default` is the one that dbt takes by itself, `places` has all of its type that can be read.

    `varies`: a variable decides about the default. `settings` are keys of the YAML's `warehouse`, `Expanded.unset`
    where a variable is missing; relative paths in them start at `folder`, where dbt is run: the project's folder, or
    else that of profiles.yml.
    """

    file: Path
    name: str
    target: str
    default: str
    folder: Path
    settings: Mapping[str, Any]
    places: Mapping[str, Place]
    varies: bool


def read_profile(choice: ProfileChoice, around: ProfileSearch) -> Profile:
    """The chosen target as settings. Raises ProfileError."""
    file = _find(choice, around)
    try:
        raw = read_mapping(file)
    except ConfigError as error:
        raise ProfileError(str(error)) from None
    # YAML takes `1` and `yes` for other things than names.
    profiles = {str(name): value for name, value in raw.items() if name != "config" and isinstance(value, dict)}
    name = _profile_name(choice, around, file, profiles)
    outputs = profiles[name].get("outputs")
    if not isinstance(outputs, dict) or not outputs:
        raise ProfileError(f"{file}: the profile `{name}` has no `outputs`")
    outputs = {str(target): output for target, output in outputs.items()}
    named = str(profiles[name].get("target") or "default")
    try:
        default = render(named, around.environ)
    except RenderError as error:
        kind = UnsetInProfile if isinstance(error, UnsetVariable) else ProfileError
        raise kind(f"{file}: {name}.target: {error}") from None
    target = choice.target or variable("TARGET", around.environ) or default
    output = outputs.get(target)
    if not isinstance(output, dict):
        near = nearest(target, outputs) or f" (there: {', '.join(map(str, outputs))})"
        raise ProfileError(f"{file}: the profile `{name}` has no target `{target}`{near}")
    key = f"{name}.outputs.{target}"
    settings = _settings(_rendered(output, file, key, around.environ), f"{file}: {key}")
    folder = around.project.folder if around.project else file.parent
    places = dict(_places(outputs, output, around.environ))
    return Profile(file, name, target, default, folder, settings, places, default != named)


def _places(outputs: Mapping[str, Any], chosen: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[_Placed]:
    """Database and schema of every target of the chosen one's type, as dbt's adapters have them by default."""
    for target, output in outputs.items():
        if not isinstance(output, dict) or output.get("type") != chosen.get("type"):
            continue
        wanted = {key: output[key] for key in _PLACE if output.get(key) is not None}
        try:
            given = {key: render(str(value), environ) for key, value in wanted.items()}
        except RenderError:
            # Its variables may be set only where that target is used.
            continue
        if output.get("type") == "duckdb":
            given = {"schema": "main", "database": _duckdb_name(given.get("path", ""))} | given
        if "schema" in given:
            yield target, (given.get("database") or given.get("dbname") or "", given["schema"])


def _duckdb_name(path: str) -> str:
    """The name under which DuckDB knows the file: `my` for `data/my.db.duckdb`, `shop` for `md:shop?…`."""
    file = path.partition("?")[0].removeprefix("md:").rpartition("/")[2]
    return file.lstrip(".").partition(".")[0]


def _find(choice: ProfileChoice, around: ProfileSearch) -> Path:
    named = variable("PROFILES_DIR", around.environ)
    home = Path(around.home) if around.home else Path.home()
    if choice.profiles_dir is not None:
        places = [choice.profiles_dir]
    elif named:
        places = [around.folder / Path(named).expanduser()]
    else:
        places = [*([around.project.folder] if around.project else []), around.folder, home / ".dbt"]
    file = next((folder / FILE for folder in places if (folder / FILE).is_file()), None)
    if file is None:
        looked = ", ".join(str(folder) for folder in dict.fromkeys(places))
        raise ProfileError(f"there is no {FILE} in {looked}: name its folder as `profiles_dir`")
    return file


def _profile_name(choice: ProfileChoice, around: ProfileSearch, file: Path, profiles: Mapping[str, Any]) -> str:
    project = around.project.profile if around.project else None
    name = choice.profile or variable("PROFILE", around.environ) or project
    if name is None:
        # Others hold what YAML's anchors share.
        usable = [name for name, value in profiles.items() if "outputs" in value] or list(profiles)
        if len(usable) != 1:
            raise ProfileError(f"{file} has {len(usable)} profiles: name one as `profile`")
        name = usable[0]
    if name not in profiles:
        near = nearest(name, profiles) or f" (there: {', '.join(map(str, profiles)) or 'none'})"
        raise ProfileError(f"{file} has no profile `{name}`{near}")
    return name


def _rendered(value: Any, file: Path, key: str, environ: Mapping[str, str]) -> Any:
    """The value with its variables; what came through Jinja may be read as a number or boolean by its key."""
    if isinstance(value, dict):
        return {str(name): _rendered(item, file, f"{key}.{name}", environ) for name, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, file, f"{key}[{place}]", environ) for place, item in enumerate(value)]
    if not isinstance(value, str) or ("{{" not in value and "{%" not in value):
        return value
    try:
        return Expanded(render(value, environ))
    except UnsetVariable as error:
        unset = Expanded(value)
        unset.unset = (Problem(file, 0, 0, key, str(error)),)
        return unset
    except RenderError as error:
        raise ProfileError(f"{file}: {key}: {error}") from None


def _settings(output: Mapping[str, Any], where: str) -> dict[str, Any]:
    for unset in unset_in(output.get("type")):
        raise UnsetInProfile(str(unset))
    kind = str(output.get("type", ""))
    if kind not in _MAPPED:
        known = ", ".join(_MAPPED)
        raise ProfileError(f"{where}: its type is `{kind}`, and a sync reads profiles of {known}")
    # As dbt has it, an optional key may be there and empty: `role: "{{ env_var('ROLE', '') }}"`.
    given = {key: value for key, value in output.items() if value not in (None, "")}
    return _MAPPED[kind](given, where)


def _known(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that this program has too, under the same names; texts where it wants texts."""
    known = keys_of(WAREHOUSES[kind]).keys() - {"type"}
    return {"type": kind} | {key: _as_text(key, value) for key, value in given.items() if key in known}


def _as_text(key: str, value: Any) -> Any:
    """YAML reads a password of digits as a number, and so does dbt, which turns it back."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number and key in _TEXTS else value


def _duckdb(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    if str(given.get("path", ":memory:")).startswith(":memory:"):
        raise ProfileError(f"{where}: the database is in memory: nothing of it is left for a sync to read")
    settings = _known("duckdb", given)
    if isinstance(given.get("attach"), list):
        entries = [item for item in given["attach"] if isinstance(item, dict)]
        settings["attach"] = [{key: item[key] for key in _ATTACHED if item.get(key) is not None} for item in entries]
    for more in ("config_options", "settings"):
        options = given.get(more)
        if isinstance(options, dict) and "motherduck_token" in options:
            settings.setdefault("token", str(options["motherduck_token"]))
    return settings


def _snowflake(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "oauth_client_id" in given:
        raise ProfileError(
            f"{where}: OAuth with a refresh token is a login for people: give a key pair or an access token"
        )
    return _known("snowflake", given)


def _postgres(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    return _known("postgres", given)


def _redshift(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Redshift speaks PostgreSQL's protocol; what is its own (IAM, clusters) has no counterpart there."""
    method = str(given.get("method", "database"))
    if method != "database":
        raise ProfileError(f"{where}: its login method is `{method}`, and a sync logs in by user and password only")
    return {"port": _REDSHIFT_PORT, **_known("postgres", given)}


_MAPPED: dict[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    "duckdb": _duckdb,
    "snowflake": _snowflake,
    "postgres": _postgres,
    "redshift": _redshift,
}

__all__ = ["Profile", "ProfileError", "ProfileSearch", "UnsetInProfile", "read_profile"]
