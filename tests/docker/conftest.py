"""The engine, the image, and projects and stand-ins in containers, made once for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from container_engine import Engine, base_image, open_engine
from harness import ROOT

IMAGE = "localhost/warehouse-sync:latest"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """buildah and podman, with the stand-in of the base image."""
    found = open_engine()
    try:
        found.make_base(base_image())
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image, built from the checkout as the README says."""
    engine.build(IMAGE, ROOT / "docker/Dockerfile", ROOT)
    return IMAGE
