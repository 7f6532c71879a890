"""Snowflake's older connector: 4.8 has another core, and an environment of its own in which the same tests run."""

from __future__ import annotations

import subprocess
import tomllib

import pytest
from environments import environment_with, plain_environment
from harness import ROOT

TOOLS = ["adbc-driver-postgresql", "hypothesis", "psycopg[binary]", "pymysql", "pytest>=8.3", "pytest-xdist"]

WHICH = "snowflake and not goes_away"
"""This connector asks a server that is gone for more than a minute."""


@pytest.mark.slow
def test_the_same_with_connector_4() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], "snowflake-connector-python>=4.8,<5", *TOOLS]
    python = environment_with("snowflake-connector-4", wanted) / "bin" / "python"
    words = [str(python), "-m", "pytest", "-n", "0", "-m", "", "-k", WHICH, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*words, f"--ignore={__file__}", "tests/warehouses"],
        cwd=ROOT, env=plain_environment() | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
