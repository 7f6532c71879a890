"""`init`, `demo`, `sandbox`, `schema`: what a new user meets first."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from warehouse_sync.cli.project_files import project_files, shipped
from warehouse_sync.errors import UsageError
from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import CommandLine

FILES = [
    ".gitignore", "configs/duckdb.yml", "configs/schema.json", "models_sql/companies.sql", "models_sql/events.sql",
    "models_sql/page_views.sql", "models_sql/tests/companies.yml", "models_sql/tests/events.yml",
    "models_sql/tests/fixtures/page_views.csv", "models_sql/tests/users.yml", "models_sql/users.sql",
    "warehouse.duckdb",
]  # fmt: skip


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# init


def test_init_writes_a_project_that_works(cli: CommandLine, tmp_path: Path) -> None:
    result = cli("init", "my-sync").check()
    folder = tmp_path / "my-sync"
    assert files_below(folder) == FILES
    assert "export USERPILOT_API_KEY" in result.err
    assert "cd my-sync" in result.err
    cli.folder = folder
    assert "PASS=7" in cli.here("test").check().err
    with Sandbox(tmp_path / "api") as api:
        cli.environ = {"USERPILOT_API_KEY": api.api_key, "USERPILOT_ENDPOINT": api.url}
        assert "pipeline `my-sync`" in cli.here("debug").check().out
        cli.here("plan").check()
        cli("run").check()
        assert len(api.imported()) == 200 + 2000 + 5786 + 8000


def test_init_here(cli: CommandLine, tmp_path: Path) -> None:
    result = cli.here("init", "--name", "prod", "--no-sample", "--no-input").check()
    assert files_below(tmp_path) == FILES[:-1]
    assert "\nname: prod " in (tmp_path / "configs" / "duckdb.yml").read_text()
    assert "  cd " not in result.err


@pytest.mark.parametrize("there", ["configs/duckdb.yml", "models_sql/users.sql", ".gitignore", "warehouse.duckdb"])
def test_init_writes_nothing_over(cli: CommandLine, tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert there in cli.here("init").check(2).err
    assert files_below(tmp_path) == [there]
    assert path.read_text() == "mine"


def test_init_beside_a_warehouse(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").write_text("mine")
    cli.here("init", "--no-sample").check()
    assert (tmp_path / "warehouse.duckdb").read_text() == "mine"


def test_init_asks_for_what_the_flags_do_not_say(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"Warehouse": "postgres", "Region": "EU", "Folder": "there", "Name": "asked"}
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt.split(maxsplit=1)[0])
        return answers[asked[-1]]

    monkeypatch.setattr("warehouse_sync.cli.start.is_terminal", lambda _: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", answer)
    cli.here("init").check()
    assert asked == list(answers)
    config = (tmp_path / "there" / "configs" / "postgres.yml").read_text()
    assert "\nname: asked\n" in config
    assert "  endpoint: https://analytex-eu.userpilot.io #" in config
    asked.clear()
    cli.here("init", "here", "--warehouse", "duckdb", "--region", "us", "--name", "x", "--no-sample").check()
    assert asked == []


@pytest.mark.parametrize(
    ("kind", "region", "endpoint"),
    [
        ("duckdb", "EU", "https://analytex-eu.userpilot.io"),
        ("postgres", "us", "https://analytex.userpilot.io"),
        ("snowflake", "https://analytex.example.com/", "https://analytex.example.com"),
    ],
)
def test_init_for_every_warehouse_and_region(
    cli: CommandLine, tmp_path: Path, kind: str, region: str, endpoint: str
) -> None:
    from warehouse_sync.project.config import json_schema, load_config

    err = cli.here("init", "--warehouse", kind, "--region", region, "--no-sample", "--name", "prod").check().err
    path = tmp_path / "configs" / f"{kind}.yml"
    if kind != "duckdb":
        assert f"pip install 'warehouse-sync[{kind}]'\n  edit configs/{kind}.yml and models_sql/\n" in err
        prefix, needed = {"postgres": ("PG", ["PASSWORD"]),
                          "snowflake": ("SNOWFLAKE_", ["ACCOUNT", "USER", "PRIVATE_KEY_PATH"])}[kind]  # fmt: skip
        assert re.findall(rf"^  export {prefix}(\w+)=\.\.\.$", err, flags=re.MULTILINE) == needed
    names = ("USERPILOT_API_KEY", "PGPASSWORD", "SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_PRIVATE_KEY_PATH")
    config = load_config(path, dict.fromkeys(names, "x"))
    assert (config.name, config.userpilot.endpoint, config.warehouse.type) == ("prod", endpoint, kind)
    assert "# yaml-language-server: $schema=schema.json" in path.read_text()
    assert json.loads((tmp_path / "configs" / "schema.json").read_text()) == json_schema()


def test_init_refuses_regions_and_warehouses_that_are_none(cli: CommandLine, tmp_path: Path) -> None:
    assert "--region mars" in cli.here("init", "--region", "mars").check(2).err
    assert "no dbt project here or above" in cli.here("init", "--warehouse", "dbt").check(2).err
    assert files_below(tmp_path) == []


@pytest.fixture
def dbt_project(tmp_path: Path) -> Path:
    """A dbt project on a DuckDB file, as dbt itself leaves one, with its profile beside it."""
    import duckdb

    folder = tmp_path / "shop"
    (folder / "target").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models]\n")
    (folder / "profiles.yml").write_text(
        "shop:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: shop.duckdb, schema: main}\n"
    )
    duckdb.connect(str(folder / "shop.duckdb")).close()
    nodes = {
        f"model.shop.{name}": {
            "unique_id": f"model.shop.{name}", "name": name, "resource_type": "model", "package_name": "shop",
            "config": {"materialized": kind}, "depends_on": {"nodes": needs},
        }
        for name, kind, needs in (
            ("stg_users", "view", []), ("dim_users", "table", ["model.shop.stg_users"]), ("orders", "table", []),
            ("user_parts", "ephemeral", []),
        )
    }  # fmt: skip
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "project_name": "shop"}
    (folder / "target" / "manifest.json").write_text(json.dumps({"metadata": metadata, "nodes": nodes}))
    return folder


def test_init_in_a_dbt_project(cli: CommandLine, dbt_project: Path, tmp_path: Path) -> None:
    cli.folder = dbt_project / "target"
    result = cli.here("init", "--no-input", "--region", "eu").check()
    folder = dbt_project / "userpilot"
    assert files_below(folder) == [".gitignore", "configs/dbt.yml", "configs/schema.json", "models_sql/users.sql"]
    assert "dbt parse" not in result.err
    profiles = dbt_project / "profiles.yml"
    written = profiles.read_text()
    profiles.write_text(written.replace("path: shop.duckdb", "path: \"{{ env_var('NOBODY_SET_THIS') }}\""))
    cli.folder = folder
    assert "NOBODY_SET_THIS" in cli.here("plan").check(2).err
    cli.here("test").check()
    profiles.write_text(written)
    assert "from {{ ref('dim_users') }}" in (folder / "models_sql" / "users.sql").read_text()
    config = folder / "configs" / "dbt.yml"
    assert 'project_dir: "../.."' in config.read_text()
    assert "https://analytex-eu.userpilot.io" in config.read_text()
    with Sandbox(tmp_path / "api") as api:
        config.write_text(config.read_text().replace("https://analytex-eu.userpilot.io", api.url))
        out = cli.here("debug", USERPILOT_API_KEY=api.api_key).check().out
    assert "pipeline `shop`" in out
    assert "shop.duckdb" in out
    assert "FAIL" not in out


def test_init_in_a_dbt_project_that_was_never_parsed(cli: CommandLine, dbt_project: Path) -> None:
    (dbt_project / "target" / "manifest.json").unlink()
    cli.folder = dbt_project
    assert "run `dbt parse` first" in cli.here("init", "sync").check().err
    assert "ref('dim_users')" in (dbt_project / "sync" / "models_sql" / "users.sql").read_text()
    cli.here("init", "other", "--warehouse", "duckdb", "--no-sample").check()
    assert (dbt_project / "other" / "configs" / "duckdb.yml").is_file()


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65])
def test_init_refuses_names_that_the_yaml_would_refuse(cli: CommandLine, tmp_path: Path, name: str) -> None:
    assert "is no name of a pipeline" in cli.here("init", "--name", name).check(2).err
    assert files_below(tmp_path) == []


def test_init_makes_a_name_of_any_folder(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "né à Köln!").mkdir()
    cli.here("init", "né à Köln!", "--no-sample").check()
    assert "\nname: n-K-ln " in (tmp_path / "né à Köln!" / "configs" / "duckdb.yml").read_text()


def test_init_where_nothing_can_be_written(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "configs").write_text("a file in the way")
    result = cli.here("init").check(1)
    assert "cannot be written" in result.err


def test_the_example_project_is_found_in_a_wheel_and_in_a_checkout(tmp_path: Path) -> None:
    for root in ("wheel/warehouse_sync/_project", "checkout"):
        (tmp_path / root / "models_sql").mkdir(parents=True)
        (tmp_path / root / "configs").mkdir()
        (tmp_path / root / "configs" / "duckdb.yml").touch()
    assert shipped(tmp_path / "wheel" / "warehouse_sync") == tmp_path / "wheel" / "warehouse_sync" / "_project"
    assert shipped(tmp_path / "checkout" / "warehouse_sync") == tmp_path / "checkout"
    with pytest.raises(UsageError, match="lacks its example project"):
        shipped(tmp_path / "nowhere" / "warehouse_sync")


def test_values_of_the_shipped_config_are_replaced_in_place() -> None:
    config = project_files({"name": "x", "userpilot.endpoint": "y"})[Path("configs/duckdb.yml")]
    shipped_config = (shipped() / "configs" / "duckdb.yml").read_text()
    changed = [line for line in config.splitlines() if line not in shipped_config.splitlines()]
    assert [line.split()[:2] for line in changed] == [["name:", "x"], ["endpoint:", "y"]]
    with pytest.raises(LookupError):
        project_files({"userpilot.nothing": "x"})


# demo


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo that was played once: its folder, and what it printed."""
    from harness import CommandLine

    folder = tmp_path_factory.mktemp("demo")
    return folder, CommandLine(folder)("demo").check().out


