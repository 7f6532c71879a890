"""A sandbox, a client for it, and servers that answer with scripted bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from userpilot_helpers import Scripted, make_client, ndjson

from warehouse_sync.userpilot.client import Client, RemoteJob
from warehouse_sync.userpilot.sandbox import Sandbox


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with make_client(sandbox.url) as made:
        yield made


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[list[Path], int]]:
    """Write contents to files; gives what `Client.upload` takes after the file name."""

    def write(*contents: bytes) -> tuple[list[Path], int]:
        paths = []
        for number, content in enumerate(contents):
            path = tmp_path / f"part{number}.ndjson"
            path.write_bytes(content)
            paths.append(path)
        return paths, sum(map(len, contents))

    return write


@pytest.fixture
def put(client: Client, write: Callable[..., tuple[list[Path], int]]) -> Callable[..., RemoteJob]:
    """Upload rows as one file."""

    def put(*rows: dict[str, object], name: str = "a.ndjson") -> RemoteJob:
        return client.upload(name, *write(ndjson(*rows)))

    return put


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    running: list[Scripted] = []

    def start(*answers: bytes | list[bytes], read: str = "all") -> Scripted:
        server = Scripted(*answers, read=read)
        running.append(server)
        return server

    yield start
    for server in running:
        server.close()
