"""A pipeline of spdl with one stage, in its threads or in a pool of forked processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from handed import ADDS, LACKS, iterated
from spdl.pipeline import PipelineBuilder

from enqueuer.testing.kit import Adapter


def epochs(sequence: Any, workers: int, size: int, *, method: str | None) -> Iterator[Any]:
    """Read it for ever: a pipeline is one epoch."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method)) if method else None
    try:
        while True:
            builder: Any = PipelineBuilder().add_source(range(len(sequence)))
            builder = builder.pipe(sequence.__getitem__, concurrency=workers, executor=pool, output_order="input").add_sink(size)
            pipeline = builder.build(num_threads=workers)
            with pipeline.auto_stop():
                yield from pipeline
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _adapter(method: str | None) -> Adapter:
    return Adapter(factory=iterated("spdl 0.8", method, partial(epochs, method=method)), lacks=LACKS, adds=ADDS)


threads, fork = _adapter(None), _adapter("fork")
