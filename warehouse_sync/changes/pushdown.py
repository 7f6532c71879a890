"""A comparison that runs in the warehouse: one statement that lets only those rows out that have to be looked at.

The row hash of the local comparison is made of the engine's own texts; no other database can make it. Here key and row
are told by hashes of the source's own values, made by the warehouse:

    key hash   md5 of the one key column's text, or of the texts of all of them, each as `<length>:<text>`
    row hash   md5(d || v1 || v2 || ...): `d` is the digest of what is sent under which name, the values are those of
               the columns that are sent, in the order of their final names; numbers, times and truth as `<text>|`, all
               others as `<length>:<text>`, NULL as `N|`; DuckDB's UNION and VARIANT, whose texts do not tell 1 from
               '1', with their JSON behind the text

The snapshot is a table of the warehouse (`warehouses/snapshot_tables.py`): key_hash, row_hash, inserted_at, batch. A
row stays when its key is known, its hash is the stored one (of an event: whatever its hash is, a delivered key never
goes again), and no other row of its key leaves. All others leave, with their hashes beside them, and are judged here
as ever. What stayed is told by one more row, the summary: how many rows, how many of them are other ones than were
delivered, how many stored keys are gone, and (in the cursor column) their greatest cursor.

The model is read twice: once narrow, to find the keys that leave, once for their rows. So nothing wide is stored on the
way, and a table of any size passes with a list of short hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse_sync.changes.compare import PREFIX
from warehouse_sync.changes.window import in_order

if TYPE_CHECKING:
    import pyarrow as pa


HASHES = 1
"""The version of the two hashes. Another definition is another version: stored hashes would say nothing any more."""

KEY, ROW, SENT, SENT_AT, SUMMARY = (f"{PREFIX}inside_{name}" for name in ("key", "row", "sent", "sent_at", "summary"))
"""The columns beside the model's own. SUMMARY is NULL but in the one row that tells what stayed."""

_FIT = f"{PREFIX}inside_fit"

_MOST_PARTS = 50
"""Operands of one chain of `||`: databases and parsers have a limit to how deep an expression may be."""


@dataclass(frozen=True)
class Value:
    """A column whose value is hashed. `native`: the warehouse's own name of its type, as `describe` gives it.

    `null` is the mark of a NULL: another one where another thing is sent for it. `with_json`: its text does not tell
    all its values apart, and its JSON tells the rest.
    """

    column: str
    type: pa.DataType
    native: str = ""
    null: str = "N"
    with_json: bool = False


@dataclass(frozen=True)
class Comparison:
    """What is compared with what.

    `model`: the bounded query; `columns`: all that it returns; `digest`: see `digest`; `table`: the snapshot's name as
    SQL, None while there is none; `settled`: conditions in the warehouse's SQL that a row fulfils which need not be
    looked at again; `leave`: key hashes that leave in any case; `everything`: all rows leave; `events`: a known key
    stays whatever its hash; `count_gone`: the model is read whole, so that keys that are gone can be told.
    """

    dialect: str
    model: str
    columns: tuple[str, ...]
    key: tuple[Value, ...]
    values: tuple[Value, ...]
    digest: str
    table: str | None = None
    cursor: Value | None = None
    settled: tuple[str, ...] = ()
    leave: tuple[bytes, ...] = ()
    everything: bool = False
    events: bool = False
    count_gone: bool = False


@dataclass(frozen=True)
class Stayed:
    """What the summary tells: rows that stayed, of those the ones that differ from what was delivered, keys gone."""

    rows: int = 0
    differing: int = 0
    gone: int = 0

    @classmethod
    def read(cls, text: str) -> Stayed:
        """The numbers of a summary's text."""
        return cls(*map(int, text.split()))


def digest(names: Sequence[tuple[str, ...]], *more: str) -> str:
    """16 hexadecimal digits that stand for the final names with their types, and for what else decides what is sent.

    Each name comes with the Userpilot type, and with what tells types apart whose values have the same text.
    """
    return hashlib.sha256(json.dumps([HASHES, sorted(names), *more]).encode()).hexdigest()[:16]


def key_of(texts: Sequence[str]) -> bytes:
    """The key hash of a key whose columns have these texts, as the warehouse makes it."""
    text = texts[0] if len(texts) == 1 else "".join(f"{len(text)}:{text}" for text in texts)
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def bytes_literal(value: bytes, dialect: str) -> str:
    """Bytes, in that dialect's SQL."""
    return _BYTES[dialect].format(value.hex())


def statement(asked: Comparison) -> str:
    """The statement, in the warehouse's own SQL: the model's columns, KEY, ROW, SENT, SENT_AT, SUMMARY."""
    texts = {
        "model": f"(\n{asked.model}\n)",
        "key": _key_hash(asked),
        "row": _row_hash(asked),
        "fit": _fit(asked),
        "sent": asked.table or "",
        "order": in_order("j.c", asked.cursor.type, asked.dialect) if asked.cursor else "j.c",
    }
    sql = _transpiled(_skeleton(asked), asked.dialect)
    for name, text in texts.items():
        sql = sql.replace(_quoted(f"{PREFIX}:{name}"), text)
    return sql


