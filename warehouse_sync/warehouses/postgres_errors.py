"""PostgreSQL's and libpq's errors in this program's words.

A statement's error carries an SQLSTATE and says what is wrong with the SQL; an error in the middle of a COPY is text
only. Of the server's own sentences those are shown that can name nothing but tables, columns and types.
"""

from __future__ import annotations

import re
from datetime import timedelta

from warehouse_sync.errors import ConnectionLost, WarehouseError

_NAMING = {
    "0A000": "",
    "42501": "grant what is missing to the role: a sync needs USAGE on the schema and SELECT on the tables.",
    "42601": "",
    "42701": "",
    "42702": "",
    "42703": "",
    "42704": "",
    "42712": "",
    "42725": "",
    "42803": "",
    "42804": "",
    "42809": "",
    "42846": "",
    "42883": "",
    "42P18": "",
    "55000": "",
    "42P01": "unqualified names are looked up in `warehouse.search_path`, or `warehouse.schema` and public.",
    "3F000": "",
    "25006": "a model only reads: the session and its transactions are read-only.",
}
"""SQLSTATEs whose message speaks of the SQL alone, each with its hint."""

_PLAIN = re.compile(
    r"division by zero|numeric field overflow|more than one row returned by a subquery used as an expression"
    r"|(?:smallint|integer|bigint|interval|timestamp|date) out of range|value out of range: (?:over|under)flow"
    r"|cannot execute \w+\(\) in a read-only transaction"
    r"|transaction read-write mode must be set before any query"
    r'|invalid byte sequence for encoding "\w+"|has no equivalent in encoding "\w+"'
    r"|could not write to file|No space left on device|out of memory|temporary file size exceeds temp_file_limit"
)
"""Parts of sentences about rows that name no value, with or without an SQLSTATE."""

_CANCELLED = "57014"
"""For Redshift this is a statement's timeout too."""

_SAID = re.compile("(ERROR|FATAL|PANIC): +(.*)")
"""The server's own sentence, behind the driver's words. Whatever follows the first may be a model's text."""

_LOST = (
    "server closed the connection",
    "could not receive data",
    "could not send data",
    "no connection to the server",
    "SSL SYSCALL",
    "SSL connection has been closed",
)

_LOOK = "run the compiled SQL (`warehouse-sync compile -s MODEL`) in psql to see it."

_CONNECTING: tuple[tuple[str, str, str], ...] = (
    ("Connection refused", "refuses connections", "is the server running there, and is the port right?"),
    ("could not translate host name", "has a host name that nobody knows", "check `warehouse.host`."),
    ("timeout expired", "does not answer", "check host, port and firewall; `warehouse.connect_timeout` is the limit."),
    ("unreachable", "cannot be reached from here", "check the network, VPN and firewall."),
    ("No route to host", "cannot be reached from here", "check the network, VPN and firewall."),
    ("No such file or directory", "has no socket there", "`warehouse.host` is a folder: it has to hold the socket."),
    ("does not support SSL", "does not speak TLS", "set `warehouse.sslmode: prefer`, or switch TLS on in the server."),
    ("no encryption", "takes no connection without TLS", "set `warehouse.sslmode: require`."),
    ("root certificate file", "cannot be verified", "set `warehouse.sslrootcert` to a file, or to `system`."),
    ("certificate", "and its certificate do not match", "check `sslrootcert`, `sslcert`, `sslkey` and the host name."),
    ("SSL error", "broke off the TLS handshake", "check `sslmode`, `sslcert` and `sslkey`."),
    ("no password supplied", "wants a password", "set `warehouse.password`, PGPASSWORD or ~/.pgpass."),
    ("authentication failed", "refuses the user or the password", "check `warehouse.user` and `warehouse.password`."),
    ("no pg_hba.conf entry", "does not let this user in from here", "pg_hba.conf of the server decides."),
    ("too many", "has no connection left", "try again later, or raise max_connections."),
    ("remaining connection slots", "has no connection left", "try again later, or raise max_connections."),
    ("starting up", "is starting up", "try again in a moment."),
)


def connecting(error: Exception, place: str) -> WarehouseError:
    """Why there is no connection; `place` is `host:port/database`."""
    text = str(error)
    missing = re.search(r'(database|role) "[^"]*" does not exist', text)
    if missing:
        key = "dbname" if missing.group(1) == "database" else "user"
        return WarehouseError(f"PostgreSQL at {place}: {missing.group(0)}", hint=f"check `warehouse.{key}`.")
    for mark, what, hint in _CONNECTING:
        if mark in text:
            return WarehouseError(f"PostgreSQL at {place} {what}", hint=hint)
    return WarehouseError(
        f"PostgreSQL at {place} cannot be reached, or refuses the connection",
        hint="`psql` with the same settings says why; libpq's own text is not shown here.",
    )


def reading(error: Exception, place: str, limit: timedelta | None = None) -> WarehouseError:
    """Why a statement or its rows failed; `limit` is the session's own `statement_timeout`.

    `line` is the line of the SQL text, 0 when the server names none.
    """
    text, state = str(error), getattr(error, "sqlstate", None) or ""
    if _is_lost(text, state):
        return lost(place)
    if "statement timeout" in text:
        whose = "the `statement_timeout` of its role or server" if limit is None else f"`statement_timeout`, {limit}"
        return WarehouseError(
            f"PostgreSQL at {place} stopped the query at {whose}",
            hint="raise `warehouse.statement_timeout`, or let the query read less: a `cursor` with an index, `slice`.",
        )
    if state == _CANCELLED or "due to user request" in text:
        return WarehouseError(
            f"PostgreSQL at {place} was asked to cancel the query",
            hint="somebody did, or a rule of the server; `warehouse.statement_timeout` is a limit of your own.",
        )
    if state in _NAMING:
        line = re.search(r"^LINE (\d+):", text, re.MULTILINE)
        return WarehouseError(
            f"PostgreSQL: {_primary(error)}", line=int(line.group(1)) if line else 0, hint=_NAMING[state]
        )
    plain = _PLAIN.search(text)
    if plain is not None:
        utf8 = "behind `SET client_encoding = UTF8` " if "encoding" in plain.group(0) else ""
        return WarehouseError(f"PostgreSQL: {plain.group(0)}", hint=utf8 + _LOOK)
    which = f" (SQLSTATE {state})" if state else ""
    return WarehouseError(
        f"PostgreSQL stopped while it read this model{which}; its text is not shown because it can hold values of rows",
        hint=_LOOK,
    )


def lost(place: str) -> ConnectionLost:
    """The connection is gone."""
    return ConnectionLost(
        f"the connection to PostgreSQL at {place} was lost while this model was read",
        hint="a restart, a failover, a cancelled backend or a network that drops idle connections (`keepalives_idle`).",
    )


def _is_lost(text: str, state: str) -> bool:
    """An error that is FATAL ends the session; a conflict with recovery ends a transaction that may be tried again."""
    if state:
        return state.startswith(("08", "57P")) or state == "40001"
    said = _SAID.search(text)
    if said is None:
        return any(mark in text for mark in _LOST)
    return said[1] != "ERROR" or said[2].startswith("canceling statement due to conflict with recovery")


def _primary(error: Exception) -> str:
    """The server's one sentence, without the text of the query."""
    details = dict(getattr(error, "details", None) or ())
    primary = details.get("PG_DIAG_MESSAGE_PRIMARY") or details.get(b"PG_DIAG_MESSAGE_PRIMARY") or b""
    return primary.decode(errors="replace") if isinstance(primary, bytes) else str(primary)
