"""`ParallelMapper` of torchdata's nodes: threads and forked processes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from handed import ADDS, LACKS, iterated
from torchdata.nodes import IterableWrapper, Loader, ParallelMapper

from enqueuer.testing.kit import Adapter


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
    adds = ADDS | {"G4": "what is ahead can't be set: it is twice the workers and more"}
    return Adapter(
        factory=iterated("torchdata 0.11 nodes", method, partial(epochs, method=method)),
        lacks=LACKS,
        adds=adds,
        deviations={"G3": "None is an item as any other"},
    )


threads, fork = _adapter(None), _adapter("fork")
