"""What databases hold that no calendar, no JSON and no other database has: one bad row or column is its own fault."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from beds import Bed, sent
from harness import CommandLine

from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.warehouses.base import Warehouse

HEADER = "{{ config(event='track', unique_key='_id') }}\n"
EVENT = "'u' AS user_id, 'e' AS event_name"
ON = f"{EVENT}, DATE '2025-01-01' AS inserted_at"


class Naughty:
    """A project of these models on a bed, whose refused rows are no failure."""

    def __init__(self, bed: Bed, folder: Path, sandbox: Sandbox) -> None:
        self._settings, self._kind, self._sandbox = dict(bed.settings), bed.kind, sandbox
        self.cli = CommandLine(folder)

    def run(self, models: Mapping[str, str], code: int) -> dict[str, dict[str, Any]]:
        """Two runs and a plan, none of which has a fault of its own; the results of the first run, by model."""
        folder = self.cli.folder / "models_sql"
        folder.mkdir()
        for name, sql in models.items():
            (folder / f"{name}.sql").write_text(sql)
        config = {
            "name": "p",
            "warehouse": {"type": self._kind, **self._settings},
            "userpilot": {"api_key": self._sandbox.api_key, "endpoint": self._sandbox.url},
            "models": {"path": "models_sql"},
            "state": {"url": "sqlite:///state/state.db", "dir": "state"},
            "invalid": {"error_above": "100%", "stop_above": "100%"},
        }
        (self.cli.folder / "warehouse_sync.yml").write_text(json.dumps(config))
        assert "internal error" not in self.cli.here("run").check(code).err
        results = json.loads((self.cli.folder / "state" / "p" / "run_results.json").read_text())["results"]
        seen = len(self._sandbox.imported())
        assert "internal error" not in self.cli.here("run").check(code).err
        assert len(self._sandbox.imported()) == seen, "nothing goes twice"
        assert "internal error" not in self.cli.here("plan").check(code).err
        return {result["unique_id"].rpartition(".")[2]: result for result in results}


@pytest.fixture
def naughty(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Sandbox) -> Naughty:
    bed: Bed = request.getfixturevalue(f"{request.param}_bed")
    return Naughty(bed, tmp_path, sandbox)


def counts(result: Mapping[str, Any], *names: str) -> tuple[int, ...]:
    assert result["status"] == "success", result["message"]
    return tuple(result[name] for name in names)


def by_cursor(type_: str, moments: list[str], more: str = "") -> str:
    """Events with these cursors."""
    rows = ", ".join(f"({place}, '{moment}')" for place, moment in enumerate(moments))
    return (
        f"{{{{ config(event='track', unique_key='_id', cursor='_at', begin='all'{more}) }}}}\n"
        f"SELECT i AS _id, {ON}, t::{type_} AS _at FROM (VALUES {rows}) AS v(i, t)"
    )


NO_YEARS = {
    "postgres": ["infinity", "-infinity", "0044-03-15 BC", "20250-01-01", "2025-01-01"],
    "duckdb": ["infinity", "-infinity", "0044-03-15 (BC)", "12000-01-01", "2025-01-01"],
}


@pytest.mark.parametrize("naughty", ["postgres", pytest.param("duckdb", marks=pytest.mark.slow)], indirect=True)
def test_cursors_that_no_calendar_has(naughty: Naughty, request: pytest.FixtureRequest) -> None:
    moments = NO_YEARS["postgres" if "postgres" in request.node.name else "duckdb"]
    models = {}
    for place, type_ in enumerate(("timestamptz", "date")):
        models[f"whole{place}"] = by_cursor(type_, moments)
        models[f"sliced{place}"] = by_cursor(type_, moments, ", slice='7 days'")
        models[f"early{place}"] = by_cursor(type_, moments[2:3], ", slice='7 days'")
        models[f"late{place}"] = by_cursor(type_, moments[3:4], ", slice='7 days'")
    for name, result in naughty.run(models, 0).items():
        expected = {"early": (1, 1, 0), "late": (1, 0, 1)}.get(name[:-1], (5, 3, 2))
        assert counts(result, "read", "delivered", "future") == expected, name


@pytest.mark.parametrize("naughty", ["postgres"], indirect=True)
def test_times_that_no_calendar_has(naughty: Naughty, sandbox: Sandbox) -> None:
    # The last years that PostgreSQL has are beyond the engine's integers.
    times = ["2025-01-01 12:00+05:45", "infinity", "-infinity", "0044-03-15 BC", "294276-12-31", "294247-01-10 05:00"]
    rows = ", ".join(f"({place}, '{moment}')" for place, moment in enumerate(times))
    select = f"SELECT i AS _id, {EVENT}, t::timestamptz AS inserted_at FROM (VALUES {rows}) AS v(i, t)"
    models = {
        "events": HEADER + select,
        "properties": f"{HEADER}SELECT _id, {ON}, inserted_at AS a, inserted_at::timestamp AS b FROM ({select}) AS s",
        "numbers": by_cursor("numeric(20, 0)", ["1", "NaN"], ", slice=5"),
        "skipped": by_cursor("numeric(20, 0)", ["1", "NaN"], ", null_cursor='skip'"),
    }
    results = naughty.run(models, 0)
    assert counts(results["events"], "read", "delivered", "invalid") == (6, 1, 5)
    assert counts(results["properties"], "read", "delivered", "invalid") == (6, 6, 0)
    assert counts(results["numbers"], "delivered", "invalid") == (1, 1)
    assert counts(results["skipped"], "read", "delivered") == (1, 1)
    kept = [line for line in sandbox.imported() if '"a":' in line]
    assert len(kept) == 1
    assert '"a":"2025-01-01T06:15:00.000000Z","b":"2025-01-01T06:15:00.000000"' in kept[0]


@pytest.mark.parametrize("naughty", ["duckdb"], indirect=True)
def test_cursors_of_39_digits(naughty: Naughty) -> None:
    """The key files have room for 38: such a row is refused, and not found out about when it has been sent."""
    numbers = ["5", str(10**38 - 1), str(10**38)]
    models = {kind: by_cursor(kind, numbers) for kind in ("hugeint", "uhugeint")}
    models |= {f"{kind}_unkeyed": models[kind].replace("unique_key='_id', ", "") for kind in models}
    for name, result in naughty.run(models, 0).items():
        assert counts(result, "read", "delivered", "invalid") == (3, 2, 1), name


NAMES = ["it's", "sp ace", "select", "ünï", 'a"b', "x\\y", "back`tick", "%s", "100%", "%%", ":x", "$1", "dot.dot"]


def _quoted(mark: str) -> str:
    return ", ".join(f"{place} AS {mark}{name.replace(mark, mark * 2)}{mark}" for place, name in enumerate(NAMES))


@pytest.mark.parametrize(
    "naughty", ["postgres", "mariadb", pytest.param("duckdb", marks=pytest.mark.slow)], indirect=True
)
def test_columns_of_any_name(naughty: Naughty, request: pytest.FixtureRequest, sandbox: Sandbox) -> None:
    mark = "`" if "mariadb" in request.node.name else '"'
    models = {
        "names": f"{HEADER}SELECT 1 AS _id, {ON}, {_quoted(mark)}",
        "no_rows": f"{HEADER}SELECT NULL AS _id, {ON}, NULL AS x FROM bystander WHERE i < 0",
    }
    results = naughty.run(models, 0)
    assert counts(results["names"], "delivered") == (1,)
    assert counts(results["no_rows"], "read") == (0,)
    (line,) = sandbox.imported()
    assert json.loads(line)["metadata"] == {name: place for place, name in enumerate(NAMES)}


@pytest.mark.parametrize("naughty", ["postgres", "mariadb", "duckdb"], indirect=True)
def test_two_columns_of_one_name(naughty: Naughty) -> None:
    models = {"twice": f"{HEADER}SELECT 1 AS _id, {ON}, 1 AS a, 2 AS a"}
    models["good"] = f"{HEADER}SELECT 1 AS _id, {ON}, 1 AS a, 2 AS a_1"
    results = naughty.run(models, 1)
    assert any(words in results["twice"]["message"] for words in ("two columns named 'a'", "Duplicate column"))
    assert counts(results["good"], "delivered") == (1,)


POSTGRES = {
    "repeat('9', 1000)::numeric": "9" * 1000,
    "('0.' || repeat('1', 1000))::numeric": "0." + "1" * 1000,
    "'-Infinity'::numeric": "null",
    "'{\"a\": 123456789012345678901234567890}'::jsonb": '"{\\"a\\": 123456789012345678901234567890}"',
    "'{\"a\":1e400}'::json": '"{\\"a\\":1e400}"',
    "ARRAY[1, NULL]": '"[1,null]"',
    "'{}'::int[]": '"[]"',
    "ARRAY[1.5, 'NaN', '-Infinity']::float8[]": '"[1.5,null,null]"',
    "ARRAY[ARRAY[1.50, 'NaN'], ARRAY[NULL, 2]]::numeric[]": '"[[1.50,null],[null,2]]"',
    "ARRAY['NaN', 'Infinity']": '"[\\"NaN\\",\\"Infinity\\"]"',
    "ARRAY['happy'::mood, NULL]": '"[\\"happy\\",null]"',
    "'happy'::my_mood": '"happy"',
    "5::smaller": "5",
    "'{1,2}'::smalls": '"[1,2]"',
    "ROW(1, ARRAY[ROW(2, 'x')])": '"{\\"f1\\":1,\\"f2\\":[{\\"f1\\":2,\\"f2\\":\\"x\\"}]}"',
    "'empty'::int4range": '"empty"',
    "'[2020-01-01,infinity)'::daterange": '"[2020-01-01,infinity)"',
    "'AbC'::citext": '"AbC"',
    "'a=>1'::hstore": '"\\"a\\"=>\\"1\\""',
    "'a.b'::ltree": '"a.b"',
    "'24:00+02:30:15'::timetz": '"24:00:00+02:30:15"',
    "pg_sleep(0)": '""',
    "'x'::unknown": '"x"',
    "'-92233720368547758.08'::money": "-92233720368547758.08",
    "E'\\x01\\u2028'": '"\\u0001\\u2028"',
}


def test_types_that_only_postgresql_has(postgres_bed: Bed) -> None:
    postgres_bed.execute(
        *(f"CREATE EXTENSION IF NOT EXISTS {name}" for name in ("citext", "hstore", "ltree")),
        "CREATE TYPE mood AS ENUM ('happy')",
        "CREATE DOMAIN my_mood AS mood",
        "CREATE DOMAIN small AS int CHECK (VALUE < 10)",
        "CREATE DOMAIN smaller AS small CHECK (VALUE < 8)",
        "CREATE DOMAIN smalls AS smaller[]",
    )
    warehouse = postgres_bed.open()
    columns = ", ".join(f"{expression} AS c{place}" for place, expression in enumerate(POSTGRES))
    (line,) = sent(warehouse, f"SELECT {columns}")
    assert {expression: line[f"c{place}"] for place, expression in enumerate(POSTGRES)} == POSTGRES
    warehouse.close()


@pytest.mark.parametrize("naughty", ["mariadb"], indirect=True)
def test_zero_dates(naughty: Naughty, mariadb_bed: Bed) -> None:
    zero, odd = "0000-00-00", "2025-02-31"
    mariadb_bed.execute(
        "SET sql_mode = 'ALLOW_INVALID_DATES'",
        "CREATE TABLE zeros (i INT, t DATETIME(6), d DATE)",
        f"INSERT INTO zeros VALUES (1, '2025-01-01', '2025-01-01'), (2, '{zero}', '{zero}'), (3, '{odd}', '{odd}'),"
        " (4, NULL, NULL), (5, '0001-01-01', '0000-01-01')",
    )
    cursor = "{{ config(event='track', unique_key='_id', cursor='_at', begin='all', slice='7 days') }}\n"
    models = {
        "times": f"{HEADER}SELECT i AS _id, {EVENT}, t AS inserted_at, d AS day FROM zeros",
        "dates": f"{HEADER}SELECT i AS _id, {EVENT}, d AS inserted_at FROM zeros",
        "by_time": f"{cursor}SELECT i AS _id, {ON}, t AS _at FROM zeros WHERE i <> 4",
        "by_date": f"{cursor}SELECT i AS _id, {ON}, d AS _at FROM zeros WHERE i <> 4",
    }
    results = naughty.run(models, 0)
    assert counts(results["times"], "read", "delivered", "invalid") == (5, 1, 4)
    assert counts(results["dates"], "read", "delivered", "invalid") == (5, 1, 4)
    assert counts(results["by_time"], "read", "delivered", "invalid") == (4, 2, 2)
    assert counts(results["by_date"], "read", "delivered", "invalid") == (4, 1, 3)


@pytest.mark.parametrize("naughty", ["sqlite"], indirect=True)
def test_sqlite_holds_anything_anywhere(naughty: Naughty, sqlite_bed: Bed, sandbox: Sandbox) -> None:
    with sqlite3.connect(str(sqlite_bed.settings["url"]).removeprefix("sqlite:///")) as file:
        file.execute("CREATE TABLE odd (i, t, n, x)")
        file.execute(
            "INSERT INTO odd VALUES (1, CAST(x'ff61' AS TEXT), 9e999, 1), (2, 'ok', 1, 'a'), (3, '', -1, x'00')"
        )
    on = ON.replace("DATE ", "")
    models = {
        "texts": f"{HEADER}SELECT i AS _id, {on}, t FROM odd",
        "numbers": f"{HEADER}SELECT i AS _id, {on}, n FROM odd",
        "mixed": f"{HEADER}SELECT i AS _id, {on}, x FROM odd",
        "unnamed": f'{HEADER}SELECT i AS _id, {on}, n AS "" FROM odd',
        "huge": f"{HEADER}SELECT 9223372036854775807 AS _id, {on}, 'a' || char(0) || 'b' AS n",
    }
    results = naughty.run(models, 1)
    assert counts(results["texts"], "read", "delivered", "invalid") == (3, 2, 1)
    assert counts(results["numbers"], "read", "delivered", "invalid") == (3, 3, 0)
    assert counts(results["huge"], "delivered") == (1,)
    assert results["mixed"]["status"] == "error"
    assert "values of several types" in results["mixed"]["message"]
    assert results["unnamed"]["message"] == "'' is no name for a property"
    assert not [line for line in sandbox.imported() if "\ufffd" in line]


def test_a_moment_that_python_does_not_have_is_none(bed: Bed) -> None:
    asked = {
        "postgres": ["'infinity'::date", "'0044-03-15 BC'::timestamp", "'-infinity'::timestamptz", "'NaN'::numeric"],
        "duckdb": ["'infinity'::date", "'0044-03-15 (BC)'::timestamp", "'12000-01-01'::timestamptz"],
        "mariadb": ["CAST(0 AS DATE)", "CAST(0 AS DATETIME)"],
    }.get(bed.name, [])
    warehouse: Warehouse = bed.open()
    assert [warehouse.scalar(f"SELECT {expression} AS x") for expression in asked] == [None] * len(asked)
    assert warehouse.scalar("SELECT 'infinity' AS x") == "infinity"
    warehouse.close()
