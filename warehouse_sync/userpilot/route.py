"""The way to the endpoint as the environment names it: a proxy, and whose certificates to trust. Read once."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.errors import UsageError

if TYPE_CHECKING:
    import requests

PROXY = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
BUNDLE = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The variables, in the order in which they count. Plain http is spoken on this machine only, without a proxy."""


@dataclass(frozen=True)
class Route:
    """`verify` and `proxies` are what requests takes; `proxy`: host, port and variable, '' without one."""

    verify: bool | str
    proxies: Mapping[str, str]
    proxy: str = ""


def route_of(session: requests.Session, base: str, *, direct: bool) -> Route:
    """The route to the endpoint `base`; `direct`: never through a proxy.

    Raises UsageError for a variable that names no proxy, or no certificates: each request would fail over it.
    """
    from requests.utils import select_proxy

    settings = session.merge_environment_settings(base, {}, True, True, None)
    verify = settings["verify"] or True
    if isinstance(verify, str) and base.startswith("https:"):
        _check_bundle(verify)
    proxies = {} if direct else dict(settings["proxies"])
    url = select_proxy(base, proxies)
    return Route(verify, proxies, _proxy(url) if url else "")


def _check_bundle(place: str) -> None:
    try:
        where = {"capath": place} if Path(place).is_dir() else {"cafile": place}
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**where)
    except OSError as error:
        why = "holds no certificates" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise UsageError(
            f"the variable {_variable(BUNDLE)} names {place}, which {why}",
            hint="It must be a PEM file, or a folder, of the certificates to trust; without it the usual ones are.",
        ) from None


def _proxy(url: str) -> str:
    """What a message may say of the proxy: not its user, not its password."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    variable = _variable(PROXY)
    try:
        parts = parse_url(url if "://" in url else f"http://{url}")
    except (LocationParseError, ValueError):
        parts = None
    if parts is None or not parts.host or parts.scheme not in ("http", "https"):
        raise UsageError(
            f"the variable {variable} names no proxy that can be used",
            hint="It must be http://host:port or https://host:port; there is no SOCKS. Mend it, remove it, or name the"
            " endpoint's host in NO_PROXY.",
        )
    return f"{parts.host}{f':{parts.port}' if parts.port else ''} ({variable})"


def _variable(names: tuple[str, ...]) -> str:
    """The one that is set; the system's own settings count too, where it has some."""
    return next((name for name in names if os.environ.get(name)), names[1])


__all__ = ["Route", "route_of"]
