"""Rows found again by their keys: the same rows in every database."""

from __future__ import annotations

from pathlib import Path

import pytest
from beds import Bed

from warehouse_sync.extraction.recall import key_test
from warehouse_sync.values import EventType, Model

NUMBERS = (9007199254740992, 9007199254740993)


def model(*key: str) -> Model:
    return Model("m", Path("m.sql"), "", EventType.TRACK, unique_key=key)


@pytest.mark.parametrize("word", [True, False])
def test_rows_of_a_key(bed: Bed, word: bool) -> None:
    back = chr(92)
    first = f"it's {back} ü {NUMBERS[0]}" if word else str(NUMBERS[0])
    name = "word" if word else "number"
    with_key = bed.open()
    try:
        sql = f"SELECT {name}, moment FROM moments"
        schema = with_key.describe(sql)
        column = schema.names[0]
        test = key_test(model(column), schema, [first, "another"], with_key)
        found = with_key.scalar(f"SELECT count(*) FROM ({sql}) AS model WHERE {test}")
        assert int(found) == 1
    finally:
        with_key.close()


def test_rows_of_a_key_of_two_columns(bed: Bed) -> None:
    back = chr(92) * 2
    warehouse = bed.open()
    try:
        sql = "SELECT word, number FROM moments"
        schema = warehouse.describe(sql)
        keys = [f'["it\'s {back} ü {NUMBERS[0]}",{NUMBERS[0]}]']
        test = key_test(model(*schema.names), schema, keys, warehouse)
        assert int(warehouse.scalar(f"SELECT count(*) FROM ({sql}) AS model WHERE {test}")) == 1
    finally:
        warehouse.close()


def test_columns_that_are_written_in_many_ways_are_not_tested(duckdb_bed: Bed) -> None:
    warehouse = duckdb_bed.open()
    schema = warehouse.describe("SELECT 1.5::DOUBLE AS d, 'x' AS t")
    assert key_test(model("d"), schema, ["1.5"], warehouse) == ""
    assert key_test(model("d", "t"), schema, ['[1.5,"x"]'], warehouse) == "CAST(\"t\" AS TEXT) IN ('x')"
    assert key_test(model("gone"), schema, ["1"], warehouse) == ""
    warehouse.close()
