"""dbt's tables as names and columns alone: what a model can be bound to without its warehouse.

Every `ref()` and `source()` becomes a table `dbt_1`, `dbt_2`, … whose columns are those of catalog.json, or of the
manifest where the catalog does not have the table, or is older and dbt enforces the table's contract.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from warehouse_sync.errors import ModelError
from warehouse_sync.project.dbt.manifest import ArtefactError, Manifest, Node, mapping, moment, read_artefact
from warehouse_sync.project.dbt.relations import Use, find_model, find_source, relation
from warehouse_sync.project.relations import YamlRelations, ref_call

_ANY = "VARCHAR"


@dataclass(frozen=True)
class Table:
    """An empty table: its name, what it is in dbt, and its columns with DuckDB types.

    `typed`: all types are known; `outdated`: the columns are those of a catalog that is older than the manifest.
    """

    name: str
    label: str
    columns: Mapping[str, str]
    typed: bool
    outdated: bool = False


@dataclass(frozen=True)
class Catalog:
    """One catalog.json: node -> column -> type. `older`: than the manifest beside it, and of another invocation."""

    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    older: bool = False


@dataclass(frozen=True)
class ShadowRelations:
    """Relations of one manifest, as tables that are made when they are asked for.

    `yaml`: names that dbt need not know; `tables` fills while models render, and one without columns is one that dbt
    knows nothing of.
    """

    manifest: Manifest
    catalog: Catalog
    yaml: YamlRelations
    tables: dict[str, Table] = field(default_factory=dict)

    def source(self, schema: str, table: str) -> str:
        """The shadow's name."""
        call = Use("source", (schema, table)).call
        if schema in self.yaml.sources and not self.manifest.sources(schema, table):
            return self._nowhere(call)
        return self._table(find_source(self.manifest, schema, table), call)

    def ref(self, name: str, package: str | None, version: str | None = None) -> str:
        """The shadow's name."""
        call = ref_call(name, package, version)
        if self.yaml.find_ref(name, package, version) is not None and not self.manifest.models(name):
            return self._nowhere(call)
        return self._table(find_model(self.manifest, name, package, version), call)

    def _nowhere(self, call: str) -> str:
        """A table of which only the YAML knows."""
        self.tables[call] = Table(f"dbt_{len(self.tables) + 1}", call, {}, typed=False)
        return self.tables[call].name

    def _table(self, node: Node, call: str) -> str:
        relation(node, call)
        if node.id not in self.tables:
            listed = {} if self.catalog.older and node.contract else self.catalog.columns.get(node.id, {})
            raw = listed or node.columns
            types = {name: _duckdb_type(kind, self.manifest.adapter) for name, kind in raw.items()}
            columns = {name: kind or _ANY for name, kind in types.items()}
            name = f"dbt_{len(self.tables) + 1}"
            outdated = self.catalog.older and bool(listed)
            self.tables[node.id] = Table(name, node.label, columns, all(types.values()), outdated)
        return self.tables[node.id].name


def catalog_beside(manifest: Manifest) -> Catalog:
    """The catalog.json in the manifest's folder; an empty one without it."""
    try:
        document = read_artefact(manifest.path.with_name("catalog.json"), "")
    except ArtefactError:
        return Catalog()
    metadata = mapping(document.get("metadata"))
    made = moment(metadata.get("generated_at"))
    same = metadata.get("invocation_id") == manifest.invocation
    found: dict[str, dict[str, str]] = {}
    for section in ("nodes", "sources"):
        for id_, raw in mapping(document.get(section)).items():
            columns = sorted(mapping(mapping(raw).get("columns")).items(), key=lambda item: _place(item[1]))
            found[id_] = {name: str(mapping(column).get("type") or "") for name, column in columns}
    return Catalog(found, older=not same and made is not None and made < manifest.generated_at)


def _place(column: object) -> int:
    index = mapping(column).get("index")
    return index if isinstance(index, int) else 0


def _duckdb_type(kind: str, dialect: str) -> str:
    """DuckDB's name of a type of that dialect; "" for none, and for one that nobody knows."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    if not kind:
        return ""
    try:
        built = exp.DataType.build(kind, dialect=dialect or None)
        return "" if built.is_type(exp.DataType.Type.USERDEFINED) else built.sql(dialect="duckdb")
    except (SqlglotError, ValueError):
        return ""


def duckdb_sql(sql: str, dialect: str) -> str:
    """The query in DuckDB's dialect. Raises ModelError, without a place, for one that cannot be translated."""
    import sqlglot
    from sqlglot.errors import ErrorLevel, SqlglotError

    if dialect == "duckdb":
        return sql
    # Its warnings print SQL.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    try:
        (found,) = sqlglot.transpile(sql, read=dialect, write="duckdb", unsupported_level=ErrorLevel.RAISE)
    except (SqlglotError, ValueError, RecursionError):
        raise ModelError("the query cannot be translated into DuckDB's SQL") from None
    return found


__all__ = ["Catalog", "ShadowRelations", "Table", "catalog_beside", "duckdb_sql"]
