"""DuckDB beyond the contract: other databases beside it, MotherDuck, locks."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from beds import ENGINE, Bed, rows, sent

from warehouse_sync.errors import UsageError, WarehouseError
from warehouse_sync.warehouses.base import open_warehouse
from warehouse_sync.warehouses.duckdb_errors import file_trouble


def test_attached_databases_can_be_read_and_not_written(duckdb_bed: Bed, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 42 AS i")
    warehouse = duckdb_bed.open(
        attach=[{"path": str(tmp_path / "other.duckdb"), "alias": "crm", "type": None, "read_only": True}]
    )
    assert rows(warehouse.open("SELECT i FROM crm.t UNION ALL SELECT i FROM bystander")) == [(42,)]
    with pytest.raises(WarehouseError):
        warehouse.scalar("INSERT INTO crm.t VALUES (1)")
    warehouse.close()
    warehouse = duckdb_bed.open(attach=[{"path": str(tmp_path / "other.duckdb")}])
    assert rows(warehouse.open("SELECT i FROM other.t")) == [(42,)]
    warehouse.close()


def test_a_missing_attachment_is_named_without_its_path(duckdb_bed: Bed, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError) as caught:
        duckdb_bed.open(attach=[{"path": str(tmp_path / "secretfolder" / "crm.duckdb")}])
    assert "crm.duckdb does not exist" in caught.value.message
    assert "secretfolder" not in str(caught.value)


def test_an_attachment_that_does_not_open_shows_no_password(duckdb_bed: Bed) -> None:
    with pytest.raises(WarehouseError) as caught:
        duckdb_bed.open(attach=[{"path": "host=x password=secretword", "alias": "pg", "type": "nosuchtype"}])
    assert "warehouse.attach[0] cannot be attached" in caught.value.message
    assert "secretword" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        pytest.param("ducklake:postgres:dbname=x password=secretword", "ducklake:…", marks=pytest.mark.slow),
        pytest.param("ducklake:postgres://u:secretword@h", "ducklake:…", marks=pytest.mark.slow),
        ("postgres:dbname=x password=secretword", "postgres:…"),
        ("https://u:secretword@127.0.0.1:1/x.duckdb", "https:…"),
    ],
)
def test_a_path_that_is_no_file_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, shown: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WarehouseError) as caught:
        open_warehouse("duckdb", {"path": path}, ENGINE)
    assert f"DuckDB does not open {shown}" in caught.value.message
    assert "secretword" not in str(caught.value) + repr(caught.value.__cause__)


def test_motherduck_without_its_extension(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WarehouseError) as caught:
        open_warehouse("duckdb", {"path": "md:prod", "token": "secrettoken"}, ENGINE)
    assert "MotherDuck" in caught.value.message
    assert "secrettoken" not in str(caught.value)


def test_a_file_that_another_process_writes(duckdb_bed: Bed) -> None:
    path = duckdb_bed.settings["path"]
    script = f"import duckdb, sys; c = duckdb.connect({path!r}); print(1, flush=True); sys.stdin.read()"
    writer = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    with pytest.raises(WarehouseError, match="is locked by"):
        duckdb_bed.open()
    writer.communicate(b"", timeout=20)


# Files that are no warehouse


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A DuckDB file of several blocks."""
    path = tmp_path_factory.mktemp("sound") / "sound.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT hash(range) AS i FROM range(100_000)")
    return path.read_bytes()


def of_version(file: bytes, version: int) -> bytes:
    """The file, as if a DuckDB with that storage version had written it; its first block has a checksum of its own."""
    block, checksum = bytearray(file[8:4096]), 5381
    block[4:12] = version.to_bytes(8, "little")
    for place in range(0, len(block), 8):
        checksum ^= int.from_bytes(block[place : place + 8], "little") * 0xBF58476D1CE4E5B9 % 2**64
    return checksum.to_bytes(8, "little") + block + file[4096:]


