"""`demo`: the main job on the sample warehouse and a local Import API, told in the order in which it happens.

The two syncs are real runs. What is printed is the same every time: no clock, no durations.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.cli import sample
from warehouse_sync.cli.output import WIDE, print_data, terminal_width
from warehouse_sync.cli.project_files import CONFIG, WAREHOUSE, project_files, write_files
from warehouse_sync.cli.report import counts_table, save
from warehouse_sync.cli.sandbox import DEFAULT_KEY, DEFAULT_PORT
from warehouse_sync.cli.session import Session, is_terminal
from warehouse_sync.errors import DiskError, UsageError, WarehouseSyncError

if TYPE_CHECKING:
    from warehouse_sync.runs.results import RunReport
    from warehouse_sync.userpilot.sandbox import Sandbox

MARK = ".warehouse-sync-demo"
"""Says that a folder is a demo, and holds the digests of the files that were written into it."""

JOB_SECONDS = 0.2
SHOWN = ("identify_company", "identify_user", "track")
SANDBOX = Path("sandbox")

README = """\
# A demo project of warehouse-sync

`configs/duckdb.yml` and `models_sql/` are the shipped example, `warehouse.duckdb` is a made-up SaaS app. The endpoint
in the config is a stand-in for Userpilot's Import API on this machine. Start it again in one terminal:

    warehouse-sync sandbox --port {port} --dir sandbox

and look around, or change something, in another:

    warehouse-sync plan
    warehouse-sync run
    warehouse-sync status

## With your own account

1. Put your warehouse and your queries in: `warehouse:` in `configs/duckdb.yml`, and `models_sql/*.sql`.
2. In `configs/duckdb.yml`: `api_key: ${{USERPILOT_API_KEY}}`, the `endpoint` that Userpilot's Environment page shows,
   and another `name:`, because what was sent to the sandbox is no part of your account.
3. `warehouse-sync debug`, `warehouse-sync plan`, `warehouse-sync run`.
"""


def play(session: Session, directory: Path) -> int:
    """The whole demo. Returns the exit code; raises UsageError for a folder that is no demo."""
    _clear(directory)
    _make_folder(directory)
    rows = sample.create(directory / WAREHOUSE)
    print_data(f"A sample warehouse, {directory / WAREHOUSE}: {_counted(rows)}.")
    with _sandbox(directory / SANDBOX) as api:
        print_data(f"A stand-in for Userpilot's Import API: {api.url}\n")
        _write_project(directory, api)
        if not _sync(session, directory, "First sync: everything is new."):
            return 1
        before = len(api.imported())
        changed = sample.change(directory / WAREHOUSE)
        print_data(f"A day passes. New or changed since: {_counted(changed)}.\n")
        if not _sync(session, directory, "Second sync: only that is sent."):
            return 1
        print_data("Three of the lines that went over the wire:\n")
        for line in _examples(api.imported()[before:]):
            print_data(f"{line}\n")
        _mark(directory, WAREHOUSE)
        print_data(_epilogue(directory, api))
    return 0


def _clear(directory: Path) -> None:
    """Make room: an earlier demo starts over, unless somebody made it their own."""
    if not directory.exists() or not any(directory.iterdir()):
        return
    mark = directory / MARK
    if not mark.is_file():
        raise UsageError(
            f"{directory} is there already and is no demo of this program",
            hint="name another folder: warehouse-sync demo --dir my-demo",
        )
    written: Mapping[str, str] = json.loads(mark.read_text(encoding="utf-8"))
    for name, digest in written.items():
        path = directory / name
        if path.exists() and _digest(path.read_bytes()) != digest:
            raise UsageError(
                f"{path} was changed since the demo wrote it, and is not written over",
                hint="name another folder: warehouse-sync demo --dir my-demo",
            )
    for name in [*written, str(WAREHOUSE)]:
        (directory / name).unlink(missing_ok=True)
    for name in (".warehouse_sync", str(SANDBOX)):
        shutil.rmtree(directory / name, ignore_errors=True)


def _make_folder(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MARK).write_text("{}", encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{directory} cannot be written: {error.strerror}", hint="name another folder: --dir") from None


def _sandbox(directory: Path) -> Sandbox:
    """The local Import API, on its usual port where that is free."""
    from warehouse_sync.userpilot.sandbox import Sandbox

    try:
        return Sandbox(directory, port=DEFAULT_PORT, api_key=DEFAULT_KEY, job_seconds=JOB_SECONDS)
    except OSError:
        return Sandbox(directory, port=0, api_key=DEFAULT_KEY, job_seconds=JOB_SECONDS)


def _write_project(directory: Path, api: Sandbox) -> None:
    files = project_files(
        {
            "name": "demo",
            "userpilot.api_key": f"{DEFAULT_KEY}                    # the sandbox's; for yours ${{USERPILOT_API_KEY}}",
            "userpilot.endpoint": f"{api.url}         # the sandbox; start it again as README.md says",
        }
    )
    files[Path("README.md")] = README.format(port=_port(api))
    write_files(directory, files)
    _mark(directory, *files)


def _sync(session: Session, directory: Path, title: str) -> bool:
    """One real run of the demo's project; True when every model is a success."""
    from warehouse_sync.runs import run as runs

    inner = Session()
    inner.flags.config = directory / CONFIG
    inner.flags.quiet = not session.flags.debug
    inner.flags.debug = session.flags.debug
    try:
        options = runs.RunOptions(args={"which": "demo"})
        report: RunReport = runs.run(inner.config, inner.policy, inner.selected(), options, _Quiet(session))
        save(inner, report, options.args)
    finally:
        inner.close()
    width = terminal_width() if is_terminal(sys.stdout) else WIDE
    print_data(f"{title}\n\n{counts_table(report.results, width)}\n")
    errors: list[WarehouseSyncError] = [result.error for result in report.results if result.error is not None]
    for error in [*errors, *([report.stopped] if report.stopped else [])]:
        session.console.failure(error)
    return report.exit_code == 0


