"""Proxies and certificates of the environment: used, or named with the variable that they come from."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from userpilot_helpers import Scripted, http, make_client

from warehouse_sync.errors import NotSent, UsageError, WarehouseSyncError

ENDPOINT = "https://analytex.userpilot.io"
"""Only named: what asks for it is asked through a proxy on this machine."""


def failure(url: str = ENDPOINT) -> WarehouseSyncError:
    with pytest.raises((NotSent, UsageError)) as caught, make_client(url) as client:
        client.list_jobs()
    return caught.value


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://bob:geheim@127.0.0.1:1")
    error = failure()
    assert error.message == (
        "job list: no connection to the proxy: refused or unreachable"
        f" (analytex.userpilot.io through the proxy 127.0.0.1:1 ({variable}))"
    )
    assert "NO_PROXY" in error.hint
    assert "geheim" not in str(error)


def test_a_proxy_whose_name_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("HTTPS_PROXY", "proxy.invalid:3128")
    assert "the proxy's host name does not resolve" in failure().message


def test_a_proxy_that_refuses_says_what_it_answered(
    scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", scripted(http("407 Go <away>")).url)
    assert "the proxy does not connect: it answers 407 Proxy Authentication Required (" in failure().message


@pytest.mark.parametrize(
    "proxy", ["http://", "http://host:abc", "http://bob:ge heim@[::1:99", "socks5://127.0.0.1:1", "foo://127.0.0.1:1"]
)
def test_a_proxy_that_is_none_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = failure()
    assert error.message == "the variable HTTPS_PROXY names no proxy that can be used"
    assert error.exit_code == 2
    assert "heim" not in error.hint
    with make_client("https://127.0.0.1:1"):
        pass
    monkeypatch.setenv("NO_PROXY", "userpilot.io")
    with make_client(ENDPOINT):
        pass


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    bundle = tmp_path / "ca.pem"
    monkeypatch.setenv(variable, str(bundle))
    assert (
        failure().message == f"the variable {variable} names {bundle}, which cannot be read: No such file or directory"
    )
    bundle.write_text("nothing of the kind")
    assert failure().message == f"the variable {variable} names {bundle}, which holds no certificates"
    with make_client("http://127.0.0.1:1"):
        pass


def test_a_bundle_counts_on_this_machine_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=30
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as listener:

        def serve() -> None:
            with suppress(ssl.SSLError):
                listener.accept()
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(http("200 OK", []))

        server = threading.Thread(target=serve)
        server.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert "no TLS connection: self-signed certificate" in failure(url).message
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with make_client(url) as client:
            assert client.list_jobs() == ()
        server.join()
