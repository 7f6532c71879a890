"""What the YAML names, made: the engine, the warehouse, the place of the snapshots, the API's client, the rules."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from warehouse_sync import __version__
from warehouse_sync.errors import ModelError
from warehouse_sync.events.encode import PropertyLimits
from warehouse_sync.extraction.guard import Guard
from warehouse_sync.extraction.prepare import fingerprint_of
from warehouse_sync.extraction.request import Policy
from warehouse_sync.home import empty_spill
from warehouse_sync.outbox import BatchLimits
from warehouse_sync.project.config import Config
from warehouse_sync.project.model import ModelSettings, settings_from
from warehouse_sync.project.render import render
from warehouse_sync.userpilot.client import Client
from warehouse_sync.userpilot.job import RemoteJob
from warehouse_sync.values import Model
from warehouse_sync.warehouses.base import Engine, Warehouse, dialect_of_url, open_warehouse
from warehouse_sync.warehouses.snapshot_tables import SnapshotSchema


def engine_of(config: Config, *, spill: bool = True) -> Engine:
    """The embedded engine within the YAML's limits; without `spill` it leaves the pipeline's own folder alone."""
    folder = empty_spill(config.home) if spill else Path(tempfile.gettempdir()) / f"warehouse-sync-{os.getpid()}"
    return Engine(f"{config.engine.memory_limit}B", config.engine.threads, folder)


def settings_of(config: Config, environ: Mapping[str, str], given: Mapping[str, Any] | None = None) -> ModelSettings:
    """What the YAML says of models; `given` are the command line's `--vars`."""
    settings = settings_from(config, environ)
    return replace(settings, vars={**settings.vars, **(given or {})})


def policy_of(config: Config, environ: Mapping[str, str], settings: ModelSettings | None = None) -> Policy:
    """The YAML's rules for extraction; `settings` are those of `settings_of`, if they are made already."""
    return Policy(
        settings=settings or settings_of(config, environ),
        limits=BatchLimits(config.batch.max_rows, config.batch.max_bytes),
        max_line=config.batch.max_line,
        property_limits=PropertyLimits(config.limits.max_properties, config.limits.max_name, config.limits.max_value),
        guard=Guard(
            stop_above=config.invalid.stop_above,
            max_rows=config.guard.max_rows,
            max_times_median=config.guard.max_times_median,
            max_removed=config.guard.max_removed,
        ),
        drift=config.models.drift,
    )


def warehouse_of(config: Config, engine: Engine, run_id: int | None = None) -> Warehouse:
    """The YAML's warehouse, opened; its own history shows pipeline and run. Raises WarehouseError."""
    settings = _unwrapped(config.warehouse.model_dump(by_alias=True))
    if config.dbt_project is not None and config.warehouse.type == "duckdb":
        settings["folder"] = config.dbt_project.folder
    label = f"warehouse-sync {config.name}" + ("" if run_id is None else f" run {run_id}")
    return open_warehouse(config.warehouse.type, settings, engine, label)


def snapshot_schema_of(config: Config, engine: Engine) -> SnapshotSchema | None:
    """Where in the YAML's warehouse its snapshots lie; None for `where: local`."""
    schema = config.snapshot.schema_name
    if config.snapshot.where == "local" or schema is None:
        return None
    settings = _unwrapped(config.warehouse.model_dump(by_alias=True))
    return SnapshotSchema(config.warehouse.type, settings, engine, schema, f"warehouse-sync {config.name}")


def _unwrapped(value: Any) -> Any:
    """Settings with their secrets as plain text, for a driver."""
    if isinstance(value, dict):
        return {key: _unwrapped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unwrapped(inner) for inner in value]
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def client_of(config: Config) -> Client:
    """The Import API of the YAML's account."""
    agent = f"warehouse-sync/{__version__}"
    return Client(config.userpilot.endpoint, config.userpilot.api_key.get_secret_value(), user_agent=agent)


def account_of(listed: Iterable[RemoteJob]) -> str | None:
    """The account that import jobs belong to; None where none of them says."""
    return next((job.account for job in listed if job.account), None)


def key_mark(config: Config) -> str:
    """What the state store remembers of the API key: enough to tell another one."""
    return hashlib.sha256(config.userpilot.api_key.get_secret_value().encode()).hexdigest()[:16]


def identity_of(config: Config, policy: Policy, model: Model) -> str | None:
    """The fingerprint of the model as it is now; None when it cannot be rendered."""
    try:
        sql = render(model, policy.settings.context(), dialect_of(config)).sql
    except ModelError:
        return None
    return fingerprint_of(sql, model, policy.settings)


def dialect_of(config: Config) -> str:
    """sqlglot's name of the warehouse's dialect; empty for one that sqlglot does not know."""
    warehouse = config.warehouse
    if warehouse.lacks("url"):  # its dialect may well be written, and a variable stand behind it
        return dialect_of_url(warehouse.unset_text("url"))
    return dialect_of_url(warehouse.url.get_secret_value()) if warehouse.type == "sqlalchemy" else warehouse.type
