"""The image, built from docker/Dockerfile and run: locked down, on a schedule, stopped, upgraded, on wrong volumes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from container_engine import USER, Engine, wait_for
from harness import ROOT, CommandLine, Project

pytestmark = pytest.mark.slow

MEGABYTES = 400
ROWS = 7
STATE = "state: {url: 'sqlite:////state/state.db', dir: /state}\n"
UPGRADE = """\
FROM {image}
USER 0
RUN cd /opt/warehouse-sync/lib/python3*/site-packages/warehouse_sync/state \\
    && sed --in-place 's/^REVISION = .*/REVISION = "9999"/' tables.py \\
    && printf '%s\\n' 'import sqlalchemy' 'from alembic import op' 'revision = "9999"' 'down_revision = "{revision}"' \\
        'def upgrade():' '    op.add_column("runs", sqlalchemy.Column("host", sqlalchemy.String()))' \\
        >migrations/versions/9999_hosts.py
USER {user}
"""


@dataclass
class Place:
    """A project that containers see at /project, two volumes, and what runs there."""

    engine: Engine
    image: str
    project: Project
    state: str
    api: str

    def options(self, *more: str) -> tuple[str, ...]:
        """How the sync is started; `more` stands last."""
        return (
            "--volume", f"{self.project.folder}:/project:ro", "--volume", f"{self.state}:/state",
            "--env", "WAREHOUSE_SYNC_CONFIG=/project/configs/prod.yml", *more,
        )  # fmt: skip

    @contextmanager
    def sandbox(self, *words: str) -> Iterator[str]:
        """The stand-in for Userpilot; the option that puts another container beside it."""
        options = ("--volume", f"{self.api}:/state", "--network=none")
        with self.engine.start(self.image, "sandbox", "--dir", "/state/api", *words, options=options) as container:
            wait_for("the sandbox", lambda: "Import API on" in self.engine.logs(container))
            yield f"--network=container:{container}"

    def ask(self, *words: str, image: str = "") -> str:
        """What a verb prints that needs no API."""
        return self.engine.run(image or self.image, *words, options=self.options("--network=none")).stdout

    def imported(self) -> list[str]:
        """The lines that the sandbox has imported so far."""
        options = ("--volume", f"{self.api}:/state:ro", "--entrypoint", "sh")
        return self.engine.run(
            self.image, "-c", "cat /state/api/imported.ndjson 2>/dev/null || true", options=options
        ).stdout.splitlines()  # fmt: skip

    def runs(self) -> list[dict[str, object]]:
        """The history, newest first."""
        return [json.loads(line) for line in self.ask("history", "--output", "json").splitlines()]


@pytest.fixture
def place(engine: Engine, image: str, project: Project, tmp_path: Path) -> Iterator[Place]:
    """The small project of seven rows, with empty volumes."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    for name in ("models_sql", "warehouse.duckdb"):
        (tmp_path / name).rename(folder / name)
    mounted = Project(folder, CommandLine(folder), "http://127.0.0.1:8642")
    mounted.write_config(STATE)
    folder.chmod(0o755)
    with engine.volume() as state, engine.volume() as api:
        yield Place(engine, image, mounted, state, api)


def crontab(place: Place, line: str) -> str:
    """Write a crontab into the project; its path in the container."""
    (place.project.folder / "crontab").write_text(line + "\n")
    return "/project/crontab"


# The image


def test_the_image_is_small_and_has_no_compiler(engine: Engine, image: str) -> None:
    found = engine.inspect(image)
    assert found["Size"] < MEGABYTES * 1_000_000
    config = found["Config"]
    assert config["User"] == str(USER)
    assert config["Entrypoint"] == ["tini", "--", "warehouse-sync"]
    assert "Volumes" not in config
    assert "status --max-age" in found["Healthcheck"]["Test"][-1]
    looked = engine.run(
        image, "-c", "ls /usr/bin /usr/local/bin /opt/warehouse-sync/bin; id -u; id -g", options=("--entrypoint", "sh")
    )
    names = looked.stdout.split()
    assert names[-2:] == [str(USER), str(USER)]
    compilers = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|clang|ld|as|make|rustc|cargo)(-\d+)?")
    assert [name for name in names if compilers.fullmatch(name)] == []


def test_build_arguments_choose_the_drivers(engine: Engine, image: str) -> None:
    tag = "localhost/warehouse-sync:mysql"
    engine.build(tag, ROOT / "docker/Dockerfile", ROOT, EXTRAS="mysql", UID="12345")
    code = "from importlib.util import find_spec as f; import os; print(*map(bool, map(f, {})), os.getuid())"
    drivers = ["snowflake", "adbc_driver_postgresql", "psycopg", "pymysql"]
    for name, expected in ((tag, "False False False True 12345"), (image, "True True True False 10001")):
        done = engine.run(name, "-c", code.format(drivers), options=("--entrypoint", "python"))
        assert done.stdout.strip() == expected
    assert engine.inspect(tag)["Size"] < engine.inspect(image)["Size"]


def test_the_demo_inside(place: Place) -> None:
    out = place.engine.run(
        place.image, "demo", "--dir", "/state/demo", options=("--volume", f"{place.state}:/state", "--network=none")
    ).stdout
    assert "Second sync: only that is sent." in out
    assert re.search(r"^users +success +351 +25 +145 +181 ", out, re.MULTILINE)


# A schedule


