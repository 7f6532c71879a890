"""Which of the rows that were read are sent: one streaming query, a verdict and (where it is sent) a line for each.

    source -> key, hashes, reasons -> LEFT JOIN what was sent, LEFT JOIN what was refused -> verdict -> line

The stored side is the build side of every join, so that rows stream through. An Arrow stream looks like one row to
DuckDB, which would build on it: there the optimizer that swaps sides is switched off (`pin`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.window import duckdb_literal
from warehouse_sync.values import CursorKind, CursorValue, RowSql, Verdict, iso_utc

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PREFIX = "warehouse_sync."
"""Columns that this module adds beside the source's own begin so."""

OUTPUT = (
    "verdict",
    "line",
    "key",
    "key_hash",
    "row_hash",
    "cursor",
    "inserted_at",
    "reasons",
    "notes",
    "retimed",
    "own_at",
)
"""The columns of `statement`, in order. `own_at`: the row's own time, where `inserted_at` may be a later one.

Rows of events that are sent have one more, `identity`: a hash of what Userpilot tells them apart by. With
`Baseline.older` there is `stored`: the hash that is stored of an equal row, where an older version of the encoder made
it.
"""

BOUNDARY = 7
"""A verdict of this query only: an unkeyed row equal to one at the last window's bound; counted before it is judged."""

SUMMARY = 8
"""A verdict of this query only: no row of the model, but what the warehouse tells of those that stayed there."""


@dataclass(frozen=True)
class Baseline:
    """What the rows are compared with, as tables of the reading connection; None: nothing of that kind.

    `snapshot`: (key_hash, row_hash, inserted_at); `boundary`: (row_hash, cursor, rows) of delivered unkeyed rows that
    can be read again, none of them beyond `boundary_to`; `rejects`: (key_hash, row_hash, refused_there BOOLEAN) of the
    open rejects. `older`: the versions of the encoder, other than this one, of which stored hashes may be. `inside`:
    the rows come with what was sent, since they were compared in the warehouse (see `changes/pushdown.py`).
    """

    snapshot: str | None = None
    boundary: str | None = None
    boundary_to: CursorValue | None = None
    rejects: str | None = None
    older: tuple[int, ...] = ()
    inside: bool = False

    @property
    def compares(self) -> bool:
        """True when it is known of every key whether it was sent."""
        return self.inside or self.snapshot is not None


@dataclass(frozen=True)
class Rules:
    """How this window judges.

    `started_at` stands in for a missing or stale `inserted_at`; `high` is the last cursor that is not future;
    `max_line` in bytes; the bits are those of the reasons and notes that only the window can know.
    """

    is_identify: bool
    keyed: bool
    always: bool
    cursor_kind: CursorKind | None
    high: CursorValue | None
    started_at: datetime
    max_line: int
    refuse_null_cursor: bool
    bit_null_cursor: int
    bit_line_too_long: int
    bit_event_changed: int


def pin(connection: DuckDBPyConnection) -> None:
    """Keep the stored side of the joins the build side, whatever DuckDB thinks of the stream's size."""
    connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")


