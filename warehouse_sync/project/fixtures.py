"""Rows of unit tests that are text: CSV, and the files that hold it. A column's type is what all of its cells are."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from warehouse_sync.project.yaml.document import DateText

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?")

_KINDS: tuple[tuple[Callable[[str], object], Callable[[str], Any]], ...] = (
    (_INTEGER.fullmatch, int),
    (lambda cell: _INTEGER.fullmatch(cell) or _DECIMAL.fullmatch(cell), Decimal),
    (lambda cell: cell.lower() in ("true", "false"), lambda cell: cell.lower() == "true"),
    (_TIME.fullmatch, DateText),
)
"""What a column may be, in this order: the test of each cell, and its value. Anything else is text (`007` too)."""


class FixtureError(Exception):
    """The text is no CSV, or the file is not there."""


@dataclass(frozen=True)
class Cell:
    """A cell of expected rows: its text, and the value that its column makes of it. It may mean either."""

    text: str
    value: Any


def csv_rows(text: str) -> tuple[Mapping[str, Any], ...]:
    """The rows of a CSV text with a header; an empty cell is NULL. Raises FixtureError."""
    names, columns = _columns(text)
    typed = [_typed(cells) for cells in columns]
    return tuple(dict(zip(names, cells, strict=True)) for cells in zip(*typed, strict=True))


def csv_cells(text: str) -> tuple[Mapping[str, Any], ...]:
    """As `csv_rows`, with a `Cell` in the place of every value but NULL. Raises FixtureError."""
    names, columns = _columns(text)
    rows = zip(csv_rows(text), zip(*columns, strict=True), strict=True)
    return tuple(
        {name: None if row[name] is None else Cell(cell, row[name]) for name, cell in zip(names, cells, strict=True)}
        for row, cells in rows
    )


CsvReader = Callable[[str], tuple[Mapping[str, Any], ...]]


def _columns(text: str) -> tuple[list[str], list[list[str]]]:
    """Names, and the cells of each column."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text.strip("\n")), skipinitialspace=True, strict=True) if line]
    except csv.Error as error:
        raise FixtureError(f"is not CSV: {error}") from None
    if not lines:
        raise FixtureError("is empty: CSV begins with a line of column names")
    names = [name.strip() for name in lines[0]]
    if len(set(names)) < len(names) or not all(names):
        raise FixtureError("two columns have one name, or one has none")
    for number, cells in enumerate(lines[1:], start=1):
        if len(cells) != len(names):
            raise FixtureError(f"row {number} has {len(cells)} cells, and there are {len(names)} columns")
    return names, [[cells[place].strip() for cells in lines[1:]] for place in range(len(names))]


def _typed(cells: Sequence[str]) -> list[Any]:
    there = [cell for cell in cells if cell]
    value = next((value for fits, value in _KINDS if all(map(fits, there))), str)
    return [value(cell) if cell else None for cell in cells]


def find_fixture(folder: Path, name: str, format_: str | None) -> tuple[Path, str]:
    """A fixture's file and text, beside the tests or in `fixtures/`; its ending may be missing. Raises FixtureError."""
    endings = [f".{format_}"] if format_ in ("csv", "sql") else [".csv", ".sql"]
    names = [name] if Path(name).suffix.lower() in (".csv", ".sql") else [name + ending for ending in endings]
    places = [folder / part / one for part in ("fixtures", "") for one in names]
    there = [place for place in places if place.is_file()]
    if not there:
        raise FixtureError(f"there is no such file: looked for {', '.join(str(place) for place in places)}")
    path = there[0]
    if len({place.suffix for place in there}) > 1:
        both = " and ".join(place.name for place in there)
        raise FixtureError(f"there are {both}: write the ending too, as in `fixture: {path.name}`")
    if path.suffix.lower().lstrip(".") != (format_ or path.suffix.lower().lstrip(".")):
        raise FixtureError(f"`format: {format_}` does not go with {path.name}")
    try:
        return path, path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FixtureError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


__all__ = ["Cell", "CsvReader", "FixtureError", "csv_cells", "csv_rows", "find_fixture"]
