"""Every fault that the sandbox knows, as the client meets it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from userpilot_helpers import Scripted, http, make_client, ndjson, row

from warehouse_sync.errors import Busy, Refused, Throttled, Unclear, UsageError, WarehouseSyncError
from warehouse_sync.userpilot.client import Client, RemoteJob
from warehouse_sync.userpilot.reasons import parse_reason
from warehouse_sync.userpilot.sandbox import Fault, Sandbox
from warehouse_sync.userpilot.sandbox_faults import KINDS, Faults, describe

Put = Callable[..., RemoteJob]
Write = Callable[..., tuple[list[Path], int]]


# -- how faults are written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("upload:500", Fault("upload", "500")),
        ("upload:500*2", Fault("upload", "500", times=2)),
        ("upload:409*", Fault("upload", "409", times=None)),
        (" upload:503-after ", Fault("upload", "503-after")),
        ("upload:429;retry-after=1", Fault("upload", "429", retry_after="1")),
        (
            "upload:429;retry-after=Wed, 21 Oct 2015 07:28:00 GMT*3",
            Fault("upload", "429", "", 3, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ),
        ("upload:delay=0.5", Fault("upload", "delay", "0.5")),
        ("upload:redirect=http://h/?a=b:1*2", Fault("upload", "redirect", "http://h/?a=b:1", 2)),
        ("list:others=200", Fault("list", "others", "200")),
        ("job:fail", Fault("job", "fail")),
        ("job:fail=2 * 2 is %{a: 1}*2", Fault("job", "fail", "2 * 2 is %{a: 1}", 2)),
        ("job:fail-row=user_7", Fault("job", "fail-row", "user_7", None)),
        ("job:fail-row=user_7*1", Fault("job", "fail-row", "user_7", 1)),
        ("job:404*2", Fault("job", "404", times=2)),
    ],
)
def test_parse(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no fault"),
        ("upload", "is no fault"),
        ("upload:500**", "is no fault"),
        ("download:500", "no fault download:500"),
        ("upload:200", "no fault upload:200"),
        ("upload:600", "no fault upload:600"),
        ("list:500-after", "no fault list:500-after"),
        ("upload:explode", "no fault upload:explode"),
        ("job:hide", "no fault job:hide"),
        ("upload:delay", "needs a number"),
        ("upload:delay=soon", "needs a number"),
        ("upload:redirect", "needs a parameter"),
        ("job:fail-row", "needs a parameter"),
        ("upload:500=7", "takes no parameter"),
    ],
)
def test_nonsense_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Fault.parse(text)
    assert caught.value.hint


def test_every_kind_is_described() -> None:
    text = describe()
    for kind in KINDS:
        assert f":{kind}  " in text


def test_faults_are_used_up_in_order() -> None:
    faults = Faults()
    faults.add(
        [
            Fault("upload", "500", times=2),
            Fault("list", "500", times=None),
            Fault("upload", "409"),
            Fault("job", "fail", times=0),
        ]
    )
    taken = [found.kind if (found := faults.take("upload", lambda fault: True)) else "" for _ in range(4)]
    assert taken == ["500", "500", "409", ""]
    assert faults.take("job", lambda fault: True) is None
    assert all(faults.take("list", lambda fault: True) for _ in range(5))


# -- uploads -------------------------------------------------------------------------------------------------------

UPLOADS = {  # fault: the error it becomes, and whether the job was accepted
    "upload:400": (Refused, False),
    "upload:409": (Busy, False),
    "upload:413": (Refused, False),
    "upload:429": (Throttled, False),
    "upload:500": (Unclear, False),
    "upload:503-after": (Unclear, True),
    "upload:409-after": (Busy, True),
    "upload:drop-before": (Unclear, False),
    "upload:drop-middle": (Unclear, False),
    "upload:drop-after": (Unclear, True),
    "upload:garbage": (Unclear, True),
    "upload:blank": (Unclear, True),
    "upload:empty": (Unclear, True),
    "upload:truncated": (Unclear, True),
    "upload:no-id": (Unclear, True),
}


@pytest.mark.parametrize("fault", UPLOADS)
@pytest.mark.parametrize("size", [1, 20_000])
def test_upload_faults(sandbox: Sandbox, client: Client, put: Put, fault: str, size: int) -> None:
    error, accepted = UPLOADS[fault]
    sandbox.inject(fault)
    with pytest.raises(WarehouseSyncError) as caught:
        put(*[row()] * size)
    assert type(caught.value) is error
    assert len(client.list_jobs()) == accepted
    assert len(sandbox.imported()) == accepted * size
    assert list(sandbox.uploads.iterdir()) == []
    put(*[row()] * size)  # the fault is used up
    assert len(client.list_jobs()) == accepted + 1


def test_retry_after(sandbox: Sandbox, put: Put) -> None:
    sandbox.inject("upload:429;retry-after=7", "upload:429")
    for expected in (7.0, None):
        with pytest.raises(Throttled) as caught:
            put(row())
        assert caught.value.retry_after == expected


def test_a_redirected_upload_goes_nowhere(sandbox: Sandbox, put: Put, scripted: Callable[..., Scripted]) -> None:
    other = scripted(http("200 OK", {}))
    sandbox.inject(f"upload:redirect={other.url}/v1/imports")
    with pytest.raises(Unclear, match="307"):
        put(row())
    assert other.seen == []
    assert sandbox.jobs == []


def test_a_late_answer(sandbox: Sandbox, write: Write) -> None:
    sandbox.inject("upload:delay=1", "list:delay=0.02")
    with make_client(sandbox.url, timeout=0.2) as client:
        with pytest.raises(Unclear, match="no answer within"):
            client.upload("a", *write(ndjson(row())))
        began = time.perf_counter()
        assert len(client.list_jobs()) == 1
        assert time.perf_counter() - began >= 0.02


def test_a_fault_after_acceptance_does_not_hide_a_running_job(sandbox: Sandbox, put: Put) -> None:
    sandbox.inject("job:stuck")
    put(row())
    sandbox.inject("upload:503-after")
    with pytest.raises(Busy):
        put(row())


# -- the list ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("list:500", Unclear), ("list:429", Throttled), ("list:404", Refused), ("list:garbage", Unclear),
        ("list:blank", Unclear), ("list:truncated", Unclear), ("list:drop-before", Unclear),
        ("list:drop-after", Unclear),        ("list:redirect=http://127.0.0.1:1/", Refused),
    ],
)  # fmt: skip
def test_list_faults(sandbox: Sandbox, client: Client, put: Put, fault: str, error: type[Exception]) -> None:
    put(row())
    sandbox.inject(fault)
    with pytest.raises(error):
        client.list_jobs()
    assert len(client.list_jobs()) == 1


def test_lists_that_lie(sandbox: Sandbox, client: Client, put: Put) -> None:
    put(row(), name="first")
    put(row(), name="second")
    sandbox.inject("list:empty", "list:hide", "list:no-names", "list:others=200")
    assert client.list_jobs() == ()
    assert [job.file_name for job in client.list_jobs()] == ["first"]
    assert [job.file_name for job in client.list_jobs()] == ["", ""]
    others = client.list_jobs()
    assert len(others) == 102
    assert [job.file_name for job in others[-2:]] == ["second", "first"]
    assert len(client.list_jobs()) == 2


def test_faults_can_be_cleared(sandbox: Sandbox, client: Client) -> None:
    sandbox.inject(Fault("list", "500", times=None))
    sandbox.clear_faults()
    assert client.list_jobs() == ()


# -- one job -------------------------------------------------------------------------------------------------------


def test_job_faults_on_the_answer(sandbox: Sandbox, client: Client, put: Put) -> None:
    job = put(row())
    sandbox.inject("job:404")
    assert client.job(job.job_id) is not None  # the second path answers
    sandbox.inject("job:404*2")
    assert client.job(job.job_id) is None
    sandbox.inject("job:unknown-status", "job:no-names", "job:500*2", "job:garbage*2", "job:drop-after")
    odd = client.job(job.job_id)
    assert odd is not None
    assert not odd.is_terminal
    nameless = client.job(job.job_id)
    assert nameless is not None
    assert nameless.file_name == ""
    for _ in range(3):
        with pytest.raises(Unclear):
            client.job(job.job_id)
    assert client.job("imports:jobs:NX-1:x") is None


def test_an_unknown_job_stays_unknown_whatever_the_fault(sandbox: Sandbox, client: Client) -> None:
    sandbox.inject("job:unknown-status", "job:500")
    with pytest.raises(Unclear):
        client.job("imports:jobs:NX-1:x")


def ended(client: Client, job: RemoteJob) -> RemoteJob:
    found = client.job(job.job_id)
    assert found is not None
    return found


def users(sandbox: Sandbox) -> list[str]:
    return [json.loads(line)["user_id"] for line in sandbox.imported()]


def test_a_job_fails_with_a_reason(sandbox: Sandbox, client: Client, put: Put) -> None:
    sandbox.inject("job:fail=Disk quota exceeded", "job:fail")
    for reason in ("Disk quota exceeded", "The import failed"):
        job = ended(client, put(row()))
        assert (job.status, job.reasons, job.total_rows, job.completed_rows) == ("failed", (reason,), 0, 0)
    assert ended(client, put(row())).is_completed
    assert len(sandbox.imported()) == 1


def test_a_row_fails_every_job_that_holds_it(sandbox: Sandbox, client: Client, put: Put) -> None:
    sandbox.inject("job:fail-row=bad")
    for _ in range(2):
        job = ended(client, put(row("a"), row("bad"), row("b")))
        assert job.is_failed
        assert parse_reason(job.reasons[0]).row == row("bad")
    assert ended(client, put(row("a"), row("b"))).is_completed
    assert users(sandbox) == ["a", "b"]


def test_a_row_fails_without_an_echo(sandbox: Sandbox, client: Client, put: Put) -> None:
    sandbox.inject("job:fail-silent=c_7")
    company = row("", event_type="identify_company", company_id="c_7")
    job = ended(client, put(row("a"), company))
    assert (job.is_failed, job.reasons) == (True, ("The import failed",))
    assert ended(client, put(row("a"))).is_completed


def test_a_row_is_rejected_by_a_job_that_completes(sandbox: Sandbox, client: Client, put: Put) -> None:
    sandbox.inject("job:reject-row=bad")
    job = ended(client, put(row("a"), row("bad"), row("b")))
    assert (job.is_completed, job.total_rows, job.completed_rows) == (True, 2, 2)
    assert parse_reason(job.reasons[0]).row == row("bad")
    assert users(sandbox) == ["a", "b"]


def test_a_job_stops_half_way(sandbox: Sandbox, client: Client, put: Put) -> None:
    sandbox.inject("job:partial")
    job = ended(client, put(*(row(str(number)) for number in range(5))))
    assert (job.is_failed, job.total_rows, job.completed_rows) == (True, 5, 2)
    assert users(sandbox) == ["0", "1"]


def test_a_job_counts_wrong(sandbox: Sandbox, client: Client, put: Put) -> None:
    sandbox.inject("job:miscount")
    job = ended(client, put(row("a"), row("b")))
    assert (job.is_completed, job.total_rows) == (True, 1)
    assert users(sandbox) == ["a", "b"]


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_a_job_is_stuck_until_it_is_finished(sandbox: Sandbox, client: Client, put: Put, seconds: float) -> None:
    sandbox.job_seconds = seconds
    sandbox.inject("job:stuck")
    job = put(row("a"))
    time.sleep(2 * seconds)
    assert ended(client, job).status == "processing"
    with pytest.raises(Busy):
        put(row("b"))
    sandbox.finish_jobs()
    assert ended(client, job).is_completed
    assert users(sandbox) == ["a"]


def test_faults_of_the_file_wait_for_a_good_file(sandbox: Sandbox, client: Client, put: Put) -> None:
    sandbox.inject("job:fail=later")
    assert "user_id" in ended(client, put(row(""))).reasons[0]
    assert ended(client, put(row())).reasons == ("later",)
