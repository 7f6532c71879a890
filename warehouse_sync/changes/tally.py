"""What passes by while a window is read: rows per verdict, the greatest cursor, how often each note applies."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.compare import BOUNDARY, SUMMARY
from warehouse_sync.values import Counts, CursorKind, CursorValue, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MINUS_INFINITY = -(2**63 - 1)
"""DuckDB's `-infinity` in every unit of a timestamp; a nanosecond later is a moment of 1677."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Tally:
    """Sums over record batches of the comparing query. Nothing here looks at a single row."""

    def __init__(self) -> None:
        self.verdicts: Counter[int] = Counter()
        self.notes: Counter[int] = Counter()
        self.retimed = 0
        self._greatest: Any = None
        self._type: Any = None

    def add(self, batch: pa.RecordBatch) -> set[int]:
        """Count one record batch with the columns of `compare.OUTPUT`; gives the verdicts that are in it."""
        import pyarrow.compute as pc

        verdicts = batch.column("verdict")
        low, high = pc.min_max(verdicts).as_py().values()
        if low == high:
            counts = {low: len(verdicts)}
        else:
            counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(verdicts).to_pylist()}
        self.verdicts.update(counts)
        notes = batch.column("notes")
        if pc.max(notes).as_py():
            for pair in pc.value_counts(notes).to_pylist():
                self.notes[pair["values"]] += pair["counts"]
        retimed = batch.column("retimed")
        self.retimed += retimed.true_count
        self._see_cursor(batch.column("cursor"))
        return set(counts)

    def _see_cursor(self, cursors: pa.Array) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if cursors.null_count == len(cursors):
            return
        self._type = cursors.type
        if pa.types.is_timestamp(cursors.type):
            cursors = cursors.view(pa.int64())
        elif pa.types.is_date32(cursors.type):
            cursors = cursors.view(pa.int32())
        elif pa.types.is_dictionary(cursors.type):
            cursors = cursors.dictionary_decode()
        greatest = pc.max(cursors).as_py()
        if self._greatest is None or greatest > self._greatest:
            self._greatest = greatest

    def cursor(self, kind: CursorKind) -> CursorValue | None:
        """The greatest cursor among the rows that are not future, in full precision.

        None when there was none, or none of our calendar (`-infinity`, years before 1): the cursor stays where it was.
        """
        if self._greatest is None or (kind.is_time and self._greatest <= _MINUS_INFINITY):
            return None
        try:
            return self._cursor(kind)
        except OverflowError:
            return None

    def _cursor(self, kind: CursorKind) -> CursorValue:
        if kind is CursorKind.DATE:
            return CursorValue(kind, (date(1970, 1, 1) + timedelta(days=self._greatest)).isoformat())
        if kind.is_time:
            return CursorValue(
                kind, timestamp_text(self._greatest, self._type.unit, aware=kind is CursorKind.TIMESTAMPTZ)
            )
        return CursorValue(kind, str(self._greatest))

    def counts(self) -> Counts:
        """The verdicts as counts; boundary rows, and those that stayed in the warehouse, are counted elsewhere."""
        seen = {verdict.name.lower(): self.verdicts[verdict.value] for verdict in Verdict}
        read = sum(count for code, count in self.verdicts.items() if code not in (BOUNDARY, SUMMARY))
        return Counts(read=read, retimed=self.retimed, **seen)


def timestamp_text(value: int, unit: str, *, aware: bool) -> str:
    """A timestamp of that unit since 1970 as text with all its digits (at least six), `+00:00` when aware."""
    scale = _UNITS[unit]
    seconds, rest = divmod(value, scale)
    digits = str(rest).rjust(len(str(scale)) - 1, "0").ljust(6, "0") if scale > 1 else "000000"
    if len(digits) > 6 and digits.endswith("000"):
        digits = digits[:6]
    moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(sep=" ")
    return f"{moment}.{digits}{'+00:00' if aware else ''}"
