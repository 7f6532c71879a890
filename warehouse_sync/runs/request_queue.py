"""What each model of a run is read for, one window after the other: usually one request, for `retry` maybe several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from warehouse_sync.extraction.request import Request
from warehouse_sync.state.lifecycle import RejectState, WindowState
from warehouse_sync.state.rows import Window
from warehouse_sync.state.store import Store


class RequestQueue:
    """`own`: the requests of models that have their own, in order; every other model is read for `usual`, once."""

    def __init__(self, usual: Request, own: Mapping[str, Sequence[Request]]) -> None:
        self._usual = usual
        self._own = {model: list(requests) for model, requests in own.items()}
        self._done: dict[str, int] = {}
        self._recalls: dict[int, Request] = {}

    def request(self, model: str) -> Request:
        """What the model's next window is for."""
        requests = self._requests(model)
        return requests[min(self._done.get(model, 0), len(requests) - 1)]

    def left_over(self, window: Window) -> bool:
        """A window of an earlier run is delivered first: what it was read for is not read for a second time. False
        where this run asks for something else."""
        requests = self._requests(window.model)
        for request in requests:
            if request.kind == window.kind and window.asked in (None, request.mark):
                rest = [other for other in requests if other is not request]
                self._own[window.model], self._done[window.model] = [request, *rest], 1
                return True
        return False

    def read(self, model: str, window_id: int, *, more: bool) -> None:
        """That window was read; `more`: it was but a slice, the next one is for the same."""
        request = self.request(model)
        if request.recall is not None:
            self._recalls[window_id] = request
        if not more:
            self._done[model] = self._done.get(model, 0) + 1

    def once_more(self, model: str) -> None:
        """The model's last window lost a file: its next one is for the same."""
        self._done[model] = max(0, self._done.get(model, 0) - 1)

    def are_left(self, model: str) -> bool:
        """True when nothing was read yet for a request."""
        return self._done.get(model, 0) < len(self._requests(model))

    def _requests(self, model: str) -> list[Request]:
        return self._own.get(model, [self._usual])

    def close_gone(self, store: Store, pipeline: str) -> None:
        """Resolve rejects that a settled window was about and did not meet again: mended, or gone from the source."""
        for window_id, request in self._recalls.items():
            window = store.window(window_id)
            if request.recall is None or window is None or window.state is not WindowState.SETTLED:
                continue
            asked = set(request.recall.rejects)
            waiting = [one for one in store.standing_rejects(pipeline, window.model) if one.state is RejectState.OPEN]
            store.resolve([reject.id for reject in waiting if reject.id in asked and reject.window_id < window_id])


__all__ = ["RequestQueue"]
