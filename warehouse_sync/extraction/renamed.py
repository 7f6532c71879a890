"""A new name beside state that nobody uses any more: renamed, most likely, and then every row would be sent again.

Told by what the rows come from: the fingerprint of the last window that was sent, which knows neither name nor file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from warehouse_sync.errors import ModelError, StateError
from warehouse_sync.state.store import Store
from warehouse_sync.values import Model

Identity = Callable[[Model], str | None]
"""The fingerprint of a model as it is now; None for one that cannot be rendered."""


def check_pipeline(
    store: Store, name: str, origin: str, config: Path, models: Sequence[Model], identity: Identity
) -> None:
    """Raises StateError when a pipeline that the store does not know yet sends what an abandoned one has sent.

    Abandoned: to the same `origin`, and the YAML file of its last run is gone or is this one, `config`.
    """
    if store.pipeline(name) is not None:
        return
    for other in store.pipelines():
        destination = store.destination(other.name)
        if destination is None or destination.origin != origin or not _is_abandoned(store, other.name, config):
            continue
        prints = _fingerprints(store, other.name)
        if any(identity(model) in prints.values() for model in models):
            raise StateError(
                f"pipeline `{name}` is new, and `{other.name}`, which no YAML file names any more, has sent the same"
                " models to the same place",
                hint=f"`warehouse-sync state rename --pipeline {other.name}` takes its state over;"
                " `warehouse-sync state adopt` starts without it, and sends everything again.",
            )


def _is_abandoned(store: Store, pipeline: str, config: Path) -> bool:
    files = [Path(run.args["config"]) for run in store.runs(pipeline, 1) if run.args.get("config")]
    return all(not file.exists() or file.resolve() == config.resolve() for file in files)


def renamed_models(
    store: Store, pipeline: str, models: Sequence[Model], names: Collection[str], identity: Identity
) -> dict[str, ModelError]:
    """New models that send what one that is gone or disabled has sent: name -> the error that says so.

    `names`: every enabled model of the project.
    """
    prints = _fingerprints(store, pipeline)
    orphans = {model: found for model, found in prints.items() if model not in names}
    if not orphans:
        return {}
    errors = {}
    for model in models:
        same = [orphan for orphan, found in orphans.items() if model.name not in prints and found == identity(model)]
        if same:
            errors[model.name] = ModelError(
                f"model `{model.name}` is new, and `{same[0]}`, which is gone or disabled, has sent the same rows",
                path=model.path,
                hint=f"`warehouse-sync state rename {same[0]} {model.name}` takes its state over;"
                f" `warehouse-sync state reset {same[0]}` forgets it, and everything is sent again.",
            )
    return errors


def _fingerprints(store: Store, pipeline: str) -> dict[str, str]:
    """Model -> fingerprint of its last window that was sent, were it in part."""
    return {model: window.fingerprint for model, window in store.last_sent(pipeline).items()}


__all__ = ["check_pipeline", "renamed_models"]
