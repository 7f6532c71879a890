"""The table of faults in the README: what was tried, how often, and what happened."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Protocol

TABLE = "WAREHOUSE_SYNC_TEST_FAULT_TABLE"
"""What becomes of the table when the tests are over: `check` compares the README's with it, `write` puts it there."""
CHECK, WRITE = "check", "write"
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->"

tried: Counter[tuple[str, str]] = Counter()
"""How often each row was told, in this process; in the one that collects, in all of them."""


class Told(Protocol):
    """A row of the table, counted when a test comes this far."""

    def __call__(self, fault: str, outcome: str, *, times: int = 1) -> None: ...


def tell(fault: str, outcome: str, *, times: int = 1) -> None:
    """Count a row, and look it up in the README, unless that is being written."""
    tried[fault, outcome] += times
    if os.environ.get(TABLE) != WRITE:
        assert (fault, outcome) in shown(), "README.md lacks this row: see tests/faults/conftest.py"


def shown() -> Counter[tuple[str, str]]:
    """The table in the README."""
    table = README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    return Counter({(fault, outcome): int(times) for fault, times, outcome in rows})


def write() -> None:
    """Put what was tried into the README: known rows stay in their order, new ones follow."""
    known = list(shown())
    order = [*filter(tried.__contains__, known), *sorted(tried.keys() - set(known))]
    lines = ["| Fault | Tried | What happened |", "|---|--:|---|"]
    lines += [f"| {fault} | {tried[fault, outcome]} | {outcome} |" for fault, outcome in order]
    head, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text("\n".join([head + begin, *lines, "", END]) + rest.partition(END)[2], encoding="utf-8")


def differences() -> list[str]:
    """What of the README's table is not what was tried."""
    known = shown()
    return [
        f"{fault}: the README says {known[fault, outcome]}, tried {tried[fault, outcome]}"
        for fault, outcome in {**known, **tried}
        if known[fault, outcome] != tried[fault, outcome]
    ]
