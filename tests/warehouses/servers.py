"""Database servers that the tests start themselves: on loopback, on a free port, in a folder of their own.

They are stopped at the end. Where a binary is missing a test is skipped, and the reason says how to get it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from environments import environment_with, plain_environment

PASSWORD = "correct horse"
SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A running server: its port, its folder, and who may do everything."""

    port: int
    folder: Path
    admin: str
    process: subprocess.Popen[bytes] | None = None


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def binary(name: str, package: str, *folders: str) -> str:
    """The path of a server's program, or a skip."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if found is None:
        pytest.skip(f"needs a server: `apt-get install {package}` brings {name}")
    return found


@contextmanager
def server_folder(owner: str) -> Iterator[Path]:
    """A folder for a server's data. Root's own temporary folders are closed to the user that a server runs as."""
    folder = Path(tempfile.mkdtemp(prefix="warehouse-sync-", dir="/tmp"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, owner)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def await_port(port: int, alive: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit and alive():
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not start")


def run_as(owner: str, *words: str) -> None:
    """A command, as that user where this process is root: PostgreSQL refuses to be it."""
    prefix = ["runuser", "-u", owner, "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *words], capture_output=True, text=True, timeout=SECONDS, check=False, cwd="/")
    assert done.returncode == 0, done.stderr + done.stdout


@contextmanager
def postgres_server() -> Iterator[Server]:
    """PostgreSQL with TLS offered, passwords asked, nothing synced to disk."""
    folders = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    programs = {name: binary(name, "postgresql", *folders) for name in ("initdb", "pg_ctl")}
    with server_folder("postgres") as folder:
        data, port, password = str(folder / "data"), free_port(), folder / "password"
        password.write_text(PASSWORD)
        run_as(
            "postgres", programs["initdb"], "-D", data, "-U", "admin", "-A", "scram-sha-256", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync", f"--pwfile={password}",
        )  # fmt: skip
        certificate(folder, "server", owner="postgres")
        certificate(folder, "client", owner="root", subject="certified")
        (folder / "client.crt").chmod(0o644)
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text(f"hostssl all certified 127.0.0.1/32 cert\n{rules.read_text()}")
        options = (
            f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off -c ssl=on"
            f" -c ssl_cert_file={folder}/server.crt -c ssl_key_file={folder}/server.key -c max_connections=40"
            f" -c ssl_ca_file={folder}/client.crt"
        )
        log = str(folder / "log")
        run_as("postgres", programs["pg_ctl"], "-D", data, "-w", "-o", options, "-l", log, "start")
        try:
            yield Server(port, folder, "admin")
        finally:
            run_as("postgres", programs["pg_ctl"], "-D", data, "-m", "immediate", "-w", "stop")


def certificate(folder: Path, name: str, owner: str, subject: str = "localhost") -> None:
    """A certificate for 127.0.0.1 that nobody signed, and its key."""
    subprocess.run(
        [
            binary("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt"), "-subj", f"/CN={subject}",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        capture_output=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    for end in ("key", "crt"):
        path = folder / f"{name}.{end}"
        path.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(path, owner)


@contextmanager
def mariadb_server() -> Iterator[Server]:
    """MariaDB with an empty database `app` and a user `reader` who may read it."""
    folders = ("/usr/sbin", "/usr/bin")
    install = binary("mariadb-install-db", "mariadb-server", *folders)
    daemon = binary("mariadbd", "mariadb-server", *folders)
    with server_folder("mysql") as folder:
        user = ["--user=mysql"] if os.geteuid() == 0 else []
        # A server that starts removes all `#sql*` of its folder for temporary tables, those of a neighbour too.
        place, port = [f"--datadir={folder / 'data'}", f"--tmpdir={folder}"], free_port()
        done = subprocess.run(
            [install, "--no-defaults", *user, *place, "--auth-root-authentication-method=normal", "--skip-test-db"],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        words = [
            daemon, "--no-defaults", *user, *place, f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve",
            f"--socket={folder / 'socket'}", "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip
        with (folder.parent / f"{folder.name}.log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            await_port(port, lambda: process.poll() is None, "MariaDB")
            yield Server(port, folder, "root")
        finally:
            process.terminate()
            process.wait(SECONDS)
            Path(log.name).unlink()


@contextmanager
def snowflake_server() -> Iterator[Server]:
    """The emulator in an environment of its own, which is made once: its DuckDB and connector are pinned."""
    python = _emulator() / "bin" / "python"
    with server_folder("root") as folder:
        for name, words in {
            "key.pem": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            "public.pem": ["pkey", "-pubout", "-in", str(folder / "key.pem")],
        }.items():
            command = [binary("openssl", "openssl"), *words, "-out", str(folder / name)]
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        port = free_port()
        words = [
            str(python),
            str(Path(__file__).with_name("snowflake_server.py")),
            str(port),
            str(folder / "public.pem"),
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=plain_environment())
        try:
            await_port(port, lambda: process.poll() is None, f"the Snowflake emulator ({folder / 'log'})")
            yield Server(port, folder, "admin", process)
        finally:
            process.terminate()
            process.wait(SECONDS)


def _emulator() -> Path:
    return environment_with("fakesnow-0.12.1", ["fakesnow[server]==0.12.1", "snowflake-connector-python<5"])


def session_parameters(port: int) -> dict[str, Any]:
    """What the emulator remembers of ALTER SESSION and of the last login."""
    import json

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/test/session", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