def statement(row: RowSql, relation: str, baseline: Baseline, rules: Rules) -> str:
    """The query whose columns are `OUTPUT`; `line` is NULL for rows that are not sent."""
    row, relation = _once(row, relation)
    sent_at, retimed = _sent_at(baseline, rules)
    # An event's line does not depend on what was sent before, so it stands beside its hash, which may be made of it.
    line = row.line(sent_at) if rules.is_identify else _c("line")
    too_long = f"strlen(line) > {rules.max_line}"
    known = f"CASE WHEN {_c('refused_there')} IS NULL THEN {Verdict.INVALID.value} ELSE {Verdict.SUPPRESSED.value} END"
    verdict = f"(CASE WHEN {too_long} THEN long_verdict ELSE verdict END)::TINYINT"
    # Where no hash was taken, one refused only here still needs its own (see `_row_hash`): that of its line.
    own_hash = "row_hash" if rules.keyed else f"coalesce(row_hash, CASE WHEN {too_long} THEN unhex(md5(line)) END)"
    row_hash, stored, stored_inside = f"{own_hash} AS row_hash", "", ""
    identity = f", {_identity(row)} AS identity" if row.identity else ""
    if baseline.older:
        # A row that was refused before keeps the hash under which the state knows it.
        row_hash = (
            f"CASE WHEN {verdict} = {Verdict.SUPPRESSED.value} THEN coalesce(stored, row_hash) ELSE {own_hash} END"
        )
        row_hash, stored, stored_inside = f"{row_hash} AS row_hash", ", stored", f", {_stored(baseline)} AS stored"
    joined = f"""(
    SELECT {_joined_columns(baseline)} FROM (
      SELECT *, {_row(row, baseline, rules)} FROM {relation} AS {_c("source")}
    ) AS {_c("encoded")}{_joins(baseline)}
  )"""
    # A name of ours beside the source's columns has the prefix: a column may have any name, `verdict` and `line` too.
    return f"""
SELECT
  {verdict} AS verdict,
  CASE WHEN {too_long} THEN NULL ELSE line END AS line,
  key, key_hash, {row_hash}, cursor, inserted_at,
  CASE WHEN {too_long} THEN {rules.bit_line_too_long}::BIGINT ELSE reasons END AS reasons,
  CASE WHEN {too_long} THEN 0::BIGINT ELSE notes END AS notes,
  retimed AND NOT coalesce({too_long}, false) AS retimed, own_at{stored}{", identity" if identity else ""}
FROM (
  SELECT
    {_c("verdict")} AS verdict, {known if baseline.rejects else Verdict.INVALID.value} AS long_verdict,
    CASE WHEN {_c("verdict")} IN ({Verdict.ADDED.value}, {Verdict.CHANGED.value}, {BOUNDARY}) THEN {line} END AS line,
    {_c("key")} AS key, {_c("key_hash")} AS key_hash, {_c("row_hash")} AS row_hash,
    CASE WHEN {_c("verdict")} = {Verdict.FUTURE.value} THEN NULL ELSE {_c("cursor")} END AS cursor,
    {sent_at} AS inserted_at, {_c("reasons")} AS reasons, {_notes(baseline, rules)} AS notes,
    {_c("verdict")} = {Verdict.CHANGED.value} AND {retimed} AS retimed, {_own_at(rules)} AS own_at
    {stored_inside}{identity}
  FROM (SELECT *, {_verdict(baseline, rules)} AS {_c("verdict")} FROM {_with_hash_as_sent(row, baseline, joined)})
)"""


def _identity(row: RowSql) -> str:
    """What makes an event's own id at Userpilot, of rows that may be sent, as one number."""
    sent = f"{_c('verdict')} IN ({Verdict.ADDED.value}, {Verdict.CHANGED.value}, {BOUNDARY})"
    return f"CASE WHEN {sent} THEN hash({', '.join(row.identity)}, {_c('inserted_at')}) END"


def _once(row: RowSql, relation: str) -> tuple[RowSql, str]:
    """The row and its relation with the shared expressions as columns of the relation: a third of an Arrow read."""
    names = {sql: _c(f"shared {number}") for number, sql in enumerate(row.shared)}
    if not names:
        return row, relation

    def once(text: str) -> str:
        for sql, name in names.items():
            text = text.replace(sql, name)
        return text

    columns = ", ".join(f"{sql} AS {name}" for sql, name in names.items())
    texts: dict[str, Any] = {
        name: once(getattr(row, name)) for name in ("key", "key_hash", "row_hash", "cursor", "reasons", "notes")
    }
    older = {version: once(sql) for version, sql in row.older.items()}
    shared = replace(row, **texts, older=older, line=lambda at: once(row.line(at)), shared=())
    return shared, f"(SELECT *, {columns} FROM {relation})"


def _c(name: str) -> str:
    return f'"{PREFIX}{name}"'


def _row(row: RowSql, baseline: Baseline, rules: Rules) -> str:
    reasons, cursor = row.reasons, _cursor(row, rules)
    if rules.cursor_kind is not None and rules.refuse_null_cursor:
        reasons = f"({reasons}) | CASE WHEN {cursor} IS NULL THEN {rules.bit_null_cursor}::BIGINT ELSE 0 END"
    columns = {
        "key": f"coalesce({_c('inside_summary')}, {row.key})" if baseline.inside else row.key,
        "key_hash": row.key_hash,
        "row_hash": _row_hash(row, row.row_hash, reasons, baseline, rules),
        "cursor": cursor,
        "inserted_at": row.inserted_at,
        "reasons": reasons,
        "notes": row.notes,
    }
    for version in _joined_by(baseline):
        columns[f"hash_{version}"] = _row_hash(row, row.older[version], reasons, baseline, rules)
    if not rules.is_identify:
        columns["line"] = row.line(row.inserted_at)
    return ", ".join(f"{sql} AS {_c(name)}" for name, sql in columns.items())