def test_demo_tells_two_syncs(played: tuple[Path, str]) -> None:
    _, out = played
    first, second = out.partition("A day passes.")[::2]

    def delivered(text: str) -> dict[str, str]:
        rows = [line.split() for line in text.splitlines() if " success " in line]
        return {row[0]: row[9] for row in rows}

    assert delivered(first) == {"companies": "200", "events": "8,000", "page_views": "5,786", "users": "2,000"}
    assert delivered(second) == {"companies": "15", "events": "240", "page_views": "180", "users": "170"}
    assert "15 companies, 170 users, 180 page views, 240 events" in second
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [line["event_type"] for line in lines] == ["identify_company", "identify_user", "track"]


def test_demo_leaves_a_project_to_go_on_with(played: tuple[Path, str], tmp_path: Path) -> None:
    from harness import CommandLine

    folder, out = played
    project = Path(shutil.copytree(folder / "warehouse-sync-demo", tmp_path / "demo"))
    cli = CommandLine(project)
    assert (project / "README.md").is_file()
    assert cli.here("status").check().out.count("2025-04-01 10:05:00") == 4
    assert cli.here("plan").check().out
    runs = cli.here("history", "--output", "json").check().lines
    assert [run["exit_code"] for run in runs] == [0, 0]
    assert len((project / "sandbox" / "imported.ndjson").read_bytes().splitlines()) == 15986 + 605
    assert (project / ".warehouse_sync" / "demo" / "run_results.json").is_file()
    # Somebody's own changes are not written over.
    own = Path(shutil.copytree(project, tmp_path / "own"))
    with duckdb.connect(str(own / "warehouse.duckdb")) as connection:
        connection.execute("CREATE TABLE mine (n INTEGER)")
    refused = cli.here("demo", "--dir", str(own)).check(2)
    assert "warehouse.duckdb was changed since the demo wrote it" in refused.err
    # The commands that it names: the sandbox again, then a run.
    (line,) = [line for line in out.splitlines() if line.startswith("  warehouse-sync sandbox")]
    words = line.split()[1:6]
    assert words[:2] == ["sandbox", "--port"]
    port = free_port()
    config = project / "configs" / "duckdb.yml"
    config.write_text(config.read_text().replace(f"127.0.0.1:{words[2]}", f"127.0.0.1:{port}"))
    # Another port is another destination, so the state has to follow; the demo's own port may be taken here.
    cli.here("state", "reset", "--all", "--yes").check()
    with cli.start("sandbox", "--port", str(port), *words[3:], "--job-seconds", "0") as api:
        assert api.stdout is not None
        assert api.stdout.readline() == f"http://127.0.0.1:{port}\n"
        cli.here("run", "-s", "companies").check()


