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


IN_A_PASS = 1_000_000
"""Keys that one pass counts: so many short hashes are all that it holds in memory."""


def losers(connection: DuckDBPyConnection, rows: str, total: int) -> pa.Table | None:
    """The rows that do not stand for their key; None when every key stands once (narrow passes find out).

    `rows` is a relation of `total` rows with `key`, `key_hash`, `row_hash`, `cursor`, `inserted_at`, `verdict` and
    `place` (NULL for a row that is not sent). The result has `place`, `verdict`, `key`, `key_hash`, `row_hash` and
    `ambiguous`.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE alike (hash UBIGINT)")
    passes = -(-total // IN_A_PASS)
    for number in range(passes):
        connection.execute(
            f"INSERT INTO alike SELECT hash(key_hash) AS short FROM {rows} WHERE key_hash IS NOT NULL"
            f" AND short % {passes} = {number} GROUP BY short HAVING count(*) > 1"
        )
    if not connection.sql("FROM alike LIMIT 1").fetchall():
        return None
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE twice AS SELECT key_hash FROM {rows}"
        " WHERE hash(key_hash) IN (FROM alike) GROUP BY key_hash HAVING count(*) > 1"
    )
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