def _cursor(row: RowSql, rules: Rules) -> str:
    """The cursor, its texts in the order of their bytes: the order in which the greatest of them was found."""
    return f'({row.cursor}) COLLATE "binary"' if rules.cursor_kind is CursorKind.STRING else row.cursor


def _joined_by(baseline: Baseline) -> tuple[int, ...]:
    """The older versions by which rows are looked up: their hash is taken of every row."""
    return baseline.older if baseline.boundary or baseline.rejects else ()


def _row_hash(row: RowSql, row_hash: str, reasons: str, baseline: Baseline, rules: Rules) -> str:
    """The row's hash, of one version. Without a key it is that of the line and only told apart at the bound: elsewhere
    it is not taken (the snapshot takes it from the lines at the new bound), which saves a third of a first read."""
    if rules.keyed or baseline.rejects:
        return row_hash
    needed = [f"({reasons}) <> 0"]
    if baseline.boundary_to is not None:
        needed.append(f"{_cursor(row, rules)} <= {duckdb_literal(baseline.boundary_to)}")
    return f"CASE WHEN {' OR '.join(needed)} THEN {row_hash} END"


def _joined_columns(baseline: Baseline) -> str:
    columns = [f"{_c('encoded')}.*"]
    if baseline.snapshot:
        columns += [f"{_c('sent')}.row_hash AS {_c('sent_hash')}", f"{_c('sent')}.inserted_at AS {_c('sent_at')}"]
    if baseline.inside:
        columns += [f"{_c('inside_sent')} AS {_c('sent_hash')}", f"{_c('inside_sent_at')} AS {_c('sent_at')}"]
    if baseline.boundary:
        columns.append(f"{_first_of('bound', 'row_hash', baseline)} AS {_c('bound_hash')}")
    if baseline.rejects:
        columns.append(f"{_first_of('refused', 'refused_there', baseline)} AS {_c('refused_there')}")
        columns += [f"{_first_of('refused', 'row_hash', baseline)} AS {_c('refused_hash')}"] if baseline.older else []
    return ", ".join(columns)


def _first_of(side: str, column: str, baseline: Baseline) -> str:
    """What the row was found with, by its hash or by one of an older version."""
    sides = [_c(name) for name, _ in _sides(side, baseline)]
    return f"{sides[0]}.{column}" if len(sides) == 1 else f"coalesce({', '.join(f'{s}.{column}' for s in sides)})"


def _sides(side: str, baseline: Baseline) -> list[tuple[str, str]]:
    """One join of that name a version: its alias, and the row's hash of that version."""
    return [(side, "row_hash"), *((f"{side}_{version}", f"hash_{version}") for version in _joined_by(baseline))]


def _joins(baseline: Baseline) -> str:
    joins, row = "", _c("encoded")
    if baseline.snapshot:
        joins += (
            f"\n    LEFT JOIN {baseline.snapshot} AS {_c('sent')} ON {_c('sent')}.key_hash = {row}.{_c('key_hash')}"
        )
    for alias, row_hash in _sides("bound", baseline) if baseline.boundary else ():
        # The cursor too: an event that is equal but for its cursor is another event.
        joins += (
            f"\n    LEFT JOIN {baseline.boundary} AS {_c(alias)} ON {_c(alias)}.row_hash = {row}.{_c(row_hash)}"
            f" AND {_c(alias)}.cursor = {row}.{_c('cursor')}"
        )
    for alias, row_hash in _sides("refused", baseline) if baseline.rejects else ():
        joins += (
            f"\n    LEFT JOIN {baseline.rejects} AS {_c(alias)} ON {_c(alias)}.row_hash = {row}.{_c(row_hash)}"
            f" AND {_c(alias)}.key_hash IS NOT DISTINCT FROM {row}.{_c('key_hash')}"
        )
    return joins


def _with_hash_as_sent(row: RowSql, baseline: Baseline, joined: str) -> str:
    """The joined rows, and their hash by the version that made the stored one: the older one where that is equal."""
    if not (baseline.snapshot and baseline.older):
        return joined
    sent, own = _c("sent_hash"), _c("row_hash")
    older = [_c(f"hash_{version}") if _joined_by(baseline) else f"({row.older[version]})" for version in baseline.older]
    whens = " ".join(f"WHEN {sent} = {hashed} THEN {sent}" for hashed in older)
    as_sent = f"CASE WHEN {sent} IS NULL OR {sent} = {own} THEN {own} {whens} ELSE {own} END"
    return f"(SELECT *, {as_sent} AS {_c('as_sent')} FROM {joined})"


