"""Which of the rows that were read are sent: one streaming query, a verdict and (where it is sent) a line for each.

    source -> key, hashes, reasons -> LEFT JOIN what was sent, LEFT JOIN open rejects -> verdict -> line

The stored side is the build side of every join, so that rows stream through. An Arrow stream looks like one row to
DuckDB, which would build on it: there the optimizer that swaps sides is switched off (`pin`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

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
"""The columns of `statement`, in order. `own_at`: the row's own time, where `inserted_at` may be a later one."""

BOUNDARY = 7
"""A verdict of this query only: an unkeyed row equal to one at the last window's bound; counted before it is judged."""


@dataclass(frozen=True)
class Baseline:
    """What the rows are compared with, as tables of the reading connection; None: nothing of that kind.

    `snapshot`: (key_hash, row_hash, inserted_at); `boundary`: (row_hash, cursor, rows) of delivered unkeyed rows that
    can be read again, none of them beyond `boundary_to`; `rejects`: (key_hash, row_hash, refused_there BOOLEAN) of the
    open rejects.
    """

    snapshot: str | None = None
    boundary: str | None = None
    boundary_to: CursorValue | None = None
    rejects: str | None = None


@dataclass(frozen=True)
class Rules:
    """How this window judges.

    `started_at` stands in for a missing or stale `inserted_at`; `high` is the last cursor that is not future;
    `max_line` in bytes; the bits are those of the reasons that only the window can know.
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
    # A name of ours beside the source's columns has the prefix: a column may have any name, `verdict` and `line` too.
    return f"""
SELECT
  (CASE WHEN {too_long} THEN long_verdict ELSE verdict END)::TINYINT AS verdict,
  CASE WHEN {too_long} THEN NULL ELSE line END AS line,
  key, key_hash, row_hash, cursor, inserted_at,
  CASE WHEN {too_long} THEN {rules.bit_line_too_long}::BIGINT ELSE reasons END AS reasons,
  notes, retimed AND NOT coalesce({too_long}, false) AS retimed, own_at
