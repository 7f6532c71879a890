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
_NARROW = ["verdict", "key", "key_hash", "row_hash", "cursor", "own_at", "reasons"]


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
        self._moved = Pile(connection, "moved")
        self._sent = 0
        self._adjust = Counts()

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """Count the batch, put aside what is not sent, and give back what is; None when that is nothing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        codes = self.tally.add(batch)
        if codes <= _SENT:
            return self._count_sent(batch)
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
        return self._count_sent(batch.filter(pc.less_equal(verdict, Verdict.CHANGED.value)))

    def _count_sent(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Remember the own time of sent rows that go with another one, by their place among the sent rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if rows.column("retimed").true_count:
            moved = pc.indices_nonzero(rows.column("retimed"))
            places = pc.add(moved.cast(pa.int64()), self._sent)
            self._moved.add(pa.record_batch({"place": places, "own_at": rows.column("own_at").take(moved)}))
        self._sent += rows.num_rows
        return rows

    def at_bound(self, boundary: str) -> Iterator[pa.RecordBatch]:
        """Of the rows equal to delivered ones at the bound, those that are more than were delivered: they are new."""
        self._bound.flush()
        if not self._bound.rows:
            return
        table = f"{WORK}.more"
        self._connection.execute(
            f"CREATE TABLE {table} AS SELECT b.* REPLACE ({Verdict.ADDED.value}::TINYINT AS verdict)"
            f" FROM {self._bound.relation} AS b JOIN {boundary} AS d USING (row_hash, cursor)"
            " QUALIFY row_number() OVER (PARTITION BY b.row_hash, b.cursor) > d.rows"
        )
        more = 0
        for batch in self._connection.sql(f"FROM {table}").to_arrow_reader(_ROWS):
            more += batch.num_rows
            yield batch
        self._adjust += Counts(read=self._bound.rows, added=more, unchanged=self._bound.rows - more)

    def losers(self, sent: str | None, snapshot: str | None, rejects: str | None) -> pa.Table | None:
        """The rows of keys that stand more than once in the window (see `duplicates.losers`), counted as such.

        `sent` is a relation of the sent rows: the columns of the key files and `place`, from 0. Refused rows stand for
        nothing, in the run that refuses them and in all later ones.
        """
        parts = []
        if sent:
            known = f"key_hash IN (SELECT key_hash FROM {snapshot})" if snapshot else "false"
            own = "coalesce(own_at, inserted_at)" if self.moved else "inserted_at"
            parts.append(
                f"SELECT CASE WHEN {known} THEN {Verdict.CHANGED.value} ELSE {Verdict.ADDED.value} END AS verdict,"
                f" key, key_hash, row_hash, cursor, {own} AS inserted_at, place FROM {sent}"
                + (f" LEFT JOIN {self.moved} USING (place)" if self.moved else "")
            )
        if self.unsent:
            parts.append(
                "SELECT verdict, key, key_hash, row_hash, cursor, own_at AS inserted_at, NULL AS place"
                f" FROM {self.unsent} WHERE reasons = 0"
            )
        if not self._keyed or not parts:
            return None
        found = losers(self._connection, f"({' UNION ALL '.join(parts)})")
        if found is not None:
            self._count_losers(found, rejects)
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

    def closed(self, rejects: str, sent: str | None, *, whole: bool) -> set[tuple[bytes | None, bytes]]:
        """The open rejects, as (key hash, row hash), that stand for nothing any more: their key is good again and as it
        was sent, or, where the source was read `whole`, their row is no longer in it."""
        refused = f"verdict <> {Verdict.UNCHANGED.value}"
        queries = []
        if self.unsent:
            of = f"SELECT key_hash FROM {self.unsent} WHERE"
            good = f"{of} NOT {refused} EXCEPT {of} {refused}"
            queries.append(f"FROM {rejects} SEMI JOIN ({good}) USING (key_hash)")
        if whole:
            relations = [relation for relation in (sent, self.unsent) if relation]
            read = " UNION ALL ".join(f"SELECT key_hash, row_hash FROM {relation}" for relation in relations)
            rows = f"({read or 'SELECT NULL::BLOB AS key_hash, NULL::BLOB AS row_hash'})"
            keyed, unkeyed = ("key_hash IS NOT NULL", "key_hash IS NULL")
            queries.append(f"FROM (FROM {rejects} WHERE {keyed}) ANTI JOIN {rows} AS r USING (key_hash)")
            queries.append(f"FROM (FROM {rejects} WHERE {unkeyed}) ANTI JOIN {rows} AS r USING (row_hash)")
        found = [self._connection.execute(f"SELECT key_hash, row_hash {query}").fetchall() for query in queries]
        return {(key_hash, row_hash) for rows_found in found for key_hash, row_hash in rows_found}

    def count(self, relation: str) -> int:
        """The rows of a relation."""
        return int(self._connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])

    @property
    def unsent(self) -> str | None:
        """The keyed rows that are not sent, as a relation; None without any."""
        self._unsent.flush()
        return self._unsent.relation if self._unsent.rows else None

    @property
    def moved(self) -> str | None:
        """The own times of sent rows that go with another one, by place; None without any."""
        self._moved.flush()
        return self._moved.relation if self._moved.rows else None

    def refused(self) -> pa.Table | None:
        """The invalid rows of this window: `key`, `key_hash`, `row_hash`, `reasons` (bits); None without any."""
        self._invalid.flush()
        return self._connection.sql(f"FROM {self._invalid.relation}").to_arrow_table() if self._invalid.rows else None

    def counts(self) -> Counts:
        """What every row that was read came to."""
        return self.tally.counts() + self._adjust

    def _count_losers(self, found: pa.Table, rejects: str | None) -> None:
        import pyarrow.compute as pc

        ambiguous = pc.sum(found.column("ambiguous")).as_py() or 0
        self._connection.register("losers_found", found)
        again = self._count(
            f"FROM losers_found SEMI JOIN {rejects} USING (key_hash, row_hash) WHERE ambiguous", rejects
        )
        retimed = self._count(f"FROM losers_found SEMI JOIN {self.moved} USING (place)", self.moved)
        self._connection.unregister("losers_found")
        moved = Counts(
            duplicate=found.num_rows - ambiguous, invalid=ambiguous - again, suppressed=again, retimed=-retimed
        )
        for pair in pc.value_counts(found.column("verdict")).to_pylist():
            name = Verdict(pair["values"]).name.lower()
            moved = replace(moved, **{name: getattr(moved, name) - pair["counts"]})
        self._adjust += moved

    def _count(self, rows: str, needs: str | None) -> int:
        return int(self._connection.sql(f"SELECT count(*) {rows}").fetchall()[0][0]) if needs else 0
