"""The sample warehouse: the same rows everywhere, that make sense together and have what real ones have."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import duckdb
import pytest

from warehouse_sync.cli import sample
from warehouse_sync.errors import UsageError

# Digests of every row as text, in order of insertion: a change here changes what `demo` shows.
CREATED = {
    "companies": "69e18db4b5af0a0b",
    "users": "bacddf514114356f",
    "page_views": "2f795456a50ed9de",
    "events": "e9c405189276167f",
}
CHANGED = {
    "companies": "42c3525f5a93b974",
    "users": "ca2b0c16fa23909f",
    "page_views": "26317b811ce56258",
    "events": "6f1be0f319313c81",
}


def digests(path: Path) -> dict[str, str]:
    with duckdb.connect(path, read_only=True) as warehouse:
        rows = {table: warehouse.execute(f"from app.{table}").fetchall() for table in sample.TABLES}
    return {table: hashlib.sha256(repr(rows[table]).encode()).hexdigest()[:16] for table in rows}


def value(path: Path, sql: str) -> int:
    with duckdb.connect(path, read_only=True) as warehouse:
        row = warehouse.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture(scope="module")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as it is made; only to be read."""
    path = tmp_path_factory.mktemp("sample") / "folder" / "warehouse.duckdb"
    sample.create(path)
    return path


@pytest.fixture(scope="module")
def second_day(first_day: Path) -> Path:
    """The sample one day later; only to be read."""
    path = first_day.with_name("later.duckdb")
    shutil.copy(first_day, path)
    sample.change(path)
    return path


@pytest.fixture
def path(first_day: Path, tmp_path: Path) -> Path:
    """The sample, to be changed."""
    return Path(shutil.copy(first_day, tmp_path / "warehouse.duckdb"))


def test_rows_are_the_same_on_every_machine(first_day: Path) -> None:
    assert digests(first_day) == CREATED


def test_a_day_later_is_the_same_on_every_machine(path: Path) -> None:
    assert sample.change(path) == {"companies": 15, "users": 170, "page_views": 180, "events": 240}
    assert digests(path) == CHANGED


def test_create_returns_the_rows_of_each_table(tmp_path: Path) -> None:
    rows = sample.create(tmp_path / "w.duckdb")
    assert rows == {"companies": 200, "users": 2000, "page_views": 6000, "events": 8000}
    assert [file.name for file in tmp_path.iterdir()] == ["w.duckdb"]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(b"somebody's warehouse")
    with pytest.raises(UsageError, match="exists already"):
        sample.create(path)
    assert path.read_bytes() == b"somebody's warehouse"


def test_a_half_written_sample_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".w.duckdb.new").write_bytes(b"half")
    sample.create(tmp_path / "w.duckdb")
    assert digests(tmp_path / "w.duckdb") == CREATED


def test_change_needs_a_sample(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sample warehouse"):
        sample.change(tmp_path / "w.duckdb")
    assert not (tmp_path / "w.duckdb").exists()


def test_change_counts_what_differs(path: Path) -> None:
    def contents(columns: str, table: str) -> dict[str, str]:
        with duckdb.connect(path, read_only=True) as warehouse:
            rows = warehouse.execute(f"select id::varchar, ({columns})::varchar from app.{table}").fetchall()
        return dict(rows)

    companies, users = "name, plan, mrr, is_trial, trial_ends_on", "full_name, email, plan, company_id, is_admin"
    before = contents(f"row({companies})", "companies"), contents(f"row({users})", "users")
    counts = sample.change(path)
    after = contents(f"row({companies})", "companies"), contents(f"row({users})", "users")

    assert counts["companies"] == sum(before[0].get(key) != text for key, text in after[0].items())
    assert counts["users"] == sum(before[1].get(key) != text for key, text in after[1].items())
    loaded_again = value(path, "select count(*) from app.users where _loaded_at = timestamp '2025-04-01 10:05:00'")
    assert loaded_again > counts["users"] + 100, "the day has reloads that are no changes"


def test_days_follow_each_other(path: Path) -> None:
    for day in range(1, 4):
        sample.change(path)
        for table in sample.TABLES:
            newest = value(path, f"select date_diff('day', date '2025-03-31', max(_loaded_at)) from app.{table}")
            assert newest == day, table
    assert value(path, "select count(*) from app.users") == 2075


@pytest.mark.parametrize(
    ("what", "sql"),
    [
        ("keys", "select count(*) - count(distinct id) from app.users"),
        ("keys", "select count(*) - count(distinct id) from app.companies"),
        ("keys", "select count(*) - count(distinct id) from app.page_views"),
        ("names", "select count(*) - count(distinct name) from app.companies"),
        ("identities", "select count(*) - count(distinct (user_id, name, occurred_at)) from app.events"),
        ("order", "select count(*) from app.users where not created_at <= updated_at or not updated_at <= _loaded_at"),
        (
            "order",
            "select count(*) from app.companies where not created_at <= updated_at or not updated_at <= _loaded_at",
        ),
        ("order", "select count(*) from app.events where occurred_at > _loaded_at"),
        ("order", "select count(*) from app.page_views where viewed_at > _loaded_at"),
        ("users", "select count(*) from app.events anti join app.users on users.id = events.user_id"),
        ("companies", "select count(*) from app.users anti join app.companies on companies.id = users.company_id"),
        ("born", "select count(*) from app.events join app.users on users.id = user_id where created_at > occurred_at"),
        ("json", "select count(*) from app.events where properties is not null and not json_valid(properties)"),
        ("zeros", "select count(*) from app.companies where mrr <> 0 and (plan = 'free')"),
    ],
)
def test_the_app_makes_sense(second_day: Path, what: str, sql: str) -> None:
    assert value(second_day, sql) == 0, what


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from app.page_views where user_id is null",
        "select count(*) from app.users where email is null",
        "select count(*) from app.companies where industry is null",
        "select count(*) from app.companies where not regexp_full_match(name, '[ -~]*')",
        "select count(*) from app.companies where contains(name, '''') or contains(name, '\"')",
        "select count(*) from app.companies where mrr::varchar like '%.70' or mrr::varchar like '%.50'",
        "select count(*) from app.events where properties is null",
        "select count(*) from app.events where contains(properties::varchar, '.90')",
        "select count(*) from app.events where contains(properties::varchar, 'null')",
        "select count(*) - 1 from app.events where _loaded_at = (select max(_loaded_at) from app.events)",
    ],
)
def test_the_rows_have_what_real_ones_have(first_day: Path, sql: str) -> None:
    assert value(first_day, sql) > 0
