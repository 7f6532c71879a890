"""The sandbox: jobs, rows and restarts as the API's pages describe them, over a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from userpilot_helpers import KEY, make_client, ndjson, row

from warehouse_sync.errors import Busy, Refused
from warehouse_sync.userpilot.client import Client, RemoteJob
from warehouse_sync.userpilot.reasons import parse_reason
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.userpilot.sandbox_http import _BadUpload, _Body, _CutShort, save_part
from warehouse_sync.userpilot.sandbox_rows import check_line, inspect

Put = Callable[..., RemoteJob]
Write = Callable[..., tuple[list[Path], int]]
TOKEN = {"Authorization": f"Token {KEY}"}


class Clock:
    """The sandbox's clock, turned by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.25

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("warehouse_sync.userpilot.sandbox.time", SimpleNamespace(time=clock.time))
    return clock


# -- the documented shapes -----------------------------------------------------------------------------------------


def test_the_documented_answers(sandbox: Sandbox, write: Write, clock: Clock) -> None:
    sandbox.job_seconds = 10
    content = ndjson(row(), row("user_2"))
    posted = requests.post(
        f"{sandbox.url}/v1/imports", headers=TOKEN, files={"file": ("2024.ndjson", content)}, timeout=5
    )
    assert posted.status_code == 200
    assert posted.headers["server"] == "Cowboy"
    assert len(posted.headers["x-request-id"]) == 32
    job_id = posted.json()["job_id"]
    assert posted.json() == {
        "end_time": None,
        "file_size": len(content),
        "filename": "2024.ndjson",
        "job_id": job_id,
        "links": f"/v1/background_jobs/{job_id}",
        "start_time": "2023-11-14T22:13:20.250000",
        "status": "queued",
        "total_rows": 0,
    }
    assert job_id.startswith("imports:jobs:NX-5a4db0c5:")
    clock.now += 11
    ended = {
        **posted.json(),
        "elapsed_time": 10,
        "end_time": "2023-11-14T22:13:30.250000",
        "status": "completed",
        "total_rows": 2,
    }
    listed = requests.get(f"{sandbox.url}/v1/background_jobs", headers=TOKEN, timeout=5)
    assert listed.json() == [ended]
    for prefix in ("/v1/background_jobs/", "/api/background_jobs/"):
        one = requests.get(sandbox.url + prefix + job_id, headers=TOKEN, timeout=5)
        assert one.json() == {**ended, "completed_rows": 2}
    assert sandbox.imported() == content.decode().splitlines()
    assert sandbox.imported_path.read_bytes() == content


def test_a_bad_row_fails_the_whole_job_as_documented(put: Put, client: Client, sandbox: Sandbox) -> None:
    bad = {"event_type": "identify_user", "event_name": "", "metadata": {"b": "1", "a": None}}
    job = client.job(put(row("good"), bad, row("good too")).job_id)
    assert job is not None
    assert (job.status, job.total_rows, job.completed_rows, job.elapsed_time) == ("failed", 0, 0, 0)
    assert job.reasons == (
        'Required field `user_id` not provided in the row: %{"event_name" => "", "event_type" => "identify_user", '
        '"metadata" => %{"a" => nil, "b" => "1"}}',
    )
    assert parse_reason(job.reasons[0]).row == bad
    assert sandbox.imported() == []


def test_statuses_follow_the_clock(sandbox: Sandbox, put: Put, client: Client, clock: Clock) -> None:
    sandbox.job_seconds = 100
    job = put(row())
    seen = []
    for _ in range(12):
        found = client.job(job.job_id)
        assert found is not None
        seen.append((found.status, found.completed_rows, found.end_time is None))
        clock.now += 10
    running = ["queued", *["validating"] * 2, *["processing"] * 5, *["pending_refresh"] * 2]
    assert seen == [*((status, 0, True) for status in running), *[("completed", 1, False)] * 2]


def test_a_bad_file_fails_while_it_is_validated(sandbox: Sandbox, put: Put, client: Client, clock: Clock) -> None:
    sandbox.job_seconds = 100
    job = put(row(""))
    clock.now += 29
    assert client.list_jobs()[0].status == "validating"
    assert client.list_jobs()[0].reasons == ()
    clock.now += 1
    found = client.job(job.job_id)
    assert found is not None
    assert (found.status, found.elapsed_time) == ("failed", 30)


def test_one_job_at_a_time(sandbox: Sandbox, put: Put, client: Client, clock: Clock) -> None:
    sandbox.job_seconds = 100
    put(row("a"))
    clock.now += 99
    assert client.list_jobs()[0].status == "pending_refresh"
    with pytest.raises(Busy, match="already in progress"):
        put(row("b"))
    clock.now += 1
    put(row("c"))
    assert len(sandbox.jobs) == 2
    sandbox.finish_jobs()
    assert [json.loads(line)["user_id"] for line in sandbox.imported()] == ["a", "c"]
    assert list(sandbox.uploads.iterdir()) == []


