"""Snapshots in the warehouse, over real servers: what leaves it, what is kept there, and what a person sees."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from beds import ENGINE, Bed

from warehouse_sync.changes import pushdown
from warehouse_sync.changes.pushdown import Comparison, Stayed, Value
from warehouse_sync.changes.snapshot import DeliveredBatch, taken_rows
from warehouse_sync.errors import WarehouseError
from warehouse_sync.events.reasons import Note
from warehouse_sync.observe.reporter import Silent
from warehouse_sync.parts import policy_of
from warehouse_sync.project.config import load_config
from warehouse_sync.project.model import load_models, settings_from
from warehouse_sync.runs.results import ModelResult
from warehouse_sync.runs.run import RunOptions, run
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.warehouses.base import open_warehouse
from warehouse_sync.warehouses.snapshot_tables import SnapshotSchema, Tables, merged_of

BEDS = ("duckdb", "postgres", pytest.param("snowflake", marks=pytest.mark.slow))
TYPES = {
    "duckdb": ("VARCHAR", "TIMESTAMP", "DECIMAL(10, 2)", "DOUBLE", "JSON"),
    "postgres": ("TEXT", "TIMESTAMP", "NUMERIC(10, 2)", "FLOAT8", "JSONB"),
    "snowflake": ("VARCHAR", "TIMESTAMP_NTZ", "NUMBER(10, 2)", "FLOAT", "VARIANT"),
}
USERS = "select id as user_id, plan, price, score, extra, changed as inserted_at, changed as _changed from users"
EVENTS = "select id as _id, user_id, name as event_name, changed as inserted_at, amount from events"
ROWS = 500
MOSTLY_SLOW = pytest.mark.parametrize(
    "kept",
    ["duckdb", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "snowflake"))],
    indirect=True,
)


@pytest.fixture(params=BEDS)
def kept(request: pytest.FixtureRequest) -> Bed:
    """A warehouse that can keep snapshots, with 500 users and 500 events."""
    bed: Bed = request.getfixturevalue(f"{request.param}_bed")
    text, moment, money, double, nested = TYPES[bed.name]
    columns = f"id {text}, plan {text}, price {money}, score {double}, extra {nested}, changed {moment}"
    series = {
        "duckdb": "range(1, 501) AS n(i)",
        "postgres": "generate_series(1, 500) AS n(i)",
        "snowflake": "(SELECT seq4() + 1 AS i FROM TABLE(GENERATOR(ROWCOUNT => 500))) AS n",
    }[bed.name]
    extra = "PARSE_JSON('{\"a\": 1}')" if bed.name == "snowflake" else f"CAST('{{\"a\": 1}}' AS {nested})"
    at = "CAST('2025-01-01 10:00:00.123456' AS TIMESTAMP)"
    bed.execute(
        f"CREATE TABLE users ({columns})",
        f"INSERT INTO users SELECT 'u' || i, CASE WHEN i % 3 = 0 THEN NULL ELSE 'free' END, i + 0.5, i / 7.0, {extra},"
        f" {at} FROM {series}",
        f"CREATE TABLE events (id INTEGER, user_id {text}, name {text}, amount {money}, changed {moment})",
        f"INSERT INTO events SELECT i, 'u' || i, 'opened', i + 0.5, {at} FROM {series}",
    )
    return bed


@dataclass
class World:
    """A pipeline over a bed, its snapshots in the schema `sync` of the bed's warehouse."""

    bed: Bed
    folder: Path
    sandbox: Sandbox
    name: str = "prod"
    snapshot: Mapping[str, str] | None = field(default_factory=lambda: {"where": "warehouse", "schema": "sync"})

    def model(self, name: str, header: str, sql: str) -> None:
        (self.folder / "models").mkdir(exist_ok=True)
        (self.folder / "models" / f"{name}.sql").write_text(f"{{{{ config({header}) }}}}\n{sql}\n")

    @property
    def config(self) -> Path:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in self.bed.settings.items()}
        document: dict[str, Any] = {
            "name": self.name,
            "warehouse": {"type": self.bed.kind, **settings},
            "userpilot": {"api_key": self.sandbox.api_key, "endpoint": self.sandbox.url},
            "models": {"path": str(self.folder / "models")},
            "state": {"url": f"sqlite:///{self.folder}/state.db", "dir": str(self.folder / "state")},
        }
        path = self.folder / "prod.yml"
        path.write_text(json.dumps(document | ({"snapshot": dict(self.snapshot)} if self.snapshot else {})))
        return path

    def sync(self, **options: Any) -> dict[str, ModelResult]:
        """One run: how each model ended."""
        config = load_config(self.config, {})
        models = load_models(settings_from(config, {}))
        report = run(config, policy_of(config, {}), models, RunOptions(**options), Silent())
        return {result.model: result for result in report.results}

    def good(self, **options: Any) -> dict[str, dict[str, int]]:
        """One run that ends well: the counts of each model that are not 0."""
        found = self.sync(**options)
        for result in found.values():
            assert str(result.status) == "success", f"{result.model}: {result.message} {result.error}"
        return {name: {k: v for k, v in one.counts.as_dict().items() if v} for name, one in found.items()}


