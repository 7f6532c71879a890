"""Batches whose fate nobody knows: each is counted once, for the job that holds it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import Project


@pytest.fixture
def held_twice(project: Project, sandbox: Sandbox) -> Project:
    """A project whose first job, of users and events, is held for its events; its users went again, with a second job
    that is held too."""
    project.write_config("delivery: {grace: 200ms, job_timeout: 200ms}\n")
    sandbox.inject("job:partial", "job:stuck")
    project.cli.here("run").check(1)
    sandbox.inject("job:404*50", "list:empty*50")
    project.cli.here("run").check(1)
    return project


def test_a_batch_that_another_job_has_is_not_counted_for_the_first(held_twice: Project) -> None:
    retry = held_twice.cli.here("retry").check(1).err
    told = re.findall(r"held since .* with job (prod-\d+)-\w+\.ndjson: (.*)", retry)
    assert told == [("prod-000001", "4 rows of events"), ("prod-000002", "3 rows of users")]
    for verb in ("run", "plan"):
        said = re.findall(r"(\d) rows are held with job (prod-\d+)-", held_twice.cli.here(verb).check(1).err)
        assert sorted(set(said)) == [("3", "prod-000002"), ("4", "prod-000001")]


def test_all_jobs_that_hold_rows_of_a_model_are_named(project: Project, sandbox: Sandbox) -> None:
    project.write_config("delivery: {grace: 200ms}\nbatch: {max_rows: 2}\njob: {max_rows: 2}\n")
    sandbox.inject("job:partial", "job:partial")
    project.cli.here("run", "-s", "events").check(1)
    message = project.results()["results"][0]["message"]
    assert re.match(r"4 rows are held with jobs prod-000001-\w+\.ndjson, prod-000002-\w+\.ndjson: it failed", message)
    assert message.count("nobody can tell") == 1
    assert message in project.cli.here("plan", "-s", "events").check(1).err
