"""Would these models still run? Config, header, SQL and columns, without reading a row: for pull requests.

The columns are those that the warehouse describes; or, with a manifest of dbt, those that dbt knows: catalog.json
beside it, where it has the table, else the manifest's own. Then the model is bound to empty tables with these columns,
in the embedded engine and translated to its dialect, so that neither a warehouse nor its credentials are needed.

What is sent is compared with what the state store knows was sent, and else with what the YAML's own manifest (the one
of production) gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.errors import ModelError, UsageError, WarehouseError, WarehouseSyncError
from warehouse_sync.extraction.contract import check_contract
from warehouse_sync.extraction.prepare import Prepared, prepare
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.extraction.statement import describe
from warehouse_sync.inspection.preview import looking
from warehouse_sync.observe.reporter import Reporter
from warehouse_sync.parts import dialect_of, engine_of, warehouse_of
from warehouse_sync.project.config import Config
from warehouse_sync.project.dbt.gate import uses_of
from warehouse_sync.project.dbt.manifest import ArtefactError, Manifest
from warehouse_sync.project.dbt.relations import artefacts_of
from warehouse_sync.project.dbt.shadow import ShadowRelations, catalog_beside, duckdb_sql
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.project.render import YamlRelations, render
from warehouse_sync.state.rows import ModelState
from warehouse_sync.values import CursorKind, CursorValue, Model, utc_now
from warehouse_sync.warehouses.base import Engine, Warehouse, cursor_literal, name_literal
from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

if TYPE_CHECKING:
    import pyarrow as pa

# Asks for no bound of a slice, and so for no row.
_REQUEST = Request(limit=1)
_SAMPLES = {
    CursorKind.TIMESTAMP: "2025-01-01 00:00:00",
    CursorKind.TIMESTAMPTZ: "2025-01-01 00:00:00+00:00",
    CursorKind.DATE: "2025-01-01",
    CursorKind.INTEGER: "0",
    CursorKind.STRING: "0",
}
_NO_COLUMN = re.compile(r'(?:Referenced column|have a column named|column named) "([^"]+)"')
_NO_TABLE = re.compile(r"Catalog Error: Table with name")


@dataclass(frozen=True)
class Checked:
    """What came of one model. `by`: whose columns it was checked against, "" when they are not all known."""

    model: str
    by: str = ""
    error: WarehouseSyncError | None = None
    warnings: tuple[str, ...] = ()


def validate(
    config: Config,
    policy: Policy,
    models: Sequence[Model | BrokenModel],
    reporter: Reporter,
    manifest: Path | None = None,
) -> list[Checked]:
    """Check every model; one model's fault is its own.

    Raises StateError, and UsageError for a manifest that cannot be read.
    """
    with looking(config, reporter) as context:
        known = {state.model: state for state in context.store.model_states(config.name)}
    good = [model for model in models if isinstance(model, Model)]
    found = {model.name: Checked(model.name, error=model.error) for model in models if isinstance(model, BrokenModel)}
    engine = engine_of(config, spill=False)
    if manifest is None:
        found |= _by_warehouse(config, policy, good, known, engine)
    else:
        new, old = _manifest_at(config, manifest), _manifest_of_production(config, manifest, reporter)
        for model in good:
            found[model.name] = _by_manifest(_Case(config, policy, model, known.get(model.name), engine), new, old)
    return [found[model.name] for model in models]


def _bind(model: Model, warehouse: Warehouse, policy: Policy, known: ModelState | None) -> Prepared:
    """The model, described and compiled as a first and as a later run would read it. Raises ModelError."""
    prepared = prepare(model, warehouse, policy, known, utc_now(), _REQUEST)
    if prepared.cursor is not None:
        since = cursor_literal(CursorValue(prepared.cursor, _SAMPLES[prepared.cursor]), warehouse.dialect)
        context = policy.settings.context(incremental=True, cursor_from=since)
        describe(model, warehouse, render(model, context, warehouse.dialect))
    return prepared


# Against the warehouse


def _by_warehouse(
    config: Config, policy: Policy, models: Sequence[Model], known: Mapping[str, ModelState], engine: Engine
) -> dict[str, Checked]:
    if not models:
        return {}
    try:
        warehouse = warehouse_of(config, engine)
    except WarehouseSyncError as error:
        return {model.name: Checked(model.name, error=error) for model in models}
    found: dict[str, Checked] = {}
    try:
        for model in models:
            try:
                prepared = _bind(model, warehouse, policy, known.get(model.name))
            except WarehouseSyncError as error:
                found[model.name] = Checked(model.name, error=error)
            else:
                found[model.name] = Checked(model.name, "the warehouse", warnings=prepared.warnings)
    finally:
        warehouse.close()
    return found


# Against a manifest


class _Unknown(Exception):
    """dbt does not know enough of the tables; says what is missing."""


class _Shadow(DuckDBWarehouse):
    """Empty tables with dbt's columns, under the dialect of the real warehouse."""

    def __init__(self, engine: Engine, dialect: str, relations: ShadowRelations) -> None:
        super().__init__(":memory:", engine)
        self.dialect = dialect
        self.folds_upper = dialect == "snowflake"
        for table in relations.tables.values():
            columns = ", ".join(f"{name_literal(name)} {kind}" for name, kind in table.columns.items())
            self.connection.execute(f"CREATE TABLE {table.name} ({columns})")

    def describe(self, sql: str) -> pa.Schema:
        return super().describe(duckdb_sql(sql, self.dialect))


