"""Runs a model over rows given as DuckDB SQL, from a native relation and from an Arrow table of the same rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import yaml
from harness import duckdb_session

from warehouse_sync.errors import ModelError
from warehouse_sync.events.encode import EncodeOptions, Encoding, compile_row
from warehouse_sync.events.reasons import Note, decode
from warehouse_sync.values import EventType, Model

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """One block of a golden file: `-- # title`, `-- key: value` lines (the header), SQL, `--> ` lines (the outcome)."""

    title: str
    header: dict[str, Any]
    sql: str
    expected: tuple[str, ...]


def read_cases(path: Path) -> list[Case]:
    """The blocks of a golden file."""
    cases = []
    for block in re.split(r"^-- # ", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
        title, *lines = block.split("\n")
        header = "\n".join(line[3:] for line in lines if line.startswith("-- "))
        sql = "\n".join(line for line in lines if not line.startswith("--"))
        expected = tuple(line[4:] for line in lines if line.startswith("--> "))
        cases.append(Case(title, yaml.safe_load(header) or {}, sql.strip().rstrip(";"), expected))
    return cases


def build(header: dict[str, Any], schema: pa.Schema) -> Encoding:
    """Compiles a model whose header is written as in a golden file."""
    keys = dict(header)
    options = EncodeOptions(keys.pop("timezone", "UTC"), NOW, fold_upper=keys.pop("fold_upper", False))
    event = EventType(keys.pop("event", "track"))
    defaults = {EventType.IDENTIFY_USER: "user_id", EventType.IDENTIFY_COMPANY: "company_id"}
    unique = keys.pop("unique_key", defaults.get(event, ()))
    listed = {name: tuple(keys.pop(name)) for name in ("exclude_columns", "ignore_changes") if name in keys}
    model = Model(
        "m",
        Path("m.sql"),
        "",
        event,
        unique_key=(unique,) if isinstance(unique, str) else tuple(unique),
        nulls=keys.pop("nulls", "send" if event.is_identify else "omit"),
        **listed,
        **keys,
    )
    return compile_row(model, schema, options)


def schema_of(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Schema:
    """The schema of a query as the DuckDB warehouse describes it: Arrow types, DuckDB's own in the metadata."""
    relation = connection.sql(sql)
    fields = connection.sql(f"select * from ({sql}) limit 0").to_arrow_table().schema
    return pa.schema(
        [
            field.with_metadata({**(field.metadata or {}), b"duckdb_type": str(type_).encode()})
            for field, type_ in zip(fields, relation.types, strict=True)
        ]
    )


def rows_of(connection: duckdb.DuckDBPyConnection, encoding: Encoding, relation: str) -> list[dict[str, Any]]:
    """The rows as the stages above see them: the line behind a CASE, everything through Arrow."""
    row = encoding.row
    moment = f"coalesce({row.inserted_at}, TIMESTAMP '2026-06-01 12:00:00')"
    query = (
        f"SELECT {row.reasons} AS reasons, {row.notes} AS notes, {row.key} AS key, {row.key_hash} AS key_hash,"
        f" {row.row_hash} AS row_hash, {row.cursor} AS cursor,"
        f" CASE WHEN reasons = 0 THEN {row.inserted_at} END AS inserted_at,"
        f" CASE WHEN reasons = 0 THEN {row.line(moment)} END AS line FROM {relation} AS source"
    )
    return connection.sql(query).to_arrow_table().to_pylist()


def outcome(row: dict[str, Any]) -> str:
    """A row as golden files write it: its line with the notes before it, or the reasons."""
    notes = "".join(f"({note.code}) " for note in Note if row["notes"] & note.bit)
    if row["reasons"]:
        return "invalid: " + ", ".join(reason.code for reason in decode(row["reasons"]))
    assert row["line"].endswith("}\n")
    assert row["line"].count("\n") == 1
    return notes + row["line"][:-1]


def outcomes(case: Case) -> dict[str, tuple[str, ...]]:
    """What a case gives, by source."""
    connection = duckdb_session()
    connection.execute("SET TimeZone = 'America/New_York'")  # must not matter
    try:
        native_only = case.header.pop("native_only", False)
        encoding = build(case.header, schema_of(connection, case.sql))
    except ModelError as error:
        return {"error": (f"error: {error.message}",)}
    found = {"native": tuple(outcome(row) for row in rows_of(connection, encoding, f"({case.sql})"))}
    if not native_only:
        connection.register("arrow_rows", connection.sql(case.sql).to_arrow_table())
        found["arrow"] = tuple(outcome(row) for row in rows_of(connection, encoding, "arrow_rows"))
    return found
