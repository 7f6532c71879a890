"""The wire client: what it sends, and which error each answer becomes. Over real sockets."""

from __future__ import annotations

import gzip
import json
import logging
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from userpilot_helpers import JOB_ID, KEY, Scripted, http, make_client, ndjson, row

from warehouse_sync.errors import (
    AuthError,
    Busy,
    DiskError,
    NotSent,
    Refused,
    Throttled,
    Unclear,
    UsageError,
    WarehouseSyncError,
)
from warehouse_sync.userpilot import client as client_module
from warehouse_sync.userpilot.client import Client, RemoteCheck, RemoteJob
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.userpilot.trouble import retry_after, server_message, trouble
from warehouse_sync.userpilot.upload import UploadBody

Start = Callable[..., Scripted]
Write = Callable[..., tuple[list[Path], int]]
Put = Callable[..., RemoteJob]

JOB = {"job_id": JOB_ID, "status": "queued", "filename": "a.ndjson"}


def upload(url: str, write: Write, content: bytes = b"{}\n", *, timeout: float = 5) -> RemoteJob:
    with make_client(url, timeout=timeout) as client:
        return client.upload("a.ndjson", *write(content))


def list_jobs(url: str, *, timeout: float = 5) -> tuple[RemoteJob, ...]:
    with make_client(url, timeout=timeout) as client:
        return client.list_jobs()


# -- what is sent --------------------------------------------------------------------------------------------------


def test_one_part_named_file_with_an_exact_length(scripted: Start, write: Write) -> None:
    server = scripted(http("200 OK", JOB, "X-Request-Id: abc"))
    paths, size = write(b'{"a":1}\n', b'{"b":"\xc3\xa9"}\n', b"")
    with make_client(server.url) as client:
        job = client.upload('my "file".ndjson', paths, size)
    head, _, body = server.seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/imports HTTP/1.1\r\n")
    assert b"Authorization: Token sandbox-key" in head
    assert b"User-Agent: warehouse-sync/test" in head
    assert b"Transfer-Encoding" not in head
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(body)  # type: ignore[index]
    boundary = re.search(rb"Content-Type: multipart/form-data; boundary=(\S+)", head)[1]  # type: ignore[index]
    assert body == (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="my %22file%22.ndjson"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
        b'{"a":1}\n{"b":"\xc3\xa9"}\n'
        b"\r\n--" + boundary + b"--\r\n"
    )
    assert (job.job_id, job.status, job.file_name, job.request_id) == (JOB_ID, "queued", "a.ndjson", "abc")


def test_a_large_upload_stays_out_of_memory_and_arrives_whole(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 1_000_000)
    body = UploadBody("large", [path] * 40, 40_000_000)
    sizes = [len(chunk) for chunk in body]
    assert sum(sizes) == len(body)
    assert max(sizes) <= 262_144


@pytest.mark.parametrize("name", ["plain.ndjson", 'q"uote', "line\r\nbreak", "ümläut 日本.ndjson", "per%cent"])
def test_names_come_back_as_sent(client: Client, sandbox: Sandbox, write: Write, name: str) -> None:
    assert client.upload(name, *write(ndjson(row()))).file_name == (name if name.isprintable() else "")
    assert sandbox.jobs[0]["filename"] == name


def test_parts_are_joined_byte_for_byte(client: Client, sandbox: Sandbox, write: Write) -> None:
    first, second = ndjson(row("a"), row("b")), ndjson(row("c", metadata={"text": '\u2028 é \\ "'}))
    job = client.upload("a.ndjson", *write(first, second))
    assert job.file_size == len(first + second)
    assert "\n".join(sandbox.imported()).encode() + b"\n" == first + second


@pytest.mark.parametrize("recorded", [7, 9])
def test_a_size_that_is_not_the_files_is_never_sent(
    client: Client, sandbox: Sandbox, write: Write, recorded: int
) -> None:
    paths, _ = write(b"12345678")
    with pytest.raises(DiskError, match="hold 8 bytes"):
        client.upload("a", paths, recorded)
    assert sandbox.requests == []