FROM (
  SELECT
    {_c("verdict")} AS verdict, {known if baseline.rejects else Verdict.INVALID.value} AS long_verdict,
    CASE WHEN {_c("verdict")} IN ({Verdict.ADDED.value}, {Verdict.CHANGED.value}, {BOUNDARY}) THEN {line} END AS line,
    {_c("key")} AS key, {_c("key_hash")} AS key_hash, {_c("row_hash")} AS row_hash,
    CASE WHEN {_c("verdict")} = {Verdict.FUTURE.value} THEN NULL ELSE {_c("cursor")} END AS cursor,
    {sent_at} AS inserted_at, {_c("reasons")} AS reasons, {_c("notes")} AS notes,
    {_c("verdict")} = {Verdict.CHANGED.value} AND {retimed} AS retimed, {_own_at(rules)} AS own_at
  FROM (SELECT *, {_verdict(baseline, rules)} AS {_c("verdict")} FROM (
    SELECT {_joined_columns(baseline)} FROM (
      SELECT *, {_row(row, baseline, rules)} FROM {relation} AS {_c("source")}
    ) AS {_c("encoded")}{_joins(baseline)}
  ))
)"""


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
    texts = {name: once(getattr(row, name)) for name in ("key", "key_hash", "row_hash", "cursor", "reasons", "notes")}
    return replace(
        row, **texts, line=lambda at: once(row.line(at)), shared=()
    ), f"(SELECT *, {columns} FROM {relation})"


def _c(name: str) -> str:
    return f'"{PREFIX}{name}"'


def _row(row: RowSql, baseline: Baseline, rules: Rules) -> str:
    reasons, cursor = row.reasons, _cursor(row, rules)
    if rules.cursor_kind is not None and rules.refuse_null_cursor:
        reasons = f"({reasons}) | CASE WHEN {cursor} IS NULL THEN {rules.bit_null_cursor}::BIGINT ELSE 0 END"
    columns = {
        "key": row.key,
        "key_hash": row.key_hash,
        "row_hash": _row_hash(row, reasons, baseline, rules),
        "cursor": cursor,
        "inserted_at": row.inserted_at,
        "reasons": reasons,
        "notes": row.notes,
    }
    if not rules.is_identify:
        columns["line"] = row.line(row.inserted_at)
    return ", ".join(f"{sql} AS {_c(name)}" for name, sql in columns.items())


def _cursor(row: RowSql, rules: Rules) -> str:
    """The cursor, its texts in the order of their bytes: the order in which the greatest of them was found."""
    return f'({row.cursor}) COLLATE "binary"' if rules.cursor_kind is CursorKind.STRING else row.cursor


def _row_hash(row: RowSql, reasons: str, baseline: Baseline, rules: Rules) -> str:
    """The row's hash. Without a key it is that of the line and only told apart at the bound: elsewhere it is not taken
    (the snapshot takes it from the lines at the new bound), which saves a third of the time of a first read."""
    if rules.keyed or baseline.rejects:
        return row.row_hash
    needed = [f"({reasons}) <> 0"]
    if baseline.boundary_to is not None:
        needed.append(f"{_cursor(row, rules)} <= {duckdb_literal(baseline.boundary_to)}")
    return f"CASE WHEN {' OR '.join(needed)} THEN {row.row_hash} END"


def _joined_columns(baseline: Baseline) -> str:
    columns = [f"{_c('encoded')}.*"]
    if baseline.snapshot:
        columns += [f"{_c('sent')}.row_hash AS {_c('sent_hash')}", f"{_c('sent')}.inserted_at AS {_c('sent_at')}"]
    if baseline.boundary:
        columns.append(f"{_c('bound')}.row_hash AS {_c('bound_hash')}")
    if baseline.rejects:
        columns.append(f"{_c('refused')}.refused_there AS {_c('refused_there')}")
    return ", ".join(columns)


def _joins(baseline: Baseline) -> str:
    joins, row = "", _c("encoded")
    if baseline.snapshot:
        joins += (
            f"\n    LEFT JOIN {baseline.snapshot} AS {_c('sent')} ON {_c('sent')}.key_hash = {row}.{_c('key_hash')}"
        )
    if baseline.boundary:
        # The cursor too: an event that is equal but for its cursor is another event.
        joins += (
            f"\n    LEFT JOIN {baseline.boundary} AS {_c('bound')} ON {_c('bound')}.row_hash = {row}.{_c('row_hash')}"
            f" AND {_c('bound')}.cursor = {row}.{_c('cursor')}"
        )
    if baseline.rejects:
        joins += (
            f"\n    LEFT JOIN {baseline.rejects} AS {_c('refused')}"
            f" ON {_c('refused')}.row_hash = {row}.{_c('row_hash')}"
            f" AND {_c('refused')}.key_hash IS NOT DISTINCT FROM {row}.{_c('key_hash')}"
        )
    return joins


def _verdict(baseline: Baseline, rules: Rules) -> str:
    cases = []
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
    if baseline.snapshot:
        changed = Verdict.CHANGED if rules.is_identify or rules.always else Verdict.UNCHANGED
        cases.append((f"{_c('sent_hash')} IS NULL", Verdict.ADDED.value))
        if rules.always:
            cases.append(("true", Verdict.CHANGED.value))
        cases.append((f"{_c('sent_hash')} <> {_c('row_hash')}", changed.value))
        cases.append(("true", Verdict.UNCHANGED.value))
    whens = " ".join(f"WHEN {test} THEN {code}" for test, code in cases)
    return f"(CASE {whens} ELSE {Verdict.ADDED.value} END)::TINYINT"


def _sent_at(baseline: Baseline, rules: Rules) -> tuple[str, str]:
    """The `inserted_at` that goes out, and whether it was moved: Userpilot lets the latest identify win."""
    own = _c("inserted_at")
    if not rules.is_identify:
        return own, "false"
    start = _start(rules)
    if baseline.snapshot is None:
        return f"coalesce({own}, {start})", "false"
    stale = f"({own} <= {_c('sent_at')} AND {_c('sent_hash')} <> {_c('row_hash')})"
    # A time up to a day ahead may have been sent: what follows it must still be later.
    later = f"greatest({start}, {_c('sent_at')} + INTERVAL 1 MICROSECOND)"
    return f"CASE WHEN {own} IS NULL OR {stale} THEN {later} ELSE {own} END", f"coalesce({stale}, false)"


def _own_at(rules: Rules) -> str:
    """The row's own time: what tells which of two rows of a key is newer, whatever time goes out with it."""
    return f"coalesce({_c('inserted_at')}, {_start(rules)})" if rules.is_identify else _c("inserted_at")


def _start(rules: Rules) -> str:
    return f"TIMESTAMP '{iso_utc(rules.started_at)}'"
