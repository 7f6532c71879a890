"""The YAML's keys (dbt's) as arguments of Snowflake's connector: key pairs, tokens, timeouts, session parameters."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from warehouse_sync.errors import WarehouseError

LOGIN_SECONDS = 60
_REQUEST_SECONDS = 900
_CHUNK_MEGABYTES, _PREFETCHED = 16, 2
"""Size of a chunk of a result, and how many the connector holds; its own choices are 160 MB and 4."""

_PLAIN = (
    "account",
    "user",
    "password",
    "token",
    "authenticator",
    "role",
    "warehouse",
    "database",
    "schema",
    "host",
    "port",
)


def arguments(settings: Mapping[str, Any], query_tag: str, version: int) -> dict[str, Any]:
    """What `snowflake.connector.connect` is called with; `version` is the connector's first number.

    Raises WarehouseError for a key that cannot be read.
    """
    given = {key: settings[key] for key in _PLAIN if settings.get(key) is not None}
    key = _private_key(settings)
    if key is not None:
        given |= {"private_key": key, "authenticator": settings.get("authenticator") or "SNOWFLAKE_JWT"}
    given |= {
        "protocol": settings.get("protocol", "https"),
        "client_session_keep_alive": bool(settings.get("client_session_keep_alive")),
        "login_timeout": settings.get("connect_timeout") or LOGIN_SECONDS,
        # As doubles, decimals would lose digits.
        "arrow_number_to_decimal": True,
        "application": "warehouse_sync",
        "session_parameters": {
            "QUERY_TAG": query_tag,
            "TIMEZONE": "UTC",
            "CLIENT_RESULT_CHUNK_SIZE": _CHUNK_MEGABYTES,
            "CLIENT_PREFETCH_THREADS": _PREFETCHED,
        },
    }
    limit = settings.get("statement_timeout")
    if limit is not None:
        given["session_parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"] = ceil(limit.total_seconds())
    if version < 5:
        # Of one request with its retries, which else never end; to 5.x it means the whole of a query.
        given["network_timeout"] = _REQUEST_SECONDS
    else:
        given["enable_server_session_keep_alive_auto_detection"] = False
    return given


def _private_key(settings: Mapping[str, Any]) -> bytes | None:
    """The key as unencrypted DER; None without one."""
    path, text = settings.get("private_key_path"), settings.get("private_key")
    if path is not None:
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise WarehouseError(
                f"the private key {path} cannot be read ({error.strerror})", hint="check `warehouse.private_key_path`."
            ) from None
        return _der(raw, settings.get("private_key_passphrase"), "private_key_path")
    if text is None:
        return None
    # Variables often hold a PEM on one line, its line breaks written as `\n`.
    raw = text.strip().replace("\\n", "\n").encode()
    if not raw.startswith(b"-----BEGIN"):
        try:
            raw = base64.b64decode(b"".join(raw.split()), validate=True)
        except binascii.Error:
            raise _unreadable("private_key") from None
    return _der(raw, settings.get("private_key_passphrase"), "private_key")


def _der(raw: bytes, passphrase: str | None, key: str) -> bytes:
    from cryptography.hazmat.primitives import serialization

    load = (
        serialization.load_pem_private_key if raw.lstrip().startswith(b"-----") else serialization.load_der_private_key
    )
    try:
        loaded = load(
            raw.strip() if load is serialization.load_pem_private_key else raw, (passphrase or "").encode() or None
        )
    except TypeError:
        raise WarehouseError(
            "the private key is encrypted and there is no passphrase, or the other way round",
            hint="check `warehouse.private_key_passphrase`.",
        ) from None
    except ValueError:
        raise _unreadable(key) from None
    return loaded.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _unreadable(key: str) -> WarehouseError:
    return WarehouseError(
        f"`warehouse.{key}` holds no private key, or the passphrase is wrong",
        hint="a PEM (`-----BEGIN … PRIVATE KEY-----`) or base64 of DER; `private_key_passphrase` if it is encrypted.",
    )
