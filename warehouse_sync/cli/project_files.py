"""The files that `init` and `demo` write: the shipped models and config, in the wheel or in a checkout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from warehouse_sync.errors import DiskError, UsageError

PACKAGE = Path(__file__).parent.parent
CONFIG = Path("configs") / "duckdb.yml"
WAREHOUSE = Path("warehouse.duckdb")

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


def project_files(settings: Mapping[str, str]) -> dict[Path, str]:
    """Every file of a new project by its relative path; `settings` replaces values of the YAML by their dotted key."""
    root = shipped()
    config = (root / CONFIG).read_text(encoding="utf-8")
    for key, value in settings.items():
        config = _with_value(config, key, value)
    models = {
        path.relative_to(root): path.read_text(encoding="utf-8") for path in sorted((root / "models_sql").glob("*.sql"))
    }
    return {CONFIG: config, **models, Path(".gitignore"): GITIGNORE}


def write_files(folder: Path, files: Mapping[Path, str]) -> None:
    """Write them all, or nothing when one is there already. Raises UsageError or DiskError."""
    there = [str(path) for path in files if (folder / path).exists()]
    if there:
        raise UsageError(
            f"{folder} has {', '.join(there)} already, and nothing is written over",
            hint="name another folder: warehouse-sync init my-sync",
        )
    try:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{error.filename or folder} cannot be written: {error.strerror}") from None


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
