"""Probabilistic concurrency testing: threads have priorities, drawn by chance, and few moments change them.

The highest priority that can go on does; at `depth - 1` steps, drawn by chance, the thread that runs falls behind all others. A fault that
needs `depth` ordered moments is found in one execution with a probability of at least 1 in `threads * steps ** (depth - 1)`, which is far
more than choices by chance give. (S. Burckhardt, P. Kothari, M. Musuvathi, S. Nagarakatte: A Randomized Scheduler with Probabilistic
Guarantees of Finding Bugs, ASPLOS 2010.)
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .world import Option, Point, World

__all__ = ["PCT"]


@dataclass
class PCT:
    """Choose by priority.

    Attributes:
        runs: How many executions.
        depth: How many ordered moments a fault may need.
        seed: Root of all choices.
        free: How often a free choice (a timeout, an interrupt) is made where there is one.
    """

    runs: int = 100
    depth: int = 3
    seed: int = 0
    free: float = 0.05
    _run: int = 0
    _steps: int = 1  # the most choices that an execution has had
    _step: int = 0
    _random: random.Random = field(default_factory=random.Random)
    _priorities: dict[int, float] = field(default_factory=dict[int, float])
    _changes: frozenset[int] = frozenset()

    def begin(self) -> bool:
        """Draw the priorities and the changes of the next."""
        draw = self._random = random.Random(f"{self.seed}/{self._run}")
        self._run += 1
        self._step = 0
        self._priorities = {}
        self._changes = frozenset(draw.randrange(self._steps) for _ in range(self.depth - 1))
        return self._run <= self.runs

    def choose(self, point: Point) -> int | None:
        """Choose who has the highest priority."""
        draw, options = self._random, point.options
        if self._step in self._changes and point.world.current is not None:
            self._priorities[point.world.current.number] = -draw.random()
        self._step += 1
        free = [number for number, option in enumerate(options) if isinstance(option.how, str) and option.how]
        steps = [number for number in range(len(options)) if number not in free]
        if free and (not steps or draw.random() < self.free):
            return draw.choice(free)
        best = max(steps, key=lambda number: self._priority(options[number]))
        same = [number for number in steps if options[number].task is options[best].task]
        return draw.choice(same)

    def _priority(self, option: Option) -> float:
        return self._priorities.setdefault(option.task.number, 1 + self._random.random())

    def end(self, world: World) -> None:
        """Remember how long it was."""
        del world
        self._steps = max(self._steps, self._step)
