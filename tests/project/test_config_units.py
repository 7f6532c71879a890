"""Durations, sizes and allowances."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.project.quantities import (
    ALLOWANCE_PATTERN,
    DURATION_PATTERN,
    LARGEST,
    LONGEST,
    SIZE_PATTERN,
    Allowance,
    UnitError,
    format_duration,
    format_size,
    parse_allowance,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", timedelta(0)),
        ("0 days", timedelta(0)),
        ("500ms", timedelta(milliseconds=500)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("15 min", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("2 hours", timedelta(hours=2)),
        ("1 day", timedelta(days=1)),
        ("7 days", timedelta(days=7)),
        ("2 weeks", timedelta(days=14)),
        ("1.5h", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        (" 1h  30m ", timedelta(minutes=90)),
        ("2 Hours", timedelta(hours=2)),
        ("1us", timedelta(microseconds=1)),
    ],
)
def test_durations(text: str, value: timedelta) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a duration"),
        ("soon", "is not a duration"),
        ("1 month", "is not a duration"),
        ("-1h", "is not a duration"),
        ("1h-", "is not a duration"),
        ("١h", "is not a duration"),
        ("90", "has no unit"),
        ("1.5", "has no unit"),
        ("101 years", "is not a duration"),
        ("36526 days", "is longer than 100 years"),
        ("9" * 400 + "h", "is longer than 100 years"),
        ("0.5us", "is finer than a microsecond"),
    ],
)
def test_what_is_no_duration(text: str, message: str) -> None:
    with pytest.raises(UnitError, match=message):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=LONGEST))
def test_a_duration_reads_back_as_itself(value: timedelta) -> None:
    text = format_duration(value)
    assert parse_duration(text) == value
    assert re.search(DURATION_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("40MB", 40_000_000),
        ("40 mb", 40_000_000),
        ("1.5KB", 1500),
        ("1KiB", 1024),
        ("2GiB", 2**31),
        ("3TB", 3 * 10**12),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a size"),
        ("big", "is not a size"),
        ("-1MB", "is not a size"),
        ("5XB", "is not a size"),
        ("40M", "is not a size"),
        ("1000", "has no unit"),
        ("0.3B", "is not a whole number of bytes"),
        ("10000000TB", "is larger than any file"),
    ],
)
def test_what_is_no_size(text: str, message: str) -> None:
    with pytest.raises(UnitError, match=message):
        parse_size(text)


@given(st.integers(min_value=0, max_value=LARGEST))
def test_a_size_reads_back_as_itself(size: int) -> None:
    text = format_size(size)
    assert parse_size(text) == size
    assert re.search(SIZE_PATTERN, text)


@pytest.mark.parametrize(
    ("written", "allowance"),
    [
        (0, Allowance(rows=0)),
        (100, Allowance(rows=100)),
        ("100", Allowance(rows=100)),
        ("50%", Allowance(share=0.5)),
        ("12.5 %", Allowance(share=0.125)),
        ("100%", Allowance(share=1.0)),
        ("0%", Allowance(share=0.0)),
    ],
)
def test_allowances(written: int | str, allowance: Allowance) -> None:
    assert parse_allowance(written) == allowance


@pytest.mark.parametrize("written", [-1, "101%", "half", "0.5", "-5%", "9" * 30])
def test_what_is_no_allowance(written: int | str) -> None:
    with pytest.raises(UnitError):
        parse_allowance(written)


def test_an_allowance_is_exceeded_by_more_than_it_says() -> None:
    assert not Allowance(rows=0).exceeded(0, 0)
    assert Allowance(rows=0).exceeded(1, 10**9)
    assert not Allowance(share=0.5).exceeded(0, 0)
    assert not Allowance(share=0.5).exceeded(5, 10)
    assert Allowance(share=0.5).exceeded(6, 10)
    assert not Allowance(share=1.0).exceeded(10, 10)


@given(st.integers(min_value=0, max_value=100), st.integers(min_value=0, max_value=10**12))
def test_shares_are_exact(percent: int, hundredth: int) -> None:
    """0.29 * 100 is 28.999999999999996 in floating point: 29 of 100 rows would exceed 29%."""
    allowance = parse_allowance(f"{percent}%")
    assert not allowance.exceeded(percent * hundredth, 100 * hundredth)
    assert allowance.exceeded(percent * hundredth + 1, 100 * hundredth)


@given(st.decimals(min_value=0, max_value=100, places=3))
def test_an_allowance_reads_back_as_itself(percent: object) -> None:
    allowance = parse_allowance(f"{percent}%")
    assert parse_allowance(str(allowance)) == allowance
    assert re.search(ALLOWANCE_PATTERN, str(allowance))
    assert str(parse_allowance(7)) == "7"