def test_a_missing_file_is_never_sent(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file"):
        client.upload("a", [tmp_path / "gone"], 8)
    assert sandbox.requests == []


def test_a_file_that_shrinks_while_it_is_sent(
    client: Client, sandbox: Sandbox, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, size = write(ndjson(row()))
    monkeypatch.setattr("warehouse_sync.userpilot.upload._size", lambda path: size + 100)
    with pytest.raises(Unclear, match=r"part0\.ndjson could not be read to its end \(shorter"):
        client.upload("a", paths, size + 100)
    assert sandbox.jobs == []


# -- the endpoint and the key --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [
        ("https://analytex.userpilot.io", "https://analytex.userpilot.io"),
        ("https://analytex-eu.userpilot.io/", "https://analytex-eu.userpilot.io"),
        (" https://analytex.userpilot.io/v1/ ", "https://analytex.userpilot.io"),
        ("https://gateway.example.com:8443/userpilot/", "https://gateway.example.com:8443/userpilot"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
    ],
)
def test_endpoints(endpoint: str, base: str) -> None:
    with make_client(endpoint) as client:
        assert client._base == base


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "analytex.userpilot.io", "http://analytex.userpilot.io", "ftp://h", "https://", "https://u:p@h", "https://h?x",
        "https://h#x", "https://[::1", "https://h:99999", "http://10.0.0.1", "https://h:0", "https://a b",
        "https://h\\x", "https://münchen.example",
    ],
)  # fmt: skip
def test_endpoints_that_would_show_the_key_or_lead_nowhere(endpoint: str) -> None:
    with pytest.raises(UsageError, match="https"):
        make_client(endpoint)


@pytest.mark.parametrize("key", ["", "a b", "a\n", "clé", "a\r\nX: y"])
def test_a_key_that_no_header_carries(key: str) -> None:
    with pytest.raises(AuthError) as caught:
        make_client("https://h", key)
    assert not key or key not in str(caught.value)


def test_netrc_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ada password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with make_client("https://analytex.userpilot.io") as client:
        prepared = client._session.prepare_request(requests.Request("GET", "https://analytex.userpilot.io/v1/x"))
    assert prepared.headers["Authorization"] == "Token sandbox-key"


