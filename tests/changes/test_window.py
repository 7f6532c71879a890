"""The bounds of a window: lag, begin, the future, in every kind of cursor and full precision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from warehouse_sync.changes.tally import timestamp_text
from warehouse_sync.changes.window import Bounds, bounds, cursor_kind, duckdb_literal, lag_of, shift
from warehouse_sync.errors import ModelError
from warehouse_sync.events.shapes import type_name
from warehouse_sync.values import CursorKind, CursorValue, EventType, Model

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
T, TZ, D, N, S = (
    CursorKind.TIMESTAMP,
    CursorKind.TIMESTAMPTZ,
    CursorKind.DATE,
    CursorKind.INTEGER,
    CursorKind.STRING,
)


def model(**header) -> Model:
    header = {"event": EventType.IDENTIFY_USER, "unique_key": ("user_id",), "cursor": "c", **header}
    return Model("m", Path("m.sql"), "select 1", **header)


@pytest.mark.parametrize(
    ("value", "lag", "expected"),
    [
        (CursorValue(T, "2026-01-01 00:30:00.000000"), timedelta(hours=1), "2025-12-31 23:30:00.000000"),
        (CursorValue(T, "2026-01-01 00:30:00.123456789"), timedelta(hours=1), "2025-12-31 23:30:00.123456789"),
        (CursorValue(T, "2026-01-01 00:30:00"), timedelta(minutes=1), "2026-01-01 00:29:00.000000"),
        (CursorValue(TZ, "2026-03-01 00:30:00.5+00:00"), timedelta(days=1), "2026-02-28 00:30:00.500000+00:00"),
        (CursorValue(D, "2026-03-01"), timedelta(days=1), "2026-02-28"),
        (CursorValue(D, "2026-03-01"), timedelta(hours=1), "2026-02-28"),
        (CursorValue(D, "2026-03-01"), timedelta(hours=25), "2026-02-27"),
        (CursorValue(D, "2026-03-01"), timedelta(hours=-12), "2026-03-02"),
        (CursorValue(D, "2026-03-01"), timedelta(hours=-36), "2026-03-03"),
        (CursorValue(D, "9999-12-31"), timedelta(days=-1), "9999-12-31"),
        (CursorValue(N, "100"), 30, "70"),
        (CursorValue(N, "12345678901234567890123456789012345678"), 1, "12345678901234567890123456789012345677"),
        (CursorValue(N, "100"), 0, "100"),
        (CursorValue(S, "abc"), 0, "abc"),
        (CursorValue(T, "0001-01-01 00:00:00.000000"), timedelta(days=1), "0001-01-01 00:00:00.000000"),
    ],
)
def test_shift(value, lag, expected):
    assert shift(value, lag) == CursorValue(value.kind, expected)


def test_naive_cursors_live_in_the_models_time_zone():
    zone = "Europe/Berlin"
    for kind, expected in (
        (T, "2026-03-29 04:30:00.000000"),
        (TZ, "2026-03-29 02:30:00.000000+00:00"),
        (D, "2026-03-29"),
    ):
        window = bounds(model(), kind, None, NOW, zone)
        assert window == Bounds(None, None, CursorValue(kind, expected)), "an hour ahead, over the change of the clocks"


def test_integers_and_strings_have_no_future():
    assert bounds(model(), N, CursorValue(N, "7"), NOW, "UTC").high is None
    assert bounds(model(), S, None, NOW, "UTC").high is None


@pytest.mark.parametrize(
    ("kind", "header", "expected"),
    [
        (T, {}, timedelta(hours=1)),
        (TZ, {}, timedelta(hours=1)),
        (D, {}, timedelta(days=1)),
        (N, {}, 0),
        (S, {}, 0),
        (T, {"event": EventType.TRACK, "unique_key": ("id",)}, timedelta(hours=1)),
        (T, {"event": EventType.TRACK, "unique_key": ()}, 0),
        (T, {"lag": timedelta(days=3)}, timedelta(days=3)),
        (N, {"lag": 5}, 5),
        (T, {"lag": 0}, 0),
    ],
)
def test_lag(kind, header, expected):
    assert lag_of(model(**header), kind) == expected


@pytest.mark.parametrize(("kind", "lag"), [(N, timedelta(hours=1)), (T, 5), (S, 3), (D, 1)])
def test_a_lag_of_the_wrong_kind_is_the_models_fault(kind, lag):
    with pytest.raises(ModelError, match="`lag` is"):
        lag_of(model(lag=lag), kind)


@pytest.mark.parametrize(
    ("kind", "begin", "expected"),
    [
        (T, "all", None),
        (T, None, None),
        (T, "now", "2026-03-29 03:30:00.000000"),
        (D, "now", "2026-03-29"),
        (D, "2026-01-31", "2026-01-31"),
        (T, "2026-01-31", "2026-01-31 00:00:00.000000"),
        (TZ, "2026-01-31T12:00:00", "2026-01-31 11:00:00.000000+00:00"),
        (TZ, "2026-01-31T12:00:00Z", "2026-01-31 12:00:00.000000+00:00"),
        (N, "0042", "42"),
        (S, "a'b", "a'b"),
    ],
)
def test_begin(kind, begin, expected):
    low = bounds(model(begin=begin), kind, None, NOW, "Europe/Berlin").low
    assert low == (None if expected is None else CursorValue(kind, expected))


@pytest.mark.parametrize(("kind", "begin"), [(N, "now"), (S, "now"), (N, "x"), (D, "2026-02-30"), (T, "yesterday")])
def test_a_begin_that_is_no_value_of_the_cursor(kind, begin):
    with pytest.raises(ModelError, match=r"begin='now'|is no value of the cursor"):
        bounds(model(begin=begin), kind, None, NOW, "UTC")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.timestamp("us"), T),
        (pa.timestamp("ns"), T),
        (pa.timestamp("us", "Etc/UTC"), TZ),
        (pa.date32(), D),
        (pa.int16(), N),
        (pa.uint64(), N),
        (pa.decimal128(38, 0), N),
        (pa.string(), S),
        (pa.large_string(), S),
        (pa.dictionary(pa.int8(), pa.string()), S),
    ],
)
def test_cursor_kind(kind, expected):
    assert cursor_kind(model(cursor="C"), pa.schema([("c", kind)]), type_name) is expected


def test_cursor_kind_refuses_what_has_no_order_or_is_not_there():
    with pytest.raises(ModelError, match="of type bool"):
        cursor_kind(model(), pa.schema([("c", pa.bool_())]), type_name)
    opaque = pa.field("c", pa.opaque(pa.string(), "numeric", "PostgreSQL"))
    with pytest.raises(ModelError, match="of type NUMERIC\n"):
        cursor_kind(model(), pa.schema([opaque]), type_name)
    with pytest.raises(ModelError, match="not returned by the model"):
        cursor_kind(model(), pa.schema([("x", pa.bool_())]), type_name)
    assert cursor_kind(model(cursor=None), pa.schema([("x", pa.bool_())]), type_name) is None


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (CursorValue(T, "2026-01-01 00:00:00.123456"), "TIMESTAMP '2026-01-01 00:00:00.123456'"),
        (CursorValue(T, "2026-01-01 00:00:00.123456789"), "TIMESTAMP_NS '2026-01-01 00:00:00.123456789'"),
        (CursorValue(TZ, "2026-01-01 00:00:00+00:00"), "TIMESTAMPTZ '2026-01-01 00:00:00+00:00'"),
        (CursorValue(D, "2026-01-01"), "DATE '2026-01-01'"),
        (CursorValue(N, "-5"), "-5"),
        (CursorValue(S, "it's"), "'it''s'"),
    ],
)
def test_duckdb_literal(value, literal):
    assert duckdb_literal(value) == literal


@pytest.mark.parametrize(
    ("value", "unit", "aware", "text"),
    [
        (0, "us", False, "1970-01-01 00:00:00.000000"),
        (1, "ns", False, "1970-01-01 00:00:00.000000001"),
        (1000, "ns", False, "1970-01-01 00:00:00.000001"),
        (-1, "us", True, "1969-12-31 23:59:59.999999+00:00"),
        (5, "s", False, "1970-01-01 00:00:05.000000"),
        (1500, "ms", False, "1970-01-01 00:00:01.500000"),
    ],
)
def test_timestamp_text(value, unit, aware, text):
    assert timestamp_text(value, unit, aware=aware) == text
