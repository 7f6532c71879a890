"""What is wrong with the columns of one model: collected, so that one report says all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from warehouse_sync.errors import ModelError, ModelErrors
from warehouse_sync.events.shapes import UnsupportedTypeError
from warehouse_sync.values import Model


class Faults:
    """The errors met so far. `fields`: final names whose column is at fault, so that nobody says that it is missing."""

    def __init__(self, model: Model) -> None:
        self.fields: set[str] = set()
        self._model = model
        self._errors: list[ModelError] = []

    @contextmanager
    def met(self, final: str = "") -> Iterator[None]:
        """Keep an error of the block; `final`: the field or property that it is about."""
        try:
            yield
        except UnsupportedTypeError as error:
            hint = "exclude_columns leaves a column out."
            self._keep(ModelError(f"column {error}", path=self._model.path, hint=hint), final)
        except ModelError as error:
            self._keep(error, final)

    def _keep(self, error: ModelError, final: str) -> None:
        self._errors.append(error)
        self.fields |= {final} if final else set()

    def raise_any(self) -> None:
        """Raises one ModelError with all of them, if there is any."""
        if self._errors:
            raise ModelErrors.of(self._errors)


__all__ = ["Faults"]
