"""The `MapDataset` of grain: threads, and processes that it spawns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import grain
from handed import ADDS, LACKS, Epochs

from enqueuer.testing.kit import Adapter
from enqueuer.testing.remote import remote
from enqueuer.testing.subject import Factory


def epochs(sequence: Any, workers: int, size: int, *, processes: bool) -> Iterator[Any]:
    """Read it for ever."""
    dataset = grain.MapDataset.range(len(sequence)).map(sequence.__getitem__)
    if not processes:
        yield from dataset.repeat().to_iter_dataset(grain.ReadOptions(num_threads=workers, prefetch_buffer_size=size))
        return
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(1, size // workers))
    read = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)).mp_prefetch(options)
    while True:
        yield from read


def _adapter(*, processes: bool) -> Adapter:
    def apart(sequence: Any, **_: Any) -> Epochs:
        return Epochs(sequence, partial(epochs, processes=processes))

    factory = Factory(
        name=f"grain 0.2.18, {'processes' if processes else 'threads'}",
        ordered=(lambda sequence, **more: apart(remote(sequence), **more)) if processes else apart,
        method="spawn" if processes else "",
        apart=apart if processes else None,
    )
    return Adapter(factory=factory, lacks=LACKS, adds=ADDS)


threads, spawn = _adapter(processes=False), _adapter(processes=True)
