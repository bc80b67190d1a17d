"""Choices that were made before: one execution. And how they are written, so that they fit on a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from .cycles import Chosen, Cycle
from .world import CheckerError, Point, World

__all__ = ["Follow", "Once", "Replay", "read", "write"]

MOST: Final = 10**6
"""Choices of an execution are fewer."""


def write(choices: Sequence[int], *, cycle: bool = False) -> str:
    """Write choices down: position and option of those that are not option 0, as `3.1-17.2`; "0" if there is none.

    With `cycle` they end where they came by before, and how many they are stands behind: `3.1~20`.
    """
    text = "-".join(f"{position}.{choice}" for position, choice in enumerate(choices) if choice) or "0"
    return f"{text}~{len(choices)}" if cycle else text


def read(text: str) -> list[int]:
    """Read them.

    Raises:
        ValueError: They are not written so.
    """
    choices: list[int] = []
    text, tilde, count = text.partition("~")
    if tilde and not (count.isdecimal() and int(count) < MOST):
        raise ValueError(f"{text}~{count} are no choices: behind ~ stands how many they are")
    for part in text.split("-") if text != "0" else ():
        position, dot, choice = part.partition(".")
        if not (dot and position.isdecimal() and choice.isdecimal() and len(choices) <= int(position) < MOST):
            raise ValueError(f"{text!r} are no choices: they are written as 3.1-17.2, a position and an option each, positions in rising order")
        choices += [0] * (int(position) - len(choices)) + [int(choice)]
    return choices + [0] * (int(count or 0) - len(choices))


class _Single:
    """There is one execution."""

    _begun = False

    def begin(self) -> bool:
        """Begin it, once."""
        begun, self._begun = self._begun, True
        return not begun


@dataclass
class Replay(_Single):
    """Make these choices, then always the first option.

    Attributes:
        choices: Numbers of options.
        wrapped: Whether a number too large means one that there is, counted on from the first; if not, it is an error.
    """

    choices: Sequence[int]
    wrapped: bool = False
    _position: int = 0

    def choose(self, point: Point) -> int | None:
        """Return what is written."""
        position, self._position = self._position, self._position + 1
        chosen = self.choices[position] if position < len(self.choices) else 0
        if chosen >= len(point.options) and not self.wrapped:
            raise CheckerError(
                f"choice {position} is to be option {chosen}, and there are {len(point.options)}: "
                "these choices are of other code, or of another scenario"
            )
        return chosen % len(point.options)

    def end(self, world: World) -> None:
        """Say if something is left."""
        del world
        if self._position < len(self.choices) and not self.wrapped:
            raise CheckerError(f"it ended after {self._position} of {len(self.choices)} choices: they are of other code, or of another scenario")


@dataclass
class Follow(_Single):
    """Go a way into a cycle and round it, and end there."""

    way: Sequence[Chosen]
    _position: int = 0

    def choose(self, point: Point) -> int | None:
        """Return the option that goes this way."""
        if self._position == len(self.way):
            return None
        chosen, self._position = self.way[self._position], self._position + 1
        return next(number for number, option in enumerate(point.options) if (option.task.number, option.how) == chosen)

    def end(self, world: World) -> None:
        """There is nothing to remember."""


@dataclass
class Once(Replay):
    """Make these choices, which lead into a cycle and round it, and end there."""

    livelock: Cycle | None = None
    _states: dict[bytes, int] = field(default_factory=dict[bytes, int])  # and after how many steps

    def choose(self, point: Point) -> int | None:
        """Return what is written; at its end, see that this state was there before."""
        state, taken = point.state(), point.world.taken
        if self._position < len(self.choices):
            self._states.setdefault(state, len(taken))
            return super().choose(point)
        if state not in self._states:
            raise CheckerError("these choices do not come round to where they were: they are of other code, or of another scenario")
        way = [(step.task, step.how) for step in taken if step.choice is not None]
        self.livelock = Cycle(way, frozenset(step.task for step in taken[self._states[state] :]))
        return None
