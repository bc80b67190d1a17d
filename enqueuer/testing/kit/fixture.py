"""The kit in a test suite: one test for each check. Needs pytest.

from enqueuer.testing.kit.fixture import each_check

@each_check("mine.py:adapter")
def test_it_keeps(promise):
promise()
"""

from __future__ import annotations

from functools import partial

import pytest

from ..checks import CHECKS
from ..subject import BrokenPromise
from .adapter import load, short
from .report import BAD
from .run import run

__all__ = ["each_check"]


def each_check(target: str) -> pytest.MarkDecorator:
    """Return what gives a test its argument `promise`, once for each check: called, it raises `BrokenPromise` unless that is kept.

    Checks that do not apply are skipped, with the reason; those that the adapter expects to fail are strict xfails.

    Args:
        target: How the adapter is named; see `load()`. It is loaded in this process, too, to know what it says of itself.
    """
    adapter = load(target)
    tests: list[object] = []
    for check in CHECKS:
        if why := adapter.inapplicable(check):
            marks = [pytest.mark.skip(reason=why)]
        elif why := adapter.expected(check):
            marks = [pytest.mark.xfail(reason=why, strict=True, raises=BrokenPromise)]
        else:
            marks = []
        tests.append(pytest.param(partial(_keeps, target, short(check)), id=f"{check.guarantee}-{short(check)}", marks=marks))
    return pytest.mark.parametrize("promise", tests)


def _keeps(target: str, check: str) -> None:
    (result,) = run(target, only=(check,), jobs=1).results
    if result.what and (result.reason or result.verdict in BAD):
        raise BrokenPromise(result.guarantee, f"{result.what}\n{result.stacks}")
