"""A DuckDB file (or MotherDuck database) as the warehouse: read-only, open only while a model is read.

The file is attached to the engine's own in-memory database under its usual name, so that the model's SQL and the
encoding become one query and no row crosses a border on the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import WarehouseError
from warehouse_sync.observe.words import counted
from warehouse_sync.warehouses.base import NATIVE_TYPE, Engine, Source, line_naming, name_literal, text_literal
from warehouse_sync.warehouses.duckdb_errors import explain, file_trouble, kind_of
from warehouse_sync.warehouses.duckdb_files import check_files, search_in

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb.sqltypes import DuckDBPyType

_MOTHERDUCK = ("md:", "motherduck:")
_SHOWN = (":memory:", *_MOTHERDUCK)
"""What is no file, and yet holds no secret: the configuration takes MotherDuck's token out."""

_RESERVED = ("main", "memory", "system", "temp")
"""Names that DuckDB gives to catalogs and schemas of its own."""

_UNTOLD = ("BIT", "UHUGEINT")
"""Types that come as bytes and as a decimal number."""
_NESTED = ("struct", "map", "list", "array", "union")

_ENDS = ("9999-12-31", "0001-01-01")


class DuckDBWarehouse:
    """`path` is a file, `:memory:` or an `md:` name; `token` MotherDuck's; `attach` more databases, each a mapping with
    the YAML's keys `path`, `alias`, `type`; `folder` is where dbt runs, if it makes the tables: files that they name
    lie there. Raises WarehouseError when one of them is missing, locked or unreadable."""

    dialect = "duckdb"
    folds_upper = False

    def __init__(
        self,
        path: str,
        engine: Engine,
        token: str | None = None,
        attach: Sequence[Mapping[str, Any]] = (),
        folder: Path | None = None,
    ) -> None:
        import duckdb

        self.path = path
        self.folder = folder
        self.place = _place(path)
        if _is_file(path):
            _require_file(path, "warehouse.path", path)
        self.catalog = _catalog(path)
        self.connection = engine.connect()
        try:
            if path.startswith(_MOTHERDUCK):
                self._attach_motherduck(token)
            elif path != ":memory:":
                self._attach_itself()
            for place, more in enumerate(attach):
                self._attach_more(f"warehouse.attach[{place}]", more)
            if self.catalog:
                self.connection.execute(f"USE {name_literal(self.catalog)}")
            if folder is not None:
                search_in(self.connection, folder)
        except duckdb.Error as error:
            self.connection.close()
            raise self.explain(error) from None
        except WarehouseError:
            self.connection.close()
            raise

    @classmethod
    def of(cls, settings: Mapping[str, Any], engine: Engine) -> DuckDBWarehouse:
        """The warehouse of these settings: `path`, and `token`, `attach` and `folder` where they are given."""
        more = settings.get("attach") or ()
        return cls(str(settings["path"]), engine, settings.get("token"), more, settings.get("folder"))

    def _attach_itself(self) -> None:
        """The warehouse. What is no file may hold a password, so no text of DuckDB about it is shown."""
        import duckdb

        try:
            self._attach(self.path, self.catalog, None)
        except duckdb.Error as error:
            if _is_file(self.path):
                raise file_trouble(error, self.path) or explain(error, self.path) from None
            raise WarehouseError(
                f"DuckDB does not open {self.place} (`{kind_of(error)}`)",
                hint="`warehouse.path` is no file: DuckDB's extension for it must exist for this version of DuckDB, and"
                " be installed or be there to download; then the path and its login decide.",
            ) from None

    def _attach(self, path: str, alias: str | None, kind: str | None) -> None:
        name = f" AS {name_literal(alias)}" if alias else ""
        options = "READ_ONLY" if kind in (None, "duckdb") else f"TYPE {name_literal(kind or '')}, READ_ONLY"
        self.connection.execute(f"ATTACH {text_literal(path)}{name} ({options})")

    def _attach_more(self, key: str, more: Mapping[str, Any]) -> None:
        """One entry of `attach`. Its path may hold a password, so no text of DuckDB about it is shown."""
        import duckdb

        path, kind = str(more["path"]), more.get("type")
        if kind in (None, "duckdb", "sqlite") and _is_file(path):
            _require_file(path, f"{key}.path", Path(path).name)
        try:
            self._attach(path, more.get("alias"), kind)
        except duckdb.Error as error:
            lock = explain(error, key)
            if "is locked by" in lock.message:
                raise lock from None
            trouble = file_trouble(error, Path(path).name) if kind in (None, "duckdb") and _is_file(path) else None
            if trouble is not None:
                raise trouble from None
            raise WarehouseError(
                f"{key} cannot be attached (`{kind_of(error)}`)",
                hint="check its path and, for another `type` than duckdb, that DuckDB's extension of that name exists"
                " for this version of DuckDB and can be downloaded or is installed.",
            ) from None

    def _attach_motherduck(self, token: str | None) -> None:
        """The token is set, not put into the path, so that no message can show it."""
        import duckdb

        try:
            self.connection.execute("INSTALL motherduck")
            self.connection.execute("LOAD motherduck")
        except duckdb.Error:
            raise WarehouseError(
                "MotherDuck's extension cannot be loaded into DuckDB",
                hint="it is downloaded from extensions.duckdb.org at its first use, and must exist for this version of"
                " DuckDB.",
            ) from None
        if token:
            self.connection.execute(f"SET motherduck_token = {text_literal(token)}")
        try:
            self.connection.execute(f"ATTACH {text_literal(self.path)}")
        except duckdb.Error as error:
            raise WarehouseError(
                f"MotherDuck does not open {self.path} (`{kind_of(error)}`)",
                hint="check the database's name and the token (`warehouse.token`, or the variable `motherduck_token`).",
            ) from None

    def label(self, model: str) -> None:
        """See `Warehouse.label`; a file keeps no history."""

    def quote(self, name: str) -> str:
        """See `Warehouse.quote`."""
        return name_literal(name)

    def describe(self, sql: str) -> pa.Schema:
        """See `Warehouse.describe`; the query is bound, not run."""
        import duckdb
        import pyarrow as pa

        if self.folder is not None:
            check_files(self.connection, self.catalog, self.folder, sql)
        try:
            relation = self.connection.sql(sql)
            types = relation.types
            schema = relation.limit(0).to_arrow_table().schema
        except duckdb.Error as error:
            explained = self.explain(error)
            explained.line = explained.line or line_naming(sql, explained.message, self.dialect)
            raise explained from None
        # Under the names of the query: in Arrow, a second `id` is called `id_1`.
        fields = (field.with_name(name) for name, field in zip(relation.columns, schema, strict=True))
        told = (_told(field, kind) for field, kind in zip(fields, types, strict=True))
        return pa.schema(
            [field.with_metadata({NATIVE_TYPE: str(kind).encode()}) for field, kind in zip(told, types, strict=True)]
        )

    def open(self, sql: str) -> Source:
        """See `Warehouse.open`; the model's SQL becomes part of the reader's own query."""
        return Source(self.connection, f"(\n{sql}\n)", streams=False)

    def scalar(self, sql: str) -> Any:
        """See `Warehouse.scalar`."""
        import duckdb

        try:
            result = self.connection.execute(sql)
            is_time = str(result.description[0][1]).startswith(("DATE", "TIMESTAMP"))
            # All of it: a result that is not read to its end keeps the connection busy.
            rows = result.fetchall()
        except duckdb.Error as error:
            raise self.explain(error) from None
        value = rows[0][0] if rows else None
        # Python's last and first moment stand for infinity; what its calendar does not have comes as text.
        is_no_moment = is_time and (isinstance(value, str) or str(value).startswith(_ENDS))
        return None if is_no_moment else value

    def now(self) -> datetime:
        """See `Warehouse.now`; the embedded engine has the machine's clock."""
        return datetime.now(UTC)

    def check(self) -> str:
        """See `Warehouse.check`."""
        version = self.scalar("SELECT version()")
        tables = self.scalar(
            f"SELECT count(*) FROM duckdb_tables() WHERE database_name = {text_literal(self.catalog)} AND NOT internal"
        )
        return f"DuckDB {version}, {self.place}, {counted(tables, 'table')}, read-only"

    def interrupt(self) -> None:
        """See `Warehouse.interrupt`."""
        self.connection.interrupt()

    def close(self) -> None:
        """See `Warehouse.close`."""
        self.connection.close()

    def explain(self, error: Exception) -> WarehouseError:
        """See `Warehouse.explain`."""
        return explain(error, self.place)


