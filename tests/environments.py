"""Python environments for programs that the tests talk to, made once a machine and kept in the user's cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest


def environment_with(name: str, wanted: list[str]) -> Path:
    """The folder of an environment with these packages; skips the test where they cannot be installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "warehouse-sync-tests" / f"{name}-py{sys.version_info[0]}{sys.version_info[1]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        # Several workers of one run want it; one makes it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _made(folder, wanted)


def _made(folder: Path, wanted: list[str]) -> Path:
    if (folder / "ready").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    words = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, env=plain_environment())
    if done.returncode:
        pytest.skip(f"needs a server: `pip install {' '.join(wanted)}` does not work here: {done.stderr[-300:]}")
    (folder / "ready").touch()
    return folder


def plain_environment() -> dict[str, str]:
    """This process's variables, without those that would change another Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "COV_"))}
