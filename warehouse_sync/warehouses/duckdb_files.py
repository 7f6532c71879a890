"""Files that dbt's views and sources name without their folder: they lie in the folder where dbt runs.

DuckDB looks for them in the process's working folder first, and in `file_search_path` only then. A file of that name
that lies there by chance would be read in silence, so that it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.errors import WarehouseError
from warehouse_sync.warehouses.base import text_literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_QUOTED = re.compile(r"""(['"])([^'"\n]+)\1""")
_NO_NAME = re.compile(r"[*?\[]|^[/~]|^\w+:")


def search_in(connection: DuckDBPyConnection, folder: Path) -> None:
    """Let every cursor of the connection look for such files in that folder."""
    connection.execute(f"SET GLOBAL file_search_path = {text_literal(str(folder))}")


def check_files(connection: DuckDBPyConnection, catalog: str, folder: Path, sql: str) -> None:
    """Raises WarehouseError for a file of the working folder that would be read in the place of one in `folder`.

    Looked at are the query, and all views of the database `catalog`.
    """
    here = Path.cwd()
    if here == folder:
        return
    query = f"SELECT sql FROM duckdb_views() WHERE NOT internal AND database_name = {text_literal(catalog)}"
    views = "\n".join(text or "" for (text,) in connection.cursor().execute(query).fetchall())
    # What a query names itself may be meant to lie here, unless dbt has it too.
    wrong = [name for name in _names(views) if _differ(here / name, folder / name)]
    wrong += [name for name in _names(sql) if (folder / name).is_file() and _differ(here / name, folder / name)]
    if wrong:
        raise WarehouseError(
            f"DuckDB would read {wrong[0]} of the working folder {here}, and dbt reads that of {folder}",
            hint="run in another folder, such as dbt's, or rename one of the files.",
        )


def _names(sql: str) -> Iterator[str]:
    """What may be the name of a file, without globs, URLs and absolute paths."""
    found = dict.fromkeys(match[2] for match in _QUOTED.finditer(sql))
    return (name for name in found if "." in name and not _NO_NAME.search(name))


def _differ(here: Path, there: Path) -> bool:
    try:
        return here.is_file() and not (there.is_file() and here.samefile(there))
    except (OSError, ValueError):
        # A text that no file can be called.
        return False


__all__ = ["check_files", "search_in"]
