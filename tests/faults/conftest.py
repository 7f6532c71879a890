"""Fixtures of the fault programme, and the table of what was tried."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from warehouse_sync.userpilot.sandbox import Sandbox

TABLE = "WAREHOUSE_SYNC_TEST_FAULT_TABLE"
"""Names a file: the table of faults is written there when the tests are over."""

Told = Callable[[str, str], None]
_tried: Counter[tuple[str, str]] = Counter()


@pytest.fixture
def told() -> Told:
    """`told(fault, what happened)`: a row of the table, counted when the test comes this far."""
    return lambda fault, outcome: _tried.update([(fault, outcome)])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table, when that is asked for and all is well."""
    wanted = os.environ.get(TABLE)
    if wanted and not session.testsfailed:
        Path(wanted).write_text(table(_tried), encoding="utf-8")


def table(tried: Counter[tuple[str, str]]) -> str:
    """The rows as Markdown, in the order in which they were first told."""
    lines = ["| Fault | Tried | What happened |", "|---|--:|---|"]
    lines += [f"| {fault} | {times} | {outcome} |" for (fault, outcome), times in tried.items()]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def nursery() -> Iterator[Any]:
    """Starts real runs in processes of their own."""
    from fault_processes import Nursery

    warm = Nursery()
    yield warm
    warm.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox whose jobs are over at once."""
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world's folder with ten rows in its warehouse, made once; only to be copied."""
    from fault_world import World

    folder = tmp_path_factory.mktemp("template")
    with Sandbox(folder / "sandbox") as sandbox:
        World(folder / "world", sandbox).add()
    return folder / "world"


@pytest.fixture
def make_world(tmp_path: Path, loaded: Path, server: Sandbox) -> Callable[..., Any]:
    """A world with ten rows, behind the sandbox or another endpoint."""
    from fault_world import World

    def make(endpoint: str | None = None, sandbox: Sandbox | None = None, **delivery: str) -> World:
        shutil.copytree(loaded, tmp_path / "world")
        return World(tmp_path / "world", sandbox or server, endpoint, **delivery)

    return make
