"""Rows of one window that share a key: the greatest cursor, then the latest `inserted_at`, stands for all of them.

A tie at the top with other content is ambiguous: nobody can say which row is right, so none is sent. Versions of an
event that was delivered are not: none of them goes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from warehouse_sync.values import Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_ORDER = "ORDER BY cursor DESC NULLS LAST, inserted_at DESC NULLS LAST"


def losers(connection: DuckDBPyConnection, rows: str) -> pa.Table | None:
    """The rows that do not stand for their key; None when every key stands once (a single narrow pass finds out).

    `rows` is a relation with `key`, `key_hash`, `row_hash`, `cursor`, `inserted_at`, `verdict` and `place` (NULL for a
    row that is not sent). The result has `place`, `verdict`, `key`, `key_hash`, `row_hash` and `ambiguous`.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE twice AS SELECT key_hash FROM {rows} WHERE key_hash IS NOT NULL"
        " GROUP BY key_hash HAVING count(*) > 1"
    )
    if not connection.sql("FROM twice LIMIT 1").fetchall():
        return None
    return connection.sql(
        f"""
        SELECT place, verdict, key, key_hash, row_hash, ambiguous FROM (
          SELECT *,
            top = 1 AND min(row_hash) OVER same_top <> max(row_hash) OVER same_top
              AND NOT bool_and(verdict = {Verdict.UNCHANGED.value}) OVER same_top AS ambiguous,
            row_number() OVER (PARTITION BY key_hash {_ORDER}, place NULLS LAST) AS standing
          FROM (
            SELECT *, rank() OVER (PARTITION BY key_hash {_ORDER}) AS top
            FROM {rows} AS rows_read SEMI JOIN twice USING (key_hash)
          ) WINDOW same_top AS (PARTITION BY key_hash, top)
        ) WHERE ambiguous OR standing > 1
        """
    ).to_arrow_table()
