"""One pipeline a test, on a sandbox of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.userpilot.sandbox import Sandbox


@pytest.fixture
def box(tmp_path: Path, quick_stores: None) -> Iterator[Sandbox]:
    """A local Import API whose jobs are over at once."""
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture
def pipeline(tmp_path: Path, box: Sandbox) -> Pipeline:
    """An empty pipeline."""
    return Pipeline(tmp_path / "project", box)
