"""All interleavings of the small scenarios keep the contract, and those of the twins do not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

import enqueuer
from enqueuer._border import unpack_sizes
from enqueuer.testing.schedule import Chance, Exhaustive, Rising, apart, explore, replay
from enqueuer.testing.schedule.scenarios import SCENES, Scene, kept
from enqueuer.testing.twins import RACES, TWINS, Twin

PACKAGE = Path(enqueuer.__file__).parent

FOUND = [
    ("CompletionOrder", "G2", "plain", 24, 1),
    ("OffByOne", "G4", "plain-w1", 1, 0),
    ("OneEpoch", "G5", "plain-w1", 1, 0),
    ("LastItemLost", "G5", "ends", 1, 0),
    ("HookTooEarly", "G7", "hook", 53, 1),
    ("AlwaysABarrier", "G7", "plain", 1, 0),
    ("SpanReadLate", "G8", "shuffle", 67, 1),
    ("ErrorEarly", "G10", "errors", 40, 1),
    ("FirstErrorInTime", "G10", "errors", 40, 1),
    ("ErrorsEndTheStream", "G11", "errors", 1, 0),
    ("StopOnce", "G14", "errors", 1, 0),
    ("ConsumersLeftWaiting", "G14", "stop", 17, 0),
    ("TrueFromInside", "G14", "stop-in-item", 1, 0),
    ("WakesThenEnds", "G14", "stop", 65, 1),
    ("EndsWithoutTheLock", "G14", "stop", 1, 0),
    ("TrueAlways", "G15", "restart", 25, 1),
    ("StreamForgetsItsRun", "G16", "restart", 1, 0),
    ("LeftOver", "G17", "restart", 1, 0),
    ("StragglersHandOver", "G17", "restart", 269, 2),
    ("SecondStartReplaces", "G18", "starts", 1, 0),
    ("RunningForEver", "G19", "errors", 1, 0),
    ("Lingering", "G20", "plain", 1, 0),
    ("NobodyRings", "G20", "drop", 1, 0),
    ("LostWakeUp", "G21", "plain-q1", 1, 0),
    ("OthersForgotten", "G21", "consumers", 11, 0),
    ("NativeGenerator", "G22", "interrupt", 55, 1),
    ("OneConsumerWoken", "G22", "leave", 771, 2),
    ("TakenTwice", "G24", "consumers", 59, 1),
    ("NativeGenerator", "G26", "timeout", 7, 1),
]
"""Twins that concurrency has to do with: name, what it breaks, the scenario that shows it, executions until it does, and switches that it takes.
The numbers are the same on every Python."""


def named(name: str, breaks: str) -> Twin:
    return next(twin for twin in (*TWINS, *RACES) if (twin.name, twin.breaks) == (name, breaks))


SCENARIOS = [pytest.param(scene, id=scene.name) for scene in SCENES.values() if scene.tier == "ci"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scene", SCENARIOS)
def test_every_interleaving_keeps_the_contract(scene: Scene) -> None:
    report = explore(scene.of(), Exhaustive())
    assert report.failure is None, str(report)
    assert report.verdict == "exhausted"
    assert report.states > 10


@pytest.mark.parametrize(("name", "breaks", "scenario", "runs", "switches"), FOUND)
def test_a_twin_is_found(name: str, breaks: str, scenario: str, runs: int, switches: int) -> None:
    scene = SCENES[scenario].of(named(name, breaks).factory)
    report = explore(scene, Rising())
    assert report.failure is not None
    assert (report.runs, report.switches) == (runs, switches), str(report)
    again = replay(scene, report.id)
    assert again.failure == report.failure
    Twin.clean()  # nothing is left of the world, which is over


def test_races_are_all_found_here() -> None:
    assert {twin.name for twin in RACES} <= {name for name, *_ in FOUND}


class GivenAwayEarly(apart.SimProcesses):
    """A slot is given away again when its item is delivered."""

    def _leased(self, slot, message):
        parts = super()._leased(slot, message)
        with self._lock:
            self._stock._lent.remove(slot)
            self._stock.vacate(slot)
        return parts


class LentBeforeItIsRead(apart.SimProcesses):
    """A slot may be given away before anybody has what is in it."""

    def _leased(self, slot, message):
        with self._lock:
            self._stock.lend(slot)
        self._world.point("is about to read")
        return self._stock.views(slot, unpack_sizes(message))


class TakenToTheGrave(apart.SimProcesses):
    """What a dead worker was given does not come back."""

    def _bury(self, worker, one):
        one.slots.clear()
        super()._bury(worker, one)


FAULTS = [
    (GivenAwayEarly, SCENES["keep"], "G6"),
    (LentBeforeItIsRead, Scene("keep-w2-q3", kept, 2, 3), "G6"),
    (TakenToTheGrave, SCENES["keep-crash"], "G20"),
]


@pytest.mark.parametrize(("kind", "scene", "breaks"), FAULTS)
def test_a_fault_of_shared_memory_is_found(monkeypatch, kind: type, scene: Scene, breaks: str) -> None:
    monkeypatch.setattr(apart, "SimProcesses", kind)
    report = explore(scene.of(), Rising())
    assert report.failure is not None
    assert report.failure.guarantee == breaks


def waits(path: Path) -> Iterator[tuple[str, int]]:
    """Where a file acquires a lock or waits: function and line."""

    def look(node: ast.AST, name: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{child.name}".lstrip(".") if isinstance(child, ast.FunctionDef | ast.ClassDef) else name
            if is_wait(child):
                yield name, child.lineno
            yield from look(child, inner)

    yield from look(ast.parse(path.read_text()), "")


def is_wait(node: ast.AST) -> TypeGuard[ast.With | ast.Call]:
    if isinstance(node, ast.With):
        return any(ast.unparse(item.context_expr) in {"self._lock", "self._turns"} for item in node.items)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in {"park", "join"} and not isinstance(node.func.value, ast.Constant)
    return False


ELSEWHERE = {
    "Run._work": "an exception that somebody throws into a worker's thread; test_streams.py does",
    "Processes._start": "a world has processes of its own",
    "_Worker.dead": "multiprocessing's, where there is no pidfd",
    "_Worker.exitcode": "multiprocessing's",
}
"""What no scenario can reach, and why."""


def test_every_lock_and_every_wait_of_the_package_is_reached() -> None:
    reached = {(name.rpartition(".<locals>.")[2], line) for scene in SCENES.values() for name, line in explore(scene.of(), Chance(20)).reached}
    there = {(name, line) for file in ("_run", "_enqueuers", "_processes") for name, line in waits(PACKAGE / f"{file}.py")}
    assert {name for name, _ in there - reached} == {*ELSEWHERE}
