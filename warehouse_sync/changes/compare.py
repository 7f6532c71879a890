"""Which of the rows that were read are sent: one streaming query, a verdict and (where it is sent) a line for each.

    source -> key, hashes, reasons -> LEFT JOIN what was sent, LEFT JOIN open rejects -> verdict -> line

The stored side is the build side of every join, so that rows stream through. An Arrow stream looks like one row to
DuckDB, which would build on it: there the optimizer that swaps sides is switched off (`pin`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from warehouse_sync.changes.window import duckdb_literal
from warehouse_sync.values import CursorKind, CursorValue, RowSql, Verdict, iso_utc

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PREFIX = "warehouse_sync."
"""Columns that this module adds beside the source's own begin so."""

OUTPUT = ("verdict", "line", "key", "key_hash", "row_hash", "cursor", "inserted_at", "reasons", "notes", "retimed")
"""The columns of `statement`, in order."""

BOUNDARY = 7
"""A verdict of this query only: an unkeyed row equal to one at the last window's bound; counted before it is judged."""


@dataclass(frozen=True)
class Baseline:
    """What the rows are compared with, as tables of the reading connection; None: nothing of that kind.

    `snapshot`: (key_hash, row_hash, inserted_at); `boundary`: (row_hash, rows) of the unkeyed rows at the last bound;
    `rejects`: (key_hash, row_hash, refused_there BOOLEAN) of the open rejects.
    """

    snapshot: str | None = None
    boundary: str | None = None
    rejects: str | None = None


@dataclass(frozen=True)
class Rules:
    """How this window judges.

    `started_at` stands in for a missing or stale `inserted_at`; `since` is where the last window ended, `high` the last
    cursor that is not future; `max_line` in bytes; the bits are those of the reasons that only the window can know.
    """

    is_identify: bool
    keyed: bool
    always: bool
    cursor_kind: CursorKind | None
    since: CursorValue | None
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
    sent_at, retimed = _sent_at(baseline, rules)
    # An event's line does not depend on what was sent before, so it stands beside its hash, which may be made of it.
    line = row.line(sent_at) if rules.is_identify else _c("line")
    return f"""
SELECT
  CASE WHEN strlen(line) > {rules.max_line} THEN {Verdict.INVALID.value} ELSE verdict END AS verdict,
  CASE WHEN strlen(line) > {rules.max_line} THEN NULL ELSE line END AS line,
  key, key_hash, row_hash, cursor, inserted_at,
  CASE WHEN strlen(line) > {rules.max_line} THEN {rules.bit_line_too_long}::BIGINT ELSE reasons END AS reasons,
  notes, retimed
FROM (
  SELECT
    verdict,
    CASE WHEN verdict IN ({Verdict.ADDED.value}, {Verdict.CHANGED.value}, {BOUNDARY}) THEN {line} END AS line,
    {_c("key")} AS key, {_c("key_hash")} AS key_hash, {_c("row_hash")} AS row_hash,
    CASE WHEN verdict = {Verdict.FUTURE.value} THEN NULL ELSE {_c("cursor")} END AS cursor,
    {sent_at} AS inserted_at, {_c("reasons")} AS reasons, {_c("notes")} AS notes,
    verdict = {Verdict.CHANGED.value} AND {retimed} AS retimed
  FROM (SELECT *, {_verdict(baseline, rules)} AS verdict FROM (
    SELECT {_joined_columns(baseline)} FROM (
      SELECT *, {_row(row, baseline, rules)} FROM {relation} AS source
    ) AS encoded{_joins(baseline, rules)}
  ))
)"""


def _c(name: str) -> str:
    return f'"{PREFIX}{name}"'


def _row(row: RowSql, baseline: Baseline, rules: Rules) -> str:
    reasons = row.reasons
    if rules.cursor_kind is not None and rules.refuse_null_cursor:
        reasons = f"({reasons}) | CASE WHEN {row.cursor} IS NULL THEN {rules.bit_null_cursor}::BIGINT ELSE 0 END"
    columns = {
        "key": row.key,
        "key_hash": row.key_hash,
        "row_hash": _row_hash(row, reasons, baseline, rules),
        "cursor": row.cursor,
        "inserted_at": row.inserted_at,
        "reasons": reasons,
        "notes": row.notes,
    }
    if not rules.is_identify:
        columns["line"] = row.line(row.inserted_at)
    return ", ".join(f"{sql} AS {_c(name)}" for name, sql in columns.items())


def _row_hash(row: RowSql, reasons: str, baseline: Baseline, rules: Rules) -> str:
    """The row's hash. Without a key it is that of the line and only told apart at the bound: elsewhere it is not taken
    (the snapshot takes it from the lines at the new bound), which saves a third of the time of a first read."""
    if rules.keyed or baseline.rejects:
        return row.row_hash
    needed = [f"({reasons}) <> 0"]
    if baseline.boundary and rules.since is not None:
        needed.append(f"{row.cursor} <= {duckdb_literal(rules.since)}")
    return f"CASE WHEN {' OR '.join(needed)} THEN {row.row_hash} END"


def _joined_columns(baseline: Baseline) -> str:
    columns = ["encoded.*"]
    if baseline.snapshot:
        columns += [f"sent.row_hash AS {_c('sent_hash')}", f"sent.inserted_at AS {_c('sent_at')}"]
    if baseline.boundary:
        columns.append(f"at_bound.row_hash AS {_c('bound_hash')}")
    if baseline.rejects:
        columns.append(f"refused.refused_there AS {_c('refused_there')}")
    return ", ".join(columns)


def _joins(baseline: Baseline, rules: Rules) -> str:
    joins = ""
    if baseline.snapshot:
        joins += f"\n    LEFT JOIN {baseline.snapshot} AS sent ON sent.key_hash = encoded.{_c('key_hash')}"
    if baseline.boundary:
        joins += f"\n    LEFT JOIN {baseline.boundary} AS at_bound ON at_bound.row_hash = encoded.{_c('row_hash')}"
    if baseline.rejects:
        joins += (
            f"\n    LEFT JOIN {baseline.rejects} AS refused ON refused.row_hash = encoded.{_c('row_hash')}"
            f" AND refused.key_hash IS NOT DISTINCT FROM encoded.{_c('key_hash')}"
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
    start = f"TIMESTAMP '{iso_utc(rules.started_at)}'"
    if baseline.snapshot is None:
        return f"coalesce({own}, {start})", "false"
    stale = f"({own} <= {_c('sent_at')} AND {_c('sent_hash')} <> {_c('row_hash')})"
    return f"CASE WHEN {own} IS NULL OR {stale} THEN {start} ELSE {own} END", f"coalesce({stale}, false)"
