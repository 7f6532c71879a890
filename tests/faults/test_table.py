"""The README's table of faults is what these tests did."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fault_table import TABLE, shown, tried

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_readme_shows_what_was_tried(request: pytest.FixtureRequest) -> None:
    files = {item.path for item in request.session.items if item.path.parent == HERE}
    options = request.config.option
    narrowed = options.keyword or options.markexpr or "PYTEST_XDIST_WORKER" in os.environ
    if narrowed or files != set(HERE.glob("test_*.py")):
        pytest.skip("needs all of tests/faults in one process: pytest -m '' -n 0 tests/faults")
    if TABLE not in os.environ:
        assert tried() == shown()
