"""SIGKILL at every named point and at random moments: the next run puts things right, every row is imported once."""

from __future__ import annotations

import json
import random
import time

import pytest
from fault_processes import Nursery
from fault_world import World

from warehouse_sync.checkpoints import POINTS, VARIABLE
from warehouse_sync.userpilot.sandbox import Sandbox

IDENTITY = ("event_type", "event_name", "user_id", "company_id", "inserted_at")
NEEDS_A_BAD_ROW = {"job_failed", "children_written", "children_recorded"}


@pytest.mark.parametrize(
    "point",
    [point if number % 3 == 0 else pytest.param(point, marks=pytest.mark.slow) for number, point in enumerate(POINTS)],
)
def test_a_run_that_is_killed_at_a_point(make_world, server, nursery: Nursery, told, point):
    world: World = make_world()
    if point in NEEDS_A_BAD_ROW:
        server.inject("job:fail-row=c1-0")
    assert nursery.start(world.folder, **{VARIABLE: point}).wait() == -9
    again = nursery.start(world.folder)
    assert again.wait() == 0 or point in NEEDS_A_BAD_ROW, again.said
    if point in NEEDS_A_BAD_ROW:
        world.clean_run()
    bad = [row for row in world.rows("companies") if " c1-0 " in row] if point in NEEDS_A_BAD_ROW else []
    missing = world.rows() - world.imported()
    assert sorted(missing) == bad
    assert not world.imported() - world.rows()
    told("SIGKILL at each of the named points of a run", "the next run goes on; every row imported once")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["after_post", "after_intent", "before_complete"])
def test_a_kill_and_a_job_list_that_was_wiped(make_world, server, nursery: Nursery, told, point):
    world: World = make_world()
    assert nursery.start(world.folder, **{VARIABLE: point}).wait() == -9
    server.forget_jobs()
    code = nursery.start(world.folder).wait()
    if point == "before_complete":
        assert code == 1, "the id is known, the job is gone: held, not sent again"
    else:
        world.clean_run()
        assert not world.rows() - world.imported(), "at least once"
    lines = [json.loads(line) for line in server.imported()]
    assert len({tuple(line.get(name) for name in IDENTITY) for line in lines}) == len(
        {json.dumps(line, sort_keys=True) for line in lines}
    ), "what goes twice is the same row to the byte"
    told(
        "SIGKILL, then the API forgets its jobs",
        "sent again with identical identity fields; a job whose id was known is held instead",
    )


def runs_under_fire(world: World, nursery: Nursery, rounds: int, seed: int) -> tuple[int, int]:
    """Runs over changing data, each killed at a random moment; how many died, and the moments' seed."""
    dice, died, took = random.Random(seed), 0, 1.2
    for number in range(rounds):
        if number % 2:
            world.add(dice.randint(1, 12))
            world.change()
        began = time.monotonic()
        child = nursery.start(world.folder)
        time.sleep(dice.uniform(0.02, took))
        code = child.kill()
        if code == -9:
            died += 1
        else:
            took = max(0.4, min(took, (time.monotonic() - began) * 1.1))
    return died, seed


@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_runs_that_are_killed_at_random_moments(tmp_path, make_world, nursery: Nursery, told, rounds):
    with Sandbox(tmp_path / "busy", job_seconds=0.05) as sandbox:
        world: World = make_world(sandbox=sandbox)
        died, seed = runs_under_fire(world, nursery, rounds, seed=random.SystemRandom().randrange(10**6))
        world.clean_run()
        world.clean_run()
        world.check()
    assert died >= rounds // 3, f"seed {seed}"
    told("SIGKILL at random moments over changing data", "imported = accepted, once each", times=rounds)
