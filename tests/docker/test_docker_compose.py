"""docker/compose.yml, up and at work: podman-compose on the image, stand-ins for the two official ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from container_engine import Engine, base_image, wait_for
from environments import environment_with
from harness import ROOT

pytestmark = pytest.mark.slow

Compose = Callable[..., subprocess.CompletedProcess[str]]
FIRST = 15_986
SECOND = FIRST + 605


@pytest.fixture
def compose(engine: Engine, image: str, tmp_path: Path) -> Iterator[Compose]:
    """`docker compose …` on a copy in which a minute takes five seconds; down at the end."""
    text = (ROOT / "docker/compose.yml").read_text()
    (postgres,) = re.findall(r"image: (postgres:\S+)", text)
    (ours,) = re.findall(r"image: (warehouse-sync:\S+)", text)
    engine.make_postgres(f"docker.io/library/{postgres}", base_image())
    engine("podman", "tag", image, f"localhost/{ours}")
    program = environment_with("podman-compose-1.6.0", ["podman-compose==1.6.0"]) / "bin/podman-compose"
    copy = tmp_path / "docker"
    shutil.copytree(ROOT / "docker", copy)
    for name, before, after in (
        ("crontab", "\n* * * * * ", "\n*/5 * * * * * "),
        ("compose.yml", "sleep 90", "sleep 25"),
    ):
        text = (copy / name).read_text()
        assert text.count(before) == 1
        (copy / name).write_text(text.replace(before, after))

    def run(*words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return engine(str(program), "--file", str(copy / "compose.yml"), *words, code=code)

    try:
        yield run
    finally:
        run("down", "--volumes", "--timeout", "20", code=None)


def test_rows_arrive_on_a_schedule_and_only_changes_after_that(compose: Compose, engine: Engine) -> None:
    compose("up", "--detach", "--no-build")

    def arrived(count: int) -> bool:
        return f"{count} rows in Userpilot" in compose("logs", "rows").stdout

    wait_for("the first sync", lambda: arrived(FIRST), seconds=240)
    wait_for("the second day", lambda: arrived(SECOND), seconds=240)
    asked = compose("exec", "sync", "warehouse-sync", "status", "--max-age", "10m", "--output", "json")
    assert json.loads(asked.stdout)["pipeline"] == "sample"
    (sync,) = engine("podman", "ps", "--quiet", "--filter", "name=warehouse-sync.sync").stdout.split()
    engine("podman", "healthcheck", "run", sync)
    code, seconds = engine.stop(sync, 25)
    assert (code, seconds < 15) == (0, True)
    assert "SIGTERM: nothing new starts" in engine.logs(sync)
