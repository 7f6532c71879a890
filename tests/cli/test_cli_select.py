"""`state:`, `result:` and `selector:`: selections that look at an earlier run, or into the YAML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness import Project

OURS = {"metadata": {"tool": "warehouse-sync"}}


def listed(project: Project, *words: str) -> list[str]:
    return project.cli.here("ls", *words).check().out.split()


def change(project: Project, name: str) -> None:
    path = project.folder / "models_sql" / f"{name}.sql"
    path.write_text(path.read_text() + "-- changed\n")


def test_modified_since_a_saved_state(project: Project) -> None:
    assert listed(project, "--save-state", "base") == ["events", "users"]
    assert listed(project, "-s", "state:modified", "--state", "base") == []
    change(project, "users")
    project.write_model("fresh", "{{ config(event='track', always=true) }} select 1 as user_id")
    project.write_model("broken", "select 1")
    result = project.cli.here("ls", "-s", "state:modified", "--state", "base").check(1)
    assert result.out.split() == ["broken", "fresh", "users"]
    assert listed(project, "-s", "state:new,event:track", "--state", "base") == ["fresh"]
    assert listed(project, "-s", "state:old", "--state", "base") == ["events", "users"]
    assert listed(project, "-s", "state:unmodified", "--state", "base") == ["events"]
    assert listed(project, "--exclude", "state:modified", "--state", "base") == ["events"]


def test_the_header_counts_and_the_environment_does_not(project: Project) -> None:
    project.write_config("models: {vars: {x: 1}}\n")
    listed(project, "--save-state", "base")
    project.write_config("models: {vars: {x: 2}, sources: {app: other}}\n")
    assert listed(project, "-s", "state:modified", "--state", "base") == []
    project.write_config("models: {overrides: {users: {lag: 2 hours}}}\n")
    assert listed(project, "-s", "state:modified", "--state", "base") == ["users"]


def test_modified_since_the_last_run_that_settled(project: Project) -> None:
    missing = project.cli.here("ls", "-s", "state:modified").check(2)
    assert "the selector `state:modified` compares with an earlier run" in missing.err
    assert f"{project.home / 'manifest.json'} does not exist" in missing.err
    assert "after the first `warehouse-sync run`, or `ls --save-state DIR`" in missing.err
    project.cli.here("run").check()
    assert (project.home / "manifest.json").stat().st_mode & 0o777 == 0o600
    assert listed(project, "-s", "state:modified") == []
    change(project, "users")
    change(project, "events")
    project.cli.here("run", "-s", "users", "--limit", "1").check()
    assert listed(project, "-s", "state:modified") == ["events", "users"], "a part of the rows is not a run"
    project.cli.here("run", "-s", "users").check()
    assert listed(project, "-s", "state:modified") == ["events"]
    project.write_model("events", "{{ config(event='track', always=true) }} select 1 as user_id")
    project.cli.here("run", "-s", "state:modified").check(1)
    assert listed(project, "-s", "state:modified") == ["events"], "it did not settle"


def test_result_of_the_last_run(project: Project) -> None:
    good = (project.folder / "models_sql" / "events.sql").read_text()
    project.write_model("events", "{{ config(event='track', always=true) }} select nothing")
    project.cli.here("run").check(1)
    assert listed(project, "-s", "result:error") == ["events"]
    assert listed(project, "-s", "result:success", "result:error") == ["events", "users"]
    project.write_model("events", good)
    project.cli.here("run", "-s", "result:error").check()
    assert listed(project, "-s", "result:error") == []
    (project.folder / "old").mkdir()
    row = {"unique_id": "sync.other.users", "status": "partial"}
    (project.folder / "old" / "run_results.json").write_text(json.dumps(OURS | {"results": [row]}))
    assert listed(project, "-s", "result:partial", "--state", "old") == ["users"]


def test_the_artefacts_of_dbt_are_not_ours(project: Project) -> None:
    """They have the same names and shape, and models of other names would all be new."""
    node = {"name": "users", "checksum": {"name": "sha256", "checksum": "0"}}
    metadata = {"metadata": {"dbt_version": "1.11.16"}}
    (project.folder / "dbt").mkdir()
    for name, more in (
        ("manifest.json", {"nodes": {"model.shop.users": node}}),
        ("run_results.json", {"results": [{"unique_id": "model.shop.users", "status": "success"}]}),
    ):
        (project.folder / "dbt" / name).write_text(json.dumps(metadata | more))
    for selector, file in (("state:new", "manifest.json"), ("result:success", "run_results.json")):
        err = project.cli.here("ls", "-s", selector, "--state", "dbt").check(2).err
        assert f"dbt/{file} cannot be read" in err
        assert "it is no file that warehouse-sync wrote" in err


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"nodes": {}}', '{"metadata": 5, "nodes": {}}']
    + [json.dumps(OURS | {"nodes": nodes}) for nodes in ({"a": 1}, 5)],
)
def test_a_damaged_manifest(project: Project, text: str) -> None:
    (project.folder / "base").mkdir()
    (project.folder / "base" / "manifest.json").write_text(text)
    result = project.cli.here("ls", "-s", "state:modified", "--state", "base").check(2)
    assert "base/manifest.json cannot be read" in result.err
    (project.folder / "base" / "run_results.json").write_text(text.replace("nodes", "results"))
    result = project.cli.here("ls", "-s", "result:error", "--state", "base").check(2)
    assert "base/run_results.json cannot be read" in result.err


def test_selections_of_the_yaml(project: Project) -> None:
    project.write_config("selectors: {nightly: 'tag:daily', all: 'selector:nightly event:track'}\n")
    assert listed(project, "--selector", "nightly") == ["users"]
    assert listed(project, "-s", "selector:all,event:track") == ["events"]
    assert listed(project, "--exclude", "selector:nightly") == ["events"]
    assert listed(project, "--selector", "all", "--selector", "nightly") == ["events", "users"]
    assert "no `selectors.nightli` (nearest: nightly)" in project.cli.here("ls", "--selector", "nightli").check(2).err
    assert project.cli.here("--selector", "nightly", "ls").check().out == "users\n"


def test_a_selector_that_leaves_nothing_out_is_a_warning(project: Project) -> None:
    result = project.cli.here("ls", "--exclude", "event", "tag:daily").check()
    assert result.out == "events\n"
    assert "WARN event excludes no enabled model (nearest: events)" in result.err
    assert result.err.count("WARN") == 1


def test_selections_of_the_yaml_are_text(project: Project) -> None:
    project.write_config("selectors: {nightly: [a, b]}\n")
    assert "prod.yml:6:22: selectors.nightly: " in project.cli.here("ls").check(2).err


def test_ls_needs_no_secrets(project: Project) -> None:
    project.write_config(api_key="${NOBODY_SET_THIS}")
    assert listed(project) == ["events", "users"]


def test_a_state_that_cannot_be_saved(project: Project) -> None:
    (project.folder / "file").touch()
    assert "cannot be written" in project.cli.here("ls", "--save-state", "file/base").check(1).err
