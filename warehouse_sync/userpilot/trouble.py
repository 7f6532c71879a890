"""Our own words for what went wrong on the wire.

Foreign errors and the server's texts may hold addresses, keys or rows; what leaves here is safe to print.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from warehouse_sync.userpilot.reasons import words
from warehouse_sync.values import utc_now

MAX_SERVER_MESSAGE = 300  # characters
MAX_RETRY_AFTER = 3600.0  # seconds


def trouble(error: Exception, connect_timeout: float, read_timeout: float) -> tuple[bool, str]:
    """Whether a connection stood, and our own words for a foreign error: its own text may name more than we print."""
    import requests
    import urllib3.exceptions as pool

    causes = tuple(_causes(error))
    is_proxys = any(isinstance(cause, pool.ProxyError | requests.exceptions.ProxyError) for cause in causes)
    whose, place = ("the proxy's", " to the proxy") if is_proxys else ("the", "")
    words_of: tuple[tuple[type[Exception], bool, str], ...] = (
        (pool.NameResolutionError, False, f"{whose} host name does not resolve"),
        (pool.LocationValueError, False, "the endpoint's host is no host name"),
        (pool.NewConnectionError, False, f"no connection{place}: refused or unreachable"),
        (pool.ConnectTimeoutError, False, f"no connection{place} within {connect_timeout:g} s"),
        (requests.exceptions.ProxyError, False, f"the proxy does not connect{_answered(causes)}"),
        (requests.exceptions.SSLError, False, "no TLS connection"),
        (pool.ReadTimeoutError, True, f"no answer within {read_timeout:g} s"),
        (TimeoutError, True, f"no answer within {read_timeout:g} s"),
        (pool.DecodeError, True, "the answer cannot be decoded"),
    )
    for kind, connected, said in words_of:
        if any(isinstance(cause, kind) for cause in causes):
            reason = next((why for cause in causes if (why := getattr(cause, "verify_message", ""))), "")
            return connected, f"{said}: {reason}" if reason else said
    return True, "the connection was cut"


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what libraries wrapped into it, outermost first."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 20:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [getattr(one, "reason", None), *one.args]
    return found


def _answered(causes: tuple[BaseException, ...]) -> str:
    """What a proxy answered when it was asked for a tunnel, from http.client's own words."""
    found = (re.match(r"Tunnel connection failed: (\d{3})\b", str(cause), re.ASCII) for cause in causes)
    status = next((int(match[1]) for match in found if match), 0)
    return f": it answers {status} {phrase(status)}".rstrip() if status else ""


def phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""


def server_message(body: bytes, api_key: str) -> str:
    """The words of an `ErrorResponse` [OA] without values and without the key; '' when there are none."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    errors = payload.get("errors") if isinstance(payload, dict) else None
    listed = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    said = "; ".join(str(one.get("message") or one.get("error") or "") for one in listed)
    return words(said.replace(api_key, "(API key)"))[:MAX_SERVER_MESSAGE]


def web_page(status: int, kind: str, body: bytes) -> str:
    """What a page for people says of whoever answers, by the answer's type or beginning; '' when it is none."""
    is_html = kind.lower().strip().startswith("text/html")
    if not is_html and not re.match(rb"\s*<(!doctype html|html)\b", body, re.IGNORECASE):
        return ""
    said = f"{status} text/html" if is_html else f"{status}"
    return f"a web page ({said}): this is not the Import API, or it is a proxy's login page"


def retry_after(value: str) -> float | None:
    """Seconds to wait, from seconds or an HTTP date, within 0..MAX_RETRY_AFTER; None when it is neither."""
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value, re.ASCII):
        return min(float(value), MAX_RETRY_AFTER)
    with suppress(ValueError, OverflowError):  # an offset or a year that no clock shows
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max((moment - utc_now()).total_seconds(), 0.0), MAX_RETRY_AFTER)
    return None


__all__ = ["phrase", "retry_after", "server_message", "trouble", "web_page"]
