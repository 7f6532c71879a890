"""Endpoints, state and warehouse URLs, paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from warehouse_sync.project.places import (
    PlaceError,
    endpoint,
    is_loopback,
    is_remote_duckdb,
    resolve,
    resolve_duckdb,
    resolve_sqlite,
    split_motherduck_token,
    state_url,
    url_secrets,
    warehouse_url,
)

HERE = Path("/project/configs")


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://analytex.userpilot.io", "https://analytex.userpilot.io"),
        ("https://analytex.userpilot.io/", "https://analytex.userpilot.io"),
        ("https://analytex.userpilot.io//", "https://analytex.userpilot.io"),
        ("HTTPS://Analytex-EU.Userpilot.io:443/", "https://analytex-eu.userpilot.io"),
        ("https://acme.example:8443", "https://acme.example:8443"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_endpoints(written: str, origin: str) -> None:
    assert endpoint(written) == origin
    assert endpoint(origin) == origin


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("analytex.userpilot.io", "must begin with https://"),
        ("ftp://analytex.userpilot.io", "must begin with https://"),
        ("", "must begin with https://"),
        ("https://", "host cannot be read"),
        ("https://:443", "host cannot be read"),
        ("https://-x", "host cannot be read"),
        ("https://a,b", "host cannot be read"),
        ("https://a:99999", "host or port cannot be read"),
        ("https://a:b", "host or port cannot be read"),
        ("https://[::1", "host or port cannot be read"),
        ("https://a/v1", "leave out the path"),
        ("https://a/v1/imports/", "leave out the path"),
        ("https://a?x=1", "leave out the path"),
        ("https://a#x", "leave out the path"),
        ("https://user:pw@a", "must not hold a user"),
        ("https://a b", "holds a character"),
        ("https://a\\@b", "holds a character"),
        ("https://ä.example", "holds a character"),
        ("http://analytex.userpilot.io", "plain http is only for this machine"),
        ("http://127.0.0.1.evil.example", "plain http is only for this machine"),
        ("http://10.0.0.1", "plain http is only for this machine"),
        ("http://0.0.0.0", "plain http is only for this machine"),
        ("http://[::2]", "plain http is only for this machine"),
        ("http://[::ffff:127.0.0.1]", "plain http is only for this machine"),
        ("http://localhost.example", "plain http is only for this machine"),
    ],
)
def test_what_is_no_endpoint(written: str, message: str) -> None:
    with pytest.raises(PlaceError, match=message):
        endpoint(written)


def test_loopback() -> None:
    assert is_loopback("127.0.0.1")
    assert not is_loopback("")


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("sqlite:///state.db", "sqlite:////project/configs/state.db"),
        ("sqlite:///../x/state.db", "sqlite:////project/x/state.db"),
        ("sqlite:////var/state.db", "sqlite:////var/state.db"),
        ("sqlite:///state.db?timeout=3", "sqlite:////project/configs/state.db?timeout=3"),
        ("sqlite+pysqlite:///state.db", None),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        (
            "postgresql://u@corp:p%40ss@[::1]:5432/d?application_name=a@b",
            "postgresql+psycopg://u@corp:p%40ss@[::1]:5432/d?application_name=a@b",
        ),
        ("postgresql:///d?host=/run/postgresql", "postgresql+psycopg:///d?host=/run/postgresql"),
        ("postgresql+psycopg2://u:p@h/d", None),
        ("mysql://h/d", None),
        ("state.db", None),
        ("sqlite://", None),
        ("sqlite:///", None),
        ("sqlite:///:memory:", None),
        ("sqlite://:memory:", None),
        ("sqlite:state.db", None),
        ("sqlite:///file:x.db?uri=true", None),
    ],
)
def test_state_urls(written: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(PlaceError):
            state_url(written, HERE)
    else:
        assert state_url(written, HERE) == url


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("mysql+pymysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
        ("oracle+cx_oracle://u:p/w@h:1521/d", "oracle+cx_oracle://u:p/w@h:1521/d"),
        ("bigquery://project/dataset", "bigquery://project/dataset"),
        ("sqlite:///app.db", "sqlite:////project/configs/app.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///file:x?uri=true", "sqlite:///file:x?uri=true"),
        ("duckdb:///x", None),
        ("h/d", None),
        ("://h", None),
    ],
)
def test_warehouse_urls(written: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(PlaceError):
            warehouse_url(written, HERE)
    else:
        assert warehouse_url(written, HERE) == url


@pytest.mark.parametrize("text", ["pa@SECRET", "pa@SEC/RET", "pa@SEC?RET", "pa/SEC@RET/x"])
@pytest.mark.parametrize("take", [state_url, warehouse_url])
def test_an_unquoted_at_in_a_password_is_refused(take: Callable[[str, Path], str], text: str) -> None:
    with pytest.raises(PlaceError, match="second `@`: write one that is part of a user or a password as %40"):
        take(f"postgresql://u:{text}@h/d", HERE)


@pytest.mark.parametrize("port", ["54e2", "0", "65536", "5_4", "-1", "1:2", "\u0661"])
@pytest.mark.parametrize("take", [state_url, warehouse_url])
def test_ports_that_are_none(take: Callable[[str, Path], str], port: str) -> None:
    for host in ("h", "u:p@h", "u@[::1]"):
        with pytest.raises(PlaceError, match="has a port that is no number"):
            take(f"postgresql://{host}:{port}/d", HERE)


@pytest.mark.parametrize(
    ("text", "is_remote"),
    [
        ("ducklake:postgres:dbname=x", True),
        ("postgres:dbname=x", True),
        ("s3://b/x.duckdb", True),
        ("md:x", True),
        (":memory:", True),
        ("shop:x.duckdb", False),
        ("/a/md:x", False),
    ],
)
def test_what_is_no_file_for_duckdb(text: str, is_remote: bool) -> None:
    assert is_remote_duckdb(text) is is_remote
    assert (resolve_duckdb(text, HERE) == text) is (is_remote or text.startswith("/"))


def test_sqlite_below_a_question_mark() -> None:
    with pytest.raises(PlaceError, match="rename the folder"):
        resolve_sqlite("sqlite:///x.db", Path("/what?"))


def test_paths() -> None:
    assert resolve("../a/./b", HERE) == Path("/project/a/b")
    assert resolve("/a", HERE) == Path("/a")
    assert resolve("~/a", HERE, "/home/me") == Path("/home/me/a")
    assert resolve("~", HERE) == Path.home()
    assert resolve("~other/a", HERE) == Path("/project/configs/~other/a")
    with pytest.raises(PlaceError):
        resolve(" ", HERE)


def test_tokens_inside_motherduck_paths() -> None:
    assert split_motherduck_token("md:a?motherduck_token=t") == ("md:a", "t")
    assert split_motherduck_token("md:a?x=1&MotherDuck_Token=t&y") == ("md:a?x=1&y", "t")
    assert split_motherduck_token("md:a?x=1") == ("md:a?x=1", "")
    assert split_motherduck_token("a?motherduck_token=t") == ("a?motherduck_token=t", "")


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("sqlite:////x/state.db", set()),
        ("postgresql://h/d", set()),
        ("postgresql://user@h/d", set()),
        ("postgresql://u:p%40ss@h/d", {"p%40ss", "p@ss"}),
        ("postgresql://u:a/b@c@h/d", {"a/b@c"}),
        ("postgresql://u@corp:pw@h/d", {"pw"}),
        ("snowflake://h/d?private_key=abc&role=x", {"abc"}),
    ],
)
def test_secret_parts_of_urls(url: str, secrets: set[str]) -> None:
    assert set(url_secrets(url)) == (secrets | {url} if secrets else set())
