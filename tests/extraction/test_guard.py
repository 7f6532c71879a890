"""What stops a model before anything is sent, with the number that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from warehouse_sync.errors import ModelError
from warehouse_sync.extraction.guard import Guard
from warehouse_sync.project.quantities import Allowance
from warehouse_sync.values import Counts, EventType, Model

MODEL = Model("users", Path("users.sql"), "", EventType.IDENTIFY_USER)
HALF = Allowance(share=0.5)


def check(guard: Guard, counts: Counts, keys: int = 100, past: tuple[int, ...] = ()) -> None:
    guard.check(MODEL, counts, keys, lambda: list(past))


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
