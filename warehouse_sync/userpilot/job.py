"""An import job as the API describes it, read leniently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IMPORT_PREFIX = "imports:jobs:"
ACCOUNT = re.compile(r"\w+:jobs:(NX-[^:]+):.")

COMPLETED = "completed"
FAILED = "failed"
MAX_WORD = 60
AT_WORK = ("queued", "validating", "processing", "pending_refresh")


@dataclass(frozen=True)
class RemoteJob:
    """A job as the API last described it (page "Import API"; OpenAPI for `completed_rows`).

    `status` is in lower case, '' when missing; times are as given (naive ISO text in every example); counts are None
    when missing or no number. `reasons` can hold whole rows: they are not in `repr`. `request_id` is of the answer that
    described the job.
    """

    job_id: str
    status: str = ""
    file_name: str = ""
    file_size: int | None = None
    total_rows: int | None = None
    completed_rows: int | None = None
    start_time: str | None = None
    end_time: str | None = None
    elapsed_time: float | None = None
    reasons: tuple[str, ...] = field(default=(), repr=False)
    links: str = ""
    request_id: str = ""

    @classmethod
    def read(cls, payload: Mapping[str, Any], request_id: str = "", *, expected: str = "") -> RemoteJob:
        """A job from JSON: integers or strings, missing keys and nulls are all taken.

        `expected` is the id where the answer names none.
        """
        reasons = payload.get("reason_for_failure")
        listed = reasons if isinstance(reasons, list) else [] if reasons is None else [reasons]
        return cls(
            job_id=_text(payload.get("job_id")) or expected,
            status=_plain(payload.get("status")).lower(),
            file_name=_text(payload.get("filename")),
            file_size=_count(payload.get("file_size")),
            total_rows=_count(payload.get("total_rows")),
            completed_rows=_count(payload.get("completed_rows")),
            start_time=_plain(payload.get("start_time")) or None,
            end_time=_plain(payload.get("end_time")) or None,
            elapsed_time=_number(payload.get("elapsed_time")),
            reasons=tuple(str(reason) for reason in listed if reason not in (None, "")),
            links=_text(payload.get("links")),
            request_id=request_id,
        )

    @property
    def is_import(self) -> bool:
        """True for the ids of imports: the list has jobs of other kinds too."""
        return self.job_id.startswith(IMPORT_PREFIX)

    @property
    def account(self) -> str | None:
        """The app token (`NX-…`) inside an id `imports:jobs:NX-…:<uuid>`; None for an id of another shape."""
        match = ACCOUNT.match(self.job_id)
        return match.group(1) if match and self.is_import else None

    @property
    def is_terminal(self) -> bool:
        """True when the job has ended; a status that is not known has not."""
        return self.is_completed or self.is_failed

    @property
    def is_over(self) -> bool:
        """True when it has ended, maybe in a way that is not known: another status, and an `end_time`."""
        return self.is_terminal or (self.end_time is not None and self.status not in ("", *AT_WORK))

    @property
    def is_completed(self) -> bool:
        """True when the job ended well."""
        return self.status == COMPLETED

    @property
    def is_failed(self) -> bool:
        """True when the job ended badly."""
        return self.status == FAILED


def _text(value: object) -> str:
    """A text that can be printed on one line, stored and put into a URL as it is; '' for every other value."""
    text = value.strip() if isinstance(value, str) else ""
    return text if text.isprintable() else ""


def _plain(value: object) -> str:
    """What can be printed of a text."""
    text = value if isinstance(value, str) else ""
    return "".join(letter for letter in text.strip() if letter.isprintable())[:MAX_WORD]


def _number(value: object) -> float | None:
    """A number from a number or its text; None for everything else, booleans too."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,18}(\.\d*)?\s*", value, re.ASCII):
        return float(value)
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18 else None
    )


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(value if isinstance(value, int) else number)


__all__ = ["ACCOUNT", "COMPLETED", "FAILED", "RemoteJob"]