def test_a_sandbox_is_not_asked_through_a_proxy(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert client.list_jobs() == ()


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(NotSent, match="no connection"):
        list_jobs("https://analytex.userpilot.io")


def test_a_proxy_that_does_not_connect(scripted: Start, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = scripted(http("502 Bad Gateway"), http("502 Bad Gateway"))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(NotSent, match="the proxy does not connect"):
        list_jobs("https://analytex.userpilot.io")
    with pytest.raises(NotSent, match="the proxy does not connect"):
        upload("https://analytex.userpilot.io", write)
    assert all(KEY.encode() not in seen for seen in proxy.seen)


# -- no answer -----------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_refused_connections_are_not_sent(write: Write) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NotSent, match=r"upload: no connection: refused or unreachable \(127\.0\.0\.1"):
        upload(url, write)
    with pytest.raises(NotSent, match="job list: no connection"):
        list_jobs(url)


def test_an_unknown_host_is_not_sent(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(NotSent, match="does not resolve"):
        upload("https://nowhere.invalid", write)
    with pytest.raises(NotSent, match="does not resolve"):
        list_jobs("https://nowhere.invalid")


def test_a_host_that_is_no_host_is_not_sent(write: Write) -> None:
    for ask in (lambda: upload("https://a..b", write), lambda: list_jobs(f"https://{'a' * 70}.b")):
        with pytest.raises(NotSent, match=r"is no host name|does not resolve"):
            ask()


def test_a_broken_tls_handshake_is_not_sent(scripted: Start, write: Write) -> None:
    server = scripted(b"this is not TLS\r\n\r\n", b"this is not TLS\r\n\r\n", read="some")
    url = server.url.replace("http://", "https://")
    with pytest.raises(NotSent, match="no TLS connection"):
        upload(url, write)
    with pytest.raises(NotSent, match="no TLS connection"):
        list_jobs(url)


def test_a_tls_handshake_that_never_ends_is_not_sent(write: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(NotSent):
        upload(f"https://127.0.0.1:{listener.getsockname()[1]}", write, timeout=0.1)


def test_a_refused_certificate_names_its_reason() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    assert trouble(requests.exceptions.SSLError(error), 1, 1) == (False, "no TLS connection: self-signed certificate")


def test_a_connect_timeout_is_not_sent() -> None:
    import urllib3.exceptions as pool

    error = requests.exceptions.ConnectTimeout(pool.ConnectTimeoutError("late"))
    assert trouble(error, 10, 60) == (False, "no connection within 10 s")


def test_silence_is_unclear(write: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unclear, match=r"upload: no answer within 0\.1 s"):
            upload(url, write, timeout=0.1)
        with pytest.raises(Unclear, match=r"job list: no answer within 0\.1 s"):
            list_jobs(url, timeout=0.1)


@pytest.mark.parametrize("read", ["none", "some", "all"])
def test_a_cut_connection_is_unclear(scripted: Start, write: Write, read: str) -> None:
    server = scripted(b"", b"", read=read)
    with pytest.raises(Unclear):
        upload(server.url, write, b"x" * 8_000_000)
    with pytest.raises(Unclear):
        list_jobs(server.url)


def test_a_server_that_stops_reading_is_unclear(write: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unclear, match="no answer within"):
            upload(url, write, b"x" * 20_000_000, timeout=0.1)


def test_an_early_answer_to_an_upload_is_heard(scripted: Start, write: Write) -> None:
    server = scripted(http("409 Conflict"), read="some")
    with pytest.raises((Busy, Unclear)):  # a reset can overtake the answer
        upload(server.url, write, b"x" * 2_000_000)


# -- answers that cannot be read -----------------------------------------------------------------------------------

BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (http("200 OK"), "the answer is empty"),
    "no content": (http("204 No Content"), "the answer is empty"),
    "html": (http("200 OK", b"\n<!DOCTYPE html><title>"), r"is a web page \(200\): this is not the Import API"),
    "page": (http("200 OK", b"Hello", "Content-Type: text/html; charset=x"), r"is a web page \(200 text/html\)"),
    "bytes": (http("200 OK", b"\xff\xfe\x00"), "the answer is not JSON"),
    "deep": (http("200 OK", "[" * 200_000), "the answer is not JSON"),
    "truncated": (http("200 OK", b'{"job_id": ', length=500), "the connection was cut"),
    "truncated but JSON": (http("200 OK", JOB, length=500), "the connection was cut"),
    "bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "the connection was cut"),
    "bad gzip": (http("200 OK", b"nogzip", "Content-Encoding: gzip"), "the answer cannot be decoded"),
    "not HTTP": (b"SSH-2.0-OpenSSH\r\n", "the connection was cut"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_unreadable_answers_are_unclear(scripted: Start, write: Write, case: str) -> None:
    answer, message = BROKEN[case]
    server = scripted(*[answer] * 4)  # a job is asked for by both paths
    with make_client(server.url) as client:
        with pytest.raises(Unclear, match=message):
            client.upload("a", *write(b"{}\n"))
        with pytest.raises(Unclear, match=message):
            client.job(JOB_ID)
        with pytest.raises(Unclear, match="the connection was cut" if case == "truncated but JSON" else message):
            client.list_jobs()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "not a JSON object"),
        ('"text"', "not a JSON object"),
        ({}, "no id of an import job"),
        ({"job_id": None}, "no id of an import job"),
        ({"job_id": 7}, "no id of an import job"),
        ({"job_id": "bulk:jobs:NX-1:2"}, "no id of an import job"),
    ],
)
def test_an_upload_without_a_job_id_is_unclear(scripted: Start, write: Write, payload: object, message: str) -> None:
    server = scripted(http("200 OK", payload, "x-request-id: r-1"))
    with pytest.raises(Unclear, match=message) as caught:
        upload(server.url, write)
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")


def test_a_dripping_answer_meets_the_deadline(scripted: Start, write: Write) -> None:
    drip = [http("200 OK", b"[", length=500), *[b" "] * 20]
    server = scripted(drip, drip)
    with pytest.raises(Unclear, match=r"not complete within 0\.2 s"):
        upload(server.url, write, timeout=0.2)
    with pytest.raises(Unclear, match=r"not complete within 0\.2 s"):
        list_jobs(server.url, timeout=0.2)


@pytest.mark.parametrize("drip", [b"x", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_dripping_head_meets_the_deadline(scripted: Start, write: Write, drip: bytes) -> None:
    endless = [b"HTTP/1.1 100 Continue\r\n\r\n", *[drip] * 20]
    server = scripted(endless, endless)
    with pytest.raises(Unclear, match=r"no answer within 0\.2 s"):
        upload(server.url, write, timeout=0.2)
    with pytest.raises(Unclear, match=r"no answer within 0\.2 s"):
        list_jobs(server.url, timeout=0.2)


def test_an_answer_that_stops_is_unclear(scripted: Start) -> None:
    server = scripted([http("200 OK", b"[", length=500), b"", b"", b"", b"", b"", b""])
    with pytest.raises(Unclear, match=r"no answer within 0\.1 s"):
        list_jobs(server.url, timeout=0.1)


def test_answers_are_bounded(scripted: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER", 1000)
    server = scripted(http("200 OK", b"[" + b" " * 2000 + b"]"))
    with pytest.raises(Unclear, match="longer than 1,000 bytes"):
        list_jobs(server.url)


def test_compressed_answers_are_read_and_bounded(scripted: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = scripted(
        http("200 OK", gzip.compress(json.dumps([JOB]).encode()), "Content-Encoding: gzip"),
        http("200 OK", gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip"),
    )
    with make_client(server.url) as client:
        assert client.list_jobs()[0].job_id == JOB_ID
        monkeypatch.setattr(client_module, "MAX_ANSWER", 1_000_000)
        with pytest.raises(Unclear, match="longer than"):
            client.list_jobs()


def test_an_answer_before_the_answer_ends_the_connection(scripted: Start, write: Write) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    later = http("200 OK", JOB).replace(b"Connection: close\r\n", b"")
    server = scripted([hints, later], http("200 OK", [JOB]), [hints, later], [hints, later])
    with make_client(server.url) as client:
        with pytest.raises(Unclear, match="103 Early Hints"):
            client.upload("a.ndjson", *write(b"{}\n"))
        assert [job.job_id for job in client.list_jobs()] == [JOB_ID]
        with pytest.raises(Unclear, match="103 Early Hints"):
            client.job(JOB_ID)


@pytest.mark.parametrize("told", ["a b", "\x1b[31m", "x" * 101])
def test_a_request_id_that_is_none_is_left_out(scripted: Start, told: str) -> None:
    server = scripted(http("500 No", b"", f"X-Request-Id: {told}"))
    with pytest.raises(Unclear, match=r"500 Internal Server Error$") as caught:
        list_jobs(server.url)
    assert caught.value.request_id == ""


# -- answers that say no -------------------------------------------------------------------------------------------

ERRORS: list[tuple[str, type[WarehouseSyncError], type[WarehouseSyncError]]] = [
    ("400 Bad Request", Refused, Refused),
    ("401 Unauthorized", AuthError, AuthError),
    ("402 Payment Required", Refused, Refused),
    ("403 Forbidden", AuthError, AuthError),
    ("404 Not Found", Refused, Refused),
    ("408 Request Timeout", Unclear, Unclear),
    ("409 Conflict", Busy, Busy),
    ("413 Content Too Large", Refused, Refused),
    ("422 Unprocessable Content", Refused, Refused),
    ("429 Too Many Requests", Throttled, Throttled),
    ("499 Odd", Refused, Refused),
    ("500 Internal Server Error", Unclear, Unclear),
    ("502 Bad Gateway", Unclear, Unclear),
    ("503 Service Unavailable", Unclear, Unclear),
    ("504 Gateway Timeout", Unclear, Unclear),
    ("301 Moved Permanently", Unclear, Refused),
    ("304 Not Modified", Unclear, Refused),
]


@pytest.mark.parametrize(("status", "posted", "got"), ERRORS)
def test_error_answers(
    scripted: Start, write: Write, status: str, posted: type[WarehouseSyncError], got: type[WarehouseSyncError]
) -> None:
    body = {"errors": [{"message": "No, said the server", "error": "x", "error_code": "1", "details": "y"}]}
    answer = http(status, body, "X-Request-Id: r-7")
    server = scripted(answer, answer)
    for ask, kind in ((lambda: upload(server.url, write), posted), (lambda: list_jobs(server.url), got)):
        with pytest.raises(WarehouseSyncError) as caught:
            ask()
        assert type(caught.value) is kind
        assert "No, said the server" in caught.value.message or status[0] == "3"
        assert status[:3] in caught.value.message
        assert "r-7" in caught.value.message
        if kind is not AuthError:
            assert (caught.value.status, caught.value.request_id) == (int(status[:3]), "r-7")  # type: ignore[attr-defined]


def test_a_refused_key_says_what_to_check(sandbox: Sandbox) -> None:
    with make_client(sandbox.url, "NX-5a4db0c5") as client, pytest.raises(AuthError) as caught:
        client.list_jobs()
    for word in ("API key", "App Token `NX-…`", "Enterprise", "Growth", "region", "userpilot.endpoint"):
        assert word in str(caught.value)
    assert "NX-5a4db0c5" not in str(caught.value)


def test_a_body_too_large_says_what_to_lower(scripted: Start, write: Write) -> None:
    with pytest.raises(Refused) as caught:
        upload(scripted(http("413 Content Too Large")).url, write)
    assert "job.max_bytes" in caught.value.hint
    assert "batch.max_bytes" in caught.value.hint


def test_an_error_whose_body_is_broken_is_still_that_error(scripted: Start, write: Write) -> None:
    with pytest.raises(Busy):
        upload(scripted(http("409 Conflict", b'{"err', length=500)).url, write)
    with pytest.raises(Busy):
        upload(scripted(http("409 Conflict", b"x" * 200_000)).url, write)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"<html>", ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (b'{"errors": null}', ""),
        (b'{"errors": 7}', ""),
        (b'{"errors": ["text", {"message": null, "error": "said"}]}', "said"),
        (b'{"errors": [{"message": "one"}, {"message": "two"}]}', "one; two"),
        (b'{"errors": [{"message": "key sandbox-key is bad"}]}', "key (API key) is bad"),
        (b'{"errors": [{"message": "bad row: %{\\"user_id\\" => \\"ada\\"}"}]}', "bad row"),
        (b'{"errors": [{"message": "bad row: {\\"user_id\\": \\"ada\\"}"}]}', "bad row"),
        (b'{"errors": [{"message": "bad value \\"ada\\""}]}', 'bad value "\u2026"'),
        (b'{"errors": [{"message": "a\\u001b[31m\\nb"}]}', "a"),
        (b'{"errors": [{"message": "' + b"x" * 5000 + b'"}]}', "x" * 300),
    ],
)
def test_what_the_server_says(body: bytes, message: str) -> None:
    assert server_message(body, KEY) == message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0), ("1.5", 1.5), ("0", 0.0), (" 7 ", 7.0), ("99999", 3600.0), ("", None), ("-1", None), ("soon", None),
        ("1e9", None), ("nan", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Wed, 21 Oct 2999 07:28:00 GMT", 3600.0), ("Wed, 21 Oct 2015 07:28:00 +99999999999999", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None), ("Fri, 31 Dec 9999 23:59:59 -2300", 3600.0),
    ],
)  # fmt: skip
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date_reaches_the_error(scripted: Start, write: Write) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=100)
    server = scripted(http("429 Too Many Requests", b"", f"Retry-After: {format_datetime(moment, usegmt=True)}"))
    with pytest.raises(Throttled) as caught:
        upload(server.url, write)
    assert caught.value.retry_after == pytest.approx(100, abs=5)


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
)
def test_redirects_are_not_followed_and_the_key_stays(scripted: Start, write: Write, status: str) -> None:
    other = scripted(http("200 OK", JOB), http("200 OK", []))
    answer = http(status, b"", f"Location: {other.url}/v1/imports")
    server = scripted(*[answer] * 4)
    with make_client(server.url) as client:
        with pytest.raises(Unclear, match="redirect, not followed"):
            client.upload("a", *write(b"{}\n"))
        with pytest.raises(Refused, match="redirect, not followed"):
            client.list_jobs()
        with pytest.raises(Refused, match="redirect, not followed"):
            client.job(JOB_ID)
    assert other.seen == []


def test_a_redirect_with_an_endless_body_or_a_bad_location(scripted: Start, write: Write) -> None:
    server = scripted(
        http("307 Temporary Redirect", b"x" * 100_000, "Location: http://[bad", length=10**12),
        http("302 Found", b"x" * 100_000, "Location: ///", length=10**12),
    )
    with pytest.raises(Unclear, match="redirect"):
        upload(server.url, write)
    with pytest.raises(Refused, match="redirect"):
        list_jobs(server.url)


# -- jobs ----------------------------------------------------------------------------------------------------------


def test_the_list_holds_imports_only(sandbox: Sandbox, client: Client, put: Put) -> None:
    mine = put(row())
    sandbox.inject("list:others=5")
    listed = client.list_jobs()
    assert len(listed) == 4
    assert all(job.job_id.startswith("imports:jobs:") for job in listed)
    assert listed[-1].job_id == mine.job_id
    assert len({job.request_id for job in listed}) == 1


@pytest.mark.parametrize(
    "payload",
    [[JOB, None, 7, "x", {}, {"job_id": "bulk:jobs:NX-1:2"}], {"data": [JOB]}, {"jobs": [JOB], "next": None}],
)
def test_lists_are_read_leniently(scripted: Start, payload: object) -> None:
    assert [job.job_id for job in list_jobs(scripted(http("200 OK", payload)).url)] == [JOB_ID]


@pytest.mark.parametrize("payload", [{}, {"data": None}, '"text"', 7, None])
def test_what_is_no_list_is_unclear(scripted: Start, payload: object) -> None:
    with pytest.raises(Unclear, match="not a list"):
        list_jobs(scripted(http("200 OK", payload)).url)


def paths(server: Scripted) -> list[str]:
    return [seen.split(b" ", 2)[1].decode() for seen in server.seen]


def test_a_job_is_asked_by_its_link_then_by_both_paths(scripted: Start) -> None:
    missing = http("404 Not Found", {"errors": []})
    server = scripted(missing, missing, http("200 OK", JOB), http("200 OK", JOB))
    with make_client(server.url) as client:
        assert client.job(JOB_ID, "/v2/jobs/7?x=1") is not None
        assert client.job(JOB_ID) is not None
    known = [f"/v1/background_jobs/{JOB_ID}", f"/api/background_jobs/{JOB_ID}"]
    assert paths(server) == ["/v2/jobs/7?x=1", *known, known[1]]  # the path that worked is asked first


def test_a_job_that_no_path_knows_is_none(scripted: Start) -> None:
    missing = http("404 Not Found")
    server = scripted(missing, missing)
    with make_client(server.url) as client:
        assert client.job(JOB_ID, f"/v1/background_jobs/{JOB_ID}") is None
    assert len(server.seen) == 2  # the link is the first path: not asked twice


@pytest.mark.parametrize("odd", ["302 Found", "400 Bad Request", "403 Forbidden", "405 Method Not Allowed", "200 OK"])
def test_a_path_that_does_not_help_says_nothing_of_the_next(scripted: Start, odd: str) -> None:
    page = http(odd, b"<html>")
    server = scripted(page, http("200 OK", JOB), http("404 Not Found"), page)
    with make_client(server.url) as client:
        assert client.job(JOB_ID) is not None
        if odd == "200 OK":
            with pytest.raises(Unclear, match="a web page"):
                client.job(JOB_ID)
        else:
            assert client.job(JOB_ID) is None


def test_other_troubles_of_a_job_are_raised(scripted: Start) -> None:
    server = scripted(http("404 Not Found"), http("500 Internal Server Error"))
    with make_client(server.url) as client, pytest.raises(Unclear):
        client.job(JOB_ID)


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1/x", "//evil.example/v1/x", "http://127.0.0.1:1/v1/x", "https://127.0.0.1/v1/x",
        "http://user@evil.example/", "http://[bad", "http://127.0.0.1:bad/", "javascript:alert(1)", "",
    ],
)  # fmt: skip
def test_links_elsewhere_are_ignored(scripted: Start, link: str) -> None:
    server = scripted(http("200 OK", JOB))
    with make_client(server.url) as client:
        assert client.job(JOB_ID, link) is not None
    assert paths(server) == [f"/v1/background_jobs/{JOB_ID}"]


