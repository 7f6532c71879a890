"""DuckDB beyond the contract: other databases beside it, MotherDuck, locks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from beds import ENGINE, Bed, rows, sent

from warehouse_sync.errors import UsageError, WarehouseError
from warehouse_sync.warehouses.base import open_warehouse


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
        ("ducklake:postgres:dbname=x password=secretword", "ducklake:…"),
        ("ducklake:postgres://u:secretword@h", "ducklake:…"),
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
