"""What stops a model before anything is sent, with the number that says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.errors import ModelError
from warehouse_sync.extraction.guard import Guard, KnownKeys
from warehouse_sync.project.quantities import Allowance
from warehouse_sync.values import Counts, EventType, Model

MODEL = Model("users", Path("users.sql"), "", EventType.IDENTIFY_USER)
HALF = Allowance(share=0.5)


def check(
    guard: Guard, counts: Counts, keys: int = 100, past: tuple[int, ...] = (), before: int = 0, **reasons: int
) -> None:
    guard.check(MODEL, counts, KnownKeys(keys, counts.removed, before), lambda: list(past), lambda: reasons)


@pytest.mark.parametrize(
    ("guard", "counts", "past", "message"),
    [
        (Guard(HALF), Counts(read=4, invalid=3), (), "3 of 4 rows are invalid"),
        (Guard(Allowance(rows=2)), Counts(read=9999, invalid=3), (), "3 of 9,999 rows are invalid"),
        (Guard(HALF, max_rows=10), Counts(read=20, added=6, changed=5), (), "11 rows would be sent"),
        (Guard(HALF, max_removed=HALF), Counts(read=10, removed=51), (), "51 of 100 delivered keys are gone"),
        (Guard(HALF, max_removed=HALF), Counts(read=0, removed=100), (), "the source is empty"),
        (Guard(HALF, max_times_median=2), Counts(read=99, added=21), (10, 0, 9, 11), "usually it is about 10"),
        (Guard(HALF, max_times_median=2), Counts(read=999, added=201), (1, 1), "usually it is about 100"),
    ],
)
def test_stops(guard, counts, past, message):
    with pytest.raises(ModelError, match=message) as caught:
        check(guard, counts, past=past)
    assert "nothing was sent" in str(caught.value)
    assert "plan -s users" in caught.value.hint


@pytest.mark.parametrize(
    ("guard", "counts", "keys", "past"),
    [
        (Guard(HALF), Counts(read=4, invalid=2), 0, ()),
        (Guard(HALF), Counts(), 0, ()),
        (Guard(HALF, max_rows=11), Counts(read=20, added=6, changed=5), 0, ()),
        (Guard(HALF, max_removed=HALF), Counts(read=10, removed=50), 100, ()),
        (Guard(HALF, max_removed=HALF), Counts(read=0), 0, ()),
        (Guard(HALF, max_times_median=2), Counts(read=99, added=20), 0, (10, 10, 10)),
        (Guard(HALF, max_times_median=2), Counts(read=99, added=99), 0, ()),
    ],
)
def test_lets_through(guard, counts, keys, past):
    check(guard, counts, keys, past)


REMOVED = Guard(HALF, max_removed=HALF)


def test_keys_that_were_gone_before_are_no_news():
    check(REMOVED, Counts(read=9, removed=60), before=40)
    check(REMOVED, Counts(read=9, removed=60), before=90)
    with pytest.raises(ModelError, match=r"31 of 60 delivered keys are gone from the source \(40 more were gone b"):
        check(REMOVED, Counts(read=9, removed=71), before=40)
    with pytest.raises(ModelError, match="the source is empty: 1 of 1 delivered keys"):
        check(REMOVED, Counts(removed=100), before=99)


@given(st.integers(1, 50), st.integers(1, 1000), st.integers(0, 100))
def test_churn_never_stops_a_model_and_an_empty_source_always_does(percent: int, rows: int, runs: int):
    known, gone = rows, 0
    for _ in range(runs):
        lost = rows * percent // 100
        check(REMOVED, Counts(read=rows, removed=gone + lost), known, before=gone)
        known, gone = known + lost, gone + lost
    with pytest.raises(ModelError, match="the source is empty"):
        check(REMOVED, Counts(removed=known), known, before=gone)


def test_invalid_rows_are_named_by_their_reasons():
    with pytest.raises(ModelError) as caught:
        check(Guard(HALF), Counts(read=9, invalid=9), user_id_missing=5, a=1, b=2, c=3)
    assert "9 of 9 rows are invalid (5 user_id_missing, 3 c, 2 b, and more), more than" in caught.value.message
