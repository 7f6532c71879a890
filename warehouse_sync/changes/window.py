"""What a run reads: the bounds of one window of one model's cursor (design: "Window").

Closed below (`cursor >= from - lag`), so that ties and late rows are read again and told apart by hash; rows beyond
the warehouse's clock plus an hour are counted as `future` and wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from warehouse_sync.errors import ModelError
from warehouse_sync.values import CursorKind, CursorValue, Lag, Model

if TYPE_CHECKING:
    import pyarrow as pa

FUTURE = timedelta(hours=1)
"""How far a cursor may run ahead of the warehouse's clock before its rows wait."""


@dataclass(frozen=True)
class Bounds:
    """What one window reads. `since`: where the last one ended; `low`: `since - lag`, the closed lower bound;
    `high`: the last value that is not future; `before`: the open upper bound of a slice or a backfill. None: open.
    `above`: `low` itself is not read again; `last`: the closed upper bound of what is read a second time."""

    since: CursorValue | None
    low: CursorValue | None
    high: CursorValue | None
    before: CursorValue | None = None
    above: bool = False
    last: CursorValue | None = None


def cursor_kind(model: Model, schema: pa.Schema, type_name: Callable[[pa.Field], str]) -> CursorKind | None:
    """The kind of the model's cursor column; `type_name`: what messages call a column's type.

    Raises ModelError when it is not there, or of a type without order.
    """
    import pyarrow as pa

    if model.cursor is None:
        return None
    matches = [field for field in schema if field.name.casefold() == model.cursor.casefold()]
    if not matches:
        raise ModelError(
            f"the cursor column `{model.cursor}` is not returned by the model",
            path=model.path,
            hint="add it to the select list (it is not sent when its name begins with `_`);"
            f" returned: {', '.join(schema.names)}.",
        )
    kind = matches[0].type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_timestamp(kind):
        return CursorKind.TIMESTAMP if kind.tz is None else CursorKind.TIMESTAMPTZ
    if pa.types.is_date(kind):
        return CursorKind.DATE
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        return CursorKind.INTEGER
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return CursorKind.STRING
    raise ModelError(
        f"the cursor column `{model.cursor}` is of type {type_name(matches[0])}",
        path=model.path,
        hint="a cursor is a timestamp, a date, an integer or a string; cast it in the model.",
    )


def lag_of(model: Model, kind: CursorKind) -> Lag:
    """The model's lag, or the default of its kind: identify_* and keyed events an hour or a day, otherwise none."""
    if model.lag is not None:
        fits = kind.is_time if isinstance(model.lag, timedelta) else kind is CursorKind.INTEGER
        if model.lag and not fits:
            raise ModelError(
                f"`lag` is {'a duration' if isinstance(model.lag, timedelta) else 'a number'}, but the cursor"
                f" `{model.cursor}` is of kind {kind}",
                path=model.path,
                hint="durations (`1 hour`) go with dates and timestamps, numbers with integers; strings have no lag.",
            )
        return model.lag or 0
    if not (model.event.is_identify or model.unique_key):
        return 0
    defaults: dict[CursorKind, Lag] = {
        CursorKind.TIMESTAMP: timedelta(hours=1),
        CursorKind.TIMESTAMPTZ: timedelta(hours=1),
        CursorKind.DATE: timedelta(days=1),
    }
    return defaults.get(kind, 0)


def bounds(model: Model, kind: CursorKind, since: CursorValue | None, now: datetime, timezone: str) -> Bounds:
    """The window after `since`; without one, the window that begins where the header's `begin` says.

    `now` is the warehouse's clock (aware); naive cursors are read in `timezone`.
    """
    high = at(kind, now + FUTURE, timezone) if kind.is_time else None
    lag = lag_of(model, kind)
    if since is not None:
        return Bounds(since, shift(since, lag), high)
    begin = begin_of(model, kind, now, timezone)
    return Bounds(None, begin, high)


def sliced(model: Model, kind: CursorKind, window: Bounds, first_new: Callable[[], CursorValue | None]) -> Bounds:
    """The window cut to the header's `slice`, counted from its first new row, so that every slice holds one.

    `first_new()` asks the warehouse for the smallest cursor that the window would read anew; without any it is not cut.
    """
    if model.slice is None:
        return window
    if isinstance(model.slice, timedelta) is not kind.is_time or kind is CursorKind.STRING:
        raise ModelError(
            f"`slice` does not go with the cursor `{model.cursor}`, which is of kind {kind}",
            path=model.path,
            hint="durations (`7 days`) cut dates and timestamps, numbers cut integers; strings cannot be cut.",
        )
    start = first_new()
    if start is None:
        return window
    before = shift(start, -model.slice)
    future = window.high is not None and order(before) > order(window.high)
    return window if future else replace(window, before=before)


def order(value: CursorValue) -> tuple[int, str]:
    """A sort key among values of one cursor; the text of dates and timestamps sorts as they do."""
    return (int(value.text), "") if value.kind is CursorKind.INTEGER else (0, value.text)


