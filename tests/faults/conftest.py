"""Fixtures of the fault programme, and the table of what was tried, which stands in the README.

`told` looks every row up there, so that the table is never behind the tests. Its numbers are those of all of them:
`WAREHOUSE_SYNC_TEST_FAULT_TABLE=write pytest -m '' tests/faults` puts them into the README, and with `check` the tests
fail where they are others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_table import CHECK, TABLE, WRITE, Told, differences, tell, tried, write

from warehouse_sync.userpilot.sandbox import Sandbox


@pytest.fixture
def told() -> Told:
    """`told(fault, what happened)`: a row of the table."""
    return tell


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was told to the process that collects; there, see to the table, when that is asked for."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["told"] = [[*row, times] for row, times in tried.items()]
        return
    wanted = os.environ.get(TABLE)
    if wanted == WRITE and not session.testsfailed:
        write()
    elif wanted == CHECK and (wrong := differences()):
        print("", *wrong, sep="\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker is done."""
    for fault, outcome, times in getattr(node, "workeroutput", {}).get("told", []):
        tried[fault, outcome] += times


@pytest.fixture(scope="session")
def nursery() -> Iterator[Any]:
    """Starts real runs in processes of their own."""
    from fault_processes import Nursery

    warm = Nursery()
    yield warm
    warm.close()


@pytest.fixture
def server(tmp_path: Path, quick_stores: None) -> Iterator[Sandbox]:
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
