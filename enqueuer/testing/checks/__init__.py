"""The checks of the contract: functions over a `Factory` that raise `BrokenPromise` and leave nothing behind.

They need neither pytest nor Hypothesis. Each belongs to one guarantee, which its name and first line say; it may also name another that
it saw broken on the way.
"""

from __future__ import annotations

from typing import Final

from . import consumers, epochs, errors, items, lifecycle, processes
from .check import CAPABILITIES, Check

__all__ = ["CAPABILITIES", "CHECKS", "Check"]

CHECKS: Final = tuple(check for module in (items, epochs, errors, lifecycle, consumers, processes) for check in module.CHECKS)
"""Every check, in the order of the contract as far as its concepts allow."""
