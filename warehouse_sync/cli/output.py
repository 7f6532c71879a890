"""Data on stdout: JSON, one object a line, or tables for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from warehouse_sync.cli.session import is_terminal

WIDE = 10_000
"""Columns where nobody looks at a terminal: nothing is cut or folded."""

GAP = 2
"""Blanks between two columns of a table."""

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}
_CONTROLS |= {code: f"\\u{code:04x}" for code in (0x200B, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)}
"""Characters that would not show, break a line or turn its direction -> what shows instead."""


def print_data(text: str) -> None:
    """One piece of data, with a newline."""
    sys.stdout.write(text + "\n")


def print_json(value: Any) -> None:
    """One JSON value on one line; times as ISO 8601, paths and enums as text."""
    print_data(json.dumps(value, ensure_ascii=False, default=_plain))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """A table as wide as the terminal allows."""
    print_data(table(headings, rows, title=title, width=terminal_width() if is_terminal(sys.stdout) else WIDE))


def terminal_width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size().columns


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", width: int = WIDE) -> str:
    """Rows below their headings; numbers to the right, None as nothing, control characters made visible.

    Where `width` is too small, cells are folded between words; where that does not help, each row is a block of lines,
    one a column.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [list(map(cell, row)) for row in rows]
    widths = _widths([list(column) for column in zip(headings, *texts, strict=True)], width)
    if widths is None:
        return "\n\n".join(([title.rstrip("\n")] if title else []) + _blocks(headings, texts))
    shape = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    for place, heading in enumerate(headings):
        is_number = rows and all(isinstance(row[place], int | float | None) for row in rows)
        justify: Literal["left", "right"] = "right" if is_number else "left"
        shape.add_column(Text(heading), justify=justify, overflow="fold", width=widths[place])
    for row in texts:
        shape.add_row(*map(Text, row))
    screen = Console(width=max(width, sum(widths) + GAP * len(widths)), color_system=None, legacy_windows=False)
    with screen.capture() as captured:
        screen.print(shape)
    lines = [line.rstrip() for line in captured.get().rstrip("\n").split("\n")]
    return "\n".join([title, *lines] if title else lines)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """How wide each column is, its longest word at least; None where there is no room for that."""
    from rich.cells import cell_len

    left = room - GAP * (len(columns) - 1)
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for text in column for word in (text.split() or [""])) for column in columns]
    if sum(least) > left:
        return None
    while sum(widths) > left:
        widest = max(range(len(widths)), key=lambda place: widths[place] if widths[place] > least[place] else 0)
        widths[widest] -= 1
    return widths


def _blocks(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row as lines of heading and cell, without empty ones."""
    names = [heading.strip() for heading in headings]
    wide = max(map(len, names))
    return [
        "\n".join(f"{name:<{wide}}  {text.strip()}" for name, text in zip(names, row, strict=True) if text)
        for row in rows
    ]


def cell(value: Any) -> str:
    """One value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return str(value).translate(_CONTROLS)


def key_text(key: str | None) -> str | None:
    """A row's key as a person reads it; a blank one is made visible."""
    return None if key is None else cell(key) if key.strip() else f"'{cell(key)}'"


def few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def share(value: float | None) -> str | None:
    """A share of 0 to 1 as a percentage; never 0% for something, nor 100% for not quite everything."""
    if value is None:
        return None
    if 0 < value < 0.01:
        return "<1%"
    return f"{min(99, round(value * 100)) if value < 1 else 100}%"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