@pytest.mark.parametrize(
    ("base", "link", "path"),
    [
        ("https://h", "/v1/x", "/v1/x"),
        ("https://h", "v1/x", "/v1/x"),
        ("https://h", "https://h:443/v1/x", "/v1/x"),
        ("https://h:443", "https://h/v1/x", "/v1/x"),
        ("https://h", "HTTPS://H/v1/x?y=1#z", "/v1/x?y=1"),
        ("https://h", "https://h", ""),
        ("https://h/proxy", "/v1/x", "/v1/x"),
        ("https://h/proxy", "https://h/proxy/v1/x", "/v1/x"),
        ("https://h", "http://h/v1/x", ""),
        ("https://h", "https://h.evil/v1/x", ""),
        ("https://h", "https://h@evil/v1/x", ""),
    ],
)
def test_links_on_our_origin(base: str, link: str, path: str) -> None:
    assert client_module._same_origin_path(base, link) == path


def test_odd_ids_stay_inside_the_path(scripted: Start) -> None:
    odd = "imports:jobs:NX-1:a/../b?c#d e"
    server = scripted(http("200 OK", {"job_id": odd}))
    with make_client(server.url) as client:
        assert client.job(odd) is not None
    assert paths(server) == ["/v1/background_jobs/imports:jobs:NX-1:a%2F..%2Fb%3Fc%23d%20e"]