# The statement around the model, in the engine's own dialect


def _skeleton(asked: Comparison) -> str:
    mark = {name: _quoted(f"{PREFIX}:{name}") for name in ("model", "key", "row", "fit", "sent", "order")}
    reads, judged, leaving = (_quoted(f"{PREFIX}{name}") for name in ("reads", "judged", "leaving"))
    own = ", ".join(f"r.{_quoted(name)}" for name in (*asked.columns, KEY, ROW))
    read = (
        f"{reads} AS NOT MATERIALIZED (SELECT m.*, {mark['key']} AS {_quoted(KEY)}, {mark['row']} AS {_quoted(ROW)},"
        f" {mark['fit']} AS {_quoted(_FIT)} FROM {mark['model']} AS m)"
    )
    no_summary = f"CAST(NULL AS TEXT) AS {_quoted(SUMMARY)}"
    if asked.table is None:
        return (
            f"WITH {read} SELECT {own}, CAST(NULL AS BLOB) AS {_quoted(SENT)},"
            f" CAST(NULL AS TIMESTAMP) AS {_quoted(SENT_AT)}, {no_summary} FROM {reads} AS r"
        )
    known = f"LEFT JOIN {mark['sent']} AS s ON s.key_hash = r.{_quoted(KEY)}"
    rows = (
        f"SELECT {own}, s.row_hash AS {_quoted(SENT)}, s.inserted_at AS {_quoted(SENT_AT)}, {no_summary}"
        f" FROM {reads} AS r {known}"
    )
    if asked.everything and not asked.count_gone:
        return f"WITH {read} {rows}"
    cursor = f"r.{_quoted(asked.cursor.column)}" if asked.cursor else "NULL"
    # The hashes as they are: a test of them would be one of their expressions, made once more.
    ctes = [
        read,
        f"{judged} AS MATERIALIZED (SELECT r.{_quoted(KEY)} AS k, r.{_quoted(ROW)} AS h, s.row_hash AS sent,"
        f" r.{_quoted(_FIT)} AS fit, {cursor} AS c FROM {reads} AS r {known})",
        f"{leaving} AS MATERIALIZED (SELECT DISTINCT j.k FROM {judged} AS j"
        f" WHERE NOT {_stays(asked)} AND j.k IS NOT NULL)",
    ]
    if not asked.everything:
        no_key = " OR ".join(f"r.{_quoted(value.column)} IS NULL" for value in asked.key)
        rows += f" LEFT JOIN {leaving} AS l ON l.k = r.{_quoted(KEY)} WHERE l.k IS NOT NULL OR {no_key}"
    return f"WITH {', '.join(ctes)} {rows} UNION ALL {_summary(asked, mark, reads, judged, leaving)}"


def _stays(asked: Comparison) -> str:
    """Of a row of `judged`: may it stay, as long as no other row of its key leaves?"""
    if asked.everything:
        return "FALSE"
    same = "" if asked.events else " AND j.sent = j.h"
    return f"COALESCE(j.sent IS NOT NULL{same} AND j.fit, FALSE)"


def _summary(asked: Comparison, mark: dict[str, str], reads: str, judged: str, leaving: str) -> str:
    """The row that tells what stayed. Its columns come from a row that is not there, so that they keep their types."""
    of = f"FROM {judged} AS j WHERE {_stays(asked)}"
    greatest = f"(SELECT j.c {of} ORDER BY {mark['order']} DESC NULLS LAST LIMIT 1)"
    if asked.dialect == "snowflake":
        # Elsewhere a `max` has not the whole type of its column, or not the order that is wanted.
        greatest = f"(SELECT MAX(j.c) {of})"
    own = ", ".join(
        f"{greatest} AS {_quoted(name)}" if asked.cursor and name == asked.cursor.column else f"r.{_quoted(name)}"
        for name in (*asked.columns, KEY, ROW)
    )
    gone = "0"
    if asked.count_gone:
        there = f"SELECT 1 FROM {judged} AS j WHERE j.k = s.key_hash"
        gone = f"(SELECT COUNT(*) FROM {mark['sent']} AS s WHERE NOT EXISTS ({there}))"
    counts = ("COUNT(*)", "COUNT(CASE WHEN j.sent <> j.h THEN 1 END)", gone)
    told = " || ' ' || ".join(f"CAST({count} AS TEXT)" for count in counts)
    stayed = f"SELECT {told} AS told FROM {judged} AS j LEFT JOIN {leaving} AS l ON l.k = j.k"
    return (
        f"SELECT {own}, CAST(NULL AS BLOB), CAST(NULL AS TIMESTAMP), t.told"
        f" FROM ({stayed} WHERE {_stays(asked)} AND l.k IS NULL) AS t LEFT JOIN {reads} AS r ON FALSE"
    )