def value_of(kind: CursorKind, value: object, timezone: str) -> CursorValue | None:
    """A value that a warehouse's driver gave for a cursor."""
    if value is None:
        return None
    if isinstance(value, datetime):
        if kind is CursorKind.TIMESTAMPTZ or value.tzinfo is not None:
            return at(kind, value if value.tzinfo else value.replace(tzinfo=UTC), timezone)
        return CursorValue(kind, value.isoformat(sep=" ", timespec="microseconds"))
    return CursorValue(kind, value.isoformat() if isinstance(value, date) else str(value))


_BYTEWISE = {
    "duckdb": 'CAST({} AS VARCHAR) COLLATE "binary"',
    "postgres": 'CAST({} AS TEXT) COLLATE "C"',
    "mysql": "CAST(CONVERT({} USING utf8mb4) AS BINARY)",
    "sqlite": "CAST({} AS TEXT) COLLATE BINARY",
}
"""By dialect, a text in the order of its bytes. Snowflake's is that order unless the column says otherwise; of other
dialects it has to be."""


def in_order(sql: str, type_: pa.DataType, dialect: str) -> str:
    """A cursor's expression in the order in which the greatest of its values is found: texts in that of their bytes."""
    import pyarrow.types as t

    if t.is_string(type_) or t.is_large_string(type_) or t.is_dictionary(type_):
        return _BYTEWISE.get(dialect, "{}").replace("{}", sql)
    return sql


def begin_of(model: Model, kind: CursorKind, now: datetime, timezone: str) -> CursorValue | None:
    """Where the very first window begins: None for `all`."""
    begin = model.begin
    if begin is None or begin == "all":
        return None
    if begin == "now":
        if not kind.is_time:
            raise ModelError(
                f"`begin='now'` needs a date or timestamp cursor; `{model.cursor}` is of kind {kind}",
                path=model.path,
                hint="give `begin` a value of the cursor, or `all`.",
            )
        return at(kind, now, timezone)
    return parse(begin, kind, timezone, model, f"`begin='{begin}'`")


def at(kind: CursorKind, moment: datetime, timezone: str) -> CursorValue:
    """That moment as a value of a time cursor; naive kinds show the clock of `timezone`."""
    if kind is CursorKind.TIMESTAMPTZ:
        return CursorValue(kind, moment.astimezone(UTC).isoformat(sep=" ", timespec="microseconds"))
    local = moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    if kind is CursorKind.DATE:
        return CursorValue(kind, local.date().isoformat())
    return CursorValue(kind, local.isoformat(sep=" ", timespec="microseconds"))


def parse(text: str, kind: CursorKind, timezone: str, model: Model, told: str = "") -> CursorValue:
    """A value that a person wrote (`begin`, `--from`) as a value of that kind; `told`: what messages call it.

    Raises ModelError when it is none.
    """
    try:
        if kind is CursorKind.INTEGER:
            return CursorValue(kind, str(int(text)))
        if kind is CursorKind.DATE:
            return CursorValue(kind, date.fromisoformat(text).isoformat())
        if kind.is_time:
            moment = datetime.fromisoformat(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))
            return at(kind, aware, timezone)
    except ValueError:
        raise ModelError(
            f"{told or f'`{text}`'} is no value of the cursor `{model.cursor}`, which is of kind {kind}",
            path=model.path,
            hint="write dates as 2026-01-31, timestamps as 2026-01-31T00:00:00, integers as digits.",
        ) from None
    return CursorValue(kind, text)


def shift(value: CursorValue, lag: Lag) -> CursorValue:
    """`value - lag`; digits below the microsecond are kept, and the calendar's ends are not crossed.

    Dates move by whole days, a begun day counting as one in either direction.
    """
    if not lag:
        return value
    if value.kind is CursorKind.INTEGER and isinstance(lag, int):
        return CursorValue(value.kind, str(int(value.text) - lag))
    if not isinstance(lag, timedelta):
        return value
    try:
        if value.kind is CursorKind.DATE:
            days = timedelta(days=-(-abs(lag) // timedelta(days=1)))
            moved_by = days if lag > timedelta(0) else -days
            return CursorValue(value.kind, (date.fromisoformat(value.text) - moved_by).isoformat())
        whole, below = _split(value.text)
        moved = datetime.fromisoformat(whole) - lag
    except OverflowError:
        return value
    return CursorValue(value.kind, _join(moved, below))


def duckdb_literal(value: CursorValue) -> str:
    """The value as the embedded engine writes it, in full precision."""
    text = "'" + value.text.replace("'", "''") + "'"
    if value.kind is CursorKind.INTEGER:
        return value.text
    if value.kind is CursorKind.STRING:
        return text
    if value.kind is CursorKind.TIMESTAMP:
        return f"{'TIMESTAMP_NS' if _split(value.text)[1] else 'TIMESTAMP'} {text}"
    return f"{'DATE' if value.kind is CursorKind.DATE else 'TIMESTAMPTZ'} {text}"


def _split(text: str) -> tuple[str, str]:
    """A timestamp's text without its digits below the microsecond, and those digits."""
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return (head + dot + digits[:6] + rest[len(digits) :] if dot else text), digits[6:]


def _join(moment: datetime, below: str) -> str:
    text = moment.isoformat(sep=" ", timespec="microseconds")
    return text[:26] + below + text[26:]
