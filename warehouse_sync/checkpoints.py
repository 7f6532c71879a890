"""Named moments of a run at which tests let the process die; nothing happens at them otherwise.

`WAREHOUSE_SYNC_TEST_KILL_AT=after_post` kills the process (SIGKILL) when it gets there, `after_post:3` the third time.
The list is the program of the crash tests: after a death at each of these moments the next run has to put things right.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable

VARIABLE = "WAREHOUSE_SYNC_TEST_KILL_AT"

POINTS: dict[str, str] = {
    "run_begun": "the run is recorded, nothing else is done",
    "window_begun": "a window is recorded as `extracting`, no row is read",
    "rows_written": "some rows of a batch are in a file that has no name yet",
    "files_sealed": "all files of a window have their names, the state knows none of them",
    "window_ready": "the window and its batches are recorded, no job has them",
    "after_intent": "a job is recorded, nothing is uploaded",
    "before_post": "the upload is about to begin",
    "after_post": "the API took the job, nobody wrote it down",
    "after_accept": "the job's id is recorded",
    "before_complete": "the job is over, nobody wrote it down",
    "after_complete": "its batches are delivered, the snapshot does not hold them",
    "job_failed": "the job failed and its batches are sealed again, no row is set aside",
    "children_written": "the files of a batch's children have their names, the state knows none of them",
    "children_recorded": "the children have taken the batch's place",
    "snapshot_written": "the new snapshot is written, the old one still stands",
    "snapshot_published": "the new snapshot stands, the state does not know",
    "merge_recorded": "the state knows the new snapshot, the merged files are still there",
    "run_over": "everything is done but the run's end is not recorded",
}

watch: Callable[[str], None] | None = None
"""A test's own idea of what happens at a point, in this process."""

_passed: Counter[str] = Counter()


def checkpoint(point: str) -> None:
    """The run is at `point` (a key of POINTS)."""
    if watch is not None:
        watch(point)
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    name, _, times = wanted.partition(":")
    if name == point:
        _passed[point] += 1
        if _passed[point] == int(times or 1):
            os.kill(os.getpid(), signal.SIGKILL)


__all__ = ["POINTS", "VARIABLE", "checkpoint"]
