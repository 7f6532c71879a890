"""The JSON Schema says what the loader says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_config import FULL, SECRETS, SMALLEST, duckdb, load, other

from warehouse_sync.errors import ConfigError
from warehouse_sync.project.config import json_schema

jsonschema = pytest.importorskip("jsonschema")

GOOD = [
    SMALLEST,
    FULL,
    *SECRETS,
    duckdb("models:\nbatch:\n"),
    duckdb("batch: {max_rows: '${ROWS}', max_bytes: '${SIZE:-1MB}', max_line: 1000}"),
    duckdb("delivery: {grace: 0, time_limit: 50m, busy_timeout: 1h 30m}"),
    duckdb("delivery: {grace: '{{ env_var(\"GRACE\") }}'}"),
    duckdb("models: {sources: {a: b, c: {d: e}}, refs: {a: b}, vars: {a: [1]}, drift: '${DRIFT}'}"),
    other("type: postgres\nhost: h\nuser: u\ndatabase: d\npass: secret\nport: '${PORT}'"),
    duckdb("models: {vars: , sources: , refs: , config: , overrides: }\nselectors:\n"),
    SMALLEST.replace("warehouse.duckdb", "warehouse.duckdb, attach: "),
    *(duckdb(f"delivery: {{grace: {text}}}") for text in ("2H", "2 Hours", "15M", "1 Week", "'0'", "1H 30Min")),
    *(duckdb(f"invalid: {{error_above: {text}}}") for text in ("'5'", "100%", "0100.00 %", "33.3%")),
    duckdb("snapshot: {where: warehouse, schema: s}"),
    duckdb("snapshot: {where: local, schema: null}"),
    duckdb("snapshot: {where: '${WHERE}', schema: '${SCHEMA:-}'}"),
]
BAD = [
    duckdb("unknown: 1"),
    duckdb("batch: {max_row: 1}"),
    duckdb("batch: {max_rows: 0}"),
    duckdb("batch: {max_bytes: 5XB}"),
    duckdb("delivery: {grace: 1 month}"),
    duckdb("delivery: {grace: 15}"),
    *(duckdb(f"delivery: {{{key}: {text}}}") for key in ("job_timeout", "time_limit") for text in ("0", "0s", "'0'")),
    *(duckdb(f"invalid: {{error_above: {text}}}") for text in ("150%", "100.1%", "'1.5'")),
    duckdb("snapshot: {where: warehouse}"),
    duckdb("snapshot: {where: warehouse, schema: null}"),
    duckdb("snapshot: {schema: s}"),
    duckdb("version: true"),
    duckdb("version: yes"),
    duckdb("invalid: {stop_above: half}"),
    duckdb("models: {drift: maybe}"),
    duckdb("engine: {threads: '4'}"),
    "warehouse: {type: duckdb, path: x}\nuserpilot: {api_key: key}",
    other("type: oracle"),
    other("type: postgres\nhost: h\nuser: u"),
    other("type: postgres\nhost: h\nuser: u\ndbname: d\ndatabase: d"),
    other("type: duckdb\npath: x\nattach: [{path: y, read_only: false}]"),
]


def test_it_is_a_schema_of_the_dialect_it_names() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "warehouse-sync"
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("text", GOOD)
def test_it_accepts_what_loads(tmp_path: Path, text: str) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(text))
    load(tmp_path, text, {"ROWS": "5", "GRACE": "2m", "DRIFT": "warn", "PORT": "5433", "WHERE": "local"})


@pytest.mark.parametrize("text", BAD)
def test_it_refuses_what_does_not_load(tmp_path: Path, text: str) -> None:
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text))
    with pytest.raises(ConfigError):
        load(tmp_path, text)


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in {"": schema, **schema["$defs"]}.items():
        for key, subschema in definition.get("properties", {}).items():
            yield f"{name}.{key}", subschema


def test_every_key_has_a_sentence_and_every_optional_key_its_default() -> None:
    schema = json_schema()
    required = {
        f"{name}.{key}"
        for name, definition in {"": schema, **schema["$defs"]}.items()
        for key in definition.get("required", [])
    }
    for name, subschema in keys(schema):
        assert subschema["description"].endswith("."), name
        assert "title" not in subschema
        assert name in required or "default" in subschema or name.startswith("PostgresWarehouse.d"), name


def test_defaults_are_written_as_in_the_file() -> None:
    defaults = {name: subschema.get("default") for name, subschema in keys(json_schema())}
    assert defaults["Delivery.job_timeout"] == "2h"
    assert defaults["Batch.max_bytes"] == "40MB"
    assert defaults["State.url"] == "sqlite:///../.warehouse_sync/state.db"
    assert defaults["Models.path"] == "../models_sql"