def _same(baseline: Baseline) -> str:
    """The row's hash to compare with the one that was sent."""
    return _c("as_sent" if baseline.snapshot and baseline.older else "row_hash")


def _stored(baseline: Baseline) -> str:
    """The hash of an older version that is stored of an equal row; NULL without any."""
    found = ["refused_hash"] if baseline.rejects else []
    found += ["as_sent"] if baseline.snapshot else []
    found += ["bound_hash"] if baseline.boundary else []
    own = _c("row_hash")
    return f"coalesce({', '.join(f'nullif({_c(name)}, {own})' for name in found)}, NULL)"


def _verdict(baseline: Baseline, rules: Rules) -> str:
    cases = [(f"{_c('inside_summary')} IS NOT NULL", SUMMARY)] if baseline.inside else []
    if rules.high is not None:
        cases.append((f"{_c('cursor')} > {duckdb_literal(rules.high)}", Verdict.FUTURE.value))
    suppressed = f"{_c('refused_there')} IS NOT NULL" if baseline.rejects else None
    if suppressed:
        cases.append((f"{_c('reasons')} <> 0 AND {suppressed}", Verdict.SUPPRESSED.value))
    cases.append((f"{_c('reasons')} <> 0", Verdict.INVALID.value))
    if suppressed:
        cases.append((_c("refused_there"), Verdict.SUPPRESSED.value))
    if baseline.boundary:
        cases.append((f"{_c('bound_hash')} IS NOT NULL", BOUNDARY))
    if baseline.compares:
        changed = Verdict.CHANGED if rules.is_identify or rules.always else Verdict.UNCHANGED
        cases.append((f"{_c('sent_hash')} IS NULL", Verdict.ADDED.value))
        if rules.always:
            cases.append(("true", Verdict.CHANGED.value))
        cases.append((f"{_c('sent_hash')} <> {_same(baseline)}", changed.value))
        cases.append(("true", Verdict.UNCHANGED.value))
    whens = " ".join(f"WHEN {test} THEN {code}" for test, code in cases)
    return f"(CASE {whens} ELSE {Verdict.ADDED.value} END)::TINYINT"


def _notes(baseline: Baseline, rules: Rules) -> str:
    """What is noted of a row that is sent. A delivered event never goes again: where it is another one now, at least
    that is said."""
    cases = [(f"{_c('verdict')} IN ({Verdict.ADDED.value}, {Verdict.CHANGED.value})", _c("notes"))]
    if not rules.is_identify and not rules.always and baseline.compares:
        differs = f"{_c('verdict')} = {Verdict.UNCHANGED.value} AND {_c('sent_hash')} <> {_same(baseline)}"
        cases.append((differs, f"{rules.bit_event_changed}::BIGINT"))
    return f"CASE {' '.join(f'WHEN {test} THEN {bits}' for test, bits in cases)} ELSE 0::BIGINT END"


def _sent_at(baseline: Baseline, rules: Rules) -> tuple[str, str]:
    """The `inserted_at` that goes out, and whether it was moved: Userpilot lets the latest identify win."""
    own = _c("inserted_at")
    if not rules.is_identify:
        return own, "false"
    start = _start(rules)
    if not baseline.compares:
        return f"coalesce({own}, {start})", "false"
    stale = f"({own} <= {_c('sent_at')} AND {_c('sent_hash')} <> {_same(baseline)})"
    # A time up to a day ahead may have been sent: what follows it must still be later.
    later = f"greatest({start}, {_c('sent_at')} + INTERVAL 1 MICROSECOND)"
    return f"CASE WHEN {own} IS NULL OR {stale} THEN {later} ELSE {own} END", f"coalesce({stale}, false)"


def _own_at(rules: Rules) -> str:
    """The row's own time: what tells which of two rows of a key is newer, whatever time goes out with it."""
    return f"coalesce({_c('inserted_at')}, {_start(rules)})" if rules.is_identify else _c("inserted_at")


def _start(rules: Rules) -> str:
    return f"TIMESTAMP '{iso_utc(rules.started_at)}'"
