"""Every way in which the network and the API can fail, at every moment of a job: nothing lost, nothing twice."""

from __future__ import annotations

import socket

import pytest
from fault_proxy import Proxy
from fault_world import World, quick

from warehouse_sync import checkpoints
from warehouse_sync.state.lifecycle import JobState
from warehouse_sync.state.store import open_store

UPLOADS = {
    "cut-before": "connection cut before the upload",
    "cut-middle": "connection cut in the middle of the upload",
    "cut-after": "connection cut after the upload",
    "reset-after": "connection cut after the upload",
    "cut-answer": "answer cut in the middle",
    "late": "upload delayed past the timeout, arrives later",
    "late-answer": "answer delayed past the timeout",
    "500": "5xx before acceptance",
    "503": "5xx before acceptance",
    "500-after": "5xx after acceptance",
    "502-after": "5xx after acceptance",
    "429": "429 Too Many Requests",
    "409": "409 Conflict",
    "409-after": "409 about our own job",
    "413": "413 Payload Too Large",
    "400": "400 Bad Request, once",
    "html": "answer is a web page",
    "blank": "answer is empty",
    "no-json": "answer is half a JSON text",
    "no-id": "answer without a job id",
}
LISTS = {
    "cut-before": "job list: connection cut",
    "cut-answer": "job list: answer cut in the middle",
    "late-answer": "job list: answer past the timeout",
    "500": "job list: 5xx",
    "429": "job list: 429",
    "html": "job list: a web page",
    "empty": "job list: empty, once",
    "stale": "job list: an old one, once",
    "crowd": "job list: hundreds of others' jobs",
    "twice": "job list: every job listed twice",
}
JOBS = {
    "cut-before": "job status: connection cut",
    "cut-answer": "job status: answer cut in the middle",
    "late-answer": "job status: answer past the timeout",
    "500": "job status: 5xx",
    "404": "job status: 404, once",
    "html": "job status: a web page",
    "other-id": "job status: another job's",
}
ALWAYS = {"cut-after", "late", "409-after", "stale", "404"}
"""Faults that stand for the others in the quick runs."""
HOLDS = "found in the list or sent again; every row imported once"


def faults() -> list[object]:
    """The plans; the cross product runs with the slow ones, a sample of it always."""
    plans: list[tuple[str, dict[str, list[str | None]], str, bool]] = []
    for kind, words in UPLOADS.items():
        plans.append((f"upload-{kind}", {"upload": [kind]}, words, kind in ALWAYS))
        plans.append((f"second-upload-{kind}", {"upload": [None, kind]}, words, False))
        plans.append((f"upload-{kind}-twice", {"upload": [kind, kind]}, words, False))
    for kind, words in LISTS.items():
        plans.append(
            (f"lost-answer-then-list-{kind}", {"upload": ["cut-after"], "list": [None, kind]}, words, kind in ALWAYS)
        )
        plans.append((f"conflict-then-list-{kind}", {"upload": ["409"], "list": [None, kind]}, words, False))
        plans.append((f"never-arrived-then-list-{kind}", {"upload": ["500"], "list": [None, kind]}, words, False))
        plans.append((f"first-list-{kind}", {"list": [kind]}, words, False))
    for kind, words in JOBS.items():
        plans.append((f"job-{kind}", {"job": [kind]}, words, False))
        plans.append((f"second-job-{kind}", {"job": [None, kind, kind]}, words, kind in ALWAYS))
        plans.append((f"lost-answer-then-job-{kind}", {"upload": ["502-after"], "job": [kind]}, words, False))
    return [
        pytest.param(plan, words, id=name, marks=() if always else pytest.mark.slow)
        for name, plan, words, always in plans
    ]


@pytest.mark.parametrize(("plan", "words"), faults())
def test_one_run_gets_through(make_world, server, monkeypatch, told, plan, words):
    quick(monkeypatch, read_timeout=0.5)
    with Proxy(server.url) as proxy:
        world: World = make_world(proxy.url, grace="8s" if "late" in plan.get("upload", []) else "1s")
        proxy.plan(**plan)
        world.run()
        assert proxy.left == 0, proxy.seen
        proxy.clear()
        world.clean_run()
    world.check_equal()
    told(words, HOLDS)


@pytest.mark.parametrize(
    ("point", "fault"),
    [
        pytest.param(point, fault, marks=pytest.mark.slow if fault != always else ())
        for point, always in {
            "after_intent": "late", "after_post": "cut-after", "after_accept": "", "before_complete": ""
        }.items()
        for fault in ("cut-after", "cut-before", "409", "502-after", "late")
    ],
)  # fmt: skip
def test_the_next_run_meets_it_while_it_picks_up_a_job(make_world, server, monkeypatch, told, point, fault):
    quick(monkeypatch, read_timeout=0.5)
    with Proxy(server.url) as proxy:
        world: World = make_world(proxy.url, grace="8s" if fault == "late" else "1s")
        die_at(monkeypatch, world, point)
        proxy.plan(upload=[fault], list=[None, "500", None, "late-answer"], job=["html", "500"])
        world.run()
        proxy.clear()
        world.clean_run()
    world.check_equal()
    told("a run that picks up a job meets faults itself", HOLDS)


