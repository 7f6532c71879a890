"""What DuckDB's errors mean, in this program's words: names of the SQL are kept, values of rows never are."""

from __future__ import annotations

import re
from pathlib import Path

from warehouse_sync.errors import WarehouseError

_SAFE = ("Catalog Error", "Binder Error", "Parser Error", "Syntax Error")
"""Errors whose first line speaks of names in the SQL; all others may print values of rows."""

_DAMAGED = "corrupt database file"
_RESTORE = "restore it, or build it again."
_FOREIGN = (
    "is no DuckDB file",
    "files of another kind are read by a model, with `warehouse: {type: duckdb, path: ':memory:'}`:"
    " from read_csv('…'), read_parquet('…') or read_json('…').",
)
_FILES = {
    "created with a newer": ("was written by a newer DuckDB{version}", "upgrade the package `duckdb` here."),
    "storage version number": (
        "was written by a DuckDB of long ago{version}",
        "EXPORT DATABASE with the DuckDB that wrote it, and IMPORT DATABASE with this one.",
    ),
    "could not read enough bytes": ("is cut short", _RESTORE),
    _DAMAGED: ("is damaged", _RESTORE),
    "sqlite_scanner": ("is a SQLite file", "read it with `type: sqlalchemy` and `url: sqlite:///…`."),
    "not a valid duckdb database file": _FOREIGN,
    "cannot launch in-memory database": _FOREIGN,
}
"""What DuckDB says of a file that it does not open, in lower case -> what is so, and what to do. The first counts."""


def file_trouble(error: Exception, shown: str) -> WarehouseError | None:
    """Why a file, as it may be `shown`, cannot be attached; None where it is not for what is in it."""
    text = str(error)
    for mark, (what, hint) in _FILES.items():
        if mark in text.lower():
            found = re.search(r"storage version number (\d+)", text)
            version = f" (storage version {found[1]})" if found else ""
            return WarehouseError(f"{shown} {what.format(version=version)}", hint=hint)
    return None


def explain(error: Exception, place: str) -> WarehouseError:
    """A DuckDB error in this program's words: names of the SQL are kept, values of rows never are.

    A stream's errors arrive as OSError with DuckDB's text, so the text decides.

    `line` is the line of the SQL text (1-based), 0 when DuckDB names none.
    """
    text = str(error)
    kind = text.partition(":")[0]
    lock = re.search(r"Conflicting lock is held in (.*?) ?\(PID (\d+)\)", text)
    if "Could not set lock" in text or lock:
        who = f"{Path(lock.group(1)).name} (PID {lock.group(2)})" if lock else "another process"
        return WarehouseError(
            f"{place} is locked by {who}: a `dbt build` or another program has it open for writing",
            hint="run again when it is done; reading never blocks it longer than the extraction takes.",
        )
    found = re.search(r"^LINE (\d+):", text, re.MULTILINE)
    line = int(found.group(1)) if found else 0
    first = text.partition("\n")[0].strip()
    if kind in _SAFE:
        similar = re.search(r"(Did you mean|Candidate (?:bindings|tables)|Candidates?:)[^\n]*", text)
        return WarehouseError(f"DuckDB: {first}", line=line, hint=similar.group(0).strip() if similar else "")
    if kind == "Out of Memory Error":
        return WarehouseError(
            "DuckDB ran out of memory while reading this model", hint="raise `engine.memory_limit` in the YAML."
        )
    if kind.lower() == _DAMAGED:
        return WarehouseError(
            f"{place}, or the snapshot that its rows are compared with, is damaged: a checksum in it does not hold",
            hint="restore the warehouse's file, or build it again, and look at the disk.",
        )
    missing = re.search(r'No files found that match the pattern "([^"]+)"', text)
    if missing:
        return WarehouseError(
            f"a file that a view or source reads is missing: {missing[1]}",
            hint="relative names start at dbt's project if there is one, or else at the working folder.",
        )
    if kind == "IO Error":
        if f'"{place}"' in text and (trouble := file_trouble(error, place)) is not None:
            return trouble
        return WarehouseError(
            f"{place} cannot be read ({_io_reason(text)})", hint="check the path, its permissions and the disk."
        )
    return WarehouseError(
        f"DuckDB stopped with `{kind_of(error)}` while it read this model;"
        " its text is not shown because it can hold values of rows",
        line=line,
        hint="run the compiled SQL (`warehouse-sync compile -s MODEL`) in DuckDB to see it.",
    )


def kind_of(error: Exception) -> str:
    """What DuckDB calls an error of this kind; says nothing of any value."""
    kind = str(error).partition(":")[0]
    return kind if kind.endswith("Error") else type(error).__name__


def _io_reason(text: str) -> str:
    for mark in ("No such file", "Permission denied", "No space left", "Is a directory"):
        if mark.lower() in text.lower():
            return mark
    return "input/output error"


__all__ = ["explain", "file_trouble", "kind_of"]
