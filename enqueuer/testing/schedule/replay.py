"""Choices that were made before: one execution. And how they are written, so that they fit on a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .world import CheckerError, Point, World

__all__ = ["Once", "Replay", "read", "write"]


def write(choices: Sequence[int]) -> str:
    """Write choices down: position and option of those that are not option 0, as `3.1-17.2`; "0" if there is none."""
    return "-".join(f"{position}.{choice}" for position, choice in enumerate(choices) if choice) or "0"


def read(text: str) -> list[int]:
    """Read them.

    Raises:
        ValueError: They are not written so.
    """
    choices: list[int] = []
    if text == "0":
        return choices
    for part in text.split("-"):
        position, dot, choice = part.partition(".")
        if not (dot and position.isdecimal() and choice.isdecimal() and len(choices) <= int(position) < 10**6):
            raise ValueError(f"{text!r} are no choices: they are written as 3.1-17.2, a position and an option each, positions in rising order")
        choices += [0] * (int(position) - len(choices)) + [int(choice)]
    return choices


@dataclass
class Replay:
    """Make these choices, then always the first option.

    Attributes:
        choices: Numbers of options.
        wrapped: Whether a number too large means one that there is, counted on from the first; if not, it is an error.
    """

    choices: Sequence[int]
    wrapped: bool = False
    _position: int = 0
    _begun: bool = False

    def begin(self) -> bool:
        """There is one execution."""
        begun, self._begun = self._begun, True
        return not begun

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
class Once(Replay):
    """Make these choices, and end there."""

    def choose(self, point: Point) -> int | None:
        """Return what is written, nothing after it."""
        return super().choose(point) if self._position < len(self.choices) else None