def test_a_finished_job_ends_now(sandbox: Sandbox, put: Put, clock: Clock) -> None:
    sandbox.job_seconds = 100
    put(row())
    clock.now += 7
    sandbox.finish_jobs()
    assert (sandbox.jobs[0]["status"], sandbox.jobs[0]["elapsed_time"]) == ("completed", 7)


def test_the_newest_job_comes_first(put: Put, client: Client) -> None:
    names = [put(row(), name=f"{number}.ndjson").file_name for number in range(3)]
    assert [job.file_name for job in client.list_jobs()] == names[::-1]


def test_a_job_without_seconds_is_over_when_looked_at(put: Put, client: Client) -> None:
    assert put(row()).status == "queued"
    assert client.list_jobs()[0].status == "completed"


def test_forgotten_jobs_leave_their_rows(sandbox: Sandbox, put: Put, client: Client) -> None:
    sandbox.job_seconds = 1000
    job = put(row())
    sandbox.forget_jobs()
    assert client.list_jobs() == ()
    assert client.job(job.job_id) is None
    assert len(sandbox.imported()) == 1


def test_lines_are_kept_as_received(sandbox: Sandbox, client: Client, write: Write) -> None:
    line = b'{ "event_type":"track","event_name":"a\\u0041" ,"user_id":"u",'
    line += b'"source":"backend-http","inserted_at":"2024-01-01"}'
    client.upload("a", *write(line))
    client.upload("b", *write(line + b"\r\n"))
    client.list_jobs()
    assert sandbox.imported_path.read_bytes() == line + b"\n" + line + b"\r\n"


# -- restarts ------------------------------------------------------------------------------------------------------


def test_a_restarted_sandbox_goes_on(tmp_path: Path, write: Write, clock: Clock) -> None:
    with Sandbox(tmp_path / "s", job_seconds=100) as first, make_client(first.url) as client:
        client.upload("done", *write(ndjson(row("a"))))
        clock.now += 100
        running = client.upload("running", *write(ndjson(row("b"))))
        port = int(first.url.rpartition(":")[2])
    (tmp_path / "s" / "uploads" / "half.part").write_bytes(b"cut")
    with (tmp_path / "s" / "imported.ndjson").open("ab") as file:
        file.write(b"appended by a sandbox that was killed before it could say so\n")
    with Sandbox(tmp_path / "s", port=port, job_seconds=100) as second, make_client(second.url) as client:
        assert [(job["filename"], job["status"]) for job in second.jobs] == [
            ("running", "queued"),
            ("done", "completed"),
        ]
        with pytest.raises(Busy):
            client.upload("c", *write(ndjson(row("c"))))
        clock.now += 100
        found = client.job(running.job_id)
        assert found is not None
        assert found.is_completed
        assert [json.loads(line)["user_id"] for line in second.imported()] == ["a", "b"]


def test_serve_forever_blocks_until_closed(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    thread = threading.Thread(target=sandbox.serve_forever)
    thread.start()
    assert requests.get(f"{sandbox.url}/v1/background_jobs", headers=TOKEN, timeout=5).json() == []
    sandbox.close()
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(requests.ConnectionError):
        requests.get(sandbox.url, timeout=5)


def test_closing_cuts_waiting_answers(tmp_path: Path) -> None:
    with Sandbox(tmp_path, faults=["list:delay=60"]) as sandbox:
        connection = socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2])))
        connection.settimeout(5)
        connection.sendall(f"GET /v1/background_jobs HTTP/1.1\r\nAuthorization: Token {KEY}\r\n\r\n".encode())
        time.sleep(0.05)
    with connection:
        while connection.recv(1000):  # ends, and long before the minute is over
            pass


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", ["", "Token wrong", "Bearer sandbox-key", "Token ", "sandbox-key"])
def test_a_bad_key_gets_the_documented_error(sandbox: Sandbox, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for ask in (
        lambda: requests.get(f"{sandbox.url}/v1/background_jobs", headers=headers, timeout=5),
        lambda: requests.post(
            f"{sandbox.url}/v1/imports", headers=headers, files={"file": b"x" * 2_000_000}, timeout=5
        ),
    ):
        answer = ask()
        assert answer.status_code == 401
        assert set(answer.json()["errors"][0]) == {"details", "error", "error_code", "message"}
    assert sandbox.jobs == []


def test_the_older_spelling_of_the_scheme(sandbox: Sandbox) -> None:
    headers = {"Authorization": f"token {KEY}"}
    assert requests.get(f"{sandbox.url}/v1/background_jobs", headers=headers, timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/v1/imports"), ("POST", "/v1/background_jobs"),
        ("GET", "/v1/background_jobs/imports:jobs:x"), ("GET", "/v1/background_jobs/"), ("GET", "/api/background_jobs"),
    ],
)  # fmt: skip
def test_unknown_paths(sandbox: Sandbox, method: str, path: str) -> None:
    answer = requests.request(method, sandbox.url + path, headers=TOKEN, timeout=5)
    assert answer.status_code == 404
    assert answer.json()["errors"]
    assert sandbox.requests[-1] == (method, path, 404)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": ("a.ndjson", b"{}")}, "no part named `file`"),
        ({"file": (None, b"{}")}, "no part named `file`"),
        ({"file": ("a.ndjson", b"")}, "the file is empty"),
    ],
)
def test_forms_without_a_file(sandbox: Sandbox, files: Any, message: str) -> None:
    answer = requests.post(f"{sandbox.url}/v1/imports", headers=TOKEN, files=files, timeout=5)
    assert answer.status_code == 400
    assert message in answer.json()["errors"][0]["message"]
    assert list(sandbox.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "application/json"}, b"{}", 400),
        ({"Content-Type": "multipart/form-data"}, b"{}", 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"no form at all", 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"--b\r\nContent-Disposition: form-data\r\n\r\ncut", 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, iter([b"chunked"]), 411),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"", 400),
    ],
)
def test_bodies_that_are_no_form(sandbox: Sandbox, headers: dict[str, str], body: Any, status: int) -> None:
    answer = requests.post(f"{sandbox.url}/v1/imports", headers=TOKEN | headers, data=body, timeout=5)
    assert answer.status_code == status
    assert sandbox.jobs == []


