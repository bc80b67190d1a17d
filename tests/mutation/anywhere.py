"""Scenarios in which a thread is interrupted before any line of the monitor, not only where it waits: what rules 2 and 4 of it are for.

Each chooses a line, so that a search tries all of them, in all interleavings. No interrupt comes where a lock scope is entered or left: there
the interpreter looks for none.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final

from enqueuer.testing.schedule.explore import Scenario
from enqueuer.testing.schedule.scenarios import Numbers, Scene, Stage, _all, _stops
from enqueuer.testing.schedule.world import World
from enqueuer.testing.subject import REFERENCE, promise

LINES: Final = 60
"""More than the monitor has on any of these ways: the last of them interrupt nothing."""


class Interrupt:
    """Interrupts its thread, while it is entered, before some line of the monitor.

    A scenario keeps it in a local until `end()`: how many lines are left belongs to the state.
    """

    def __init__(self, stage: Stage) -> None:
        self.left = stage.world.choose("line", LINES)

    def __enter__(self) -> None:
        sys.settrace(self._call)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        sys.settrace(None)
        return kind is KeyboardInterrupt

    def end(self) -> None:
        """Nothing is left that depends on it."""
        self.left = 0

    def _call(self, frame: FrameType, event: str, _: object) -> object:
        return self._line if event == "call" and frame.f_code.co_filename.endswith(("_run.py", "_window.py")) else None

    def _line(self, frame: FrameType, event: str, _: object) -> object:
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with "):
            self.left -= 1
            if self.left == -1:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._line


def take(stage: Stage, workers: int, size: int) -> None:
    """A consumer is interrupted in a take, and comes no more: another one goes on."""
    enqueuer = stage.ordered(Numbers(stage, 3))
    enqueuer.start(workers, size)
    other = stage.world.spawn("consumer", partial(_some, enqueuer.get(), 2))
    stream = enqueuer.get()
    interrupt = Interrupt(stage)
    with interrupt:
        next(stream)
    interrupt.end()
    theirs = other.join()
    promise(theirs in ([0, 1], [0, 2], [1, 2]), "G21", f"a consumer beside one that was interrupted got {theirs}")
    _stops(stage, enqueuer)


def end(stage: Stage, workers: int, size: int) -> None:
    """A consumer is interrupted where the stream ends, and comes no more: another one comes to the end."""
    enqueuer = stage.generator(partial(iter, [0]))
    enqueuer.start(workers, size)
    stream = enqueuer.get()
    first = next(stream)
    promise(first == 0, "G2", f"{first} came first")
    other = stage.world.spawn("consumer", partial(_all, enqueuer.get()))
    interrupt = Interrupt(stage)
    with interrupt:
        next(stream, None)
    interrupt.end()
    theirs = other.join()
    promise(theirs == [], "G5", f"a consumer got {theirs} after the end")
    _stops(stage, enqueuer)


def stop(stage: Stage, workers: int, size: int) -> None:
    """Who stops is interrupted, and does not try again: a consumer goes on, or ends."""
    enqueuer = stage.ordered(Numbers(stage, 3))
    enqueuer.start(workers, size)
    other = stage.world.spawn("consumer", partial(_some, enqueuer.get(), 2))
    interrupt = Interrupt(stage)
    with interrupt:
        enqueuer.stop()
    interrupt.end()
    theirs = other.join()
    promise(theirs == [0, 1][: len(theirs)], "G2", f"the items came as {theirs}")
    _stops(stage, enqueuer)


def _some(stream: Iterator[int], count: int) -> list[int]:
    items: list[int] = []
    while len(items) < count:
        try:
            item = next(stream)
        except StopIteration:
            break
        items.append(item)
    return items


def scenarios() -> list[Scenario]:
    """Return all."""
    return [_scenario(body) for body in (take, end, stop)]


def _scenario(body: Callable[..., None]) -> Scenario:
    def play(world: World) -> Any:
        return body(Stage(world, REFERENCE), 1, 1)

    return replace(Scene(f"{body.__name__}-anywhere", body, 1, 1).of(), body=play)