def test_a_job_without_an_id_is_the_one_asked_for(scripted: Start) -> None:
    other = http("200 OK", {**JOB, "job_id": JOB_ID + "x"})
    server = scripted(http("200 OK", {"data": {"status": "Completed"}}), other, other)
    with make_client(server.url) as client:
        job = client.job(JOB_ID)
        assert job is not None
        assert (job.job_id, job.status, job.is_completed) == (JOB_ID, "completed", True)
        with pytest.raises(Unclear, match="another job"):
            client.job(JOB_ID)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, {"job_id": "", "status": "", "file_size": None, "reasons": (), "account": None, "is_terminal": False}),
        (
            {
                "job_id": JOB_ID, "status": " Failed ", "filename": "a.ndjson", "file_size": "2234", "total_rows": "0",
                "completed_rows": 3, "start_time": "2025-05-19T07:22:54.409499", "end_time": "", "elapsed_time": "6",
                "reason_for_failure": "one text", "links": "/v1/x",
            },
            {
                "status": "failed", "file_name": "a.ndjson", "file_size": 2234, "total_rows": 0, "completed_rows": 3,
                "start_time": "2025-05-19T07:22:54.409499", "end_time": None, "elapsed_time": 6.0, "links": "/v1/x",
                "reasons": ("one text",), "account": "NX-51f4acf7", "is_terminal": True, "is_failed": True,
            },
        ),
        (
            {"job_id": JOB_ID, "status": "completed", "reason_for_failure": ["a", None, "", 7], "total_rows": 3.0},
            {"reasons": ("a", "7"), "is_terminal": True, "is_completed": True, "total_rows": 3},
        ),
        (
            {"status": "hibernating", "file_size": "x", "total_rows": -1, "completed_rows": True, "elapsed_time": -2.5},
            {"is_terminal": False, "file_size": None, "total_rows": None, "completed_rows": None, "elapsed_time": None},
        ),
        ({"file_size": "9" * 5000, "total_rows": 10**30, "elapsed_time": 1e300}, {"file_size": None}),
        ({"total_rows": 10**30, "completed_rows": 2**53 + 1}, {"total_rows": None, "completed_rows": 2**53 + 1}),
        (
            {"job_id": "imports:jobs:\ud800", "links": "/v1/\0", "filename": "a\nb"},
            {"job_id": "", "links": "", "file_name": "", "is_import": False},
        ),
        ({"status": None, "filename": 7, "links": [], "start_time": 5}, {"status": "", "file_name": "", "links": ""}),
        ({"status": "Cancelled\x1b[2J\n", "end_time": "2025-05-19"}, {"status": "cancelled[2j", "is_over": True}),
        ({"status": "cancelled", "end_time": None}, {"is_over": False}),
        ({"status": "pending_refresh", "end_time": "2025-05-19"}, {"is_over": False}),
        ({"status": "", "end_time": "2025-05-19"}, {"is_over": False}),
        ({"job_id": "imports:jobs:51f4acf7:x"}, {"account": None}),
        ({"job_id": "imports:jobs:NX-51f4acf7"}, {"account": None}),
        ({"job_id": "bulk:jobs:NX-51f4acf7:x"}, {"account": None}),
    ],
)  # fmt: skip
def test_jobs_are_read_leniently(payload: dict[str, Any], expected: dict[str, Any]) -> None:
    job = RemoteJob.read(payload)
    assert {name: getattr(job, name) for name in expected} == expected
    hash(job)