def damaged(file: bytes, place: int) -> bytes:
    """The file with another byte there."""
    return file[:place] + bytes([file[place] ^ 255]) + file[place + 1 :]


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("x.duckdb", lambda file: of_version(file, 200), ["by a newer DuckDB (storage version 200)", "upgrade"]),
        ("x.duckdb", lambda file: of_version(file, 10), ["by a DuckDB of long ago (storage version 10)", "EXPORT"]),
        ("x.duckdb", lambda file: file[:9000], ["is cut short", "build it again"]),
        ("x.duckdb", lambda file: damaged(file, 4116)[:8192], ["is damaged", "build it again"]),
        ("x.duckdb", lambda file: damaged(file, 100), ["is damaged", "build it again"]),
        ("x.duckdb", lambda _: b"", ["is no DuckDB file"]),
        ("x.csv", lambda _: b"id\n1\n", ["is no DuckDB file", "read_csv("]),
        ("x.txt", lambda _: b"id\n1\n" * 1000, ["is no DuckDB file", "read_csv("]),
        ("x.parquet", lambda _: b"PAR1" * 100, ["is no DuckDB file", "read_parquet("]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attached", [False, True])
def test_a_file_that_is_no_warehouse(
    duckdb_bed: Bed,
    tmp_path: Path,
    sound: bytes,
    name: str,
    make: Callable[[bytes], bytes],
    said: list[str],
    attached: bool,
) -> None:
    path = tmp_path / name
    path.write_bytes(make(sound))
    settings = {"attach": [{"path": str(path), "alias": "x"}]} if attached else {"path": str(path)}
    with pytest.raises(WarehouseError) as caught:
        duckdb_bed.open(**settings)
    for words in said:
        assert words in str(caught.value)
    assert caught.value.message.startswith(name if attached else str(path))


def test_a_sqlite_file(tmp_path: Path) -> None:
    """As DuckDB speaks of it where its extension is not there, nor to be downloaded."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (i)")
    error = file_trouble(
        duckdb.IOException('IO Error: Failed to download extension "sqlite_scanner" at URL'), str(path)
    )
    assert error is not None
    assert error.message == f"{path} is a SQLite file"
    assert "type: sqlalchemy" in error.hint


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: damaged(file, len(file) - 300_000), "is damaged"),
        (lambda file: file[: len(file) // 2], "is cut short"),
    ],
)
def test_a_file_that_is_damaged_further_on(
    tmp_path: Path, sound: bytes, make: Callable[[bytes], bytes], said: str
) -> None:
    path = tmp_path / "x.duckdb"
    path.write_bytes(make(sound))
    warehouse = open_warehouse("duckdb", {"path": str(path)}, ENGINE)
    with pytest.raises(WarehouseError, match=said) as caught:
        warehouse.scalar("SELECT sum(i) FROM t")
    assert str(path) in caught.value.message
    warehouse.close()


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="is a folder") as caught:
        open_warehouse("duckdb", {"path": str(tmp_path)}, ENGINE)
    assert "name the .duckdb file in it" in caught.value.hint


def test_unknown_kinds() -> None:
    with pytest.raises(UsageError, match="`oracle` is unknown"):
        open_warehouse("oracle", {}, ENGINE)


@pytest.mark.parametrize("name", ["shop.v2.duckdb", ".shop.db", "shop"])
def test_a_file_is_called_as_duckdb_and_dbt_call_it(tmp_path: Path, name: str) -> None:
    with duckdb.connect(str(tmp_path / name)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 42 AS i")
    warehouse = open_warehouse("duckdb", {"path": str(tmp_path / name)}, ENGINE, "")
    assert rows(warehouse.open('SELECT i FROM "shop"."main"."t"')) == [(42,)]
    warehouse.close()


def test_types_that_arrow_takes_for_others_inside_nested_ones(duckdb_bed: Bed) -> None:
    large, bit = 2**128 - 1, "'01'::BIT"
    warehouse = duckdb_bed.open()
    (found,) = sent(
        warehouse,
        f"SELECT [{{'u': {large}::UHUGEINT, 'b': [{bit}], 'n': 1}}] AS list, MAP {{{bit}: [{bit}]::BIT[1]}} AS map,"
        f" {{'u': union_value(b := {bit})}} AS member, {bit} AS plain",
    )
    assert {name: json.loads(value) for name, value in found.items()} == {
        "list": f'[{{"u":{large},"b":["01"],"n":1}}]',
        "map": '{"01":["01"]}',
        "member": '{"u":"01"}',
        "plain": "01",
    }
    warehouse.close()
