"""A pytest plugin with the fixture `explored`: write `pytest_plugins = ["enqueuer.testing.schedule.fixture"]` into a `conftest.py`.

    def test_nobody_waits_for_ever(explored):
        explored(SCENARIO)

Besides the kit's, this is the only file of the package that imports pytest.
"""

from __future__ import annotations

import shutil
from typing import Protocol

import pytest

from .explore import Report, Scenario, explore
from .lanes import lanes
from .world import Scheduler

__all__ = ["Explored", "explored"]


class Explored(Protocol):
    """What the fixture is."""

    def __call__(
        self,
        scenario: Scenario,
        scheduler: Scheduler | None = None,
        *,
        exhausted: bool = True,
        runs: int | None = None,
        seconds: float | None = None,
    ) -> Report:
        """Explore a scenario.

        Args:
            scenario: What to execute.
            scheduler: What chooses; None: what finds whatever there is.
            exhausted: Whether the test is to fail if not all interleavings were tried.
            runs: After how many executions to give up; None: never.
            seconds: After how many seconds.

        Returns:
            What the exploration has come to. If something is broken the test fails, and shows the execution and its id.
        """
        ...


@pytest.fixture
def explored() -> Explored:
    """Explore a scenario, and fail the test if that finds something or is not exhausted."""
    return _explored


def _explored(
    scenario: Scenario,
    scheduler: Scheduler | None = None,
    *,
    exhausted: bool = True,
    runs: int | None = None,
    seconds: float | None = None,
) -> Report:
    __tracebackhide__ = True
    report = explore(scenario, scheduler, runs=runs, seconds=seconds)
    if report.failure is not None:
        told = "\n".join(text for text, _ in lanes(scenario, report, width=max(20, shutil.get_terminal_size().columns)))
        choices = report.id.rpartition("@")[2]
        pytest.fail(f"{report}\n\n{told}\n\nagain: replay(scenario, {choices!r})", pytrace=False)
    if exhausted and report.verdict != "exhausted":
        pytest.fail(f"{report}: give it more time or a smaller scenario, or pass exhausted=False if some interleavings are enough", pytrace=False)
    return report
