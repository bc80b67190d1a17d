"""Choices by chance: many executions, each from a seed of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .world import Point, World

__all__ = ["Chance"]


@dataclass
class Chance:
    """Choose any option.

    Attributes:
        runs: How many executions.
        seed: Root of all choices.
    """

    runs: int = 100
    seed: int = 0
    _run: int = 0
    _random: random.Random = field(default_factory=random.Random)

    def begin(self) -> bool:
        """Seed the next."""
        self._random = random.Random(f"{self.seed}/{self._run}")
        self._run += 1
        return self._run <= self.runs

    def choose(self, point: Point) -> int | None:
        """Choose any."""
        return int(self._random.random() * len(point.options))

    def end(self, world: World) -> None:
        """There is nothing to remember."""
