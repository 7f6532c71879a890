"""The table of faults in the README: what was tried, how often, and what happened."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Protocol

TABLE = "WAREHOUSE_SYNC_TEST_FAULT_TABLE"
"""Names a file with the two marks: the table is written between them when the tests are over."""
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->"

_tried: Counter[tuple[str, str]] = Counter()


class Told(Protocol):
    """A row of the table, counted when a test comes this far."""

    def __call__(self, fault: str, outcome: str, *, times: int = 1) -> None: ...


def tell(fault: str, outcome: str, *, times: int = 1) -> None:
    """Count a row, and look it up in the README, unless that is being written."""
    _tried[fault, outcome] += times
    if TABLE not in os.environ:
        known = [row.split(" | ")[0::2] for row in shown().splitlines()]
        assert [f"| {fault}", f"{outcome} |"] in known, "README.md lacks this row: see tests/faults/conftest.py"


def shown() -> str:
    """The table in the README."""
    return README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip() + "\n"


def tried() -> str:
    """The table of what was tried so far, as Markdown, in the order in which it was first told."""
    lines = ["| Fault | Tried | What happened |", "|---|--:|---|"]
    lines += [f"| {fault} | {times} | {outcome} |" for (fault, outcome), times in _tried.items()]
    return "\n".join(lines) + "\n"


def write(path: Path) -> None:
    """Put the table between the marks of that file."""
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    path.write_text(f"{head}{begin}\n{tried()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
