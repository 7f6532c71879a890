"""What stops a model whose source looks wrong, after it was read and before anything of it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from warehouse_sync.errors import ModelError
from warehouse_sync.project.quantities import Allowance
from warehouse_sync.values import Counts, Model

FEWEST_WINDOWS = 3
"""Past windows that sent rows, until their median says anything."""
REASONS_NAMED = 3
"""Of invalid rows, the most frequent reasons that are named."""


@dataclass(frozen=True)
class KnownKeys:
    """How many keys are `known` to have been delivered, how many of those are `gone` from the source, and how many were
    gone `before`, when the last window settled. Those that came back since are taken for ones that never went."""

    known: int = 0
    gone: int = 0
    before: int = 0

    @property
    def lost(self) -> int:
        """Keys that are gone now, and were not before."""
        return max(self.gone - self.before, 0)

    @property
    def left(self) -> int:
        """Keys that were there before."""
        return max(self.known - self.before, 0)


@dataclass(frozen=True)
class Guard:
    """The YAML's `guard` and `invalid.stop_above`; None switches one off.

    `max_rows`: rows of one window; `max_times_median`: the same as a multiple of the median of past windows that sent
    any; `max_removed`: delivered keys that may be gone from the source since the last window, of those that were there
    then; `stop_above`: invalid rows of those read.
    """

    stop_above: Allowance
    max_rows: int | None = None
    max_times_median: float | None = None
    max_removed: Allowance | None = None

    def check(
        self,
        model: Model,
        counts: Counts,
        keys: KnownKeys,
        past: Callable[[], list[int] | None],
        reasons: Callable[[], Mapping[str, int]],
    ) -> None:
        """Raises ModelError, with the numbers and the way on.

        `past()`: rows sent by past windows, of the model as it is now, None when there is nothing to compare with;
        `reasons()`: code -> invalid rows.
        """
        sending = counts.added + counts.changed
        if self.stop_above.exceeded(counts.invalid, counts.read):
            what = f"{counts.invalid:,} of {counts.read:,} rows are invalid{_named(reasons())}"
            raise _stop(model, what, "invalid.stop_above")
        if self.max_rows is not None and sending > self.max_rows:
            raise _stop(model, f"{sending:,} rows would be sent", "guard.max_rows")
        if self.max_removed is not None and self.max_removed.exceeded(keys.lost, keys.left):
            gone = f"{keys.lost:,} of {keys.left:,} delivered keys are gone from the source"
            gone += f" ({keys.before:,} more were gone before)" if keys.before else ""
            raise _stop(model, gone if counts.read else f"the source is empty: {gone}", "guard.max_removed")
        if self.max_times_median is not None:
            windows = past()
            sent = [rows for rows in windows or () if rows]
            usual = median(sent) if len(sent) >= FEWEST_WINDOWS else 0 if windows is None else keys.known
            if usual and sending > self.max_times_median * usual:
                what = f"{sending:,} rows would be sent, usually it is about {usual:,.0f}"
                raise _stop(model, what, "guard.max_times_median")


def _named(reasons: Mapping[str, int]) -> str:
    """The most frequent reasons, in parentheses; a row may have several."""
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{rows:,} {code}" for code, rows in most[:REASONS_NAMED]]
    return f" ({', '.join(parts + ['and more'] * (len(most) > REASONS_NAMED))})" if parts else ""


def _stop(model: Model, what: str, key: str) -> ModelError:
    return ModelError(
        f"{what}, more than `{key}` allows; nothing was sent",
        path=model.path,
        hint=f"`warehouse-sync plan -s {model.name}` shows keys and reasons; if they are right, raise `{key}`.",
    )
