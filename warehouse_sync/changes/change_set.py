"""One pass over the comparing query: what is sent goes on, what is not is counted and put aside by columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from warehouse_sync.changes.compare import BOUNDARY, SUMMARY
from warehouse_sync.changes.duplicates import losers
from warehouse_sync.changes.pushdown import Stayed
from warehouse_sync.changes.snapshot import Snapshot
from warehouse_sync.changes.spill import WORK, SpillTable
from warehouse_sync.changes.tally import Tally
from warehouse_sync.values import Counts, Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_SENT = {Verdict.ADDED.value, Verdict.CHANGED.value}
_ROWS = 2048
_NARROW = ["verdict", "key", "key_hash", "row_hash", "cursor", "own_at", "reasons"]
_SOME = 20
"""Rows ahead of the clock that are kept, to name some."""
_ALL_EVENTS, _SAMPLED = 1 << 16, 16
"""Events of which every identity is kept, and then one identity in so many: a look at all costs a tenth of a read."""
_STORED = ["key_hash", "row_hash", "cursor", "stored"]


class ChangeSet:
    """What one window came to: its counts, and the rows put aside.

    `connection` shares the engine with the stream, but is not its connection.

    `upgrading`: the rows come with `stored` (see `compare.OUTPUT`); `inside`: the snapshot lies in the warehouse.
    `stayed`: what the warehouse tells of the rows that stayed there.
    """

    def __init__(
        self, connection: DuckDBPyConnection, *, keyed: bool, upgrading: bool = False, inside: bool = False
    ) -> None:
        connection.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {WORK}")
        self.tally = Tally()
        self._connection = connection
        self._keyed = keyed
        self._upgrading = upgrading
        self._invalid = SpillTable(connection, "invalid")
        self._unsent = SpillTable(connection, "unsent")
        self._bound = SpillTable(connection, "bound")
        self._moved = SpillTable(connection, "moved")
        self._stored = SpillTable(connection, "stored")
        self._known = SpillTable(connection, "known")
        self._inside = inside
        self.stayed = Stayed()
        self._ahead = SpillTable(connection, "ahead")
        self._events = SpillTable(connection, "events")
        self._more = 0
        self._sent = 0
        self._adjust = Counts()

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """Count the batch, put aside what is not sent, and give back what is; None when that is nothing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        codes = self.tally.add(batch)
        if SUMMARY in codes:
            is_summary = pc.equal(batch.column("verdict"), SUMMARY)
            self._stay(Stayed.read(batch.column("key").filter(is_summary)[0].as_py()))
            batch, codes = batch.filter(pc.invert(is_summary)), codes - {SUMMARY}
        if self._upgrading:
            self._stored.add(batch.filter(pc.is_valid(batch.column("stored"))).select(_STORED))
        if codes <= _SENT:
            return self._count_sent(batch)
        verdict = batch.column("verdict")
        if Verdict.INVALID.value in codes:
            rows = batch.filter(pc.equal(verdict, Verdict.INVALID.value))
            self._invalid.add(rows.select(["key", "key_hash", "row_hash", "reasons"]))
        if self._keyed and Verdict.FUTURE.value in codes and self._ahead.rows < _SOME:
            self._ahead.add(batch.filter(pc.equal(verdict, Verdict.FUTURE.value)).select(["verdict", "key"])[:_SOME])
        if BOUNDARY in codes:
            self._bound.add(batch.filter(pc.equal(verdict, BOUNDARY)))
        if self._keyed and codes - _SENT - {Verdict.FUTURE.value}:
            unsent = pa.array([Verdict.UNCHANGED.value, Verdict.SUPPRESSED.value, Verdict.INVALID.value], verdict.type)
            self._unsent.add(batch.filter(pc.is_in(verdict, unsent)).select(_NARROW))
        elif Verdict.SUPPRESSED.value in codes:
            self._unsent.add(batch.filter(pc.equal(verdict, Verdict.SUPPRESSED.value)).select(_NARROW))
        if not codes & _SENT:
            return None
        return self._count_sent(batch.filter(pc.less_equal(verdict, Verdict.CHANGED.value)))

    def _stay(self, stayed: Stayed) -> None:
        self.stayed = stayed
        self._adjust += Counts(read=stayed.rows, unchanged=stayed.rows)

    def _count_sent(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Remember the own time of sent rows that go with another one, by their place among the sent rows; and, where
        the snapshot is elsewhere, which of their keys are in it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._inside:
            self._known.add(rows.filter(pc.equal(rows.column("verdict"), Verdict.CHANGED.value)).select(["key_hash"]))
        if rows.column("retimed").true_count:
            moved = pc.indices_nonzero(rows.column("retimed"))
            places = pc.add(moved.cast(pa.int64()), self._sent)
            self._moved.add(pa.record_batch({"place": places, "own_at": rows.column("own_at").take(moved)}))
        if "identity" in rows.schema.names:
            self._count_event(rows.column("identity"))
        self._sent += rows.num_rows
        return rows

    def _count_event(self, identities: pa.Array) -> None:
        """Keep the identities of events, by their place among the sent rows where some of those may be taken back: all
        of the first ones, then a sample, in which two equal ones are both or not at all."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._sent < _ALL_EVENTS:
            chosen = pa.array(range(len(identities)), pa.int64())
        else:
            rest = pc.bit_wise_and(identities, pa.scalar(_SAMPLED - 1, pa.uint64()))
            chosen = pc.indices_nonzero(pc.equal(rest, pa.scalar(0, pa.uint64()))).cast(pa.int64())
        columns = {"identity": identities.take(chosen)}
        if self._keyed:
            columns["place"] = pc.add(chosen, self._sent)
        batch = pa.record_batch(columns)
        self._events.add(batch)

    def at_bound(self, boundary: str) -> Iterator[pa.RecordBatch]:
        """Of the rows equal to delivered ones at the bound, those that are more than were delivered: they are new."""
        self._bound.flush()
        if not self._bound.rows:
            return
        table = f"{WORK}.more"
        stored = "coalesce(b.stored, b.row_hash)" if self._upgrading else "b.row_hash"
        # Sorted without their lines, which only a few of them need.
        self._connection.execute(
            f"CREATE TABLE {table} AS SELECT b.* REPLACE ({Verdict.ADDED.value}::TINYINT AS verdict)"
            f" FROM {self._bound.relation} AS b WHERE b.rowid IN (SELECT place FROM ("
            f"SELECT b.rowid AS place FROM {self._bound.relation} AS b"
            f" JOIN {boundary} AS d ON d.row_hash = {stored} AND d.cursor = b.cursor"
            " QUALIFY row_number() OVER (PARTITION BY b.row_hash, b.cursor) > d.rows))"
        )
        more = 0
        for batch in self._connection.sql(f"FROM {table}").to_arrow_reader(_ROWS):
            more += batch.num_rows
            yield batch
        self._more = more
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
        found = losers(self._connection, f"({' UNION ALL '.join(parts)})", self._sent + self._unsent.rows)
        if found is not None and rejects:
            found = self._as_refused(found)
        if found is not None:
            self._count_losers(found, rejects)
        return found

    def _as_refused(self, found: pa.Table) -> pa.Table:
        """The losers, with the hashes under which the state may know them as refused."""
        stored = self.stored
        if stored is None:
            return found
        self._connection.register("losers_found", found)
        known = self._connection.sql(
            "SELECT l.* REPLACE (coalesce(s.stored, l.row_hash) AS row_hash) FROM losers_found AS l"
            f" LEFT JOIN (SELECT DISTINCT key_hash, row_hash, stored FROM {stored}) AS s USING (key_hash, row_hash)"
        ).to_arrow_table()
        self._connection.unregister("losers_found")
        return known

    def same_events(self, lost: pa.Table | None) -> int:
        """How many events of this window are, to Userpilot, another one of it or one that was delivered at the bound.

        Exact for the first events of a window; where there are more, an estimate from a sample of them all.
        `lost`: the losers among them, which are not sent.
        """
        self._events.flush()
        if not self._events.rows:
            return self._more
        source = self._events.relation
        if lost is not None:
            self._connection.register("losers_found", lost)
            source += " ANTI JOIN losers_found USING (place)"
        sampled = f"FILTER (WHERE identity % {_SAMPLED} = 0)"
        query = f"SELECT count(*) - count(DISTINCT identity), count(*) {sampled} - count(DISTINCT identity) {sampled}"
        ((same, in_sample),) = self._connection.execute(f"{query} FROM {source}").fetchall()
        if lost is not None:
            self._connection.unregister("losers_found")
        estimate = in_sample * _SAMPLED if self._sent > _ALL_EVENTS else 0
        return max(int(same), int(estimate)) + self._more

    def keep_new_hashes(self, snapshot: Snapshot, encoder: int) -> None:
        """Write down the new hashes of rows whose stored ones are of an older version; the next merge puts them in."""
        if self.stored is not None:
            snapshot.keep_hashes(self._connection, f"(FROM {self.stored} WHERE stored <> row_hash)", encoder)

    def gone(self, sent: str | None, snapshot: str) -> str:
        """Delivered keys that are no longer in the source, as a relation; keys of invalid rows are in it."""
        relations = [relation for relation in (sent, self.unsent) if relation]
        read = " UNION ALL ".join(f"SELECT key_hash FROM {relation}" for relation in relations)
        source = f"({read or 'SELECT NULL::BLOB AS key_hash'})"
        return f"(SELECT s.key FROM {snapshot} AS s ANTI JOIN {source} AS r USING (key_hash))"

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

    def suppressed(self) -> list[tuple[bytes | None, bytes]]:
        """Key hash and row hash of the rows that stay where they are because they were refused before."""
        if not self.unsent:
            return []
        query = f"SELECT DISTINCT key_hash, row_hash FROM {self.unsent} WHERE verdict = {Verdict.SUPPRESSED.value}"
        return self._connection.execute(query).fetchall()

    def count(self, relation: str) -> int:
        """The rows of a relation."""
        return int(self._connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])

    @property
    def unsent(self) -> str | None:
        """The rows of a keyed model that are not sent, of another those refused before; None without any."""
        self._unsent.flush()
        return self._unsent.relation if self._unsent.rows else None

    @property
    def ahead(self) -> str | None:
        """`verdict` and `key` of some rows ahead of the clock, as a relation; None without any."""
        self._ahead.flush()
        return self._ahead.relation if self._ahead.rows else None

    @property
    def stored(self) -> str | None:
        """Rows equal to stored ones of an older version, as a relation (see `_STORED`); None without any."""
        self._stored.flush()
        return self._stored.relation if self._stored.rows else None

    @property
    def known(self) -> str | None:
        """Key hashes of sent rows whose keys are in a snapshot in the warehouse, as a relation; None without any."""
        self._known.flush()
        return self._known.relation if self._known.rows else None

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
