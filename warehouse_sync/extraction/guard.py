"""What stops a model whose source looks wrong, after it was read and before anything of it is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from warehouse_sync.errors import ModelError
from warehouse_sync.project.quantities import Allowance
from warehouse_sync.values import Counts, Model

FEWEST_WINDOWS = 3
"""Past windows that sent rows, until their median says anything."""


@dataclass(frozen=True)
class Guard:
    """The YAML's `guard` and `invalid.stop_above`; None switches one off.

    `max_rows`: rows of one window; `max_times_median`: the same as a multiple of the median of past windows that sent
    any; `max_removed`: delivered keys that may be gone from the source; `stop_above`: invalid rows of those read.
    """

    stop_above: Allowance
    max_rows: int | None = None
    max_times_median: float | None = None
    max_removed: Allowance | None = None

    def check(self, model: Model, counts: Counts, known_keys: int, past: Callable[[], list[int] | None]) -> None:
        """Raises ModelError, with the numbers and the way on.

        `known_keys`: keys of the snapshot, of which `counts.removed` are gone; `past()`: rows sent by past windows, of
        the model as it is now, None when there is nothing to compare with.
        """
        sending = counts.added + counts.changed
        if self.stop_above.exceeded(counts.invalid, counts.read):
            raise _stop(model, f"{counts.invalid:,} of {counts.read:,} rows are invalid", "invalid.stop_above")
        if self.max_rows is not None and sending > self.max_rows:
            raise _stop(model, f"{sending:,} rows would be sent", "guard.max_rows")
        if self.max_removed is not None and self.max_removed.exceeded(counts.removed, known_keys):
            gone = f"{counts.removed:,} of {known_keys:,} delivered keys are gone from the source"
            raise _stop(model, gone if counts.read else f"the source is empty: {gone}", "guard.max_removed")
        if self.max_times_median is not None:
            windows = past()
            sent = [rows for rows in windows or () if rows]
            usual = median(sent) if len(sent) >= FEWEST_WINDOWS else 0 if windows is None else known_keys
            if usual and sending > self.max_times_median * usual:
                what = f"{sending:,} rows would be sent, usually it is about {usual:,.0f}"
                raise _stop(model, what, "guard.max_times_median")


def _stop(model: Model, what: str, key: str) -> ModelError:
    return ModelError(
        f"{what}, more than `{key}` allows; nothing was sent",
        path=model.path,
        hint=f"`warehouse-sync plan -s {model.name}` shows keys and reasons; if they are right, raise `{key}`.",
    )