def test_a_scheduled_run_health_and_stop(place: Place) -> None:
    line = crontab(place, "*/2 * * * * * warehouse-sync run --if-locked skip")
    with place.sandbox("--job-seconds", "0.1") as beside:
        options = place.options("--entrypoint", "schedule", beside)
        with place.engine.start(place.image, line, options=options) as container:
            health = ("podman", "healthcheck", "run", container)
            wait_for("two runs", lambda: place.engine.logs(container).count("is over: exit code 0") >= 2)
            place.engine(*health)
            assert place.engine("podman", "exec", container, "id", "-u").stdout.strip() == str(USER)
            code, seconds = place.engine.stop(container, 20)
            logs = place.engine.logs(container)
    assert (code, seconds < 10) == (0, True)
    assert "SIGTERM: nothing new starts" in logs
    assert len(place.imported()) == ROWS
    runs = place.runs()
    assert len(runs) >= 2
    assert [len(run["jobs"]) for run in runs][-2:] == [0, 1], "the second one found nothing new"


def test_an_unhealthy_one_says_why(place: Place) -> None:
    line = crontab(place, "0 0 1 1 * warehouse-sync run")
    options = place.options("--entrypoint", "schedule", "--network=none")
    with place.engine.start(place.image, line, options=options) as container:
        wait_for("the scheduler", lambda: "next at" in place.engine.logs(container))
        done = place.engine("podman", "healthcheck", "run", container, code=1)
        assert "unhealthy" in done.stdout + done.stderr
        state = json.loads(place.engine("podman", "inspect", container).stdout)[0]["State"]
        log = (state.get("Health") or state.get("Healthcheck"))["Log"]
        assert "there was no run yet" in log[-1]["Output"]


# Stops


@contextmanager
def direct(place: Place, beside: str) -> Iterator[str]:
    with place.engine.start(place.image, "run", options=place.options(beside)) as container:
        yield container


@contextmanager
def scheduled(place: Place, beside: str) -> Iterator[str]:
    line = crontab(place, "*/2 * * * * * cd /project && warehouse-sync run && echo done")
    options = place.options("--entrypoint", "schedule", beside)
    with place.engine.start(place.image, line, options=options) as container:
        yield container


@pytest.mark.parametrize(("started", "ends"), [(direct, 1), (scheduled, 0)])
def test_a_stop_in_the_middle_of_a_job(
    place: Place, started: Callable[[Place, str], AbstractContextManager[str]], ends: int
) -> None:
    with place.sandbox("--job-seconds", "12") as beside:
        with started(place, beside) as container:
            wait_for("the upload", lambda: "is accepted, 7 rows" in place.ask("status"), seconds=30)
            code, seconds = place.engine.stop(container, 20)
            logs = place.engine.logs(container)
        assert (code, seconds < 10) == (ends, True), logs
        assert "the next run picks up where this one ended" in logs
        assert place.imported() == [], "the job went on without us"
        resumed = place.engine.run(place.image, "run", "--log-format", "json", options=place.options(beside))
    assert "job_resumed" in resumed.stderr
    rows = place.imported()
    assert (len(rows), len(set(rows))) == (ROWS, ROWS)
    assert sum(len(run["jobs"]) for run in place.runs()) == 1


# Another image, another volume


def test_a_newer_image_upgrades_the_state(place: Place, tmp_path: Path) -> None:
    from warehouse_sync.state.tables import REVISION

    newer = "localhost/warehouse-sync:newer"
    (tmp_path / "newer").mkdir()
    dockerfile = tmp_path / "newer/Dockerfile"
    dockerfile.write_text(UPGRADE.format(image=place.image, revision=REVISION, user=USER))
    place.engine.build(newer, dockerfile, dockerfile.parent)
    with place.sandbox("--job-seconds", "0.1") as beside:
        place.engine.run(place.image, "run", options=place.options(beside))
        before = place.engine.run(newer, "status", options=place.options(beside), code=2)
        assert "has an older layout" in before.stderr
        place.project.execute("UPDATE users SET plan = 'team', changed = '2025-02-01' WHERE id = 'u2'")
        place.engine.run(newer, "run", options=place.options(beside))
        assert len(place.imported()) == ROWS + 1, "what the older image sent is known"
        assert '"plan":"team"' in place.imported()[-1]
        back = place.engine.run(place.image, "run", options=place.options(beside), code=2)
    assert "written by a newer warehouse-sync (layout 9999" in back.stderr


def test_a_volume_of_another_pipeline_is_refused(place: Place) -> None:
    with place.sandbox("--job-seconds", "0.1") as beside, place.engine.volume() as store:
        place.engine.run(place.image, "run", options=place.options(beside))
        place.project.write_config("state: {url: 'sqlite:////store/state.db', dir: /state}\n")
        options = place.options(beside, "--volume", f"{store}:/store:U")
        done = place.engine.run(place.image, "run", options=options, code=2)
        assert "/state/prod was filled by another state store" in done.stderr
    assert len(place.imported()) == ROWS


def test_a_forgotten_volume_is_no_new_start(place: Place) -> None:
    with place.sandbox() as beside:
        options = ("--volume", f"{place.project.folder}:/project:ro", beside)
        done = place.engine.run(place.image, "run", options=options, code=2)
        assert "/state/state.db: cannot make the state store" in done.stderr
    assert place.imported() == []


def test_a_volume_of_another_user(place: Place, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir(mode=0o755)
    options = (
        "--volume", f"{place.project.folder}:/project:ro", "--volume", f"{tmp_path / 'roots'}:/state", "--network=none",
    )  # fmt: skip
    done = place.engine.run(place.image, "run", options=options, code=2)
    assert "/state/state.db: cannot make the state store: user" in done.stderr
    assert "may not read and change /state, which belongs to user `root`" in done.stderr
