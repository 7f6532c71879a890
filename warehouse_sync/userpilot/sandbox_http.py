"""The sandbox's sockets: HTTP on one side, `Sandbox` on the other; uploads go to disk while they arrive."""

from __future__ import annotations

import hmac
import json
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from warehouse_sync.userpilot.client import IMPORTS_PATH, JOB_PATHS, JOBS_PATH
from warehouse_sync.userpilot.sandbox_faults import Fault

if TYPE_CHECKING:
    from warehouse_sync.userpilot.sandbox import Sandbox

CHUNK = 262_144
CLOSED = 0  # noted instead of a status when the connection is closed without an answer

log = logging.getLogger("warehouse_sync.userpilot.sandbox")


class Request(NamedTuple):
    """A request that the sandbox saw; status 0 when it closed the connection without an answer."""

    method: str
    path: str
    status: int


class SandboxServer(ThreadingHTTPServer):
    """A server that can be stopped at any moment with its open connections."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self.serving = threading.Event()
        self._thread = 0
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's reverse look-up of the host, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "sandbox", self.server_address[1]

    def serve(self) -> None:
        """Serve until `stop`."""
        self._thread = threading.get_ident()
        self.serving.set()
        try:
            self.serve_forever(poll_interval=0.02)
        finally:
            self.serving.clear()

    def stop(self) -> None:
        """Stop serving, close the port and every connection."""
        if self.serving.is_set() and self._thread != threading.get_ident():
            self.shutdown()
        self.server_close()
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._open_lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are everyday life here, not a traceback on stderr."""
        log.debug("a connection ended with an error", exc_info=True)


class _CutShort(Exception):
    """The request's body ended before its length."""


class _BadUpload(Exception):
    """The body is no multipart form with one part `file`."""


class _Body:
    """A request body of known length, read in chunks, searched for delimiters."""

    def __init__(self, source: BinaryIO, length: int) -> None:
        self._source = source
        self.left = length
        self._buffer = b""

    def fill(self) -> None:
        chunk = self._source.read(min(CHUNK, self.left))
        if not chunk:
            raise _CutShort if self.left else _BadUpload("the form is not complete")
        self.left -= len(chunk)
        self._buffer += chunk

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self.fill()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def until(self, mark: bytes, write: Callable[[bytes], object]) -> None:
        """Write everything up to `mark`, and read on behind it."""
        while (at := self._buffer.find(mark)) < 0:
            whole = max(len(self._buffer) - len(mark) + 1, 0)
            write(self._buffer[:whole])
            self._buffer = self._buffer[whole:]
            self.fill()
        write(self._buffer[:at])
        self._buffer = self._buffer[at + len(mark) :]

    def drain(self, leave: int = 0) -> None:
        """Read and forget the body, but for the last `leave` bytes."""
        self._buffer = b""
        while self.left > leave:
            self.left -= len(self._source.read(min(CHUNK, self.left - leave))) or self._cut()

    def _cut(self) -> int:
        raise _CutShort


def save_part(body: _Body, boundary: bytes, path: Path) -> str:
    """Write the first part named `file` to `path` and return its file name. Raises _BadUpload, _CutShort."""
    mark = b"\r\n--" + boundary
    file_name = ""
    if body.take(len(mark) - 2) != mark[2:]:  # the first delimiter has no line before it
        raise _BadUpload("the form does not begin with its boundary")
    while body.take(2) != b"--":
        headers: list[bytes] = []
        body.until(b"\r\n\r\n", headers.append)
        disposition = b"".join(headers).decode("utf-8", "replace")
        name = re.search(r'[; ]name="([^"]*)"', disposition)
        given = re.search(r'filename="([^"]*)"', disposition)
        if name and name[1] == "file" and given and not file_name:
            file_name = _unquoted(given[1]) or "unnamed"
            with path.open("wb") as target:
                body.until(mark, target.write)
        else:
            body.until(mark, len)
    body.drain()
    if not file_name:
        raise _BadUpload("the form has no part named `file`")
    if not path.stat().st_size:
        raise _BadUpload("the file is empty")
    return file_name


