"""A wire to a database server that goes dead without a word, as one behind a firewall that forgot it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Wire:
    """A context manager; `port` leads to the server's. Once it is stalled nothing goes through, nor does anybody new.

    `stall_after`: bytes of the server's until it stalls by itself.
    """

    def __init__(self, server_port: int, stall_after: int | None = None) -> None:
        self._server_port, self._left = server_port, stall_after
        self._open, self._ends = threading.Event(), list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Wire:
        self._open.set()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.mend()

    def stall(self) -> None:
        """From now on nothing goes through."""
        self._open.clear()

    def mend(self) -> None:
        """New connections are answered again; the old ones are gone."""
        self._left = None
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()
        self._open.set()

    def until_stalled(self, seconds: float = 20) -> None:
        """Wait for `stall_after`."""
        limit = time.monotonic() + seconds
        while self._open.is_set():
            assert time.monotonic() < limit, "the server did not say that much"
            time.sleep(0.01)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._ends.append(client)
            self._open.wait()
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                self._ends.append(server)
                upward = threading.Thread(target=self._carry, args=(client, server), daemon=True)
                upward.start()
                self._carry(server, client, counted=True)
                upward.join()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counted and self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self.stall()
                self._open.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
