"""`ParallelMapper` of torchdata's nodes: threads and forked processes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from handed import ADDS, LACKS, Epochs
from torchdata.nodes import IterableWrapper, Loader, ParallelMapper

from enqueuer.testing.kit import Adapter
from enqueuer.testing.remote import remote
from enqueuer.testing.subject import Factory


def epochs(sequence: Any, workers: int, size: int, *, method: str | None) -> Iterator[Any]:
    """Read it for ever."""
    del size  # its queues are as long as it wants
    mapped: Any = ParallelMapper(
        IterableWrapper(range(len(sequence))),
        sequence.__getitem__,
        num_workers=workers,
        in_order=True,
        method="process" if method else "thread",
        multiprocessing_context=method,
        prebatch=None,
    )
    loader: Any = Loader(mapped)
    try:
        while True:
            yield from loader
    finally:
        mapped.reset()


def _adapter(method: str | None) -> Adapter:
    def apart(sequence: Any, **_: Any) -> Epochs:
        return Epochs(sequence, partial(epochs, method=method))

    factory = Factory(
        name=f"torchdata 0.11 nodes, {method or 'threads'}",
        ordered=(lambda sequence, **more: apart(remote(sequence), **more)) if method else apart,
        method=method or "",
        apart=apart if method else None,
    )
    adds = ADDS | {"G4": "what is ahead can't be set: it is twice the workers and more"}
    return Adapter(factory=factory, lacks=LACKS, adds=adds, deviations={"G3": "None is an item as any other"})


threads, fork = _adapter(None), _adapter("fork")