def test_other_parts_are_passed_over(sandbox: Sandbox) -> None:
    files = [("note", (None, "x")), ("file", ("a", ndjson(row("a")))), ("file", ("b", ndjson(row("b"))))]
    assert requests.post(f"{sandbox.url}/v1/imports", headers=TOKEN, files=files, timeout=5).json()["filename"] == "a"
    assert [json.loads(line)["user_id"] for line in sandbox.imported()] == ["a"]


@pytest.mark.parametrize("path", ["/v1/imports", "/v1/elsewhere"])
def test_a_body_cut_short_makes_no_job(sandbox: Sandbox, path: str) -> None:
    content = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + ndjson(row()) + b"\r\n--b--\r\n"
    )
    head = f"POST {path} HTTP/1.1\r\nAuthorization: Token {KEY}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    for size in (len(content) - 1, len(content) // 2, 3, 0):
        with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as connection:
            connection.sendall(head.encode() + f"Content-Length: {len(content)}\r\n\r\n".encode() + content[:size])
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1000) == b""
    assert sandbox.jobs == []
    assert [request.status for request in sandbox.requests] == [0] * 4
    assert list(sandbox.uploads.iterdir()) == []


def test_a_client_that_talks_nonsense_disturbs_nobody(sandbox: Sandbox, client: Client) -> None:
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as connection:
        connection.sendall(
            f"POST /v1/imports HTTP/1.1\r\nContent-Length: x\r\nAuthorization: Token {KEY}\r\n\r\n".encode()
        )
        assert connection.recv(1000) == b""
    assert client.list_jobs() == ()


@pytest.mark.parametrize("chunk", [1, 3, 7, 64, 262_144])
def test_delimiters_are_found_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("warehouse_sync.userpilot.sandbox_http.CHUNK", chunk)
    content = b"a\r\n--\r\n--bou\r\n\r\n--boundar\r\r\n" * 20
    form = (
        b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + content
        + b"\r\n--boundary--\r\nend"
    )
    path = tmp_path / "x"
    assert save_part(_Body(BytesIO(form), len(form)), b"boundary", path) == "x"
    assert path.read_bytes() == content
    for size in (1, 40, 200, len(form) - 10):
        with pytest.raises(_CutShort):
            save_part(_Body(BytesIO(form[:size]), len(form)), b"boundary", path)
    with pytest.raises(_BadUpload):
        save_part(_Body(BytesIO(form), len(form) - 10), b"boundary", path)


def test_uploads_arrive_fast(sandbox: Sandbox, client: Client, write: Write) -> None:
    rows = ndjson(row(metadata={f"key{number}": "x" * 30 for number in range(8)})) * 10_000
    paths, size = write(rows)
    began = time.perf_counter()
    client.upload("a", paths, size)
    assert time.perf_counter() - began < 2  # 0.1 s on an idle machine
    assert len(sandbox.imported()) == 10_000


# -- rows ----------------------------------------------------------------------------------------------------------

PAGE_VIEW = {"event_type": "page_view", "hostname": "example.com", "pathname": "/", "metadata": ...}
TRACK = {"event_type": "track", "event_name": "clicked"}
COMPANY = {"event_type": "identify_company", "user_id": ..., "company_id": "c"}
WEB = {"source": "web-client", "hostname": "h", "pathname": "/", "user_agent": "Mozilla/5.0"}


