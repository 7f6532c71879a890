"""The files that `init` and `demo` write: the shipped models and config, in the wheel or in a checkout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.errors import DiskError, UsageError

if TYPE_CHECKING:
    from warehouse_sync.project.dbt.project_file import DbtProject

PACKAGE = Path(__file__).parent.parent
CONFIG = Path("configs") / "duckdb.yml"
SCHEMA = Path("configs") / "schema.json"
WAREHOUSE = Path("warehouse.duckdb")
US = "https://analytex.userpilot.io"

GITIGNORE = """\
# What warehouse-sync remembers (back it up, but not here), warehouses, secrets
.warehouse_sync/
*.duckdb
*.duckdb.wal
.env
"""


def shipped(package: Path = PACKAGE) -> Path:
    """The folder that holds `models_sql/` and `configs/`: inside the wheel's package, or above it in a checkout."""
    for folder in (package / "_project", package.parent):
        if (folder / "models_sql").is_dir() and (folder / CONFIG).is_file():
            return folder
    raise UsageError(
        "this installation of warehouse-sync lacks its example project",
        hint="install it again: pip install --force-reinstall warehouse-sync",
    )


def project_files(settings: Mapping[str, str], kind: str = "duckdb", endpoint: str = US) -> dict[Path, str]:
    """Every file of a new project by its relative path; `settings` replaces values of the YAML by their dotted key."""
    root = shipped()
    path = CONFIG.with_stem(kind)
    config = (root / path).read_text(encoding="utf-8")
    for key, value in settings.items():
        config = _with_value(config, key, value)
    if endpoint != US:
        config = re.sub(rf"^(  endpoint: \S*){re.escape(US)}", rf"\g<1>{endpoint}", config, flags=re.MULTILINE)
    models = {
        path.relative_to(root): path.read_text(encoding="utf-8")
        for path in sorted((root / "models_sql").rglob("*"))
        if path.suffix in (".sql", ".yml", ".csv")
    }
    return {path: config, SCHEMA: schema_text(), **models, Path(".gitignore"): GITIGNORE}


def dbt_files(name: str, endpoint: str, project: DbtProject, folder: Path) -> dict[Path, str]:
    """Every file of a new project in `folder` that goes by a dbt project."""
    from warehouse_sync.cli.dbt_draft import config_text, model_text

    return {
        CONFIG.with_stem("dbt"): config_text(name, endpoint, project, folder),
        SCHEMA: schema_text(),
        Path("models_sql") / "users.sql": model_text(project),
        Path(".gitignore"): GITIGNORE,
    }


def schema_text() -> str:
    """The JSON Schema of the YAML files, for the editor: their line `$schema=schema.json` names it."""
    import json

    from warehouse_sync.project.config import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_files(folder: Path, files: Mapping[Path, str]) -> None:
    """Write them all, or nothing when one is there already. Raises UsageError or DiskError."""
    check_free(folder, files)
    try:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{error.filename or folder} cannot be written: {error.strerror}") from None


def check_free(folder: Path, files: Iterable[Path]) -> None:
    """Raises UsageError when one of the files is there already."""
    there = [str(path) for path in files if (folder / path).exists()]
    if there:
        raise UsageError(
            f"{folder} has {', '.join(there)} already, and nothing is written over",
            hint="name another folder: warehouse-sync init my-sync",
        )


def _with_value(config: str, key: str, value: str) -> str:
    """The YAML text with the value of one key replaced; comments and layout stay."""
    name = key.rpartition(".")[2]
    indent = "  " * key.count(".")
    changed, count = re.subn(
        rf"^({indent}{re.escape(name)}:[ ]+)(\S+)", lambda match: match[1] + value, config, flags=re.MULTILINE
    )
    if count != 1:
        raise LookupError(f"the shipped config does not hold {key} once")
    return changed
