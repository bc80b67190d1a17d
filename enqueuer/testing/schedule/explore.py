"""The loop: one execution after another, until a scheduler has no more or something is found."""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from .cycles import Cycle
from .exhaustive import Exhaustive
from .replay import Follow, Once, Replay, read, write
from .world import Abandoned, Carriers, Failure, Scheduler, Taken, Task, World, nobody

__all__ = ["Report", "Scenario", "explore", "replay"]

TIDY: Final = 500
"""After so many executions, what they have left is collected; never while one runs, as that would call finalizers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is explored.

    Attributes:
        name: Short, to be typed.
        says: What happens in it, in a sentence.
        body: Called once an execution, in a thread of its world. It may call `World.spawn`, `point`, `choose`; it raises `BrokenPromise`, or
            anything, where something is wrong. Whatever its threads can reach must be looked into (see `state`).
        touches: Fields whose every access without the lock is a scheduling point (see `guard`).
        failing_starts: How many threads may fail to start.
        deaths: How many worker processes may be killed (see `apart`).
        messages: Type -> fields that no decision depends on, as they are for messages only: they are left out of states.
        blame: Which clause is broken by threads that wait for ever.
    """

    name: str
    says: str
    body: Callable[[World], object]
    touches: frozenset[str] = frozenset()
    failing_starts: int = 0
    deaths: int = 0
    messages: Mapping[type, frozenset[str]] = field(default_factory=dict[type, frozenset[str]])
    blame: Callable[[Failure, list[Task]], str] = nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an exploration has come to.

    Attributes:
        scenario: Its name.
        verdict: "exhausted": all interleavings keep the contract; "not exhausted": those that were tried do; "broken".
        failure: What was found, None if nothing was.
        id: `scenario@choices`, which replays the execution that has failed; "" if none has.
        runs: Executions.
        states: States that were remembered.
        steps: Steps of all executions.
        longest: Choices of the longest.
        switches: In the execution that has failed: how often a thread lost the turn that could have gone on.
        seconds: How long it took.
        reached: Where locks were acquired, and where threads have waited: function and line.
        taken: Steps of the execution that has failed, or of the last.
        threads: Names of its threads, by number.
    """

    scenario: str
    verdict: str
    failure: Failure | None
    id: str
    runs: int
    states: int
    steps: int
    longest: int
    switches: int
    seconds: float
    reached: frozenset[tuple[str, int]] = field(repr=False)
    taken: tuple[Taken, ...] = field(repr=False)
    threads: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        counted = f"{self.runs:,} runs, {self.states:,} states, {self.seconds:.1f} s"
        if self.failure is None:
            return f"{self.scenario}: {self.verdict}, {counted}"
        return f"{self.scenario}: {self.failure} [{self.id}; {counted}]"


def explore(
    scenario: Scenario,
    scheduler: Scheduler | None = None,
    *,
    runs: int | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Execute a scenario again and again, each time otherwise, until all is known or something is found.

    Args:
        scenario: What to execute.
        scheduler: What chooses; None: `Exhaustive()`, which finds whatever there is.
        runs: After how many executions to give up; None: never.
        seconds: After how many seconds.
        progress: Called with the numbers of executions and states, now and then.

    Raises:
        CheckerError: The scenario does not do the same again under the same choices, waits for what is not the runtime's, or holds what can't be
            looked into.
    """
    chooser: Scheduler = Exhaustive() if scheduler is None else scheduler
    states: dict[bytes, int] = {}
    carriers = Carriers()
    collecting, drawn = gc.isenabled(), random.getstate()
    hook, sys.unraisablehook = sys.unraisablehook, _quiet
    since = shown = time.monotonic()
    done = steps = longest = 0
    reached: set[tuple[str, int]] = set()
    world: World | None = None
    more = True
    gc.collect()
    gc.disable()
    try:
        while (runs is None or done < runs) and (seconds is None or time.monotonic() < since + seconds):
            more = chooser.begin()
            if not more:
                break
            world = execute(scenario, chooser, carriers)
            chooser.end(world)
            done += 1
            steps += len(world.taken)
            longest = max(longest, len(world.taken))
            reached |= world.reached
            states = getattr(chooser, "states", states)
            if world.failure is not None:
                break
            if done % TIDY == 0:
                gc.collect()
                if progress is not None and time.monotonic() > shown + 0.2:
                    shown = time.monotonic()
                    progress(done, len(states))
    finally:
        carriers.close()
        sys.unraisablehook = hook
        random.setstate(drawn)
        if collecting:
            gc.enable()
    cycle: Cycle | None = getattr(chooser, "livelock", None)
    if cycle is not None:
        world = _round(scenario, cycle)
    failure = world.failure if world is not None else None
    taken = tuple(world.taken) if world is not None else ()
    complete = not more and bool(getattr(chooser, "complete", False))
    return Report(
        scenario=scenario.name,
        verdict="broken" if failure is not None else "exhausted" if complete else "not exhausted",
        failure=failure,
        id="" if failure is None else f"{scenario.name}@{write(_choices(taken), cycle=cycle is not None)}",
        runs=done,
        states=len(states),
        steps=steps,
        longest=longest,
        switches=sum(step.switches for step in taken),
        seconds=time.monotonic() - since,
        reached=frozenset(reached),
        taken=taken,
        threads=tuple(task.name for task in world.tasks) if world is not None else (),
    )


def _choices(taken: Iterable[Taken]) -> list[int]:
    return [step.choice for step in taken if step.choice is not None]


def _round(scenario: Scenario, cycle: Cycle) -> World:
    """Execute it once more, on a way into a cycle that can be gone round for ever."""
    carriers = Carriers()
    try:
        world = execute(scenario, Follow(cycle.way), carriers)
    finally:
        carriers.close()
    who = ", ".join(world.tasks[number].name for number in sorted(cycle.ran))
    world.failure = Failure("livelock", scenario.blame(Failure("livelock", "", ""), []), f"{who} can go on for ever, each in its turn")
    return world


def execute(scenario: Scenario, scheduler: Scheduler, carriers: Carriers) -> World:
    """Execute it once."""
    world = World(scheduler, carriers, touches=scenario.touches, failing_starts=scenario.failing_starts, deaths=scenario.deaths)
    world.blame = scenario.blame
    world.messages = scenario.messages
    random.seed(0)  # whoever draws draws the same
    world.run(partial(scenario.body, world))
    return world


def replay(scenario: Scenario, choices: str) -> Report:
    """Execute a scenario with the choices of a report's id.

    Raises:
        ValueError: These are no choices.
        CheckerError: They are of other code, or of another scenario.
    """
    written = choices.rpartition("@")[2]
    return explore(scenario, Once(read(written)) if "~" in written else Replay(read(written)))


def _quiet(unraisable: sys.UnraisableHookArgs) -> None:
    if not isinstance(unraisable.exc_value, Abandoned):
        sys.__unraisablehook__(unraisable)
