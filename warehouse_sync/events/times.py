"""`inserted_at`: when it happened, as TIMESTAMP in UTC, and what has to be true of it.

Timestamps that carry no zone, dates (midnight) and text without an offset are read in the model's zone. Text has to be
ISO 8601. The time lies between 1970-01-01 and 24 hours after the window's start. Events must bring it; of profiles a
missing one is NULL here, and whoever builds the line puts the window's start in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from warehouse_sync.errors import ModelError
from warehouse_sync.events.reasons import Reason
from warehouse_sync.events.shapes import Column, Shape
from warehouse_sync.events.sql import Check, quote
from warehouse_sync.events.types import Types, invalid_utf8
from warehouse_sync.values import Model, iso_utc

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"
LOCAL = f"{_DATE}(?:[T ]{_TIME})?"
ZONED = f"{_DATE}[T ]{_TIME}(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"


@dataclass(frozen=True)
class InsertedAt:
    """The TIMESTAMP (NULL when the row carries none), and its checks."""

    sql: str
    checks: tuple[Check, ...]


def build_inserted_at(model: Model, column: Column | None, types: Types, now: datetime) -> InsertedAt:
    """The time of a row; ModelError when an event model returns none, or a column that is no time."""
    if column is None or column.shape is Shape.NULL:
        if model.event.is_identify:
            return InsertedAt("NULL::TIMESTAMP", ())
        lacking = "which the query does not return" if column is None else f"and {column.name} is NULL in every row"
        raise ModelError(
            f"{model.event.value} needs inserted_at, the time when it happened, {lacking}",
            path=model.path,
            hint="Select it under that name, or rename: {your_column: inserted_at}.",
        )
    x = column.sql
    checks = [] if model.event.is_identify else [Check(Reason.INSERTED_AT_MISSING, f"{x} IS NULL", column.name)]
    if column.shape in {Shape.DATE, Shape.TIMESTAMP}:
        moment = types.utc(column)
        known = f"{x} IS NOT NULL"
    elif column.shape is Shape.TEXT:
        moment = _from_text(f"{x}::varchar", types)
        known = f"{moment} IS NOT NULL"
        checks.append(Check(Reason.INSERTED_AT_UNREADABLE, f"{x} IS NOT NULL AND {moment} IS NULL", column.name))
        checks.append(Check(Reason.INVALID_UTF8, invalid_utf8(f"{x}::varchar"), column.name))
    else:
        hint = f"Use to_timestamp({column.name}) or your warehouse's like." if column.shape is Shape.INTEGER else ""
        raise ModelError(
            f"column {column.name!r} is {column.type_name}, and inserted_at has to be a timestamp, a date or ISO text",
            path=model.path,
            hint=hint or "Cast it in the query.",
        )
    latest = quote(iso_utc(now + timedelta(hours=24)).replace("T", " "))
    inside = f"({moment} BETWEEN TIMESTAMP '1970-01-01' AND TIMESTAMP {latest})"
    checks.append(Check(Reason.INSERTED_AT_OUT_OF_RANGE, f"{known} AND {inside} IS NOT TRUE", column.name))
    return InsertedAt(moment, tuple(checks))


def _from_text(text: str, types: Types) -> str:
    """ISO 8601 text as TIMESTAMP in UTC; NULL when it is none. Digits after the microsecond are cut off."""
    local = types.from_zone(f"TRY_CAST({text} AS TIMESTAMP)")
    zoned = f"make_timestamp(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)))"
    return (
        f"CASE WHEN regexp_full_match({text}, {quote(LOCAL)}) THEN {local} "
        f"WHEN regexp_full_match({text}, {quote(ZONED)}) THEN {zoned} END"
    )
