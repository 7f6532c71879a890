"""dbt's artefacts for tests, in the shape in which dbt writes them; only what a reader of them may look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

LATER = timedelta(days=1)


def model(name: str, package: str = "shop", **more: Any) -> dict[str, Any]:
    """A model's node; `version`, `above` (ids), `columns` (name -> type), `config` and any other key of dbt's."""
    version, above, columns = more.pop("version", None), more.pop("above", []), more.pop("columns", {})
    config = {"materialized": "table", "enabled": True} | more.pop("config", {})
    kind = more.pop("kind", "model")
    suffix = f".v{version}" if version else ""
    alias = f"{name}_v{version}" if version else name
    ephemeral = config["materialized"] == "ephemeral"
    return {
        "unique_id": f"{kind}.{package}.{name}{suffix}",
        "resource_type": kind,
        "name": name,
        "package_name": package,
        "relation_name": None if ephemeral else f'"db"."{package}"."{alias}"',
        "config": config,
        "version": version,
        "depends_on": {"macros": [], "nodes": above},
        "columns": {column: {"name": column, "data_type": type_} for column, type_ in columns.items()},
        "original_file_path": f"models/{alias}.sql",
        "checksum": {"name": "sha256", "checksum": "0" * 64},
    } | more


def source(name: str, table: str, package: str = "shop", **more: Any) -> dict[str, Any]:
    """A source's table."""
    columns = more.pop("columns", {})
    return {
        "unique_id": f"source.{package}.{name}.{table}",
        "resource_type": "source",
        "name": table,
        "source_name": name,
        "package_name": package,
        "relation_name": f'"raw"."{name}"."{table}"',
        "config": {"enabled": True},
        "columns": {column: {"name": column, "data_type": type_} for column, type_ in columns.items()},
    } | more


def check(name: str, above: list[str], *, attached: str | None = None, kind: str = "test") -> dict[str, Any]:
    """A test of these nodes."""
    return {
        "unique_id": f"{kind}.shop.{name}",
        "resource_type": kind,
        "name": name,
        "package_name": "shop",
        "depends_on": {"nodes": above},
        "attached_node": attached,
    }


def manifest(*nodes: Mapping[str, Any], version: int = 12, **more: Any) -> dict[str, Any]:
    """A manifest.json with these nodes; `disabled` as a list, `metadata` over the usual one."""
    disabled = more.pop("disabled", [])
    metadata = {
        "dbt_schema_version": f"https://schemas.getdbt.com/dbt/manifest/v{version}.json",
        "dbt_version": "2.0.0-preview.219" if version == 20 else "1.11.16",
        "generated_at": (datetime.now(UTC) + LATER).isoformat().replace("+00:00", "Z"),
        "invocation_id": "one",
        "project_name": "shop",
        "adapter_type": "duckdb",
    } | more.pop("metadata", {})
    by_kind: dict[str, dict[str, Any]] = {"nodes": {}, "sources": {}, "unit_tests": {}}
    for node in nodes:
        section = {"source": "sources", "unit_test": "unit_tests"}.get(node["resource_type"], "nodes")
        by_kind[section][node["unique_id"]] = dict(node)
    return {"metadata": metadata, **by_kind, "disabled": {node["unique_id"]: [dict(node)] for node in disabled}} | more


def results(statuses: Mapping[str, str], **args: Any) -> dict[str, Any]:
    """A run_results.json (or sources.json) with these statuses."""
    return {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
            "invocation_id": "one",
        },
        "args": {"which": "build"} | args,
        "results": [{"unique_id": id_, "status": status} for id_, status in statuses.items()],
    }


def catalog(columns: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """A catalog.json: node -> column -> type."""

    def described(types: Mapping[str, str]) -> dict[str, Any]:
        return {name: {"name": name, "type": kind, "index": i} for i, (name, kind) in enumerate(types.items(), 1)}

    nodes = {id_: {"columns": described(types)} for id_, types in columns.items()}
    return {"metadata": {}, "nodes": nodes, "sources": {}}


def write(folder: Path, **files: Mapping[str, Any]) -> Path:
    """Write `manifest=`, `run_results=`, `sources=`, `catalog=` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in files.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder
