"""The `MapDataset` of grain: threads, and processes that it spawns."""

from __future__ import annotations

from functools import partial
from typing import Any

import grain
from handed import ADDS, LACKS, Again, iterated

from enqueuer.testing.kit import Adapter


def read(sequence: Any, workers: int, size: int, *, method: str | None) -> Again:
    """Read it for ever."""
    dataset = grain.MapDataset.range(len(sequence)).map(sequence.__getitem__)
    if method is None:  # it spawns
        return Again(partial(iter, dataset.repeat().to_iter_dataset(grain.ReadOptions(num_threads=workers, prefetch_buffer_size=size))))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(1, size // workers))
    epochs = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)).mp_prefetch(options)
    return Again(partial(iter, epochs))


def _adapter(method: str | None) -> Adapter:
    adds = ADDS | dict.fromkeys(
        ("G9", "no_process_outlives_a_parent_that_is_killed", "an_exit_does_not_wait_for_an_item"), "it begins with the first next(), not before"
    )
    over = {"a_run_is_over_when_its_error_was_delivered": "it has no is_running()"}
    return Adapter(factory=iterated("grain 0.2.18", method, partial(read, method=method)), lacks=LACKS, adds=adds | over)


threads, spawn = _adapter(None), _adapter("spawn")
