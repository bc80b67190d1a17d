"""The enqueuers of Keras 2 (tf-keras), as they are: threads and forked processes.

Added here, and so not judged: `stop()` returns whether the thread that hands out items has ended, and `get()` takes no timeout.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from handed import Handed
from keras.utils import GeneratorEnqueuer, OrderedEnqueuer, Sequence

from enqueuer.testing.kit import Adapter
from enqueuer.testing.remote import remote, remote_generator
from enqueuer.testing.subject import Factory

LACKS = {
    "item seeds": "items draw from global random states",
    "resume": "there is no state to save",
    "retry": "a dead worker is not replaced by its enqueuer",
    "shuffle": "orders are drawn from the global random state, and no seed is kept",
    "timeout": "get() takes none",
}
ADDS = {
    "stop_with_a_timeout_keeps_it": "stop() returns nothing: whether it is done is found out here",
    "stop_from_the_runs_own_threads_does_not_wait": "stop() returns nothing",
    "a_restarted_generator_begins_anew": "a generator is an iterator: what is called for one each time is called here, once",
    "an_error_in_a_generator_arrives_after_its_items": "the same",
}


COPIES = {"nones_of_a_generator_are_skipped": "each of its workers delivers all items of a copy, None or not, which another check tells"}


class Adapted(Handed, Sequence):
    """What is read, as its classes want it."""


class Enqueuer:
    """One of theirs."""

    seed = 0

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start."""
        self.inner.start(workers, max_queue_size)

    def get(self, *, timeout: float | None = None) -> Iterator[Any]:
        """Return the stream."""
        assert timeout is None
        return self.inner.get()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop; whether that is done."""
        if self.inner.run_thread is None:
            return True
        self.inner.stop(timeout)
        return not self.inner.run_thread.is_alive()

    def is_running(self) -> bool:
        """Whether it is."""
        return bool(self.inner.is_running())


def ordered(sequence: Any, *, processes: bool, shuffle: bool = False, seed: int | None = None, **_: Any) -> Enqueuer:
    """Return an enqueuer of a sequence."""
    return Enqueuer(OrderedEnqueuer(Adapted(sequence), use_multiprocessing=processes, shuffle=shuffle))


def generator(source: Any, *, processes: bool, random_seed: int | None = None) -> Enqueuer:
    """Return an enqueuer of a generator."""
    return Enqueuer(GeneratorEnqueuer(iter(source() if callable(source) else source), use_multiprocessing=processes, random_seed=random_seed))


threads = Adapter(
    factory=Factory(name="keras 2.15, threads", ordered=partial(ordered, processes=False), generator=partial(generator, processes=False)),
    lacks=LACKS,
    adds=ADDS,
)

fork = Adapter(
    factory=Factory(
        name="keras 2.15, fork",
        ordered=lambda sequence, **more: ordered(remote(sequence), processes=True, **more),
        generator=lambda source, **more: generator(remote_generator(source), processes=True, **more),
        method="fork",
        apart=partial(ordered, processes=True),
    ),
    lacks=LACKS,
    adds=ADDS | COPIES,
)
