"""The checks of the contract: functions over a `Factory` that raise `BrokenPromise` and leave nothing behind.

They need neither pytest nor Hypothesis. Each belongs to one guarantee, which its name and first line say; it may also name another that
it saw broken on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..subject import Factory
from . import consumers, epochs, errors, items, lifecycle

__all__ = ["CHECKS", "Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        guarantee: Id of the clause whose promise it watches.
        run: Call it with a factory; it raises `BrokenPromise` or returns.
    """

    guarantee: str
    run: Callable[[Factory], None]

    @property
    def name(self) -> str:
        """Its claim, as a function name."""
        return self.run.__name__


CHECKS: Final = tuple(Check(*row) for module in (items, epochs, errors, lifecycle, consumers) for row in module.CHECKS)
"""Every check, in the order of the contract as far as its concepts allow."""
