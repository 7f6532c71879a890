"""Sealed batches become import jobs, one at a time, each followed to its end.

`deliver` goes through the jobs; `packing` says what goes into one, `reconcile` whether it arrived already, `quarantine`
what becomes of a failed one, `held` what waits for a person, `asking` how patiently the API is asked.
"""

from warehouse_sync.delivery.asking import Timing
from warehouse_sync.delivery.deliver import Delivery
from warehouse_sync.delivery.outcome import Decision

__all__ = ["Decision", "Delivery", "Timing"]
