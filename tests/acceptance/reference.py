"""What must have been imported after any history, in sets and dicts: the change detection as plain Python.

Time is an integer, a tick; `Kind` turns ticks into cursor values. A row's content is what its line says apart from
the time. Times that this program chooses (`inserted_at` missing or not newer than the one sent) are `CHOSEN` here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

CHOSEN = "the window's start"


@dataclass(frozen=True)
class Row:
    """One row of the warehouse. `note` is sent and no reason to send again; `bad` rows are invalid."""

    key: str
    value: int
    note: int = 0
    cursor: int | None = None
    at: int | None = 0
    bad: bool = False


@dataclass(frozen=True)
class Header:
    """What of a model's header decides about rows. `lag` and `begin` in ticks; `future`: the first tick that waits."""

    identify: bool = True
    keyed: bool = True
    always: bool = False
    has_cursor: bool = True
    lag: int = 0
    begin: int | None = None
    null_cursor: str = "reject"
    full_refresh: bool = True
    future: int | None = None
    properties: tuple[str, ...] = ("plan", "note")


@dataclass(frozen=True)
class Line:
    """One imported line. `at` is a tick or CHOSEN."""

    key: str
    at: int | str | None
    properties: tuple[tuple[str, int], ...]


@dataclass
class Expected:
    """What one run should count."""

    read: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    duplicate: int = 0
    refused: int = 0
    future: int = 0
    lines: Counter[Line] = field(default_factory=Counter)


class Reference:
    """A warehouse's past as its destination should know it."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.cursor: int | None = None
        self.sent: dict[str, tuple[object, float]] = {}
        self.events: Counter[tuple[Line, int | None]] = Counter()
        self.refused: set[tuple[str, bool]] = set()

    def line(self, row: Row, at: int | str | None) -> Line:
        """The line of that row."""
        values = {"note": row.note}
        values |= {name: row.value for name in self.header.properties if name != "note"}
        return Line(row.key, at, tuple(sorted((name, values[name]) for name in self.header.properties)))

    def content(self, row: Row) -> object:
        """What makes a row another one than before."""
        if not self.header.keyed:
            return self.line(row, row.at)
        names = tuple(sorted(self.header.properties))
        return row.key, row.value, names

    def run(self, table: list[Row], run: int, *, full: bool = False) -> Expected:
        """One run, the `run`th; `full` is `-f`."""
        header, expected = self.header, Expected()
        full = full and header.full_refresh
        since = None if full else self.cursor
        low = header.begin if since is None else since - header.lag
        read = [row for row in table if self._is_read(row, low)]
        expected.read = len(read)
        now = [row for row in read if not self._is_future(row)]
        expected.future = len(read) - len(now)
        good = [row for row in now if not self._is_bad(row)]
        expected.refused = len(now) - len(good)
        if header.keyed:
            self._keyed(good, expected, run, full)
        else:
            self._unkeyed(good, expected, full)
        cursors = [row.cursor for row in now if row.cursor is not None]
        if header.has_cursor and (cursors or since is not None):
            self.cursor = max([*cursors, *([] if since is None else [since])])
        return expected

    def _is_read(self, row: Row, low: int | None) -> bool:
        if not self.header.has_cursor:
            return True
        if row.cursor is None:
            return self.header.null_cursor != "skip"
        return low is None or row.cursor >= low

    def _is_future(self, row: Row) -> bool:
        known = self.header.has_cursor and row.cursor is not None and self.header.future is not None
        return known and row.cursor >= self.header.future

    def _is_bad(self, row: Row) -> bool:
        return row.bad or (self.header.has_cursor and row.cursor is None and self.header.null_cursor == "reject")

    def _keyed(self, good: list[Row], expected: Expected, run: int, full: bool) -> None:
        rows: dict[str, list[Row]] = defaultdict(list)
        for row in good:
            rows[row.key].append(row)
        for key, those in rows.items():
            # A delivered event never goes again, so nobody has to choose between its versions.
            settled = not self.header.identify and key in self.sent and not (self.header.always or full)
            top = max(self._rank(row) for row in those)
            best = [row for row in those if self._rank(row) == top]
            if len({self.content(row) for row in best}) > 1 and not settled:
                expected.refused += len(best)
                expected.duplicate += len(those) - len(best)
                continue
            expected.duplicate += len(those) - 1
            # Rows that differ only in what is ignored are one row: any of their lines will do.
            row = replace(best[0], note=-1) if len({row.note for row in best}) > 1 else best[0]
            self._send(row, expected, run, full, settled)

    def _rank(self, row: Row) -> tuple[float, float]:
        cursor = row.cursor if self.header.has_cursor else None
        # A time that is missing is the window's start, which is later than every time in these histories.
        return (-1.0 if cursor is None else cursor, float("inf") if row.at is None else row.at)

    def _send(self, row: Row, expected: Expected, run: int, full: bool, settled: bool) -> None:
        content = self.content(row)
        old, sent_at = self.sent.get(row.key, (None, 0.0))
        new = row.key not in self.sent
        if settled or (not new and old == content and not (self.header.always or full)):
            expected.unchanged += 1
            return
        at: int | str | None = row.at
        if self.header.identify and (row.at is None or (not new and old != content and row.at <= sent_at)):
            at = CHOSEN
        expected.added += new
        expected.changed += not new
        expected.lines[self.line(row, at)] += 1
        # Every chosen time is later than all ticks, and a later run's is later still. The latest one sent counts.
        self.sent[row.key] = (content, max(sent_at, 1e9 + run if at == CHOSEN else float(row.at or 0)))

    def _unkeyed(self, good: list[Row], expected: Expected, full: bool) -> None:
        before = Counter() if self.header.always or full else self.events
        lines = Counter((self.line(row, row.at), row.cursor if self.header.has_cursor else None) for row in good)
        for which, count in lines.items():
            new = max(0, count - before[which])
            expected.added += new
            expected.unchanged += count - new
            if new:
                expected.lines[which[0]] += new
            self.events[which] = max(self.events[which], 0) + new
