"""Containers without a Docker engine: buildah builds the unchanged Dockerfiles, podman and runc run what comes of it.

The official base images cannot be taken for granted on a test machine, so stand-ins of the same names are made from
Debian's packages: they show that the Dockerfile's steps work on Debian with a Python of that minor version, not that
the official image does. Everything lies in one folder, which is removed at the end, unless
WAREHOUSE_SYNC_TEST_CONTAINERS names one to be kept: then the base images are made once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT

PROGRAMS = ("buildah", "podman", "runc", "mmdebstrap", "iptables", "netavark", "aardvark-dns")
"""Each of them brought by the Debian package of its name."""
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/lib/podman"])
KEPT = "WAREHOUSE_SYNC_TEST_CONTAINERS"
SECONDS = 600
USER = 10001

STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/store"
runroot = "{folder}/run"
"""
# No more than this process may have itself, which podman's defaults are not everywhere.
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
# What the official slim images leave out, too.
UNNEEDED = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")]
POSTGRES_ENTRYPOINT = """\
#!/bin/sh
set -eu
bin=/usr/lib/postgresql/17/bin
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" >/tmp/password
    "$bin/initdb" -D "$data" -U "$POSTGRES_USER" -A scram-sha-256 --pwfile=/tmp/password --no-sync -E UTF8 --locale=C
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | "$bin/postgres" --single -D "$data" postgres
fi
exec "$bin/postgres" -D "$data" -c listen_addresses='*' -c fsync=off
"""
POSTGRES = """\
FROM {base}
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-17 \\
    && install --directory --owner=postgres --group=postgres --mode=700 /var/lib/postgresql/data /var/run/postgresql \\
    && ln -sf /usr/lib/postgresql/17/bin/pg_isready /usr/bin/pg_isready
COPY --chmod=755 entrypoint.sh /entrypoint.sh
USER postgres
ENTRYPOINT ["/entrypoint.sh"]
"""


class Engine:
    """buildah and podman on a storage of their own, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {"storage.conf": STORAGE, "containers.conf": CONTAINERS}.items():
            (folder / name).write_text(text.format(folder=folder))
        self.environ = os.environ | {
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            # Health checks are asked for by the tests; podman would have systemd do it.
            "DISABLE_HC_SYSTEMD": "true",
        }

    def __call__(self, *words: str, code: int | None = 0, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """A command on this storage, with that exit code."""
        done = subprocess.run(
            words, env=self.environ, capture_output=True, text=True, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    # Images

    def has(self, image: str) -> bool:
        """True when there is such an image."""
        return self("podman", "image", "exists", image, code=None).returncode == 0

    def build(self, tag: str, dockerfile: Path, context: Path, **arguments: str) -> None:
        """Build an image as a user of docker would, without asking any registry for its base."""
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        self(
            "buildah", "bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--layers",
            "--file", str(dockerfile), *words, "--tag", tag, str(context),
        )  # fmt: skip

    def inspect(self, image: str) -> dict[str, Any]:
        """What an image says about itself."""
        found: dict[str, Any] = json.loads(self("podman", "image", "inspect", image).stdout)[0]
        return found

    def make_base(self, image: str) -> None:
        """The stand-in of an official Python image: Debian of that name, its Python where the official one is."""
        if self.has(image):
            return
        suite = image.rpartition("-")[2]
        tree, archive = self.folder / "base", self.folder / "base.tar"
        self(
            "mmdebstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates,tzdata", *UNNEEDED,
            suite, str(archive),
        )  # fmt: skip
        tree.mkdir()
        self("tar", "--extract", "--file", str(archive), "--directory", str(tree), "--exclude=./dev/*")
        for name in ("python", "python3"):
            (tree / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
        # A machine behind a proxy may have certificates of its own.
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", tree / "etc/ssl/certs/ca-certificates.crt")
        (tree / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
        self("tar", "--create", "--file", str(archive), "--directory", str(tree), ".")
        self("podman", "import", "--quiet", str(archive), image)
        shutil.rmtree(tree)
        archive.unlink()

    def make_postgres(self, image: str, base: str) -> None:
        """The stand-in of the official PostgreSQL image, as far as docker/compose.yml uses it."""
        if self.has(image):
            return
        context = self.folder / "postgres"
        context.mkdir(exist_ok=True)
        (context / "entrypoint.sh").write_text(POSTGRES_ENTRYPOINT)
        (context / "Dockerfile").write_text(POSTGRES.format(base=base))
        self.build(image, context / "Dockerfile", context)

    # Containers

    def run(
        self, image: str, *words: str, options: tuple[str, ...] = (), code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """A container from its start to its end, locked down as the README says."""
        return self("podman", "run", "--rm", *LOCKED, *options, image, *words, code=code)

    @contextmanager
    def start(self, image: str, *words: str, options: tuple[str, ...] = ()) -> Iterator[str]:
        """A container at work beside the test, removed at the end."""
        name = self("podman", "run", "--detach", *LOCKED, *options, image, *words).stdout.strip()
        try:
            yield name
        finally:
            self("podman", "rm", "--force", "--time", "0", name)

    def logs(self, container: str) -> str:
        """What it printed, both streams."""
        done = self("podman", "logs", container)
        return done.stdout + done.stderr

    def stop(self, container: str, seconds: int) -> tuple[int, float]:
        """SIGTERM, as every orchestrator does it: the exit code, and how long it took. A kill has exit code 137."""
        begun = time.monotonic()
        self("podman", "stop", "--time", str(seconds), container)
        took = time.monotonic() - begun
        return int(self("podman", "inspect", "--format", "{{.State.ExitCode}}", container).stdout), took

    @contextmanager
    def volume(self) -> Iterator[str]:
        """An empty volume."""
        name = self("podman", "volume", "create").stdout.strip()
        try:
            yield name
        finally:
            self("podman", "volume", "rm", "--force", name)

    def close(self) -> None:
        """Remove everything, unless the folder is to be kept."""
        self("podman", "rm", "--all", "--force", "--time", "0", code=None)
        if os.environ.get(KEPT):
            return
        self("podman", "rmi", "--all", "--force", code=None)
        self("umount", str(self.folder / "store/overlay"), code=None)
        shutil.rmtree(self.folder, ignore_errors=True)


LOCKED = (
    "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges",
)  # fmt: skip


def open_engine() -> Engine:
    """An engine, or a skip that says what is missing."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PLACES) is None]
    if missing:
        pytest.skip(f"needs a server: `apt-get install {' '.join(missing)}` lets containers be built and run")
    if os.geteuid() != 0:
        pytest.skip("needs a server: containers are built and run as root here")
    kept = os.environ.get(KEPT)
    return Engine(Path(kept) if kept else Path(tempfile.mkdtemp(prefix="warehouse-sync-containers-")))


def base_image() -> str:
    """The name of the Dockerfile's base image."""
    (tag,) = re.findall(r"^ARG PYTHON=(\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    return f"docker.io/library/python:{tag}"


def wait_for(what: str, check: Callable[[], Any], seconds: float = 60) -> Any:
    """The first truth that `check` returns."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if found := check():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come")
