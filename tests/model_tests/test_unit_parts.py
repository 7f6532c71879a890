"""The parts of unit tests: what is equal, which rows are paired, which columns a query reads, what CSV cells are."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.errors import ModelError
from warehouse_sync.model_tests.given import GivenRelations, literal
from warehouse_sync.model_tests.match import Refusal, differences, named, read_line, same
from warehouse_sync.model_tests.translate import columns_read, line_of_error, translate
from warehouse_sync.project.fixtures import FixtureError, csv_rows, find_fixture
from warehouse_sync.project.unit_tests import Input, Refused
from warehouse_sync.project.yaml.document import DateText


@pytest.mark.parametrize(
    ("wanted", "found", "name", "equal"),
    [
        (None, None, "", True),
        (None, "", "", False),
        (True, True, "metadata.a", True),
        (1, True, "metadata.a", False),
        (True, 1, "metadata.a", False),
        (7, "7", "user_id", True),
        (7, "7", "metadata.a", False),
        (Decimal("34.70"), Decimal("34.7"), "metadata.a", True),
        (0.1, Decimal("0.1"), "metadata.a", True),
        ("5", 5, "metadata.a", False),
        (DateText("2025-03-01"), "2025-03-01", "metadata.a", True),
        (DateText("2025-03-01 10:00:00"), "2025-03-01T10:00:00.000000", "metadata.a", True),
        (DateText("2025-03-01 10:00:00Z"), "2025-03-01T12:00:00.000000+02:00", "metadata.a", True),
        (DateText("2025-03-01 10:00:00"), "2025-03-01T10:00:00.000000Z", "metadata.a", False),
        (DateText("2025-03-01"), "soon", "metadata.a", False),
        (datetime(2025, 3, 1, 10), "2025-03-01T10:00:00.000000", "metadata.a", True),
        (date(2025, 3, 1), "2025-03-01", "metadata.a", True),
        ("2025-03-01 10:00", "2025-03-01T10:00:00.000000", "inserted_at", True),
        ("2025-03-01 10:00", "2025-03-01T10:00:00.000000", "metadata.a", False),
        ({"a": [1, None]}, '{"a":[1,null]}', "metadata.a", True),
        ({"a": 1}, '{"a":1,"b":2}', "metadata.a", False),
        ([1, 2], "[1]", "metadata.a", False),
        ([1], "no json", "metadata.a", False),
        ({"a": 1}, "[1]", "metadata.a", False),
    ],
)
def test_what_is_equal(wanted: Any, found: Any, name: str, equal: bool) -> None:
    assert same(wanted, found, name) is equal


def test_names_of_expected_values() -> None:
    row = {"USER_ID": 1, "plan": "x", "metadata.user_id": 2, "metadata": {"a": 3}, "event_type": "track"}
    assert named(row, {"user_id"}) == {
        "user_id": 1, "metadata.plan": "x", "metadata.user_id": 2, "metadata.a": 3, "event_type": "track",
    }  # fmt: skip
    assert read_line('{"user_id":"1","metadata":{"a":1.50}}') == {"user_id": "1", "metadata.a": Decimal("1.50")}


EVENTS = st.lists(
    st.fixed_dictionaries({"user_id": st.sampled_from("abc"), "metadata.x": st.integers(0, 2)}), max_size=6
)


@given(EVENTS, st.randoms(use_true_random=False))
def test_rows_are_found_in_any_order_by_what_is_named(events: list[dict[str, Any]], random: Any) -> None:
    expected = [{name: value for name, value in row.items() if random.random() < 0.6} for row in events]
    random.shuffle(expected)
    assert differences(expected, events, (), ()) == []


@given(EVENTS, EVENTS)
def test_other_rows_are_a_difference(expected: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    def content(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return sorted((row["user_id"], row["metadata.x"]) for row in rows)

    assert (differences(expected, events, (), ()) == []) is (content(expected) == content(events))


def test_refused_rows_are_paired_by_key() -> None:
    refused = [Refused("a", frozenset({"x"})), Refused(None, frozenset({"y"}))]
    assert differences([], [], refused, [Refusal(None, ("y",)), Refusal("a", ("x",))]) == []
    assert differences([], [], refused, [Refusal("b", ("y",)), Refusal("a", ("x", "z"))]) == [
        "refused rows", "  - key a: x", "  + key a: x, z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("select u.id, u.Plan from app.users u", {("app", "users"): {"id", "Plan"}}),
        ("select id, coalesce(plan, '') as plan from users", {("", "users"): {"id", "plan"}}),
        ("select id as x, x + 1 as y from users order by y", {("", "users"): {"id"}}),
        ("select a, b from t join s using (id)", {}),
        ("with c as (select * from t) select c.x from c", {}),
        ("select known from t", {}),
        ("select from where", {}),
    ],
)
def test_columns_that_a_query_reads(sql: str, read: dict[tuple[str, str], set[str]]) -> None:
    assert columns_read(sql, "snowflake", {"known"}) == read


def test_names_are_folded_as_the_warehouse_folds_them() -> None:
    assert translate('select a as B, c as "D" from t', "snowflake") == 'SELECT A AS B, C AS "D" FROM T'
    assert translate("select a as B from t", "postgres") == "SELECT a AS b FROM t"
    assert translate("select  a as B from t", "duckdb") == "select  a as B from t"


def test_lines_of_errors() -> None:
    sql = "select a,\n b\nfrom t"
    assert line_of_error('Binder Error: column "b" not found', sql, "snowflake") == 2
    assert line_of_error("Parser Error: x\n\nLINE 1: SELECT a, B FROM T\n                  ^", sql, "snowflake") == 2
    assert line_of_error("nothing", sql, "snowflake") == 0
    assert line_of_error("nothing", "'", "snowflake") == 0


def test_inputs_are_found_with_and_without_their_package() -> None:
    relations = GivenRelations([Input("ref", ("a",)), Input("ref", ("p", "b")), Input("source", ("s", "t"))], "mysql")
    assert relations.ref("a", None) == relations.ref("a", "any", "2") == "`a`"
    assert relations.ref("b", "p") == "`p`.`b`"
    assert relations.source("s", "t") == "`s`.`t`"
    with pytest.raises(ModelError, match=r"no rows for ref\('b'\)"):
        relations.ref("b", None)


def test_cells_of_csv() -> None:
    rows = csv_rows('n, d, b, t, i, x\n1, 1.5, true, 2025-03-01, 007, "a, b"\n , 2, FALSE, 2025-03-01 10:00:00, 8,\n')
    assert [dict(row) for row in rows] == [
        {"n": 1, "d": Decimal("1.5"), "b": True, "t": DateText("2025-03-01"), "i": "007", "x": "a, b"},
        {"n": None, "d": Decimal(2), "b": False, "t": DateText("2025-03-01 10:00:00"), "i": "8", "x": None},
    ]
    assert csv_rows("a,b\n") == ()


@pytest.mark.parametrize("text", ["", "a,a\n1,2", "a,\n1,2", 'a\n"x'])
def test_csv_that_is_none(text: str) -> None:
    with pytest.raises(FixtureError):
        csv_rows(text)


def test_files_of_rows(tmp_path: Path) -> None:
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.sql").write_text("select 1")
    (tmp_path / "c.csv").write_bytes(b"\xff")
    assert find_fixture(tmp_path, "a", None)[1] == "x\n1\n"
    assert find_fixture(tmp_path, "b.sql", None)[0].name == "b.sql"
    for name, format_ in (("nowhere", None), ("b.sql", "csv"), ("a", "sql"), ("c", None)):
        with pytest.raises(FixtureError):
            find_fixture(tmp_path, name, format_)


@pytest.mark.parametrize(
    ("value", "kind", "sql"),
    [
        (None, "DATE", "NULL"),
        (2**70, None, str(2**70)),
        (1e300, None, "'1e+300'::DOUBLE"),
        (DateText("2025-03-01T10:00:00+02"), None, "'2025-03-01T10:00:00+02'::TIMESTAMPTZ"),
        ("it's", None, "'it''s'"),
        (False, "VARCHAR", "CAST('false' AS VARCHAR)"),
        ({"a": [Decimal("1.5"), DateText("2025-03-01")]}, None, """'{"a": [1.5, "2025-03-01"]}'::JSON"""),
    ],
)
def test_cells_as_sql(value: Any, kind: str | None, sql: str) -> None:
    assert literal(value, kind) == sql
