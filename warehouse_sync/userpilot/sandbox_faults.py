"""Faults that the sandbox shows on request: one table of kinds, and how they are written on a command line.

    target:kind[=parameter][;retry-after=value][*times]

    upload:500*2                     two uploads answer 500, nothing is accepted
    upload:503-after                 the job is accepted, the answer is 503
    upload:429;retry-after=1*        every upload answers 429 with that header
    job:fail-row=user_7              every job with that user_id or company_id fails and prints the row

`*` without a number is "every time". Faults of one target are used up in the order given, one a request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from warehouse_sync.errors import UsageError

Stage = Literal["before", "after", "outcome"]
"""When a fault acts: instead of the request, on its answer, or on what becomes of the next accepted job."""


class Kind(NamedTuple):
    """One row of the table: which targets know it, when it acts, its parameter, how often, and what it does."""

    targets: tuple[str, ...]
    stage: Stage
    parameter: Literal["", "optional", "text", "number"]
    times: int | None
    sentence: str


_ALL = ("upload", "list", "job")

STATUS = Kind(
    _ALL, "before", "", 1, "answers with this status (`500`, `409`, `429;retry-after=1` …); nothing is accepted"
)
STATUS_AFTER = Kind(("upload",), "after", "", 1, "accepts the job, then answers with this status (`503-after`)")

KINDS: dict[str, Kind] = {
    "drop-before": Kind(_ALL, "before", "", 1, "closes the connection without reading the body"),
    "drop-middle": Kind(("upload",), "before", "", 1, "closes the connection in the middle of the body"),
    "drop-after": Kind(_ALL, "after", "", 1, "does what was asked, then closes the connection without an answer"),
    "delay": Kind(_ALL, "after", "number", 1, "answers this many seconds late"),
    "redirect": Kind(_ALL, "before", "text", 1, "answers 307 to this URL; nothing is accepted"),
    "garbage": Kind(_ALL, "after", "", 1, "answers 200 with a page of HTML"),
    "blank": Kind(_ALL, "after", "", 1, "answers 200 with an empty body"),
    "truncated": Kind(_ALL, "after", "", 1, "closes the connection in the middle of the answer"),
    "no-id": Kind(("upload",), "after", "", 1, "accepts the job, the answer lacks `job_id`"),
    "no-names": Kind(("list", "job"), "after", "", 1, "the answer lacks `filename`"),
    "hide": Kind(("list",), "after", "", 1, "the list lacks the newest import"),
    "empty": Kind(("list", "upload"), "after", "", 1, "the list is empty; for an upload the same as `blank`"),
    "others": Kind(("list",), "after", "number", 1, "the list begins with this many jobs of others"),
    "unknown-status": Kind(("job",), "after", "", 1, "the job's status is a word that is in no page"),
    "fail": Kind(("job",), "outcome", "optional", 1, "the next job fails, with this reason; nothing is imported"),
    "fail-row": Kind(("job",), "outcome", "text", None, "jobs with this user_id or company_id fail, the row is echoed"),
    "fail-silent": Kind(
        ("job",), "outcome", "text", None, "jobs with this user_id or company_id fail, nothing is echoed"
    ),
    "reject-row": Kind(
        ("job",), "outcome", "text", None, "jobs complete without this row, which is echoed as a reason"
    ),
    "partial": Kind(("job",), "outcome", "", 1, "the next job imports the first half of its rows, then fails"),
    "miscount": Kind(("job",), "outcome", "", 1, "the next job completes with a `total_rows` that is one too low"),
    "stuck": Kind(("job",), "outcome", "", 1, "the next job stays in `processing`"),
}


@dataclass(frozen=True)
class Fault:
    """One fault: where, what, with what parameter, how often (None: every time). Raises UsageError for nonsense."""

    target: str
    kind: str
    parameter: str = ""
    times: int | None = 1
    retry_after: str = ""

    def __post_init__(self) -> None:
        row = self.row
        if row is None or self.target not in row.targets:
            raise UsageError(f"no fault {self.target}:{self.kind}", hint=f"Known ones:\n{describe()}")
        wants = row.parameter
        number = re.fullmatch(r"\d+(\.\d+)?", self.parameter, re.ASCII) is not None
        if (
            (wants == "" and self.parameter)
            or (wants == "text" and not self.parameter)
            or (wants == "number" and not number)
        ):
            needs = {"": "takes no parameter", "text": "needs a parameter", "number": "needs a number"}[wants]
            raise UsageError(f"fault {self.target}:{self.kind} {needs}", hint=row.sentence)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read a fault as it is written on a command line."""
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"{text!r} is no fault", hint=f"target:kind[=parameter][;retry-after=value][*times]\n{describe()}"
            )
        known = _row(match["kind"])
        times = (
            (known.times if known else 1) if match["many"] is None else int(match["times"]) if match["times"] else None
        )
        return cls(match["target"], match["kind"], match["parameter"] or "", times, match["retry"] or "")

    @property
    def row(self) -> Kind | None:
        """This fault's row of the table."""
        return _row(self.kind)

    @property
    def stage(self) -> Stage:
        """When this fault acts."""
        row = self.row
        return row.stage if row else "before"

    @property
    def status(self) -> int:
        """The HTTP status of a fault that is a status, else 0."""
        return int(self.kind[:3]) if self.kind[:3].isdigit() else 0


_WRITTEN = re.compile(
    r"(?P<target>\w+):(?P<kind>[a-z0-9-]+)(?:=(?P<parameter>.+?))??(?:;retry-after=(?P<retry>[^;*]+))?"
    r"(?P<many>\*(?P<times>\d*))?",
    re.DOTALL,
)


def _row(kind: str) -> Kind | None:
    if re.fullmatch(r"[345]\d\d", kind, re.ASCII):
        return STATUS
    if re.fullmatch(r"[345]\d\d-after", kind, re.ASCII):
        return STATUS_AFTER
    return KINDS.get(kind)


def describe() -> str:
    """The table as text, a line a kind."""
    rows = {"NNN": STATUS, "NNN-after": STATUS_AFTER, **KINDS}
    return "\n".join(f"  {'|'.join(row.targets)}:{name}  {row.sentence}" for name, row in rows.items())


@dataclass
class Faults:
    """Faults waiting for their turn; not safe between threads by itself."""

    _waiting: list[tuple[Fault, int | None]] = field(default_factory=list)

    def add(self, faults: Iterable[Fault]) -> None:
        """Put faults at the end of the line."""
        self._waiting += [(fault, fault.times) for fault in faults if fault.times != 0]

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()

    def take(self, target: str, fits: Callable[[Fault], bool]) -> Fault | None:
        """The first fault of `target` for which `fits`, one use of it gone; None when there is none."""
        for at, (fault, left) in enumerate(self._waiting):
            if fault.target == target and fits(fault):
                if left == 1:
                    del self._waiting[at]
                elif left is not None:
                    self._waiting[at] = (fault, left - 1)
                return fault
        return None


__all__ = ["KINDS", "Fault", "Faults", "Kind", "describe"]
