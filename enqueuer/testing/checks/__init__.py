"""The checks of the contract: functions over a `Factory` that raise `BrokenPromise` and leave nothing behind.

They need neither pytest nor Hypothesis. Each belongs to one guarantee, which its name and first line say; it may also name another that
it saw broken on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..subject import Factory
from . import consumers, epochs, errors, items, lifecycle, processes

__all__ = ["CHECKS", "Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        guarantee: Id of the clause whose promise it watches.
        run: Call it with a factory that it applies to; it raises `BrokenPromise` or returns.
        processes: Whether it watches what only worker processes can break, so that it does not apply to a factory that has none.
    """

    guarantee: str
    run: Callable[[Factory], None]
    processes: bool = False

    def applies(self, factory: Factory) -> bool:
        """Whether the factory's products promise what it watches."""
        return not self.processes or factory.apart is not None

    @property
    def name(self) -> str:
        """Its claim, as a function name."""
        return self.run.__name__


CHECKS: Final = (
    *(Check(*row) for module in (items, epochs, errors, lifecycle, consumers) for row in module.CHECKS),
    *(Check(*row, processes=True) for row in processes.CHECKS),
)
"""Every check, in the order of the contract as far as its concepts allow."""
