"""Rows, clients and servers that answer with scripted bytes, for the tests of this folder."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing, suppress

from warehouse_sync.userpilot.client import Client

KEY = "sandbox-key"
JOB_ID = "imports:jobs:NX-51f4acf7:f681073b-21ac-4276-9af5-c662dc05fb25"


def row(user_id: str = "user_1", **fields: object) -> dict[str, object]:
    """A good identify_user row; a field given as `...` is left out."""
    whole = {
        "event_type": "identify_user",
        "user_id": user_id,
        "source": "backend-http-import",
        "inserted_at": "2024-07-28T08:55:35.874555",
        "metadata": {"plan": "pro"},
        **fields,
    }
    return {key: value for key, value in whole.items() if value is not ...}


def ndjson(*rows: dict[str, object]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


def make_client(url: str, api_key: str = KEY, *, timeout: float = 5) -> Client:
    return Client(url, api_key, connect_timeout=timeout, read_timeout=timeout, user_agent="warehouse-sync/test")


class Scripted:
    """A server on loopback that answers each connection with the next scripted bytes, then closes it.

    `read`: "all" (headers and body), "some" (64 kB) or "none" before answering. `seen`: what arrived, per connection.
    """

    def __init__(self, *answers: bytes | list[bytes], read: str = "all") -> None:
        self.seen: list[bytes] = []
        self._answers = answers
        self._read = read
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with closing(connection):
                self.seen.append(self._receive(connection))
                with suppress(OSError):
                    self._answer(connection, answer)

    def _receive(self, connection: socket.socket) -> bytes:
        if self._read == "none":
            return b""
        if self._read == "some":
            return connection.recv(65_536)
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += connection.recv(65_536)
        head, _, body = seen.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            chunk = connection.recv(65_536)
            if not chunk:
                break
            body += chunk
        return head + b"\r\n\r\n" + body

    def _answer(self, connection: socket.socket, answer: bytes | list[bytes]) -> None:
        if isinstance(answer, bytes):
            connection.sendall(answer)
            return
        for piece in answer:  # one piece each 50 ms
            connection.sendall(piece)
            self._over.wait(0.05)

    def close(self) -> None:
        self._over.set()
        # shutdown wakes the accept; close alone does not on Linux
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(2)


def http(status: str, body: bytes | str | object = b"", *headers: str, length: int | None = None) -> bytes:
    """An answer as bytes; `length` lies about the body's length."""
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content
