"""Where things are: paths that start at the YAML file's folder, state and warehouse URLs, the API's endpoint.

Messages are predicates and hold nothing of the value: every URL may carry a password.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

_LOOPBACK = IPv4Network("127.0.0.0/8")
_PORTS = {"https": 443, "http": 80}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]+:")
_NO_FILE = re.compile(r"(?:md|motherduck|ducklake|postgres|mysql):|[A-Za-z][A-Za-z0-9+.-]*://")
_BEHIND_LOGIN = re.compile(r"[^:/]+://(?:[^:/]*(?::[^@]*)?@)?(.*)", re.DOTALL)
"""As SQLAlchemy cuts a URL: a password ends at the first `@`."""
_HOST_PORT = re.compile(r"(?:\[[^/\]]*\]|[^/:]*)(?::(?P<port>[^/]*))?(?:/.*)?", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_SECRET_PARAMETER = re.compile("pass|token|secret|key", re.IGNORECASE)


class PlaceError(ValueError):
    """A path or URL that cannot be used. The message is a predicate: "must begin with https://"."""


def resolve(text: str, folder: Path, home: str | None = None) -> Path:
    """An absolute path: relative ones start at `folder`, `~` at `home` (the user's, if None)."""
    if not text.strip():
        raise PlaceError("is empty")
    if text == "~" or text.startswith(("~/", "~\\")):
        text = (home or str(Path.home())) + text[1:]
    # Not Path.resolve(): a link in the path keeps the name that the user knows.
    return Path(os.path.normpath(folder / text))


def plain_folder(path: Path) -> Path:
    r"""The folder itself, where DuckDB reads its name as it is: `*`, `?` and `[` are patterns to it, `\` is a slash."""
    odd = re.search(r"[*?\[\\]", str(path))
    if odd:
        raise PlaceError(f"leads to a folder with `{odd[0]}` in its name, which DuckDB cannot read: rename the folder")
    return path


def is_remote_duckdb(text: str) -> bool:
    """True for DuckDB databases that are no file of this machine: `md:…`, `ducklake:…`, `s3://…`, `:memory:`."""
    return text.startswith(":memory:") or _NO_FILE.match(text) is not None


def resolve_duckdb(text: str, folder: Path, home: str | None = None) -> str:
    """The path of a DuckDB file, absolute; what is no file comes back as it is."""
    return text if is_remote_duckdb(text) else str(resolve(text, folder, home))


def split_motherduck_token(path: str) -> tuple[str, str]:
    """A MotherDuck path without its `motherduck_token` parameter, and the token ("" without one)."""
    match = re.fullmatch(r"((?:md|motherduck):[^?]*)\?(.*)", path, re.DOTALL)
    if match is None:
        return path, ""
    parameters = [part.partition("=") for part in match[2].split("&")]
    token = next((value for name, _, value in parameters if name.lower() == "motherduck_token"), "")
    kept = "&".join("".join(part) for part in parameters if part[0].lower() != "motherduck_token")
    return match[1] + (f"?{kept}" if kept else ""), token


def resolve_sqlite(url: str, folder: Path) -> str:
    """A SQLAlchemy URL whose SQLite file is absolute; other URLs come back as they are.

    As in SQLAlchemy, three slashes begin a relative path and four an absolute one.
    """
    match = re.fullmatch(r"(sqlite(?:\+[a-z]+)?):///([^?]*)(\?.*)?", url, re.DOTALL)
    if match is None or match[2] in ("", ":memory:") or match[2].startswith("file:"):
        return url
    path = str(resolve(match[2], folder))
    if "?" in path:
        raise PlaceError("leads to a folder with `?` in its name, which no URL can hold: rename the folder")
    return f"{match[1]}:///{path}{match[3] or ''}"


def state_url(url: str, folder: Path) -> str:
    """The SQLAlchemy URL of a state store: a SQLite file (absolute) or PostgreSQL with the psycopg 3 driver."""
    url = re.sub(r"^postgres(?:ql)?://", "postgresql+psycopg://", url)
    if url.startswith("postgresql+psycopg://"):
        _check_server(url)
        return url
    if not url.startswith("sqlite:"):
        raise PlaceError("must begin with sqlite:/// or postgresql+psycopg://")
    if re.fullmatch(r"sqlite://(/(:memory:)?)?(\?.*)?", url):
        raise PlaceError("must name a file: state in memory is lost at the end of the run")
    if not url.startswith("sqlite:///") or url.startswith("sqlite:///file:"):
        raise PlaceError("must be sqlite:/// and a path (three slashes: relative to this file; four: absolute)")
    return resolve_sqlite(url, folder)


def warehouse_url(url: str, folder: Path) -> str:
    """A SQLAlchemy URL of a warehouse; SQLite's file becomes absolute."""
    if "://" not in url or not _SCHEME.match(url):
        raise PlaceError("must be a SQLAlchemy URL such as mysql+pymysql://user:password@host/database")
    if url.startswith("duckdb"):
        raise PlaceError("names DuckDB: use `type: duckdb` with `path`")
    if not url.startswith("sqlite"):
        _check_server(url)
    return resolve_sqlite(url, folder)


def _check_server(url: str) -> None:
    """Raises PlaceError for a URL that would be cut in the middle of a password, and for one whose port is no number.

    What stands behind the password is shown in messages.
    """
    match = _BEHIND_LOGIN.match(url)
    shown, _, query = (match[1] if match else "").partition("?")
    if "@" in shown or "@" in query.partition("=")[0]:
        raise PlaceError("holds a second `@`: write one that is part of a user or a password as %40")
    port = (_HOST_PORT.match(shown) or {"port": None})["port"]
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65_535):
        raise PlaceError("has a port that is no number from 1 to 65535")


def endpoint(url: str) -> str:
    """The origin of the Import API: scheme, host and port, nothing else; https unless the host is this machine.

    Comes back in lower case, without the scheme's own port and without a slash at the end.
    """
    if re.search(r"[\s\\]|[^\x21-\x7e]", url):
        raise PlaceError("holds a character that no URL can hold")
    if not re.match("https?://", url, re.IGNORECASE):
        raise PlaceError("must begin with https://, for example https://analytex.userpilot.io")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PlaceError("is not a URL: host or port cannot be read") from None
    if "@" in parts.netloc:
        raise PlaceError("must not hold a user or password: the key belongs in `userpilot.api_key`")
    if not parts.hostname or not _HOST.fullmatch(re.sub(r":[0-9]*$", "", parts.netloc)):
        raise PlaceError("is not a URL: its host cannot be read")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise PlaceError("must end after the host: leave out the path (such as /v1), this program adds its own")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise PlaceError("must begin with https://: plain http is only for this machine (127.0.0.1, localhost, [::1])")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != _PORTS[parts.scheme] else "")


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and the name localhost; names are not looked up."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address in _LOOPBACK if isinstance(address, IPv4Address) else address == IPv6Address("::1")


def url_secrets(url: str) -> tuple[str, ...]:
    """The secret parts of a URL: the password and secret parameters, as written and decoded, and with them the URL."""
    found: list[str] = []
    # Not urlsplit: a password may hold `/`, `?` or `#` unquoted, and SQLAlchemy takes it all the same.
    password = re.match(r"[^:/]+://[^:/]*:(.*)@", url, re.DOTALL)
    if password:
        found += [password[1], unquote(password[1])]
    query = url.partition("?")[2]
    for name, value in parse_qsl(query, keep_blank_values=False):
        if _SECRET_PARAMETER.search(name):
            found.append(value)
    return (url, *found) if found else ()
