"""Connections on which the head of an answer has to come within the read timeout as a whole.

The libraries below begin to count anew with every byte and with every `100 Continue`. Imports requests: only to be
imported where a session is made.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Plain(HTTPConnection):
    def getresponse(self) -> Any:
        with _within(self.timeout, self.sock):
            return super().getresponse()


class _Secure(HTTPSConnection):
    def getresponse(self) -> Any:
        with _within(self.timeout, self.sock):
            return super().getresponse()


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class Adapter(HTTPAdapter):
    """The adapter of requests, with such connections, through proxies too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _equip(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        _equip(manager)
        return manager


def _equip(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


@contextmanager
def _within(seconds: Any, connected: Any) -> Iterator[None]:
    """Hang up after so many seconds. Raises TimeoutError then."""
    if not isinstance(seconds, int | float) or not isinstance(connected, socket.socket):
        yield
        return
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        # Not the method of a TLS socket: that would take the encryption from under the reader.
        with suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


__all__ = ["Adapter"]