def _transpiled(sql: str, dialect: str) -> str:
    from sqlglot import exp, parse_one

    tree = parse_one(sql, dialect="duckdb")
    if dialect == "snowflake":
        # It has no such word, and decides by itself.
        for cte in tree.find_all(exp.CTE):
            cte.set("materialized", None)
    return tree.sql(dialect=dialect)


# Hashes and conditions, over the model's columns


def _key_hash(asked: Comparison) -> str:
    """NULL when a column of the key is."""
    if len(asked.key) == 1:
        return _md5(_text(asked.key[0], asked.dialect), asked.dialect)
    return _md5(_joined([_framed(value, asked.dialect) for value in asked.key]), asked.dialect)


def _row_hash(asked: Comparison) -> str:
    parts = [f"'{asked.digest}'", *(_marked(value, asked.dialect) for value in asked.values)]
    return _md5(_joined(parts), asked.dialect)


def _marked(value: Value, dialect: str) -> str:
    """A value's part of the row hash; never NULL."""
    text = f"{_text(value, dialect)} || '|'" if _is_closed(value) else _framed(value, dialect)
    return f"COALESCE({text}, '{value.null}|')"


def _framed(value: Value, dialect: str) -> str:
    """`<length>:<text>`, NULL for NULL."""
    text = _text(value, dialect)
    return f"CAST(LENGTH({text}) AS TEXT) || ':' || {text}"


def _is_closed(value: Value) -> bool:
    """True for types whose texts cannot hold a `|`."""
    import pyarrow.types as t

    plain = t.is_integer(value.type) or t.is_floating(value.type) or t.is_decimal(value.type)
    moment = t.is_date(value.type) or _is_moment(value.type)
    return value.native == "NUMERIC" or (not value.native and (plain or moment or t.is_boolean(value.type)))


def _is_moment(type_: pa.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_timestamp(type_))


def _text(value: Value, dialect: str) -> str:
    """The value's text, in that dialect's SQL; all that is sent of it shows in it."""
    import pyarrow.types as t

    name, kind = _quoted(value.column), value.type
    if dialect == "snowflake":
        if value.native == "JSON":
            return f"TO_JSON(TO_VARIANT({name}))"
        if t.is_floating(kind):
            # Its texts of floats are short of digits: what the text leaves out stands behind it.
            text = f"CAST({name} AS VARCHAR)"
            return f"({text} || '+' || CAST({name} - CAST({text} AS FLOAT) AS VARCHAR))"
        if _is_moment(kind):
            return f"CAST(DATE_PART(EPOCH_MICROSECOND, {name}) AS VARCHAR)"
        if t.is_time(kind):
            return f"TO_VARCHAR({name}, 'HH24:MI:SS.FF9')"
        # The account decides how a date is written.
        return f"TO_VARCHAR({name}, 'YYYY-MM-DD')" if t.is_date(kind) else f"CAST({name} AS VARCHAR)"
    if dialect == "duckdb" and _is_moment(kind) and kind.unit == "ns":
        return f"CAST(CAST({name} AS TIMESTAMP) AS TEXT)"
    if value.with_json:
        return f"(CAST({name} AS TEXT) || '+' || CAST(to_json({name}) AS TEXT))"
    return f"CAST({name} AS TEXT)"


def _joined(parts: Sequence[str]) -> str:
    """The parts one behind the other, in groups that no parser finds too deep."""
    while len(parts) > _MOST_PARTS:
        groups = (parts[at : at + _MOST_PARTS] for at in range(0, len(parts), _MOST_PARTS))
        parts = [f"({' || '.join(group)})" for group in groups]
    return " || ".join(parts)


def _md5(text: str, dialect: str) -> str:
    """16 bytes."""
    return _HASH[dialect].format(text)


_HASH = {"duckdb": "unhex(md5({}))", "postgres": "decode(md5({}), 'hex')", "snowflake": "MD5_BINARY({})"}
_BYTES = {"duckdb": "unhex('{}')", "postgres": "'\\x{}'::bytea", "snowflake": "TO_BINARY('{}', 'HEX')"}


def _fit(asked: Comparison) -> str:
    """May the row stay, if it is as it was sent?"""
    tests = [f"({test})" for test in asked.settled]
    if asked.leave:
        known = ", ".join(bytes_literal(key_hash, asked.dialect) for key_hash in asked.leave)
        tests.append(f"{_key_hash(asked)} NOT IN ({known})")
    return " AND ".join(tests) or "TRUE"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


__all__ = [
    "HASHES", "KEY", "ROW", "SENT", "SENT_AT", "SUMMARY", "Comparison", "Stayed", "Value",
    "bytes_literal", "digest", "key_of", "statement",
]  # fmt: skip
