"""The enqueuer of Keras 3, as it is: threads and forked processes. A run of it is one epoch.

What its data adapter and trainer do around it is done here as they do it: a run for each epoch, which ends with the item of its length, and the hook
between two. The hook is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from handed import Handed
from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer
from keras.utils import PyDataset

from enqueuer.testing.kit import Adapter
from enqueuer.testing.remote import remote
from enqueuer.testing.subject import Factory

LACKS = {
    "consumers": "the adapter around it has one",
    "deadline": "stop() takes no timeout",
    "generator": "there is no such class",
    "item seeds": "items draw from global random states",
    "resume": "there is no state to save",
    "retry": "a dead worker is not replaced by its enqueuer",
    "shuffle": "orders are drawn from the global random state, and no seed is kept",
    "timeout": "get() takes none",
}


ADDS = {
    "the_hook_runs_once_between_two_epochs": "it is called here, as its trainer does",
    "an_error_between_epochs_arrives_where_the_epoch_would_have_begun": "the same",
    "a_hook_that_spoils_the_sequence_is_told": "the same",
}


class Adapted(Handed, PyDataset):
    """What is read, as its classes want it."""


class Enqueuer:
    """It, and what is around it."""

    seed = 0

    def __init__(self, sequence: Any, *, processes: bool) -> None:
        self.dataset, self.processes = Adapted(sequence), processes
        self.inner: Any = None
        self.shape = 0, 0

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start."""
        if self.shape != (workers, max_queue_size):  # which it takes when it is made
            self.shape = workers, max_queue_size
            self.inner = OrderedEnqueuer(self.dataset, workers, use_multiprocessing=self.processes, max_queue_size=max_queue_size)
        self.inner.start()

    def get(self, *, timeout: float | None = None) -> Iterator[Any]:
        """Return the stream, epoch by epoch, as its trainer does."""
        assert timeout is None
        while True:
            for number, item in enumerate(self.inner.get()):
                yield item
                if number >= len(self.dataset) - 1:
                    break
            self.inner.stop()
            self.dataset.on_epoch_end()
            self.inner.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop."""
        assert timeout is None
        if self.inner is not None:
            self.inner.stop()
        return True

    def is_running(self) -> bool:
        """Whether it is."""
        return self.inner is not None and bool(self.inner.is_running())


def ordered(sequence: Any, *, processes: bool, shuffle: bool = False, seed: int | None = None, **_: Any) -> Enqueuer:
    """Return an enqueuer of a sequence."""
    return Enqueuer(sequence, processes=processes)


threads = Adapter(factory=Factory(name="keras 3.15, threads", ordered=partial(ordered, processes=False)), lacks=LACKS, adds=ADDS)

fork = Adapter(
    factory=Factory(
        name="keras 3.15, fork",
        ordered=lambda sequence, **more: ordered(remote(sequence), processes=True, **more),
        method="fork",
        apart=partial(ordered, processes=True),
    ),
    lacks=LACKS,
    adds=ADDS,
)
