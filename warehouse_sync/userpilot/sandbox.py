"""A local Import API: what the pages document, on loopback, with faults on request; for `demo` and tests.

It keeps, in one directory, `jobs.json` (every job), `imported.ndjson` (every imported row's line, as received) and
`uploads/` (files of jobs that have not ended), so that a sandbox started again goes on where the last one stopped.

A job's file is checked when it arrives; its status then follows the clock: queued, validating (where a bad file fails),
processing, pending_refresh, completed, spread over `job_seconds`. Until a job has ended every other upload gets 409.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from warehouse_sync.userpilot.job import COMPLETED, FAILED
from warehouse_sync.userpilot.sandbox_faults import Fault, Faults, Stage
from warehouse_sync.userpilot.sandbox_http import Request, SandboxServer
from warehouse_sync.userpilot.sandbox_rows import Checked, check_file, find_row, inspect, lines
from warehouse_sync.values import iso_utc

STAGES = (("queued", 0.0), ("validating", 0.1), ("processing", 0.3), ("pending_refresh", 0.8))  # share of job_seconds
VALIDATED = 0.3  # a file that is not valid fails at this share
STUCK_STATUS = "processing"

log = logging.getLogger("warehouse_sync.userpilot.sandbox")


@dataclass
class SandboxJob:
    """One job as `jobs.json` keeps it; times are seconds since 1970.

    `seconds`: from its beginning to its end, None for a stuck one; `ends`: the status it ends with; `rows`: how many
    rows are imported then; `total_rows`: how many the API says.
    """

    job_id: str
    filename: str
    file_size: int
    rows: int
    began: float
    seconds: float | None
    ends: str = COMPLETED
    total_rows: int = 0
    reasons: list[str] = field(default_factory=list)
    ended: float | None = None

    def status(self, now: float, job_seconds: float) -> str:
        """The status at `now`, when a whole job takes `job_seconds`."""
        if self.ended is not None:
            return self.ends
        share = (now - self.began) / job_seconds if job_seconds else 0.0
        name = next(name for name, start in reversed(STAGES) if share >= start)
        return STUCK_STATUS if self.seconds is None and (share > VALIDATED or not job_seconds) else name

    def view(self, now: float, job_seconds: float) -> dict[str, Any]:
        """The job object of the list (page "Import API", section 2)."""
        shown: dict[str, Any] = {
            "elapsed_time": int((now if self.ended is None else self.ended) - self.began),
            "end_time": None if self.ended is None else _time(self.ended),
            "file_size": self.file_size,
            "filename": self.filename,
            "job_id": self.job_id,
            "links": f"/v1/background_jobs/{self.job_id}",
            "start_time": _time(self.began),
            "status": self.status(now, job_seconds),
            "total_rows": 0 if self.ended is None else self.total_rows,
        }
        if self.reasons and self.ended is not None:
            shown["reason_for_failure"] = list(self.reasons)
        return shown


@dataclass
class _Outcome:
    """What becomes of an accepted file: how the job ends, and which lines are imported (None: all)."""

    ends: str = COMPLETED
    total_rows: int = 0
    reasons: list[str] = field(default_factory=list)
    keep: set[int] | None = None
    share: float | None = 1.0  # of job_seconds; None: never


class Sandbox:
    """The documented Import API on loopback.

    A context manager serves in a thread of its own; `serve_forever` serves in the caller's. `port` 0 takes a free one.
    `job_seconds` is how long a job takes, 0: over when it is first looked at. The directory is made when missing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "sandbox-key",
        account: str = "NX-5a4db0c5",
        job_seconds: float = 0.0,
        faults: Sequence[Fault | str] | None = None,
    ) -> None:
        self.directory = directory
        self.api_key = api_key
        self.account = account
        self.job_seconds = job_seconds
        self.closing = threading.Event()
        self.uploads = directory / "uploads"
        self._jobs_file = directory / "jobs.json"
        self._lock = threading.RLock()
        self._jobs: list[SandboxJob] = []
        self._imported_bytes = 0
        self._faults = Faults()
        self._requests: deque[Request] = deque(maxlen=10_000)
        self.inject(*(faults or ()))
        self._load()
        self._server = SandboxServer((host, port), self)

    # -- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Sandbox:
        threading.Thread(target=self._server.serve, name="sandbox", daemon=True).start()
        self._server.serving.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def serve_forever(self) -> None:
        """Serve in this thread until `close` is called from another one, or an exception such as KeyboardInterrupt."""
        try:
            self._server.serve()
        finally:
            self.close()

    def close(self) -> None:
        """Stop serving and cut every open connection; jobs stay on disk."""
        self.closing.set()
        self._server.stop()

    # -- what tests and the demo look at ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The endpoint to put into the YAML file."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """Every job as the list shows it, newest first."""
        with self._lock:
            now = self._settle()
            return [job.view(now, self.job_seconds) for job in reversed(self._jobs)]

    @property
    def requests(self) -> list[Request]:
        """The last 10,000 requests, oldest first."""
        with self._lock:
            return list(self._requests)

    @property
    def imported_path(self) -> Path:
        """The file with every imported row, as received."""
        return self.directory / "imported.ndjson"

    def imported(self) -> list[str]:
        """Every imported line, without its newline."""
        with self._lock:
            self._settle()
            return [line.decode() for line in lines(self.imported_path)]

    def inject(self, *faults: Fault | str) -> None:
        """Add faults behind those that still wait; as text in the form of the command line."""
        parsed = [Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
        with self._lock:
            self._faults.add(parsed)

    def clear_faults(self) -> None:
        """Forget the faults that still wait."""
        with self._lock:
            self._faults.clear()

    def finish_jobs(self) -> None:
        """End every running job now, stuck ones too."""
        with self._lock:
            for job in self._running():
                job.seconds = time.time() - job.began
            self._settle()

    def forget_jobs(self) -> None:
        """Wipe the job list, as an API that keeps jobs for some days does; imported rows stay.

        Running jobs are ended first.
        """
        with self._lock:
            self.finish_jobs()
            self._jobs.clear()
            self._save()

    # -- what the server asks --------------------------------------------------------------------------------------

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self._lock:
            self._requests.append(request)
        log.debug("%s %s: %d", *request)

    def fault(self, target: str) -> Fault | None:
        """The fault for this request, used up."""
        with self._lock:
            return self._faults.take(target, lambda fault: fault.stage != _OUTCOME)

    def find(self, job_id: str) -> dict[str, Any] | None:
        """One job as page "Import API", section 3, shows it, with `completed_rows` (OpenAPI)."""
        with self._lock:
            now = self._settle()
            job = next((job for job in self._jobs if job.job_id == job_id), None)
            if job is None:
                return None
            done = 0 if job.ended is None else job.rows
            return {**job.view(now, self.job_seconds), "completed_rows": done}

    def accept(self, file_name: str, path: Path) -> dict[str, Any] | None:
        """Make a job of an uploaded file, which is moved away; None while another job runs."""
        checked = check_file(path, file_name)
        with self._lock:
            now = self._settle()
            if self._running():
                return None
            outcome = self._outcome(path, checked)
            size = path.stat().st_size
            job = SandboxJob(
                job_id=f"imports:jobs:{self.account}:{uuid4()}",
                filename=file_name,
                file_size=size,
                rows=_keep(path, outcome.keep, checked.rows),
                began=now,
                seconds=None if outcome.share is None else outcome.share * self.job_seconds,
                ends=outcome.ends,
                total_rows=outcome.total_rows,
                reasons=outcome.reasons,
            )
            path.replace(self._upload(job))
            self._jobs.append(job)
            self._save()
            shown = job.view(now, self.job_seconds)
            return {key: shown[key] for key in shown if key != "elapsed_time"} | {"status": "queued"}

    # -- jobs ------------------------------------------------------------------------------------------------------

    def _running(self) -> list[SandboxJob]:
        return [job for job in self._jobs if job.ended is None]

    def _settle(self) -> float:
        """End the jobs whose time has come, import their rows, and return the time."""
        now = time.time()
        for job in self._running():
            if job.seconds is not None and now >= job.began + job.seconds:
                self._import(self._upload(job))
                job.ended = max(job.began, min(now, job.began + job.seconds))
                self._save()
                self._upload(job).unlink(missing_ok=True)
        return now

    def _import(self, path: Path) -> None:
        with path.open("rb") as upload, self.imported_path.open("ab") as imported:
            shutil.copyfileobj(upload, imported)
            self._imported_bytes = imported.tell()

    def _upload(self, job: SandboxJob) -> Path:
        return self.uploads / f"{job.job_id.rpartition(':')[2]}.ndjson"

    def _outcome(self, path: Path, checked: Checked) -> _Outcome:
        """How a job with this file ends: by its own rows first, then by the first fault that fits."""
        if checked.reason:
            return _Outcome(FAILED, 0, [checked.reason], set(), VALIDATED)
        found: list[_Outcome] = []

        def fits(fault: Fault) -> bool:
            outcome = _fault_outcome(fault, path, checked.rows) if fault.stage == _OUTCOME else None
            found.extend([outcome] if outcome else [])
            return outcome is not None

        return found[0] if self._faults.take("job", fits) else _Outcome(total_rows=checked.rows)

    # -- disk ------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        self.uploads.mkdir(parents=True, exist_ok=True)
        self.imported_path.touch()
        if self._jobs_file.exists():
            stored = json.loads(self._jobs_file.read_text(encoding="utf-8"))
            self._jobs = [SandboxJob(**job) for job in stored["jobs"]]
            self._imported_bytes = stored["imported_bytes"]
        kept = {self._upload(job) for job in self._running()}
        for path in set(self.uploads.iterdir()) - kept:
            path.unlink()
        # What a killed sandbox appended without recording it is imported again when its job is settled.
        with self.imported_path.open("r+b") as imported:
            imported.truncate(self._imported_bytes)

    def _save(self) -> None:
        stored = {"imported_bytes": self._imported_bytes, "jobs": [asdict(job) for job in self._jobs]}
        written = self._jobs_file.with_suffix(".tmp")
        written.write_text(json.dumps(stored), encoding="utf-8")
        written.replace(self._jobs_file)


_OUTCOME: Stage = "outcome"


def _time(moment: float) -> str:
    return iso_utc(datetime.fromtimestamp(moment, UTC))


def _fault_outcome(fault: Fault, path: Path, rows: int) -> _Outcome | None:
    """What a fault makes of a good file with `rows` rows; None when the fault waits for another file."""
    if fault.kind == "fail":
        return _Outcome(FAILED, 0, [fault.parameter or "The import failed"], set(), VALIDATED)
    if fault.kind == "partial":
        return _Outcome(FAILED, rows, ["The import stopped before its end"], set(range(rows // 2)))
    if fault.kind == "miscount":
        return _Outcome(total_rows=rows - 1)
    if fault.kind == "stuck":
        return _Outcome(total_rows=rows, share=None)
    found = find_row(path, fault.parameter)
    if found is None:
        return None
    number, row = found
    echo = f"Invalid value in the row: {inspect(row)}"
    if fault.kind == "reject-row":
        return _Outcome(COMPLETED, rows - 1, [echo], set(range(rows)) - {number})
    return _Outcome(FAILED, 0, [echo if fault.kind == "fail-row" else "The import failed"], set(), VALIDATED)


def _keep(path: Path, keep: set[int] | None, rows: int) -> int:
    """Leave only some lines in a file, each ended by a newline; how many there are."""
    kept = list(lines(path)) if keep is not None or not _ends_with_newline(path) else None
    if kept is None:
        return rows
    chosen = [line for number, line in enumerate(kept) if keep is None or number in keep]
    path.write_bytes(b"".join(line + b"\n" for line in chosen))
    return len(chosen)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


__all__ = ["Fault", "Request", "Sandbox"]