@pytest.mark.parametrize(
    "good",
    [
        row(),
        row(**COMPANY),
        row(**PAGE_VIEW),
        row(**TRACK),
        row(metadata=...),
        row(inserted_at="2024-07-28 08:55:35.874555"),
        row(inserted_at="2024-07-28T08:55:35Z"),
        row(**WEB),
        row(**{**WEB, "hostname": ..., "pathname": "", "url": "https://h/"}),
        row(**{**PAGE_VIEW, "hostname": ..., "pathname": ..., "url": "https://h/"}),
        row(**COMPANY | {"source": "web-client", "hostname": 7}),
        row(screen_width=859, unknown=[1]),
        *(
            row(source=source)
            for source in ("backend-http", "backend-hubspot", "backend-salesforce", "backend-segment")
        ),
    ],
)
def test_good_rows(good: dict[str, object]) -> None:
    assert check_line(json.dumps(good).encode()) == ""


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(event_type=...), "Unknown value of field `event_type` provided"),
        (row(event_type=["track"]), "Unknown value of field `event_type` provided"),
        (row(event_type="identify"), "Unknown value of field `event_type` provided"),
        (row(user_id=...), "Required field `user_id` not provided"),
        (row(user_id=None), "Required field `user_id` not provided"),
        (row(user_id=""), "Required field `user_id` not provided"),
        (row(user_id=7), "Field `user_id` is not a string"),
        (row(**COMPANY | {"company_id": ...}), "Required field `company_id` not provided"),
        (row(**TRACK | {"event_name": ""}), "Required field `event_name` not provided"),
        (row(**PAGE_VIEW | {"hostname": ...}), "Required field `hostname` not provided"),
        (row(**PAGE_VIEW | {"pathname": ""}), "Required field `pathname` not provided"),
        (row(**WEB | {"user_agent": ""}), "Required field `user_agent` not provided"),
        (row(**WEB | {"hostname": ...}), "Required field `hostname` not provided"),
        (row(source=...), "Required field `source` not provided"),
        (row(source="web"), "Unknown value of field `source` provided"),
        (row(inserted_at=...), "Required field `inserted_at` not provided"),
        (row(inserted_at="yesterday"), "Field `inserted_at` is not an ISO 8601 time"),
        (row(inserted_at=1_700_000_000), "Field `inserted_at` is not a string"),
        (row(metadata=[]), "Field `metadata` is not an object"),
        (row(metadata=None), "Field `metadata` is not an object"),
    ],
)
def test_bad_rows(bad: dict[str, object], reason: str) -> None:
    found = check_line(json.dumps(bad).encode())
    assert found.startswith(f"{reason} in the row: %{{")
    assert parse_reason(found).row == bad


@pytest.mark.parametrize(
    "line",
    [
        b"", b"[]", b"7", b"{", b"{}{}", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1,"a":2}', b'{"a":"\xff"}',
        b'{"a":"\\ud800"}', b'{"a":"\n"}', b"{'a':1}", b'\xef\xbb\xbf{"a":1}', b'{"a":' + b"[" * 100_000, b'{"a":1}\0',
    ],
)  # fmt: skip
def test_lines_that_are_no_rows(line: bytes) -> None:
    assert check_line(line) in ("Invalid JSON in the file", "A row is not a JSON object")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"user_id\n1\n", "This sandbox reads NDJSON only, not CSV"),
        ("a.ndjson", b"user_id,plan\n", "Invalid JSON in the file"),
        ("a.ndjson", ndjson(row()) + b"\n", "Invalid JSON in the file"),
    ],
)
def test_files_that_fail(client: Client, write: Write, name: str, content: bytes, reason: str) -> None:
    client.upload(name, *write(content))
    assert client.list_jobs()[0].reasons == (reason,)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (list(range(200, 260)), f"[{', '.join(map(str, range(200, 250)))}, ...]"),
        ("x" * 4097, f'"{"x" * 4096}" <> ...'),
        ("\0" * 60, f"<<{', '.join(['0'] * 50)}, ...>>"),
        (
            {f"{number:02}": 0 for number in range(51)},
            "%{" + "".join(f'"{number:02}" => 0, ' for number in range(50)) + "...}",
        ),
        ([97, 98], '~c"ab"'),
        ([], "[]"),
    ],
)
def test_long_values_are_cut_as_elixir_cuts_them(value: object, printed: str) -> None:
    assert inspect(value) == printed


def test_a_refused_answer_to_a_large_upload_is_heard(sandbox: Sandbox, client: Client, write: Write) -> None:
    sandbox.inject("upload:413")
    with pytest.raises(Refused, match="413"):
        client.upload("a", *write(b"x" * 5_000_000))
