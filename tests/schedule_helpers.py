"""What tests of the checker need: scenarios in a line, and a scheduler that looks on while another chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from enqueuer.testing.schedule.explore import Report, Scenario, explore
from enqueuer.testing.schedule.world import Point, Scheduler, Taken, World

Body: TypeAlias = Callable[[World], object]


@dataclass
class Watched:
    """Lets a scheduler choose, and keeps the state of every choice and what each execution came to that was not given up."""

    inner: Scheduler
    looks: bool = True
    states: set[bytes] = field(default_factory=set)
    outcomes: list[object] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return bool(getattr(self.inner, "complete", False))

    def begin(self) -> bool:
        return self.inner.begin()

    def choose(self, point: Point) -> int | None:
        if self.looks:
            self.states.add(point.state())
        return self.inner.choose(point)

    def end(self, world: World) -> None:
        self.inner.end(world)
        if not world.cut and world.failure is None:
            self.outcomes.append(vars(world)["outcome"])


def scenario(body: Body, **options: Any) -> Scenario:
    """Return a scenario; what its body returns is the outcome of an execution."""
    return Scenario(name="tiny", says="", body=partial(_keep, body), **options)


def _keep(body: Body, world: World) -> None:
    vars(world)["outcome"] = body(world)


def tried(body: Body, scheduler: Scheduler, *, failing_starts: int = 0) -> tuple[Report, list[object]]:
    """Explore it; return what it came to, execution by execution."""
    watched = Watched(scheduler, looks=False)
    report = explore(scenario(body, failing_starts=failing_starts), watched)
    return report, watched.outcomes


def told(taken: tuple[Taken, ...]) -> list[tuple[object, ...]]:
    """Return steps so that two executions can be compared."""
    return [(step.task, step.step.kind, step.step.label, step.how, step.choice, step.enabled, step.switches) for step in taken]