@dataclass(frozen=True)
class _Case:
    """One model to check, and what it needs."""

    config: Config
    policy: Policy
    model: Model
    known: ModelState | None
    engine: Engine


def _manifest_at(config: Config, path: Path) -> Manifest:
    artefacts = artefacts_of(config, path)
    try:
        if artefacts is None or not path.is_file():
            raise UsageError(f"{path} (--manifest) does not exist", hint="write it with `dbt parse` or `dbt build`.")
        return artefacts.manifest
    except ArtefactError as error:
        raise UsageError(error.message, hint=error.hint) from None


def _manifest_of_production(config: Config, other: Path, reporter: Reporter) -> Manifest | None:
    """The YAML's own manifest, to compare with; None if it is the same file, or cannot be used, which is said."""
    artefacts = artefacts_of(config)
    own = other if artefacts is None else artefacts.folder_of_target / "manifest.json"
    is_named = config.dbt.target_path is not None
    if artefacts is None or own.resolve() == other.resolve() or not (is_named or own.is_file()):
        return None
    try:
        # Named as a file, it may be of any target: production's is another one than a pull request's.
        return replace(artefacts, manifest_file=own).manifest
    except ArtefactError as error:
        text = f"dbt: {error.message}, so nothing is compared with it; {error.hint.rstrip('.')}"
        reporter.event("nothing_compared", text, level="warn")
        return None


def _by_manifest(case: _Case, new: Manifest, old: Manifest | None) -> Checked:
    name, drift = case.model.name, case.policy.drift
    try:
        prepared, typed, outdated = _in_shadow(case, new)
        now = {item.name: item.type for item in prepared.encoding.properties}
        sent: Mapping[str, str] = case.known.properties if case.known else {}
        fields: frozenset[str] = frozenset()
        if not sent and old is not None:
            sent, fields = _sent_before(case, old)
        if not typed:
            sent = {item: now.get(item, kind) for item, kind in sent.items()}
        news = check_contract(case.model, sent, prepared.encoding, drift)
        lost = sorted(fields - set(prepared.encoding.fields))
        if lost and drift == "error":
            raise ModelError(f"fields no longer sent: {', '.join(lost)}", path=case.model.path)
    except _Unknown as error:
        return Checked(name, warnings=(f"columns not checked: {error}",))
    except WarehouseSyncError as error:
        return Checked(name, error=error)
    untyped = () if typed else ("types not checked: dbt does not know those of all columns that it reads",)
    return Checked(name, "dbt", warnings=(*prepared.warnings, *news, *untyped, *outdated))


def _sent_before(case: _Case, old: Manifest) -> tuple[Mapping[str, str], frozenset[str]]:
    """Properties with their types, and fields, by the other manifest; nothing where it cannot tell."""
    try:
        prepared, typed, _ = _in_shadow(case, old)
    except (_Unknown, WarehouseSyncError):
        return {}, frozenset()
    sent = {item.name: item.type for item in prepared.encoding.properties}
    return (sent if typed else {}), frozenset(prepared.encoding.fields)


def _in_shadow(case: _Case, manifest: Manifest) -> tuple[Prepared, bool, tuple[str, ...]]:
    """The model bound to empty tables, whether all types were known, and what is old. Raises ModelError or _Unknown."""
    model = case.model
    settings = case.policy.settings
    names = YamlRelations(settings.sources, settings.refs)
    relations = ShadowRelations(manifest, catalog_beside(manifest), names)
    settings = replace(settings, relations=relations)
    uses_of(model, settings)
    tables = tuple(relations.tables.values())
    bare = [table.label for table in tables if not table.columns]
    if bare or not tables:
        what = f"dbt has no columns of {', '.join(bare)}" if bare else "it reads nothing by ref() or source()"
        raise _Unknown(f"{what}; `dbt docs generate` writes them, or leave --manifest out to ask the warehouse")
    typed = all(table.typed for table in tables)
    old = ", ".join(table.label for table in tables if table.outdated)
    outdated = (f"columns of {old}: catalog.json is older than the manifest; run `dbt docs generate`",) if old else ()
    shadow = _Shadow(case.engine, dialect_of(case.config), relations)
    try:
        bound = _bind(model, shadow, replace(case.policy, settings=settings, drift="allow"), case.known)
        return bound, typed, outdated
    except WarehouseError as error:
        raise _explained(error, model, [table.label for table in tables], typed) from None
    finally:
        shadow.close()


def _explained(error: WarehouseError, model: Model, tables: Sequence[str], typed: bool) -> Exception:
    """What the engine says about the empty tables, in terms of dbt."""
    missing = _NO_COLUMN.search(error.message)
    if missing:
        return ModelError(
            f"column `{missing[1]}` is not among the columns that dbt has of {', '.join(tables)}",
            path=model.path,
            line=error.line,
            hint="bring it back, or take it out of this model; if it is there, document it in dbt or run"
            " `dbt docs generate`.",
        )
    if _NO_TABLE.search(error.message):
        return _Unknown("it reads a table without ref() or source()")
    return error if typed else _Unknown("dbt does not know the types of all columns")


__all__ = ["Checked", "validate"]
