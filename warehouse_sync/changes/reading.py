"""One pass over the comparing query: what is sent goes on, what is not is counted and put aside by columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from warehouse_sync.changes.compare import BOUNDARY
from warehouse_sync.changes.duplicates import losers
from warehouse_sync.changes.pile import WORK, Pile
from warehouse_sync.changes.tally import Tally
from warehouse_sync.values import Counts, Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_SENT = {Verdict.ADDED.value, Verdict.CHANGED.value}
_ROWS = 2048
_NARROW = ["verdict", "key", "key_hash", "row_hash", "cursor", "inserted_at"]


class Reading:
    """Counts and piles of one window. `connection` shares the engine with the stream, but is not its connection."""

    def __init__(self, connection: DuckDBPyConnection, *, keyed: bool) -> None:
        connection.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {WORK}")
        self.tally = Tally()
        self._connection = connection
        self._keyed = keyed
        self._invalid = Pile(connection, "invalid")
        self._unsent = Pile(connection, "unsent")
        self._bound = Pile(connection, "bound")
        self._adjust = Counts()

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """Count the batch, put aside what is not sent, and give back what is; None when that is nothing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        codes = self.tally.add(batch)
        if codes <= _SENT:
            return batch
        verdict = batch.column("verdict")
        if Verdict.INVALID.value in codes:
            rows = batch.filter(pc.equal(verdict, Verdict.INVALID.value))
            self._invalid.add(rows.select(["key", "key_hash", "row_hash", "reasons"]))
        if BOUNDARY in codes:
            self._bound.add(batch.filter(pc.equal(verdict, BOUNDARY)))
        if self._keyed and codes - _SENT - {Verdict.FUTURE.value}:
            unsent = pa.array([Verdict.UNCHANGED.value, Verdict.SUPPRESSED.value, Verdict.INVALID.value], verdict.type)
            self._unsent.add(batch.filter(pc.is_in(verdict, unsent)).select(_NARROW))
        if not codes & _SENT:
            return None
        return batch.filter(pc.less_equal(verdict, Verdict.CHANGED.value))

    def at_bound(self, boundary: str) -> Iterator[pa.RecordBatch]:
        """Of the rows equal to delivered ones at the bound, those that are more than were delivered: they are new."""
        self._bound.flush()
        if not self._bound.rows:
            return
        table = f"{WORK}.more"
        self._connection.execute(
            f"CREATE TABLE {table} AS SELECT b.* REPLACE ({Verdict.ADDED.value}::TINYINT AS verdict)"
            f" FROM {self._bound.relation} AS b JOIN {boundary} AS d USING (row_hash)"
            " QUALIFY row_number() OVER (PARTITION BY b.row_hash) > d.rows"
        )
        more = 0
        for batch in self._connection.sql(f"FROM {table}").to_arrow_reader(_ROWS):
            more += batch.num_rows
            yield batch
        self._adjust += Counts(read=self._bound.rows, added=more, unchanged=self._bound.rows - more)

    def losers(self, sent: str | None, snapshot: str | None) -> pa.Table | None:
        """The rows of keys that stand more than once in the window (see `duplicates.losers`), counted as such.

        `sent` is a relation of the sent rows: the columns of the key files and `place`.
        """
        parts = []
        if sent:
            known = f"key_hash IN (SELECT key_hash FROM {snapshot})" if snapshot else "false"
            parts.append(
                f"SELECT CASE WHEN {known} THEN {Verdict.CHANGED.value} ELSE {Verdict.ADDED.value} END AS verdict,"
                f" key, key_hash, row_hash, cursor, inserted_at, place FROM {sent}"
            )
        if self.unsent:
            parts.append(
                f"SELECT {', '.join(_NARROW)}, NULL AS place FROM {self.unsent}"
                f" WHERE verdict <> {Verdict.INVALID.value}"
            )
        if not self._keyed or not parts:
            return None
        found = losers(self._connection, f"({' UNION ALL '.join(parts)})")
        if found is not None:
            self._count_losers(found)
        return found

    def removed(self, sent: str | None, snapshot: str) -> int:
        """How many delivered keys are no longer in the source; keys of invalid rows are in it."""
        relations = [relation for relation in (sent, self.unsent) if relation]
        read = " UNION ALL ".join(f"SELECT key_hash FROM {relation}" for relation in relations)
        source = f"({read or 'SELECT NULL::BLOB AS key_hash'})"
        ((gone,),) = self._connection.sql(
            f"SELECT count(*) FROM {snapshot} AS s ANTI JOIN {source} AS r USING (key_hash)"
        ).fetchall()
        return int(gone)

    @property
    def unsent(self) -> str | None:
        """The keyed rows that are not sent, as a relation; None without any."""
        self._unsent.flush()
        return self._unsent.relation if self._unsent.rows else None

    def refused(self) -> pa.Table | None:
        """The invalid rows of this window: `key`, `key_hash`, `row_hash`, `reasons` (bits); None without any."""
        self._invalid.flush()
        return self._connection.sql(f"FROM {self._invalid.relation}").to_arrow_table() if self._invalid.rows else None

    def counts(self) -> Counts:
        """What every row that was read came to."""
        return self.tally.counts() + self._adjust

    def _count_losers(self, found: pa.Table) -> None:
        import pyarrow.compute as pc

        ambiguous = pc.sum(found.column("ambiguous")).as_py() or 0
        moved = Counts(duplicate=found.num_rows - ambiguous, invalid=ambiguous)
        for pair in pc.value_counts(found.column("verdict")).to_pylist():
            name = Verdict(pair["values"]).name.lower()
            moved = replace(moved, **{name: getattr(moved, name) - pair["counts"]})
        self._adjust += moved
