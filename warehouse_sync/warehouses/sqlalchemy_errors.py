"""Errors of DBAPI drivers in this program's words: of MySQL's protocol by number, of SQLite by sentence, else by class.

Of a driver's own sentences those are shown that can name nothing but tables, columns and functions.
"""

from __future__ import annotations

import re

from warehouse_sync.errors import ConnectionLost, WarehouseError

_MYSQL: dict[int, tuple[str, str]] = {
    1044: ("the user may not use this database", "GRANT SELECT on it."),
    1045: ("refuses the user or the password", "check both in `warehouse.url`."),
    1049: ("does not know this database", "check the name behind the last slash of `warehouse.url`."),
    1040: ("has no connection left", "try again later, or raise max_connections."),
    1205: ("gave up waiting for a lock", "try again when the other transaction is over."),
    1242: ("finds more than one row in a subquery that stands for one value", ""),
    1317: ("stopped the query: somebody killed it", ""),
    1365: ("divides by 0 in this query", ""),
    1690: ("computes a number that is out of its type's range", "CAST the operands to DECIMAL or DOUBLE."),
    1698: ("refuses the user or the password", "check both in `warehouse.url`."),
    1792: ("refuses to write: a model only reads", "the session's transactions are read-only."),
    1969: ("stopped the query at its `max_statement_time`", "raise it for the user of the sync."),
    3024: ("stopped the query at its `max_execution_time`", "raise it for the user of the sync."),
}
_MYSQL_NAMING = {1046, 1051, 1052, 1054, 1055, 1060, 1109, 1142, 1143, 1146, 1222, 1305, 1370}
"""Numbers whose sentence names tables, columns, functions and users only."""
_MYSQL_LOST = {1053, 1077, 1080, 1927, 2006, 2013, 2014, 2055}
_SQLITE_NAMING = ("no such table", "no such column", "no such function", "ambiguous column name", "misuse of ")


def connecting(error: Exception, place: str) -> WarehouseError:
    """Why there is no connection; `place` is the URL without its password."""
    original = getattr(error, "orig", None) or error
    code, text = _code(original), str(original)
    if code in _MYSQL:
        what, hint = _MYSQL[code]
        return WarehouseError(f"{place} {what}", hint=hint)
    marks = (
        ("Connection refused", "refuses connections", "is the server running there, and is the port right?"),
        ("not known", "has a host name that nobody knows", "check the host in `warehouse.url`."),
        ("timed out", "does not answer", "check host, port and firewall."),
        ("unreachable", "cannot be reached from here", "check the network, VPN and firewall."),
        ("No such file", "needs a file that is not there", "check the paths in `warehouse.url`."),
        ("SSL", "broke off the TLS handshake", "check the TLS parameters of `warehouse.url`."),
        ("certificate", "shows a certificate that is not trusted", "check the TLS parameters of `warehouse.url`."),
        ("unable to open database file", "cannot be opened", "check the path and its permissions."),
    )
    for mark, what, hint in marks:
        if mark in text:
            return WarehouseError(f"{place} {what}", hint=hint)
    return WarehouseError(
        f"{place} cannot be reached, or refuses the connection ({_name(original)})",
        hint="check `warehouse.url` with the database's own client; the driver's text is not shown here.",
    )


def reading(error: Exception, place: str, skipped: int = 0) -> WarehouseError:
    """Why a statement or its rows failed. `line` is that of the SQL behind `skipped` lines, 0 when it is unknown."""
    original = getattr(error, "orig", None) or error
    code, text = _code(original), str(original)
    if getattr(error, "connection_invalidated", False) or code in _MYSQL_LOST:
        return lost(place)
    if code in _MYSQL:
        what, hint = _MYSQL[code]
        return WarehouseError(f"the database {what}", hint=hint)
    if code in _MYSQL_NAMING:
        return WarehouseError(f"the database says: {original.args[1]}")
    line = re.search(r"at line (\d+)$", text.rstrip("')\""))
    if code == 1064:
        number = max(int(line.group(1)) - skipped, 0) if line else 0
        return WarehouseError("the database cannot read the SQL: syntax error", line=number)
    kind = _name(original) + (f" {code}" if code else "")
    return _sqlite(text) or WarehouseError(
        f"the database stopped while it read this model ({kind}); its text is not shown because it can hold values of"
        " rows",
        hint="run the compiled SQL (`warehouse-sync compile -s MODEL`) in the database's own client to see it.",
    )


def _sqlite(text: str) -> WarehouseError | None:
    if text.startswith(_SQLITE_NAMING) or re.fullmatch(r'near "[^"]{1,60}": syntax error', text):
        return WarehouseError(f"SQLite: {text}")
    known = {
        "attempt to write a readonly database": ("SQLite refuses to write: a model only reads", ""),
        "database is locked": ("the SQLite file is locked by another program", "run again when it is done."),
        "file is not a database": ("the file is no SQLite database", "check `warehouse.url`."),
        "disk I/O error": ("SQLite cannot read its file", "check the disk."),
    }
    found = known.get(text)
    return None if found is None else WarehouseError(found[0], hint=found[1])


def lost(place: str) -> ConnectionLost:
    """The connection is gone."""
    return ConnectionLost(
        f"the connection to {place} was lost while this model was read",
        hint="a restart, a failover, a killed session or a network that drops idle connections.",
    )


def _code(error: BaseException) -> int | None:
    """The number of an error of MySQL's protocol."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and len(error.args) > 1 else None


def _name(error: BaseException) -> str:
    return type(error).__name__
