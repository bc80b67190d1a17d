"""What a check is: a claim, whose promise it watches, and what its subject must be able to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ..subject import Factory

__all__ = ["CAPABILITIES", "Check"]

CAPABILITIES: Final = {
    "consumers": "several streams of one run, iterated from several threads",
    "deadline": "stop(timeout)",
    "generator": "an enqueuer of a generator",
    "hook": "on_epoch_end() between two epochs",
    "item seeds": "a seed of its own for each item",
    "processes": "worker processes",
    "restart": "start() after a run",
    "resume": "state_dict() and load_state_dict()",
    "retry": 'on_worker_death="retry"',
    "shuffle": "orders that are shuffled by a seed",
    "timeout": "get(timeout=...)",
}
"""What a subject may be able to do besides `start()`, `get()`, `stop()` and `is_running()` of a sequence. An adapter says what it lacks, and why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        guarantee: Id of the clause whose promise it watches.
        run: Call it with a factory that it applies to; it raises `BrokenPromise` or returns.
        needs: Capabilities without which it does not apply.
        chance: Whether it judges what is drawn at random, and so could be wrong once in a very great many times.
    """

    guarantee: str
    run: Callable[[Factory], None]
    needs: frozenset[str] = frozenset()
    chance: bool = False

    def applies(self, factory: Factory) -> bool:
        """Whether the factory's products promise what it watches."""
        return "processes" not in self.needs or factory.apart is not None

    @property
    def name(self) -> str:
        """Its claim, as a function name."""
        return self.run.__name__

    @property
    def level(self) -> Literal["required", "optional", "stochastic"]:
        """Required of every enqueuer, optional if it is about a capability, stochastic if it judges what is drawn at random."""
        return "stochastic" if self.chance else "optional" if self.needs else "required"

    @property
    def why(self) -> str:
        """What it does, in a line."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]
