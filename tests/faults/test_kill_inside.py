"""SIGKILL around the merge of a snapshot that lies in the warehouse: every row is imported once."""

from __future__ import annotations

import pytest
from fault_processes import Nursery
from fault_world import World

from warehouse_sync.checkpoints import VARIABLE

INSIDE = "snapshot: {where: warehouse, schema: sync}\n"


AROUND_A_MERGE = [
    "snapshot_written",
    *(pytest.param(p, marks=pytest.mark.slow) for p in ("after_complete", "snapshot_published", "merge_recorded")),
]


@pytest.mark.slow
@pytest.mark.parametrize("point", AROUND_A_MERGE)
def test_a_run_that_is_killed_around_a_merge_in_the_warehouse(make_world, nursery: Nursery, point):
    world: World = make_world()
    world.write_config(INSIDE)
    assert nursery.start(world.folder, **{VARIABLE: point}).wait() == -9
    again = nursery.start(world.folder)
    assert again.wait() == 0, again.said
    world.check_equal()
    world.add()
    world.change()
    assert nursery.start(world.folder, **{VARIABLE: f"{point}:2"}).wait() == -9
    world.clean_run()
    world.check()
    assert world.clean_run().results[0].counts.delivered == 0