@pytest.mark.slow
def test_demo_is_the_same_every_time(played: tuple[Path, str], cli: CommandLine, tmp_path: Path) -> None:
    _, out = played
    began = time.monotonic()
    again = cli("demo").check().out
    assert time.monotonic() - began < 15

    def without_port(text: str) -> list[str]:
        import re

        return re.sub(r"(127\.0\.0\.1:|--port )\d+", r"\1PORT", text).splitlines()

    assert without_port(again) == without_port(out)
    over = cli.here("demo", "-d").check()
    assert without_port(over.out) == without_port(out), "an earlier demo starts over"
    assert "uploading" in over.err


def test_demo_takes_another_port_where_its_own_is_taken(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr("warehouse_sync.cli.demo.DEFAULT_PORT", port)
        out = cli.here("demo").check().out
    assert "A stand-in for Userpilot's Import API: http://127.0.0.1:" in out
    assert str(port) not in out


def test_demo_leaves_other_folders_alone(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert "is no demo of this program" in cli.here("demo", "--dir", "mine").check(2).err
    assert files_below(tmp_path) == ["mine/file"]


def test_demo_leaves_your_changes_alone(played: tuple[Path, str], cli: CommandLine, tmp_path: Path) -> None:
    folder, _ = played
    shutil.copytree(folder / "warehouse-sync-demo", tmp_path / "warehouse-sync-demo")
    model = tmp_path / "warehouse-sync-demo" / "models_sql" / "users.sql"
    model.write_text("-- mine\n" + model.read_text())
    assert "users.sql was changed since the demo wrote it" in cli.here("demo").check(2).err
    assert model.read_text().startswith("-- mine")


def test_demo_does_not_touch_a_real_account(cli: CommandLine, tmp_path: Path) -> None:
    """A key and an endpoint in the environment are somebody's account; sample rows must never go there."""
    with Sandbox(tmp_path / "real", api_key="real-key") as real:
        environ = {"USERPILOT_API_KEY": "real-key", "USERPILOT_ENDPOINT": real.url, "WAREHOUSE_SYNC_CONFIG": "x.yml"}
        cli.here("demo", "--dir", "d", **environ).check()
        assert real.requests == []
    assert "real-key" not in (tmp_path / "d" / "configs" / "duckdb.yml").read_text()


def test_demo_where_nothing_can_be_written(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in cli.here("demo", "--dir", "file/demo").check(1).err


@pytest.mark.slow
@pytest.mark.parametrize("sync", [1, 2])
def test_demo_that_fails_says_so(cli: CommandLine, monkeypatch: pytest.MonkeyPatch, sync: int) -> None:
    from warehouse_sync.cli import demo

    class Failing(Sandbox):
        """Refuses every upload from that sync on; the first one is two jobs."""

        def __init__(self, directory: Path, **settings: object) -> None:
            super().__init__(directory, port=0, api_key=str(settings["api_key"]))
            self.refuse()

        def accept(self, file_name: str, path: Path) -> dict[str, object] | None:
            accepted = super().accept(file_name, path)
            self.refuse()
            return accepted

        def refuse(self) -> None:
            if len(self.jobs) == 2 * (sync - 1):
                self.inject("upload:403*9")

    monkeypatch.setattr("warehouse_sync.userpilot.sandbox.Sandbox", Failing)
    result = cli.here("demo").check(1)
    assert result.err.count("ERROR") >= 1
    assert ("A day passes" in result.out) is (sync == 2)
    assert demo.DEFAULT_PORT == 8642


# sandbox, schema


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_serves_until_it_is_told_to_end(cli: CommandLine, tmp_path: Path, number: signal.Signals) -> None:
    with cli.start("sandbox", "--port", "0", "--dir", "api", "--api-key", "my-key") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        request = urllib.request.Request(f"{url}/v1/background_jobs", headers={"Authorization": "Token my-key"})
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer) == []
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert f"Import API on {url}" in err
    assert "stopped; 0 jobs are kept in api" in err
    assert (tmp_path / "api" / "imported.ndjson").exists()


def test_sandbox_in_this_process(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(api: Sandbox) -> None:
        api.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Sandbox, "serve_forever", stop)
    assert cli.here("sandbox", "--port", "0").check().out.startswith("http://127.0.0.1:")
    monkeypatch.setattr(Sandbox, "serve_forever", Sandbox.close)
    cli.here("sandbox", "--port", "0").check()


def test_sandbox_on_a_port_that_is_taken(cli: CommandLine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be used" in cli.here("sandbox", "--port", str(port)).check(2).err


def test_sandbox_in_a_folder_that_cannot_be_written(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in cli.here("sandbox", "--dir", "file/api").check(1).err


def test_sandbox_faults(cli: CommandLine) -> None:
    assert "drop-before" in cli.here("sandbox", "--fault", "help").check().out
    assert "no fault upload:nonsense" in cli.here("sandbox", "--port", "0", "--fault", "upload:nonsense").check(2).err


def test_schema(cli: CommandLine) -> None:
    from warehouse_sync.project.config import json_schema

    assert json.loads(cli.here("schema").check().out) == json_schema()
