"""What the adapters of peers have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from enqueuer.testing.remote import remote
from enqueuer.testing.subject import LIMIT, Factory

LACKS = {
    "consumers": "what it reads is iterated by one",
    "deadline": "there is no stop(): whoever wants no more drops it",
    "generator": "there is no such class",
    "hook": "nothing is called between two epochs",
    "item seeds": "items draw from random states of their worker",
    "restart": "one reads it again, which makes all of it anew",
    "resume": "what there is to save is its own, and not compared",
    "retry": "a dead worker is not replaced",
    "shuffle": "orders are drawn by a sampler of its own",
    "timeout": "iterating takes none",
}
"""What whatever is only iterated lacks."""

ADDS = {
    "G4": "its queues are set otherwise, and nothing says how many items are ahead together",
    "stop_may_be_called_at_any_time": "it has no stop()",
    "stop_releases_a_blocked_consumer": "it has no stop()",
    "wrong_numbers_of_workers_and_items_are_refused": "it has no start()",
    "start_while_running_is_refused": "it has no start()",
    "a_start_that_fails_leaves_no_process": "it has no start()",
    "an_empty_sequence_is_a_clear_error": "it is read again and again here",
    "a_fork_of_the_host_leaves_the_run_alone": "a fork of it has no methods that could raise",
}
"""What an adapter of it adds."""


class Handed:
    """A sequence that hands everything on to another, for peers that want one of a class of their own: derive from this first."""

    def __init__(self, sequence: Any) -> None:
        super().__init__()
        self.sequence = sequence

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: int) -> Any:
        return self.sequence[index]

    def on_epoch_end(self) -> None:
        """Hand it on, if there is one."""
        hook = getattr(self.sequence, "on_epoch_end", None)
        if hook is not None:
            hook()


class Again:
    """Reads something again and again; the first time has begun when it is made. No generator, which an interrupt would end.

    Args:
        begin: Begins to read, once for each epoch.
        end: Called when nobody wants any more.
    """

    def __init__(self, begin: Callable[[], Iterator[Any]], end: Callable[[], object] = tuple) -> None:
        self.begin: Callable[[], Iterator[Any]] | None = begin
        self.end = end
        self.epoch, self.any = begin(), True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                item = next(self.epoch)
            except StopIteration:
                if self.begin is None or not self.any:  # closed, or a whole epoch had nothing, and would have nothing for ever
                    raise
                self.epoch, self.any = self.begin(), False
            else:
                self.any = True
                return item

    def close(self) -> None:
        """Drop what is read; who is waiting for an item gets that."""
        self.begin, self.epoch = None, iter(())
        self.end()


class Stream:
    """The items of one run of an enqueuer."""

    def __init__(self, owner: Enqueuer) -> None:
        self.owner, self.read = owner, owner.read

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.read is None or self.owner.read is not self.read:
            raise StopIteration
        return next(self.read)


class Enqueuer:
    """An enqueuer of what is only iterated. What it adds is not judged.

    Args:
        sequence: What is read.
        read: Called with the sequence, workers and the size of the queue; begins to read.
    """

    seed = 0

    def __init__(self, sequence: Any, read: Callable[[Any, int, int], Again]) -> None:
        self.sequence, self.begin = sequence, read
        self.read: Again | None = None

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start."""
        self.read = self.begin(self.sequence, workers, max_queue_size)

    def get(self, *, timeout: float | None = None) -> Iterator[Any]:
        """Return the stream."""
        assert timeout is None
        return Stream(self)

    def stop(self, timeout: float | None = None) -> bool:
        """Drop what is read."""
        assert timeout is None
        read, self.read = self.read, None
        if read is not None:
            read.close()
        return True

    def is_running(self) -> bool:
        """Whether there is something to read."""
        return self.read is not None


def iterated(name: str, method: str | None, read: Callable[[Any, int, int], Again]) -> Factory:
    """Return the factory of what is only iterated: in threads, or with worker processes of a start method. One that is spawned imports much."""

    def apart(sequence: Any, **_: Any) -> Enqueuer:
        return Enqueuer(sequence, read)

    name = f"{name}, {method or 'threads'}"
    if method is None:
        return Factory(name=name, ordered=apart)
    limit = 60.0 if method == "spawn" else LIMIT
    return Factory(name=name, ordered=lambda sequence, **more: apart(remote(sequence), **more), method=method, apart=apart, limit=limit)
