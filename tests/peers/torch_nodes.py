"""`ParallelMapper` of torchdata's nodes: threads and forked processes."""

from __future__ import annotations

from functools import partial
from typing import Any

from handed import ADDS, LACKS, Again, iterated
from torchdata.nodes import IterableWrapper, Loader, ParallelMapper

from enqueuer.testing.kit import Adapter


def read(sequence: Any, workers: int, size: int, *, method: str | None) -> Again:
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
    return Again(partial(iter, loader), mapped.reset)


def _adapter(method: str | None) -> Adapter:
    return Adapter(
        factory=iterated("torchdata 0.11 nodes", method, partial(read, method=method)),
        lacks=LACKS,
        adds=ADDS | {"a_run_is_over_when_its_error_was_delivered": "it has no is_running()"},
        deviations={"G3": "None is an item as any other"},
    )


threads, fork = _adapter(None), _adapter("fork")