def _told(field: pa.Field, kind: DuckDBPyType) -> pa.Field:
    """The field, with DuckDB's own name on whatever inside it has a type that Arrow takes for another one."""
    import pyarrow as pa
    from duckdb.sqltypes import DuckDBPyType

    if str(kind) in _UNTOLD:
        return field.with_metadata({NATIVE_TYPE: str(kind).encode()})
    if kind.id not in _NESTED:
        return field
    type_ = field.type
    if kind.id == "map":
        inside = [type_.key_field, type_.item_field]
    else:
        inside = [type_.field(place) for place in range(type_.num_fields)]
    # Before a union's members stands its tag; an array's length is a number.
    kinds = [child for _, child in kind.children if isinstance(child, DuckDBPyType)][-len(inside) :]
    told = [_told(*pair) for pair in zip(inside, kinds, strict=True)]
    if kind.id == "struct":
        return field.with_type(pa.struct(told))
    if kind.id == "map":
        return field.with_type(pa.map_(*told))
    if kind.id == "union":
        return field.with_type(pa.sparse_union(told))
    return field.with_type(pa.list_(*told))


def _is_file(path: str) -> bool:
    """True for a file of this machine: the configuration makes its path absolute, and leaves all others as they are."""
    return Path(path).is_absolute()


def _place(path: str) -> str:
    """The path, as far as it may be shown."""
    return path if _is_file(path) or path.startswith(_SHOWN) else f"{path.partition(':')[0]}:…"


def _catalog(path: str) -> str:
    """The name under which a database is attached, as DuckDB itself would choose it, but for names that it reserves:
    the file's, up to its first dot. dbt's relations begin with it."""
    if path == ":memory:":
        return "memory"
    if _is_file(path):
        file = Path(path).name
    else:
        kind, _, rest = path.partition("?")[0].partition(":")
        file = Path(rest).name
        if not path.startswith(_SHOWN) and re.search("[^A-Za-z0-9_. -]", file):
            file = kind  # Not a name: a login.
    name = file.lstrip(".").partition(".")[0]
    return f"{name}_file" if name.casefold() in _RESERVED else name


def _require_file(path: str, key: str, shown: str) -> None:
    if Path(path).is_dir():
        raise WarehouseError(f"warehouse file {shown} is a folder", hint=f"name the .duckdb file in it, in `{key}`.")
    if not Path(path).is_file():
        raise WarehouseError(
            f"warehouse file {shown} does not exist",
            hint=f"check `{key}` (relative paths start at the YAML file, those of a dbt profile at the dbt"
            " project), or run `dbt build` first.",
        )