def _unquoted(name: str) -> str:
    """The three escapes of a file name in a form (WHATWG) undone."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


class Handler(BaseHTTPRequestHandler):
    """One connection; an instance lives as long as it is kept alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    @property
    def sandbox(self) -> Sandbox:
        return cast("SandboxServer", self.server).sandbox

    def do_POST(self) -> None:
        """An upload."""
        self._body = self._incoming()
        if self._path != IMPORTS_PATH:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif self._authorized():
            self._guarded(self._upload)

    def do_GET(self) -> None:
        """The list, or one job."""
        self._body = self._incoming()
        prefix = next((known for known in JOB_PATHS if self._path.startswith(known)), "")
        if self._path != JOBS_PATH and not prefix:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif self._authorized():
            self._guarded(lambda: self._job(unquote(self._path.removeprefix(prefix))) if prefix else self._list())

    # -- the three requests ----------------------------------------------------------------------------------------

    def _upload(self) -> None:
        fault = self.sandbox.fault("upload")
        if fault and fault.kind.startswith("drop-") and fault.stage == "before":
            if fault.kind == "drop-middle":
                self._body.drain(leave=self._body.left // 2)
            return self._close()
        path = self.sandbox.uploads / f"{uuid4()}.part"
        try:
            file_name = save_part(self._body, self._boundary(), path)
            if fault and fault.stage == "before":
                return self._spoil(fault, {})
            job = self.sandbox.accept(file_name, path)
        finally:
            path.unlink(missing_ok=True)
        if job is None:
            return self._refuse(HTTPStatus.CONFLICT, "An import job is already in progress")
        return self._spoil(fault, job)

    def _list(self) -> None:
        fault = self.sandbox.fault("list")
        self._spoil(fault, _listed(fault, self.sandbox.jobs, self.sandbox.account))

    def _job(self, job_id: str) -> None:
        fault = self.sandbox.fault("job")
        job = self.sandbox.find(job_id)
        if job is None and (fault is None or fault.stage != "before"):
            return self._refuse(HTTPStatus.NOT_FOUND)
        return self._spoil(fault, job or {})

    def _spoil(self, fault: Fault | None, payload: Any) -> None:
        """Answer with `payload`, or with what the fault makes of it."""
        kind = fault.kind if fault else ""
        if fault is None or kind == "delay":
            if fault:
                self.sandbox.closing.wait(float(fault.parameter))
            self._answer(HTTPStatus.OK, payload)
        elif fault.status:
            extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._answer(fault.status, _error(fault.status, "A fault of the sandbox"), extra)
        elif kind == "redirect":
            self._answer(HTTPStatus.TEMPORARY_REDIRECT, {}, {"Location": fault.parameter})
        elif kind.startswith("drop-"):
            self._close()
        elif kind == "truncated":
            self._answer(HTTPStatus.OK, payload, cut=True)
        elif kind in ("garbage", "blank") or (kind == "empty" and isinstance(payload, dict)):
            self._write(HTTPStatus.OK, b"<html>Welcome</html>" if kind == "garbage" else b"", "text/html")
        else:
            self._answer(HTTPStatus.OK, _CHANGES[kind](payload) if kind in _CHANGES else payload)

    # -- small steps -----------------------------------------------------------------------------------------------

    @property
    def _path(self) -> str:
        return urlsplit(self.path).path

    def _incoming(self) -> _Body:
        return _Body(cast("BinaryIO", self.rfile), int(self.headers.get("Content-Length") or 0))

    def _boundary(self) -> bytes:
        kind, _, rest = self.headers.get("Content-Type", "").partition(";")
        match = re.search(r'boundary="?([^";]+)"?', rest)
        if kind.strip().lower() != "multipart/form-data" or match is None:
            raise _BadUpload("the request is not multipart/form-data")
        return match[1].encode("latin-1")

    def _authorized(self) -> bool:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "token" and hmac.compare_digest(key.encode(), self.sandbox.api_key.encode()):
            return True
        self._refuse(HTTPStatus.UNAUTHORIZED, "Invalid API key or insufficient permissions")
        return False

    def _guarded(self, answer: Callable[[], None]) -> None:
        try:
            answer()
        except _BadUpload as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except _CutShort:
            self._close()

    def _refuse(self, status: HTTPStatus, message: str = "") -> None:
        """An error answer, once the body is out of the way: a client that still sends might not read it."""
        try:
            self._body.drain()
        except _CutShort:
            return self._close()
        return self._answer(status, _error(status, message or status.phrase))

    def _close(self) -> None:
        self.close_connection = True
        self._note(CLOSED)

    def _answer(self, status: int, payload: Any, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self._write(status, json.dumps(payload).encode(), "application/json; charset=utf-8", headers or {}, cut=cut)

    def _write(
        self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        self.close_connection = self.close_connection or cut
        self._note(status)
        self.send_response(status)
        for name, value in {
            "x-request-id": uuid4().hex,
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def _note(self, status: int) -> None:
        self.sandbox.note(Request(self.command, self._path, int(status)))

    def version_string(self) -> str:
        """The `server` header of the documented examples."""
        return "Cowboy"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are noted by the sandbox, nothing goes to stderr."""


def _error(status: int, message: str) -> dict[str, Any]:
    """The documented `ErrorResponse`."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
    return {"errors": [{"details": message, "error": phrase, "error_code": str(int(status)), "message": message}]}


def _listed(fault: Fault | None, jobs: list[dict[str, Any]], account: str) -> list[dict[str, Any]]:
    """The list, as a list fault bends it."""
    if fault and fault.kind == "empty":
        return []
    if fault and fault.kind == "hide":
        return jobs[1:]
    if fault and fault.kind == "others":
        return [_other(number, account) for number in range(int(float(fault.parameter)))] + jobs
    return jobs


def _other(number: int, account: str) -> dict[str, Any]:
    """A job that somebody else made: every second one a bulk update."""
    job_id = f"{'bulk' if number % 2 else 'imports'}:jobs:{account}:00000000-0000-4000-8000-{number:012d}"
    moment = "2024-11-28T10:34:11.376662"
    return {
        "elapsed_time": 1,
        "end_time": moment,
        "file_size": 2234,
        "filename": f"other-{number}.ndjson",
        "job_id": job_id,
        "links": f"/v1/background_jobs/{job_id}",
        "start_time": moment,
        "status": "completed",
        "total_rows": 1,
    }


def _without(payload: Any, key: str) -> Any:
    if isinstance(payload, list):
        return [_without(entry, key) for entry in payload]
    return {name: value for name, value in payload.items() if name != key}


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "no-id": lambda payload: _without(payload, "job_id"),
    "no-names": lambda payload: _without(payload, "filename"),
    "unknown-status": lambda payload: {**payload, "status": "frobnicating"},
}

__all__ = ["Handler", "SandboxServer", "save_part"]