class _Quiet:
    """Bars and trouble only; the demo tells the rest itself."""

    def __init__(self, session: Session) -> None:
        self._console = session.console

    def event(self, code: str, message: str, *, level: str = "info", **data: Any) -> None:
        """See `Reporter.event`."""
        if level == "info":
            level = "debug"
        self._console.event(code, message, level=level, **data)

    def progress(self, task: str, done: int, total: int | None, unit: str) -> None:
        """See `Reporter.progress`."""
        self._console.progress(task, done, total, unit)


def _examples(lines: list[str]) -> list[str]:
    """One line of each kind, the same ones every time."""
    return [min(line for line in lines if f'"event_type":"{kind}"' in line) for kind in SHOWN]


def _epilogue(directory: Path, api: Sandbox) -> str:
    return (
        f"{directory} is a project to go on with:\n\n"
        f"  cd {directory}\n"
        f"  warehouse-sync sandbox --port {_port(api)} --dir {SANDBOX}   in another terminal: the stand-in again\n"
        "  warehouse-sync status                                where each model stands\n"
        "  warehouse-sync history                               runs, jobs, batches\n"
        "  warehouse-sync plan                                  what a run would send\n"
        "  warehouse-sync run\n\n"
        f"Look at models_sql/users.sql, {CONFIG} and {SANDBOX}/imported.ndjson. README.md there says how to switch to\n"
        "your own account."
    )


def _counted(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in rows.items())


def _port(api: Sandbox) -> str:
    return api.url.rpartition(":")[2]


def _mark(directory: Path, *files: Path) -> None:
    """Remember what these files are as the demo leaves them: changed ones are somebody's own."""
    mark = directory / MARK
    known = json.loads(mark.read_text(encoding="utf-8"))
    known |= {str(path): _digest((directory / path).read_bytes()) for path in files}
    mark.write_text(json.dumps(known, indent=2), encoding="utf-8")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
