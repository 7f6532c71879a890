"""Sync warehouse models to Userpilot through its Import API.

cli/                  the verbs; the only place that prints and exits
inspection/           looks without acting: plan, explain, validate
model_tests/          unit tests of models
upkeep/               the state by hand
runs/                 rounds of extract, deliver, settle
extraction/           one model read, compared, judged and sealed
delivery/             sealed batches, one import job at a time
merge/                snapshots, given what was delivered

project/ warehouses/ changes/ events/ outbox.py userpilot/ state/     the stages, which never import each other
"""


def __getattr__(name: str) -> str:
    """`__version__`, looked up when somebody asks: a signal that comes before `__main__` is there shows a traceback."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("warehouse-sync")
    except PackageNotFoundError:  # running from a source tree that was never installed
        found = "0.0.0"
    globals()[name] = found
    return found
