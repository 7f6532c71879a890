"""A raw TCP proxy in front of the sandbox that spoils one request after another, as a broken network would.

A plan maps a target (`upload`, `list`, `job`) to the faults of its next requests; `None` lets one pass.

    cut-before      closes before anything goes on            cut-middle     closes after half of the request
    cut-after       the request arrives, no answer            reset-after    the same, with a TCP reset
    cut-answer      half of the answer                        late           the request goes on past the timeout
    late-answer     the answer comes past the timeout
    NNN             answers that status, nothing arrives      NNN-after      the request arrives, the answer is NNN
    html, blank, no-json, no-id, other-id, huge               the request arrives, the answer is that
    redirect        307 to the trap, nothing arrives
    empty, stale, other-size, nameless, crowd, twice          lists that lie: nothing in it, the one before, …
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

LATE = 0.9
"""Seconds; the client's timeout in these tests is shorter."""


class Proxy:
    """A context manager; `url` is the endpoint to use, `trapped` what the redirect's target received."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._plan: dict[str, deque[str | None]] = {"upload": deque(), "list": deque(), "job": deque()}
        self._last_list = b"[]"
        self.seen: list[str] = []
        self.trapped: list[bytes] = []
        self._threads: list[threading.Thread] = []
        self._server = _listen(self._serve)
        self._trap = _listen(self._catch)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.trap = f"http://127.0.0.1:{self._trap.getsockname()[1]}/v1/imports"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._server, self._trap):
            server.close()
        time.sleep(0)

    def plan(self, **faults: list[str | None] | str) -> None:
        """Faults of the next requests, by target."""
        for target, kinds in faults.items():
            self._plan[target].extend([kinds] if isinstance(kinds, str) else kinds)

    def clear(self) -> None:
        """No more faults."""
        for waiting in self._plan.values():
            waiting.clear()

    @property
    def left(self) -> int:
        """Faults that did not happen yet."""
        return sum(len(waiting) for waiting in self._plan.values())

    def _catch(self, client: socket.socket) -> None:
        with client:
            client.settimeout(1)
            with contextlib.suppress(OSError):
                self.trapped.append(client.recv(65536))

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            while request := _message(client):
                if not self._one(client, request):
                    return

    def _one(self, client: socket.socket, request: bytes) -> bool:
        """One request; False when the connection is over."""
        target = _target(request)
        waiting = self._plan[target]
        fault = waiting.popleft() if waiting else None
        self.seen.append(f"{target}:{fault or 'ok'}")
        if fault == "cut-before":
            return False
        if fault == "redirect":
            client.sendall(_answer(307, b"", f"Location: {self.trap}\r\n"))
            return True
        if fault == "cut-middle":
            self._forward(request[: len(request) // 2], cut=True)
            return False
        if fault is not None and fault.isdigit():
            client.sendall(_answer(int(fault), b'{"errors":[{"message":"a fault"}]}', "Retry-After: 0\r\n"))
            return True
        if fault == "late":
            time.sleep(LATE)
        answer = self._forward(request)
        if target == "list":
            known, self._last_list = self._last_list, _body(answer)
            answer = _lie(fault, answer, known)
        return self._give(client, fault, answer)

    def _give(self, client: socket.socket, fault: str | None, answer: bytes) -> bool:
        if fault in ("cut-after", "late"):
            return False
        if fault == "reset-after":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault == "late-answer":
            time.sleep(LATE)
        if fault == "cut-answer":
            client.sendall(answer[: len(answer) - max(1, len(_body(answer)) // 2)])
            return False
        if fault is not None and fault.endswith("-after"):
            answer = _answer(int(fault[:3]), b"{}")
        client.sendall(_SPOILED[fault](answer) if fault in _SPOILED else answer)
        return True

    def _forward(self, request: bytes, *, cut: bool = False) -> bytes:
        with socket.create_connection(self._upstream, timeout=10) as upstream:
            upstream.sendall(request)
            if cut:
                return b""
            return _message(upstream)


def _listen(serve: Callable[[socket.socket], None]) -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server


def _message(connection: socket.socket) -> bytes:
    """One HTTP message with its body; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        chunk = connection.recv(1 << 20)
        if not chunk:
            break
        body += chunk
    return head + b"\r\n\r\n" + body


def _target(request: bytes) -> str:
    method, path = request.split(b" ", 2)[:2]
    return "upload" if method == b"POST" else "list" if path.endswith(b"background_jobs") else "job"


def _body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def _answer(status: int, body: bytes, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def _changed(answer: bytes, change: Callable[[Any], Any]) -> bytes:
    return _answer(200, json.dumps(change(json.loads(_body(answer)))).encode())


_SPOILED: dict[str | None, Callable[[bytes], bytes]] = {
    "html": lambda _: _answer(200, b"<html>Welcome</html>"),
    "blank": lambda _: _answer(200, b""),
    "no-json": lambda _: _answer(200, b'{"job_id": '),
    "no-id": lambda answer: _changed(answer, lambda job: {k: v for k, v in job.items() if k != "job_id"}),
    "other-id": lambda answer: _changed(answer, lambda job: {**job, "job_id": "imports:jobs:NX-5a4db0c5:other"}),
    "huge": lambda _: _answer(200, b" " * 70_000_000),
}


def _lie(fault: str | None, answer: bytes, before: bytes) -> bytes:
    if fault == "empty":
        return _answer(200, b"[]")
    if fault == "stale":
        return _answer(200, before)
    if fault == "twice":
        return _changed(answer, lambda jobs: jobs + jobs)
    if fault == "other-size":
        return _changed(answer, lambda jobs: [{**job, "file_size": 1} for job in jobs])
    if fault == "nameless":
        return _changed(answer, lambda jobs: [{**job, "filename": ""} for job in jobs])
    if fault == "crowd":
        return _changed(answer, lambda jobs: [_other(n) for n in range(300)] + jobs)
    return answer


def _other(number: int) -> dict[str, Any]:
    return {"job_id": f"imports:jobs:NX-5a4db0c5:o{number}", "filename": f"o{number}.ndjson", "file_size": 10,
            "status": "completed", "total_rows": 1}  # fmt: skip
