"""Slices and backfills: a long history in pieces, each settled before the next; a range on request, no cursor moved."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from rounds_place import Place

from warehouse_sync.userpilot.sandbox import Sandbox


@pytest.fixture
def place(tmp_path, quick_stores):
    with Sandbox(tmp_path / "sandbox") as sandbox:
        yield Place(tmp_path, sandbox)


@pytest.mark.parametrize(
    "header",
    [
        "cursor='inserted_at', begin='all', slice='7 days'",
        "cursor='n', begin='all', slice=30, unique_key='user_id'",
        pytest.param("cursor='inserted_at', begin='all', slice='7 days', unique_key='user_id'", marks=pytest.mark.slow),
        pytest.param("cursor='n', begin='all', slice=30", marks=pytest.mark.slow),
    ],
)
def test_slices_read_everything_once_and_jump_over_gaps(place, header):
    place.model(header)
    report = place.run()
    assert report.exit_code == 0, report
    assert len(place.sandbox.imported()) == len(set(place.sandbox.imported())) == 105
    assert 4 < place.windows() < 9
    cursor = place.cursor()
    place.sql("INSERT INTO events VALUES ('between', 'e', TIMESTAMP '2026-06-02', 1010)")
    assert place.run().exit_code == 0
    assert len(place.sandbox.imported()) == 106, "an empty slice would have moved the cursor past this row"
    assert place.cursor() > cursor


def test_a_slice_below_a_day_is_a_day_where_the_cursor_is_a_date(place):
    place.sql("ALTER TABLE events ADD COLUMN day DATE; UPDATE events SET day = ts::DATE; ALTER TABLE events DROP n")
    place.sql("ALTER TABLE events RENAME day TO n")
    place.model("cursor='n', begin='all', slice='12 hours'")
    assert place.run(time_limit=timedelta(minutes=5)).exit_code == 0
    assert len(place.sandbox.imported()) == len(set(place.sandbox.imported())) == 105
    assert place.windows() == 31


def test_a_slice_begins_where_the_header_says(place):
    place.model("cursor='inserted_at', begin='2026-01-20', slice='5 days'")
    assert place.run().exit_code == 0
    assert all('"inserted_at":"2026-01-1' not in line for line in place.sandbox.imported())
    assert len(place.sandbox.imported()) == 39


@pytest.mark.parametrize("header", ["cursor='n', slice='7 days'", "cursor='inserted_at', slice=7"])
def test_a_slice_that_does_not_go_with_the_cursor(place, header):
    place.model(f"{header}, begin='all'")
    report = place.run()
    assert report.exit_code == 1
    assert "`slice`" in str(report.results[0].error)
    assert place.sandbox.imported() == []


def test_a_backfill_reads_a_half_open_range_and_moves_no_cursor(place):
    place.model("cursor='inserted_at', begin='now'")
    assert place.run().exit_code == 0
    assert place.sandbox.imported() == []
    assert place.run(start="2026-01-05", end="2026-01-06T01:00:00").exit_code == 0
    times = Counter(line.partition('"inserted_at":"')[2][:13] for line in place.sandbox.imported())
    assert times == Counter(["2026-01-05T02", "2026-01-05T09", "2026-01-05T16", "2026-01-05T23"])
    assert place.run().exit_code == 0
    assert len(place.sandbox.imported()) == 4


def test_a_backfill_compares_keys(place):
    place.model("cursor='inserted_at', begin='2026-01-29', unique_key='user_id'")
    assert place.run().exit_code == 0
    before = len(place.sandbox.imported())
    report = place.run(start="2026-01-28")
    assert report.results[0].counts.unchanged == before
    assert len(place.sandbox.imported()) == before + 3


@pytest.mark.parametrize("options", [{"start": "x"}, {"end": "2026-02-31"}])
def test_a_backfill_of_nonsense_sends_nothing(place, options):
    place.model("cursor='inserted_at', begin='all'")
    report = place.run(**options)
    assert report.exit_code == 1
    assert "is no value of the cursor" in str(report.results[0].error)
    assert place.sandbox.imported() == []


def test_a_backfill_needs_a_cursor(place):
    place.model("unique_key='user_id'")
    report = place.run(start="2026-01-01")
    assert "needs a cursor" in str(report.results[0].error)


def test_a_changed_model_does_not_send_the_rows_at_its_bound_again(place):
    place.model("cursor='inserted_at', begin='all'")
    assert place.run().exit_code == 0
    place.model("cursor='inserted_at', begin='all', source='backend-http'")
    place.sql("INSERT INTO events VALUES ('new', 'e', TIMESTAMP '2026-06-02', 2000)")
    report = place.run()
    assert report.exit_code == 0
    assert len(place.sandbox.imported()) == 106
    assert "are not read again" in "".join(report.results[0].warnings)
