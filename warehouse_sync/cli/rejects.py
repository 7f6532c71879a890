"""`rejects`: refused rows, why they were refused, and where to find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Verb, WholeNumber, shared
from warehouse_sync.cli.output import key_text, print_data, print_json, print_table
from warehouse_sync.cli.session import Session
from warehouse_sync.observe.words import counted

if TYPE_CHECKING:
    from warehouse_sync.state.rows import Reject, Window
    from warehouse_sync.state.store import Store


@click.command(cls=Verb, short_help="Show refused rows and why; dismiss them.")
@shared("config", "select", "exclude", "vars", "output")
@click.option("--all", "everything", is_flag=True, help="Also those that are resolved or dismissed.")
@click.option("--limit", type=WholeNumber(min=1), default=100, show_default=True, metavar="N", help="Oldest ones.")
@click.option(
    "--dismiss",
    multiple=True,
    metavar="ID|KEY",
    help="Take these as known: a number of the first column, or a key (key:1001 for one of digits). Several times.",
)
@click.pass_obj
def rejects(session: Session, everything: bool, limit: int, dismiss: tuple[str, ...]) -> None:
    """Refused rows, with their keys and reasons. A refused row is sent when it changes at the source.

    Of a row without a key the window that met it last is shown, with what that window read of the cursor.

    `warehouse-sync retry` finds mended rows that no run reads any more, because the cursor has passed them.
    """
    session.sends_nothing("warehouse")
    if dismiss:
        _dismiss(session, dismiss)
        return
    from warehouse_sync.state.lifecycle import RejectState

    names = _names(session)
    states = tuple(RejectState) if everything else (RejectState.OPEN,)
    with session.store() as store:
        found = [item for item in store.rejects(session.config.name, states=states) if _is_asked(item, names)]
        windows = _windows(store, found[:limit])
    if session.prints_json:
        for item in found[:limit]:
            print_json(_as_json(item, windows.get(item.window_id)))
    elif not found:
        print_data("no refused rows" if everything else "no open refused rows")
    else:
        _print(found[:limit], windows, with_state=everything)
    if len(found) > limit and not session.prints_json:
        print_data(f"\n{len(found) - limit:,} more: --limit {len(found)}")


def _windows(store: Store, found: Sequence[Reject]) -> dict[int, Window]:
    """The windows that met these rows last, by id."""
    known = {number: store.window(number) for number in {item.window_id for item in found}}
    return {number: window for number, window in known.items() if window is not None}


def _print(found: Sequence[Reject], windows: Mapping[int, Window], *, with_state: bool) -> None:
    with_place = not all(item.key for item in found)
    headings = ["id", "model", "key", "refused", "because", "first run", "last run"]
    headings += [*(["found in"] if with_place else []), *(["state"] if with_state else [])]
    rows = []
    for item in found:
        who, why = refuser(item), sentences(item.reasons)
        row = [str(item.id), item.model, key_text(item.key), who, why, item.first_run, item.last_run]
        row += [None if item.key else _place(item, windows.get(item.window_id))] if with_place else []
        rows.append(row + ([item.state] if with_state else []))
    print_table(headings, rows)


def _place(item: Reject, window: Window | None) -> str:
    """Where to look for a row that has no key: what its window read of the cursor, and the batch that held it."""
    text = f"window {item.window_id}"
    if window is not None:
        text += f", {_span(window)}"
    return text + (f", batch {item.batch_name}" if item.batch_name else "")


def _span(window: Window) -> str:
    start, end = window.read_from, window.cursor_to
    if window.cursor_column is None or (start is None and end is None):
        return f"read {window.started_at:%Y-%m-%d %H:%M} UTC"
    first = "" if start is None else f" from {start.text}"
    return f"{window.cursor_column}{first}" + ("" if end is None else f" to {end.text}")


def _names(session: Session) -> set[str] | None:
    """The selected models; None without a selection: all, also those that have no file any more."""
    if session.flags.select or session.flags.exclude:
        return {model.name for model in session.selected()}
    return None


def _is_asked(item: Reject, names: set[str] | None) -> bool:
    return names is None or item.model in names


def refuser(item: Reject) -> str:
    """Who refused it."""
    from warehouse_sync.state.lifecycle import RejectKind

    return "here, before sending" if item.kind is RejectKind.INVALID else "by Userpilot"


def sentences(codes: Sequence[str]) -> str:
    """Reasons as people read them; a text of Userpilot's own stays as it is."""
    from warehouse_sync.events.reasons import Reason

    known = {reason.code: reason.sentence for reason in Reason}
    return " ".join(known.get(code, code) for code in codes)


def _as_json(item: Reject, window: Window | None) -> dict[str, Any]:
    return {
        "id": item.id,
        "model": item.model,
        "key": item.key,
        "kind": item.kind,
        "reasons": list(item.reasons),
        "sentences": sentences(item.reasons),
        "state": item.state,
        "first_run": item.first_run,
        "last_run": item.last_run,
        "opened_at": item.opened_at,
        "closed_at": item.closed_at,
        "row_hash": item.row_hash.hex(),
        "window": item.window_id,
        "batch": item.batch_name or None,
        "cursor_column": window.cursor_column if window else None,
        "cursor_from": window.read_from.text if window and window.read_from else None,
        "cursor_to": window.cursor_to.text if window and window.cursor_to else None,
    }


def _dismiss(session: Session, wanted: Sequence[str]) -> None:
    from warehouse_sync.errors import UsageError
    from warehouse_sync.state.store import open_store

    names, pipeline = _names(session), session.config.name
    session.keep_log()
    with open_store(session.config.state.url.get_secret_value()) as store:
        known = [item for item in store.rejects(pipeline) if _is_asked(item, names)]
        ids: set[int] = set()
        for text in wanted:
            found = {item.id for item in known if _is_meant(item, text)}
            if not found:
                raise UsageError(
                    f"no open refused row has the id or key {text!r}", hint="`warehouse-sync rejects` lists them."
                )
            ids |= found
        done = store.dismiss(ids)
    session.console.event("rejects_dismissed", f"{counted(done, 'refused row')} dismissed", rows=done)


def _is_meant(item: Reject, text: str) -> bool:
    if text.isdecimal():
        return item.id == int(text)
    return item.key == text.removeprefix("key:")
