"""A pipeline of spdl with one stage, in its threads or in a pool of forked processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from handed import ADDS, LACKS, Again, iterated
from spdl.pipeline import PipelineBuilder

from enqueuer.testing.kit import Adapter

DEVIATIONS = dict.fromkeys(
    (
        "an_error_arrives_at_its_rank_as_it_was_raised",
        "an_error_of_an_empty_queue_arrives_too",
        "an_error_with_a_constructor_of_its_own_arrives_too",
        "a_run_is_over_when_its_error_was_delivered",
        "an_error_says_where_it_was_raised",
        "the_first_failing_rank_wins",
        "what_cant_cross_the_border_is_an_error",
        "what_cant_cross_the_border_is_named",
    ),
    "an item that fails is logged and left out",
)


class Pipelines:
    """A pipeline for each epoch, one after the other, and the pool that they have in common."""

    def __init__(self, sequence: Any, workers: int, size: int, *, method: str | None) -> None:
        self.sequence, self.workers, self.size = sequence, workers, size
        self.pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method)) if method else None
        self.pipeline: Any = None

    def begin(self) -> Iterator[Any]:
        """Begin the next."""
        self.stop()
        builder: Any = PipelineBuilder().add_source(range(len(self.sequence)))
        builder = builder.pipe(self.sequence.__getitem__, concurrency=self.workers, executor=self.pool, output_order="input")
        self.pipeline = builder.add_sink(self.size).build(num_threads=self.workers)
        self.pipeline.start()
        return self.pipeline.get_iterator()

    def stop(self) -> None:
        """Stop the latest."""
        pipeline, self.pipeline = self.pipeline, None
        if pipeline is not None:
            pipeline.stop()

    def end(self) -> None:
        """End all."""
        self.stop()
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)


def read(sequence: Any, workers: int, size: int, *, method: str | None) -> Again:
    """Read it for ever: a pipeline is one epoch."""
    pipelines = Pipelines(sequence, workers, size, method=method)
    return Again(pipelines.begin, pipelines.end)


def _adapter(method: str | None) -> Adapter:
    return Adapter(factory=iterated("spdl 0.8", method, partial(read, method=method)), lacks=LACKS, adds=ADDS, deviations=DEVIATIONS)


threads, fork = _adapter(None), _adapter("fork")
