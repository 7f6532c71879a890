"""Errors of Snowflake's connector in this program's words, by their number.

Of Snowflake's own sentences those are shown that can name nothing but the SQL: its data errors quote values.
"""

from __future__ import annotations

import re

from warehouse_sync.errors import ConnectionLost, WarehouseError

_LOGIN: dict[int, tuple[str, str]] = {
    390100: ("refuses the user or the password", "check `warehouse.user` and `warehouse.password`."),
    390101: ("refuses the user: it is disabled", "ask the account's administrator."),
    390102: ("has locked the user after too many wrong passwords", "wait fifteen minutes, or ask the administrator."),
    390127: ("asks for a second factor", "use a key pair (`private_key_path`) or a programmatic access token."),
    390144: ("refuses the key pair", "the public key of this private key must be set on the user (RSA_PUBLIC_KEY)."),
    390189: ("does not know the role, or has not granted it to the user", "check `warehouse.role`."),
    390195: ("refuses the token: it needs a network policy", "ask the account's administrator."),
    390197: ("asks for a second factor", "use a key pair (`private_key_path`) or a programmatic access token."),
    390201: ("does not know the warehouse, database or schema", "check the three keys."),
    390303: ("refuses the OAuth token", "check `warehouse.token` and `warehouse.authenticator`."),
    390318: ("says that the OAuth token is over", "fetch a new one for `warehouse.token`."),
    390420: ("does not let this address in", "a network policy of the account or user decides."),
    390422: ("does not let this address in", "a network policy of the account or user decides."),
}
_UNREACHABLE = {14, 250001, 250003, 251004, 290404, 290403}
_LOST = {250002, 250003, 251011, 252007, 252010, 252013, 254007, 254014, 390111, 390112, 390113, 390114}
_BROKEN = "Failed to communicate with Snowflake"
"""What connector 5 says of a chunk that did not come, under the number of a value that cannot be converted."""
_NAMING: dict[int, str] = {
    904: "",
    979: "",
    1003: "",
    1789: "",
    2003: "names are looked up in `warehouse.database` and `warehouse.schema`; the role needs USAGE and SELECT.",
    2043: "names are looked up in `warehouse.database` and `warehouse.schema`; the role needs USAGE and SELECT.",
    2140: "",
    2141: "",
    2151: "",
    3001: "grant what is missing to `warehouse.role`.",
    90105: "set `warehouse.database` and `warehouse.schema`, or qualify the names.",
}
_STOPPED: dict[int, tuple[str, str]] = {
    604: ("the query was cancelled", "somebody, or the account's resource monitor, ended it."),
    606: ("there is no warehouse to run the query", "check `warehouse.warehouse`, and that its USAGE is granted."),
    630: (
        "the query reached STATEMENT_TIMEOUT_IN_SECONDS",
        "raise `warehouse.statement_timeout` (the virtual warehouse can have a lower one), or let the query read less:"
        " a `cursor`, `slice`.",
    ),
    90073: ("the warehouse cannot be resumed: its resource monitor has reached its limit", "ask the administrator."),
}


def may_pass(error: Exception) -> bool:
    """True when it helps to try the login again: nobody refused anything."""
    return _number(error) in _UNREACHABLE


def connecting(error: Exception, place: str) -> WarehouseError:
    """Why there is no session; `place` is the account."""
    number = _number(error)
    if number in _LOGIN:
        what, hint = _LOGIN[number]
        return WarehouseError(f"Snowflake account {place} {what}", hint=hint)
    text = str(error)
    if any(mark in text for mark in ("certificate", "SSL", "OCSP", "TLS")):
        hint = "a proxy that opens TLS, or a clock that is wrong, are the usual causes."
        return WarehouseError(f"the TLS handshake with Snowflake account {place} failed", hint=hint)
    if any(mark in text for mark in ("lookup address", "not known", "resolve")):
        hint = "check `warehouse.account` (as in `orgname-account`) and `warehouse.host`."
        return WarehouseError(f"Snowflake account {place} has a host name that nobody knows", hint=hint)
    if number in _UNREACHABLE:
        hint = "check `warehouse.account` (as in `orgname-account`), the network, its proxy and its certificates."
        return WarehouseError(f"Snowflake account {place} cannot be reached", hint=hint)
    return WarehouseError(
        f"Snowflake account {place} refuses the connection (error {number:06d})",
        hint="`snowsql` or `snow connection test` with the same settings says why.",
    )


def reading(error: Exception, place: str) -> WarehouseError:
    """Why a statement or its rows failed. `line` is that of the SQL text, 0 when Snowflake names none."""
    number = _number(error)
    # Connector 4 lets the errors of its HTTP library through, which are all OSErrors.
    if number in _LOST | _UNREACHABLE or isinstance(error, OSError) or _BROKEN in str(error):
        return lost(place)
    if number in _STOPPED:
        what, hint = _STOPPED[number]
        return WarehouseError(f"Snowflake: {what}", hint=hint)
    if number in _NAMING:
        text = _sentence(str(error))
        line = re.search(r"\bline:? (\d+)(?: at position|, col)", text, re.IGNORECASE)
        return WarehouseError(f"Snowflake: {text}", line=int(line.group(1)) if line else 0, hint=_NAMING[number])
    kind = f"error {number:06d}" if number > 0 else type(error).__name__
    return WarehouseError(
        f"Snowflake stopped while it read this model ({kind}); its text is not shown because it can hold values of"
        " rows",
        hint="look at the query in Snowflake's history: its QUERY_TAG names pipeline, model and run.",
    )


def cancelled() -> WarehouseError:
    """The query was ended from outside."""
    what, hint = _STOPPED[604]
    return WarehouseError(f"Snowflake: {what}", hint=hint)


def lost(place: str) -> ConnectionLost:
    """The connection is gone."""
    return ConnectionLost(
        f"the connection to Snowflake account {place} was lost while this model was read",
        hint="a network that drops connections, or a session that was ended (`client_session_keep_alive`).",
    )


def _number(error: Exception) -> int:
    number = getattr(error, "errno", None)
    return number if isinstance(number, int) else -1


def _sentence(text: str) -> str:
    """Snowflake's sentence without numbers and ids around it, and without the SQL that some texts quote."""
    text = re.sub(r"^(?:[0-9a-f-]{36}: |\d{6} \([0-9A-Z]{5}\): )+", "", text)
    text = re.sub(r"\s*\(request_id=[^)]*\)\s*$", "", text)
    head = text.partition("\n\n")[0].splitlines()
    return " ".join(line.strip() for line in head[:2] if line.strip())
