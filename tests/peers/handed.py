"""What the adapters of peers have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from enqueuer.testing.remote import remote
from enqueuer.testing.subject import Factory

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
    "stop_may_be_called_at_any_time": "it has no stop()",
    "start_while_running_is_refused": "it has no start()",
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


class Epochs:
    """An enqueuer of what is only iterated, an epoch at a time. What it adds is not judged.

    Args:
        sequence: What is read.
        epochs: Called with the sequence, workers and the size of the queue; returns all epochs, one after the other.
    """

    seed = 0

    def __init__(self, sequence: Any, epochs: Callable[[Any, int, int], Iterator[Any]]) -> None:
        self.sequence, self.epochs = sequence, epochs
        self.stream: Iterator[Any] | None = None

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start."""
        self.stream = self.epochs(self.sequence, workers, max_queue_size)

    def get(self, *, timeout: float | None = None) -> Iterator[Any]:
        """Return the stream."""
        assert timeout is None
        stream = self.stream
        assert stream is not None
        for item in stream:
            yield item
            if self.stream is not stream:
                return

    def stop(self, timeout: float | None = None) -> bool:
        """Drop what is read."""
        assert timeout is None
        stream, self.stream = self.stream, None
        with suppress(ValueError):  # it is being iterated, and ends then
            if stream is not None:
                stream.close()  # type: ignore[attr-defined]
        return True

    def is_running(self) -> bool:
        """Whether there is something to read."""
        return self.stream is not None


def iterated(name: str, method: str | None, epochs: Callable[[Any, int, int], Iterator[Any]]) -> Factory:
    """Return the factory of what is only iterated: in threads, or with worker processes of a start method."""

    def apart(sequence: Any, **_: Any) -> Epochs:
        return Epochs(sequence, epochs)

    name = f"{name}, {method or 'threads'}"
    if method is None:
        return Factory(name=name, ordered=apart)
    return Factory(name=name, ordered=lambda sequence, **more: apart(remote(sequence), **more), method=method, apart=apart)