def test_repr_of_a_job_shows_no_reason() -> None:
    assert "ada" not in repr(RemoteJob.read({"job_id": JOB_ID, "reason_for_failure": ['row: %{"user_id" => "ada"}']}))


# -- check ---------------------------------------------------------------------------------------------------------


def test_check(sandbox: Sandbox, client: Client, put: Put) -> None:
    assert client.check() == RemoteCheck(accepted=True)
    sandbox.inject("job:stuck")
    job = put(row())
    found = client.check()
    assert (found.accepted, found.account, found.jobs) == (True, "NX-5a4db0c5", 1)
    assert found.running is not None
    assert found.running.job_id == job.job_id


def test_check_takes_the_account_from_other_jobs_too(scripted: Start) -> None:
    with make_client(scripted(http("200 OK", [{"job_id": "bulk:jobs:NX-7:x"}])).url) as client:
        assert client.check() == RemoteCheck(accepted=True, account="NX-7")


def test_check_of_a_refused_key(sandbox: Sandbox) -> None:
    with make_client(sandbox.url, "wrong") as client:
        found = client.check()
    assert not found.accepted
    assert "plan" in found.problem


# -- logs ----------------------------------------------------------------------------------------------------------


def test_logs_hold_sizes_and_no_content(
    client: Client, sandbox: Sandbox, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.inject("job:fail-row=secret-user")
    with caplog.at_level(logging.DEBUG, "warehouse_sync"):
        job = put(row("secret-user"))
        client.job(job.job_id)
        sandbox.inject("list:drop-before")
        with pytest.raises(Unclear):
            client.list_jobs()
    text = "\n".join(record.getMessage() for record in caplog.records if record.name == "warehouse_sync.userpilot")
    assert re.search(r"upload: status 200, sent \d+ bytes, received \d+ bytes, request id [0-9a-f]+, \d\.\d{3} s", text)
    assert "job list: no answer: the connection was cut" in text
    for secret in ("secret-user", KEY, "NX-"):
        assert secret not in text


def test_errors_carry_no_foreign_error(write: Write) -> None:
    with pytest.raises(NotSent) as caught:
        upload(f"http://127.0.0.1:{free_port()}", write)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