def test_a_list_that_is_silent_for_long_leaves_the_job_to_the_next_run(make_world, server, monkeypatch, told):
    quick(monkeypatch, read_timeout=0.5)
    with Proxy(server.url) as proxy:
        world: World = make_world(proxy.url, busy_timeout="1s")
        proxy.plan(upload=["cut-after"], list=[None, *["500"] * 500])
        report = world.run()
        assert report.exit_code == 1
        assert "does not answer" in str(report.stopped)
        assert "the next run goes on" in str(report.stopped)
        assert [job.state for job in world.jobs()] == [JobState.INTENT]
        proxy.clear()
        world.clean_run()
    world.check_equal()
    told("job list: 5xx for longer than `busy_timeout`", "exit 1, the intent is kept; the next run finds the job")


def test_an_api_that_cannot_be_reached(make_world, monkeypatch, told):
    quick(monkeypatch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        world: World = make_world(f"http://127.0.0.1:{taken.getsockname()[1]}", busy_timeout="300ms")
        report = world.run()
    assert report.exit_code == 1
    assert {result.status for result in report.results} == {"skipped"}
    assert all("does not answer" in result.message for result in report.results)
    with open_store(f"sqlite:///{world.folder}/state/state.db", read_only=True) as store:
        (run,) = store.runs("p", 9)
        assert (run.exit_code, len(run.results)) == (1, 4)
        assert store.windows("p") == []
    world.endpoint = world.sandbox.url
    world.write_config()
    world.clean_run()
    world.check_equal()
    told("no connection to the API at all", "exit 1 with results: every model `skipped`; the next run goes on")


def test_reasons_on_a_job_that_completed(make_world, server, monkeypatch, told):
    quick(monkeypatch)
    world: World = make_world()
    server.inject("job:reject-row=u1-7")
    report = world.run()
    assert report.exit_code == 1
    by_name = {result.model: result for result in report.results}
    assert by_name["companies"].status == "success"
    refused = [result for result in report.results if result.status == "partial"]
    assert refused
    assert all(result.counts.rejected == result.new_rejects == 1 for result in refused)
    world.clean_run()
    missing = world.rows() - world.imported()
    assert {row.split()[1] for row in missing} == {"u1-7"}
    assert len(missing) == len(refused)
    told("a completed job with reasons", "those rows are open rejects, the model ends `partial`, exit 1")


def test_an_api_key_does_not_follow_a_redirect(make_world, server, monkeypatch, told):
    quick(monkeypatch)
    with Proxy(server.url) as proxy:
        world: World = make_world(proxy.url)
        proxy.plan(upload=["redirect"])
        report = world.run()
        assert "userpilot.endpoint" in str(report.stopped)
        assert proxy.trapped == []
        world.clean_run()
    world.check_equal()
    told("redirect to another host", "not followed: the API key stays; exit 1, batches kept")


@pytest.mark.parametrize("lie", ["nameless", "other-size"])
def test_lists_that_cannot_tell_let_no_event_go_twice(make_world, server, monkeypatch, told, lie):
    quick(monkeypatch)
    with Proxy(server.url) as proxy:
        world: World = make_world(proxy.url)
        proxy.plan(upload=[None, "cut-after"], list=[None, None, *[lie] * 50])
        report = world.run()
        assert {result.status for result in report.results if result.model in ("clicks", "orders")} == {"error"}
        assert any("--settle" in str(result.error) for result in report.results)
        proxy.clear()
        assert world.run().exit_code == 1, "held until somebody decides"
    imported, rows = world.imported(), world.rows()
    assert imported - rows == type(rows)() or lie == "nameless"
    assert max(n for row, n in imported.items() if row.startswith(("clicks", "orders"))) == 1
    told(
        "lost answer, and a job list without our names or with other sizes",
        "events held and shown each run (`retry --resend` or `--settle`), never twice; profiles go again",
    )


class Died(BaseException):
    """The process is gone, as far as this process can play it."""


def die_at(monkeypatch, world: World, point: str, time: int = 1) -> None:
    """A run that ends at that point."""
    left = [time]

    def watch(reached: str) -> None:
        left[0] -= reached == point
        if reached == point and left[0] == 0:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "watch", watch)
        with pytest.raises(Died):
            world.run()
