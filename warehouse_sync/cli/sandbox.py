"""`sandbox` and `schema`: the documented Import API on loopback, and the JSON Schema of the YAML file."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import click

from warehouse_sync.cli.options import Verb, WholeNumber, shared
from warehouse_sync.cli.output import print_data
from warehouse_sync.cli.session import Session
from warehouse_sync.observe.words import counted

DEFAULT_PORT = 8642
DEFAULT_KEY = "sandbox-key"


@click.command(cls=Verb, short_help="Serve the documented Import API on this machine.")
@shared()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=WholeNumber(0, 65535), default=DEFAULT_PORT, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sandbox"),
    show_default=True,
    help="Folder of what it imports; an earlier one goes on.",
)
@click.option("--api-key", default=DEFAULT_KEY, show_default=True, help="The key that it accepts.")
@click.option(
    "--job-seconds", type=click.FloatRange(min=0), default=1.0, show_default=True, help="How long an import job takes."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT",
    help="Go wrong on purpose: 'upload:500*2', 'job:fail'; 'help' lists all. Several times.",
)
@click.pass_obj
def sandbox(
    session: Session, /, host: str, port: int, directory: Path, faults: tuple[str, ...], **settings: Any
) -> int:
    """Serve the documented Import API on this machine, for trying things without an account.

    Prints its endpoint, then serves until Ctrl-C. Rows are checked as Userpilot documents it; what it imported is in
    imported.ndjson below --dir.
    """
    from warehouse_sync.errors import DiskError, UsageError
    from warehouse_sync.userpilot.sandbox import Sandbox
    from warehouse_sync.userpilot.sandbox_faults import describe

    if "help" in faults:
        print_data("target:kind[=parameter][;retry-after=value][*times]\n" + describe())
        return 0
    try:
        server = Sandbox(directory, host=host, port=port, faults=faults, **settings)
    except OSError as error:
        if error.filename is not None:
            raise DiskError(f"{error.filename} cannot be written: {error.strerror}", hint="Choose --dir.") from None
        raise UsageError(
            f"{host}:{port} cannot be used: {error.strerror}", hint="Choose another --port, or 0 for a free one."
        ) from None
    print_data(server.url)
    _flush()
    session.console.event(
        "sandbox_listening",
        f"Import API on {server.url}, API key {settings['api_key']}; imported rows go to {server.imported_path}\n"
        "Ctrl-C ends it.",
        url=server.url,
    )
    _serve(server)
    session.console.event("sandbox_stopped", f"stopped; {counted(len(server.jobs), 'job is')} kept in {directory}")
    return 0


def _serve(server: Any) -> None:
    """Until SIGINT or SIGTERM; either is the way to end it, and no fault."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _flush() -> None:
    import sys

    sys.stdout.flush()


@click.command(cls=Verb, short_help="Print the JSON Schema of the YAML file.")
@shared()
@click.pass_obj
def schema(session: Session) -> None:
    """Print the JSON Schema of the YAML file, for completion in an editor."""
    from warehouse_sync.cli.project_files import schema_text

    print_data(schema_text().rstrip("\n"))