@pytest.fixture
def world(kept: Bed, tmp_path: Path) -> Iterator[World]:
    with Sandbox(tmp_path / "sandbox") as sandbox:
        world = World(kept, tmp_path, sandbox)
        world.model("users", "event='identify_user', on_removed='report'", USERS)
        world.model("events", "event='track', unique_key='_id'", EVENTS)
        yield world


@contextmanager
def passing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows came to be judged here, one number a batch."""
    from warehouse_sync.changes.change_set import ChangeSet

    rows: list[int] = []
    take = ChangeSet.take

    def counted(self: ChangeSet, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        rows.append(batch.num_rows)
        return take(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ChangeSet, "take", counted)
        yield rows


def test_only_new_and_changed_rows_leave(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.good()
    assert first["users"]["added"] == first["events"]["added"] == ROWS
    with passing(monkeypatch) as rows:
        again = world.good()
    assert sum(rows) == 2  # a summary each
    assert again == {"users": {"read": ROWS, "unchanged": ROWS}, "events": {"read": ROWS, "unchanged": ROWS}}
    world.bed.execute(
        "UPDATE users SET plan = 'pro', changed = '2025-02-01 10:00:00.000000' WHERE id IN ('u1', 'u2', 'u3')",
        "UPDATE users SET changed = '2025-02-01 10:00:00.000000' WHERE id = 'u4'",
        "UPDATE users SET score = 0.30000000000000004 WHERE id = 'u5'",
        "DELETE FROM users WHERE id IN ('u6', 'u7')",
        "INSERT INTO users (id, plan, changed) VALUES ('new', NULL, '2025-02-01 10:00:00.000000')",
        "UPDATE events SET amount = 7 WHERE id = 1",
        "INSERT INTO events VALUES (501, 'u1', 'closed', 1, '2025-02-01 10:00:00.000000')",
    )
    with passing(monkeypatch) as rows:
        results = world.sync()
    assert sum(rows) == 8  # five users, one event, a summary each
    counts = {name: result.counts.as_dict() for name, result in results.items()}
    assert results["events"].notes == {Note.EVENT_CHANGED.code: 1}
    wanted = {"read": ROWS - 1, "added": 1, "changed": 4, "unchanged": ROWS - 6, "removed": 2, "delivered": 5}
    assert counts["users"].items() >= wanted.items()
    assert counts["events"]["added"] == 1
    assert counts["events"]["unchanged"] == ROWS
    world.bed.execute("UPDATE users SET score = 0.3 WHERE id = 'u5'")
    assert world.good()["users"]["changed"] == 1, "floats differ in their last digit"


@MOSTLY_SLOW
def test_lines_are_the_same_as_those_of_a_local_comparison(world: World) -> None:
    lines = {}
    for snapshot in (None, world.snapshot):
        folder = world.folder / str(bool(snapshot))
        folder.mkdir()
        with Sandbox(folder / "sandbox") as sandbox:
            each = World(world.bed, folder, sandbox, snapshot=snapshot, name="local" if snapshot is None else "inside")
            each.model("users", "event='identify_user'", USERS)
            each.model("events", "event='track', unique_key='_id'", EVENTS)
            each.good()
            lines[bool(snapshot)] = sorted(sandbox.imported())
    assert lines[True] == lines[False]
    assert len(lines[True]) == 2 * ROWS


@MOSTLY_SLOW
@pytest.mark.parametrize("lost", ["sent", "merged"])
def test_a_table_that_is_gone_is_not_an_empty_one(world: World, lost: str) -> None:
    world.good()
    schema = '"SYNC"' if world.bed.name == "snowflake" else '"sync"'
    world.bed.execute(f'DROP TABLE {schema}."{lost}.prod.users"')
    found = world.sync()
    assert str(found["users"].status) == "error"
    assert str(found["events"].status) == "success"
    assert len(world.sandbox.imported()) == 2 * ROWS
    assert "is missing" in str(found["users"].error)
    assert "state reset users" in str(found["users"].error)


@MOSTLY_SLOW
@pytest.mark.parametrize("which", ["", " WHERE key_hash = (SELECT key_hash FROM {sent} LIMIT 1)"], ids=["all", "one"])
def test_rows_that_are_gone_from_the_table_are_not_new(world: World, which: str) -> None:
    world.good()
    schema = '"SYNC"' if world.bed.name == "snowflake" else '"sync"'
    sent = f'{schema}."sent.prod.events"'
    world.bed.execute(f"DELETE FROM {sent}{which.format(sent=sent)}", "DELETE FROM events WHERE id > 400")
    for _ in range(2):
        found = world.sync()
        assert str(found["events"].status) == "error"
        assert str(found["users"].status) == "success"
        assert f"lacks {1 if which else ROWS} of the rows" in str(found["events"].error)
        assert "state reset events" in str(found["events"].error)
    assert len(world.sandbox.imported()) == 2 * ROWS


@MOSTLY_SLOW
def test_rows_that_another_hand_put_in_are_not_known(world: World) -> None:
    world.good()
    schema = '"SYNC"' if world.bed.name == "snowflake" else '"sync"'
    keys = {"duckdb": "unhex('00')", "postgres": "'\\x00'::bytea", "snowflake": "TO_BINARY('00', 'HEX')"}[
        world.bed.name
    ]
    world.bed.execute(f'INSERT INTO {schema}."sent.prod.events" VALUES ({keys}, {keys}, NULL, 1)')
    found = world.sync()
    assert "holds 1 row more than those" in str(found["events"].error)
    assert str(found["users"].status) == "success"


@MOSTLY_SLOW
def test_a_table_without_its_row_is_one_that_was_never_merged(world: World) -> None:
    schema = '"SYNC"' if world.bed.name == "snowflake" else '"sync"'
    tables = snapshot_schema_of(world.bed).tables("prod", "users")
    with snapshot_schema_of(world.bed).open() as keeper:
        keeper.prepare(tables, pushdown.HASHES)
    # As a kill leaves it that comes before the row.
    world.bed.execute(f'DELETE FROM {schema}."merged.prod.users"')
    assert merged(world.bed, tables) is None
    assert world.good()["users"]["added"] == ROWS
    world.bed.execute(f'DELETE FROM {schema}."merged.prod.users"')
    found = world.sync()
    assert "is missing" in str(found["users"].error)
    assert str(found["events"].status) == "success"
    assert len(world.sandbox.imported()) == 2 * ROWS


@MOSTLY_SLOW
def test_another_place_for_a_snapshot_is_an_error_with_a_way_out(world: World) -> None:
    world.good()
    inside, world.snapshot = world.snapshot, None
    found = world.sync()
    assert {str(result.status) for result in found.values()} == {"error"}
    assert "`snapshot.where` was `warehouse`" in str(found["users"].error)
    world.snapshot = inside
    world.good()
    world.snapshot = {"where": "warehouse", "schema": "elsewhere"}
    found = world.sync()
    assert "missing or older than the state store knows" in str(found["users"].error)
    assert "state reset users" in str(found["users"].error)
    assert len(world.sandbox.imported()) == 2 * ROWS


@MOSTLY_SLOW
def test_from_local_to_the_warehouse_is_an_error_too(world: World) -> None:
    inside, world.snapshot = world.snapshot, None
    world.good()
    world.snapshot = inside
    found = world.sync()
    assert "lies in state.dir" in str(found["users"].error)
    assert "state reset users" in str(found["users"].error)


# The keeper


def snapshot_schema_of(bed: Bed, schema: str = "sync") -> SnapshotSchema:
    return SnapshotSchema(bed.kind, bed.settings, ENGINE, schema)


def rows_of(*pairs: tuple[bytes, bytes], batch: int = 1, at: datetime | None = None) -> pa.RecordBatchReader:
    keys, hashes = zip(*pairs, strict=True)
    table = pa.table(
        {
            "key_hash": pa.array(keys, pa.binary()),
            "row_hash": pa.array(hashes, pa.binary()),
            "inserted_at": pa.array([at] * len(pairs), pa.timestamp("us")),
            "batch": pa.array([batch] * len(pairs), pa.int64()),
        }
    )
    return table.to_reader()


def merged(bed: Bed, tables: Tables) -> tuple[int, int] | None:
    warehouse = bed.open()
    try:
        found = merged_of(warehouse, tables)
        return None if found is None else (found.merged, found.known)
    finally:
        warehouse.close()


def test_rows_and_the_last_delivery_go_in_together(kept: Bed) -> None:
    schema = snapshot_schema_of(kept)
    tables = schema.tables("prod", "users")
    assert merged(kept, tables) is None
    with schema.open() as keeper:
        keeper.prepare(tables, pushdown.HASHES)
        keeper.merge(tables, rows_of((b"a" * 16, b"1" * 16), (b"b" * 16, b"1" * 16)), 3)
    assert merged(kept, tables) == (3, 2)
    with schema.open() as keeper:
        keeper.prepare(tables, pushdown.HASHES)
        keeper.merge(tables, rows_of((b"b" * 16, b"2" * 16), (b"c" * 16, b"2" * 16), batch=2), 5)

        def lost() -> None:
            raise WarehouseError("the lease is gone")

        with pytest.raises(WarehouseError, match="the lease is gone"):
            keeper.merge(tables, rows_of((b"d" * 16, b"3" * 16)), 9, lost)
    assert merged(kept, tables) == (5, 3)
    with schema.open() as keeper:
        renamed = schema.tables("prod", "people")
        for _ in range(2):
            keeper.rename(tables, renamed)
    assert merged(kept, tables) is None
    assert merged(kept, renamed) == (5, 3)
    with schema.open() as keeper:
        keeper.drop(renamed)
    assert merged(kept, renamed) is None


def test_the_latest_time_stays(kept: Bed) -> None:
    schema = snapshot_schema_of(kept)
    tables = schema.tables("prod", "users")
    january, june = datetime(2025, 1, 1, 10), datetime(2025, 6, 1, 10, 0, 0, 123456)
    with schema.open() as keeper:
        keeper.prepare(tables, pushdown.HASHES)
        keeper.merge(tables, rows_of((b"a" * 16, b"1" * 16), at=june), 1)
        keeper.merge(tables, rows_of((b"a" * 16, b"2" * 16), (b"b" * 16, b"2" * 16), batch=2, at=january), 2)
    warehouse = kept.open()
    try:
        for key, at in ((b"a" * 16, june), (b"b" * 16, january)):
            row = f"FROM {tables.sent} WHERE key_hash = {pushdown.bytes_literal(key, kept.name)}"
            assert warehouse.scalar(f"SELECT inserted_at {row}") == at
            assert int(warehouse.scalar(f"SELECT batch {row}")) == 2
    finally:
        warehouse.close()


def test_what_was_set_aside_comes_back_wherever_that_was_broken_off(kept: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = snapshot_schema_of(kept)
    own, other = schema.tables("prod", "users"), schema.tables("prod", "people")
    with schema.open() as keeper:
        aside, execute = keeper.aside("prod", "users"), keeper._writer.execute
        left = 0

        def breaks_off(sql: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise WarehouseError("gone")
            execute(sql)

        for first in range(99):
            for tables, number in ((own, 5), (aside, 3), (other, 7)):
                keeper.drop(tables)
                keeper.prepare(tables, pushdown.HASHES)
                keeper.merge(tables, rows_of((bytes([number]) * 16, b"1" * 16)), number)
            left = first
            with monkeypatch.context() as patch:
                patch.setattr(keeper._writer, "execute", breaks_off)
                with suppress(WarehouseError):
                    keeper.put_back("prod", {"users": {3}}, ["people"])
            keeper.put_back("prod", {"users": {3}}, ["people"])
            found = [merged_of(keeper.session, tables) for tables in (own, aside, keeper.aside("prod", "people"))]
            assert [one and one.merged for one in found] == [3, 5, 7], f"broken off at statement {first}"
            assert merged_of(keeper.session, other) is None
            if left >= 0:
                break
    assert first > 8


def test_a_snapshot_under_another_name_is_found(kept: Bed) -> None:
    schema = snapshot_schema_of(kept)
    with schema.open() as keeper:
        tables = {name: keeper.tables("prod", name) for name in ("users", "people", "events")}
        for name, number in (("people", 3), ("events", 5)):
            keeper.prepare(tables[name], pushdown.HASHES)
            keeper.merge(tables[name], rows_of((b"a" * 16, b"1" * 16)), number)
        keeper.put_back("prod", {"users": {2, 3}, "events": {4}}, ["people"])
        found = {name: merged_of(keeper.session, one) for name, one in tables.items()}
    assert found["people"] is None
    assert found["users"] is not None
    assert found["events"] is not None
    assert (found["users"].merged, found["events"].merged) == (3, 5), "what is not there is not made up"


def test_of_two_deliveries_of_a_key_the_later_one_stands_with_the_latest_time(tmp_path: Path) -> None:
    delivered = []
    with duckdb.connect() as connection:
        for number, at in ((1, "2025-06-01 10:00"), (2, "2025-01-01 10:00")):
            keys = tmp_path / f"{number}.keys.parquet"
            row = f"'a' AS key, 'a'::BLOB AS key_hash, '{number}'::BLOB AS row_hash, TIMESTAMP '{at}' AS inserted_at"
            connection.execute(f"COPY (SELECT {row}) TO '{keys}' (FORMAT parquet)")
            delivered.append(DeliveredBatch(number, number + 10, keys, tmp_path / "none"))
        found = taken_rows(connection, delivered).read_all().to_pylist()
    assert found == [{"key_hash": b"a", "row_hash": b"2", "inserted_at": datetime(2025, 6, 1, 10), "batch": 12}]


def test_debug_tries_it_out(kept: Bed) -> None:
    with snapshot_schema_of(kept).open() as keeper:
        assert "can be made" in keeper.check()
    assert merged(kept, Tables("SYNC" if kept.name == "snowflake" else "sync", "~probe")) is None


def test_names_of_tables_are_one_to_one() -> None:
    models = ["users", "Users", "USERS", "us.ers", "us ers", "us_ers", "ü", "x" * 200, "x" * 201]
    names = [Tables.of("s", pipeline, model).name for pipeline in ("p", "P", "p-q") for model in models]
    assert len({name.casefold() for name in names}) == len(names)
    assert max(len(f"merged.{name}".encode()) for name in names) <= 63


def test_who_may_not_write_is_told_so(postgres_bed: Bed) -> None:
    postgres_bed.execute("DROP ROLE IF EXISTS reader_only", "CREATE ROLE reader_only LOGIN PASSWORD 'x'")
    settings = {**postgres_bed.settings, "user": "reader_only", "password": "x"}
    schema = SnapshotSchema("postgres", settings, ENGINE, "sync")
    with (
        schema.open() as keeper,
        pytest.raises(WarehouseError, match="cannot be kept in schema `sync`") as caught,
    ):
        keeper.check()
    assert "needs CREATE" in caught.value.hint
    assert "permission denied" in caught.value.message


def test_a_locked_file_is_a_clear_message(duckdb_bed: Bed, tmp_path: Path) -> None:
    import subprocess
    import sys

    path = duckdb_bed.settings["path"]
    code = f"import duckdb, sys; c = duckdb.connect({path!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(WarehouseError, match="is locked by"), snapshot_schema_of(duckdb_bed).open():
            pass
        holder.communicate()


# The statement


def test_many_columns_make_no_deep_expression(kept: Bed) -> None:
    columns = ", ".join(f"{i} AS c{i}" for i in range(600))
    warehouse = open_warehouse(kept.kind, kept.settings, ENGINE)
    try:
        sql = f"SELECT id, {columns} FROM users"
        names = tuple(warehouse.describe(sql).names)
        key, *values = (Value(name, pa.string() if number == 0 else pa.int64()) for number, name in enumerate(names))
        asked = Comparison(kept.name, sql, names, (key,), tuple(values), pushdown.digest([]))
        source = warehouse.open(pushdown.statement(asked))
        ((rows, hashes),) = source.connection.sql(
            f'SELECT count(*), count(DISTINCT "{pushdown.ROW}") FROM {source.relation}'
        ).fetchall()
    finally:
        warehouse.close()
    assert (rows, hashes) == (ROWS, 1)


def test_a_key_has_the_hash_that_this_program_makes_of_its_texts(kept: Bed) -> None:
    warehouse = open_warehouse(kept.kind, kept.settings, ENGINE)
    try:
        sql = "SELECT 'ü🙂' AS a, 17 AS b"
        names = tuple(warehouse.describe(sql).names)
        values = (Value(names[0], pa.string()), Value(names[1], pa.int64()))
        for key, texts in (((values[0],), ["ü🙂"]), (values, ["ü🙂", "17"])):
            asked = Comparison(kept.name, sql, names, key, (), pushdown.digest([]))
            source = warehouse.open(pushdown.statement(asked))
            ((found,),) = source.connection.sql(f'SELECT "{pushdown.KEY}" FROM {source.relation}').fetchall()
            assert bytes(found) == pushdown.key_of(texts)
    finally:
        warehouse.close()


def test_a_summary_reads_as_it_was_written() -> None:
    assert Stayed.read("12 3 0") == Stayed(12, 3, 0)
