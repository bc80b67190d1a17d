"""What happens in the logs that `traces.py` checks: Hypothesis draws it, and a player does it with real threads and processes.

A log is of one enqueuer, which is a `Setting`, and of some runs of it, each of which takes a `Course`: what items do, who consumes, who stops
when. The timing is that of the machine.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer
from enqueuer._enqueuers import SequenceEnqueuer
from enqueuer._processes import Processes
from enqueuer._runtime import REAL
from enqueuer._types import Lock, Parker, Process, Thread
from enqueuer.testing.events import Event, Recorder

PATIENCE: Final = 5.0
"""Seconds after which a thread of a log is given up; those of the package never are."""

FAR: Final = 400
"""A rank that no log comes to."""


@dataclass(frozen=True, slots=True)
class Course:
    """What happens in one run.

    Attributes:
        ending: How it ends: "stop" when the consumers have enough; "race" of stops with consumers that never have; "early", by a stop while
            it starts; "timed", where an item, or the hook of a sequence in processes, is stuck; "within", by an item; "error" of an item, or
            of the hook where there is one; "bell", as a finalizer rings it; "inside", as one rings it that interrupts a critical section of
            a consumer. For twins: "stuck", in all items but the first; "spoilt", by a hook that leaves what can't be sent.
        consumers: How many consume.
        enough: How many items they take together before it ends.
        odd: Position in the epoch -> what becomes of that item: "none", "late" (after the next one), "fails", "late fails", "ends" (it raises
            StopIteration); in a worker process: "kill" or "exit" (of the process, once), "deadly" (whenever it is tried, as long as it matters).
        timeout: Of the stream.
        interrupts: At which of its waits a consumer is interrupted.
        shots: After how many items somebody kills a worker process.
    """

    ending: str
    consumers: int
    enough: int
    odd: Mapping[int, str]
    timeout: float | None
    interrupts: frozenset[int]
    shots: frozenset[int] = frozenset()


RETRIES: Final = 2
"""How often an item is computed again, where it is."""

APART: Final = {
    "processes": ["none", "none", "kill", "kill", "exit", "deadly"],
    "resent": ["none", "none", "kill", "kill", "exit", "deadly"],
    "raising": ["none", "none", "none", "kill", "exit"],
    "copies": ["none", "none", "none", "kill"],
}
"""Kinds of settings with worker processes, and what may become of items there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the runs of a log have in common."""

    kind: str  # plain, shuffled, hooked, generator; processes, raising (at a death), resent (after a hook), copies (of a generator)
    workers: int
    size: int
    length: int = 6

    def bound(self) -> int:
        """Return how many items an epoch has, as the log shows it."""
        return self.length if self.kind in {"shuffled", "hooked", "resent"} else FAR


SETTINGS: Final = (
    Setting("plain", 2, 3),
    Setting("processes", 2, 3),
    Setting("hooked", 2, 3, 4),
    Setting("hooked", 3, 2, 5),
    Setting("shuffled", 3, 4),
    Setting("generator", 2, 2, 24),
    Setting("copies", 2, 3, 12),
    Setting("resent", 2, 3, 4),
    Setting("raising", 3, 4),
    Setting("plain", 1, 1),
)

ENDINGS: Final = ("stop", "race", "early", "timed", "within", "error", "bell", "inside")


def courses(setting: Setting) -> st.SearchStrategy[list[Course]]:
    """Return what draws the runs of a log."""
    apart = setting.kind in APART
    endings = [ending for ending in ENDINGS if not (apart and ending == "within")]
    course = partial(
        st.builds,
        Course,
        consumers=st.sampled_from([1, 2, 3]),
        enough=st.integers(6, 16),
        odd=st.dictionaries(st.integers(0, setting.length - 1), st.sampled_from(APART.get(setting.kind, ["none"])), max_size=2),
        timeout=st.sampled_from([None, None, 0.002]),
        interrupts=st.frozensets(st.integers(1, 12), max_size=2),
        shots=st.frozensets(st.integers(1, 12), max_size=1) if apart else st.just(frozenset[int]()),
    )
    return st.permutations(endings).flatmap(lambda order: st.tuples(*(course(ending=st.just(each)) for each in order[:3])).map(list))


class Stage:
    """What the threads of a log share, apart from the enqueuer."""

    def __init__(self) -> None:
        self.course: Course | None = None
        self.lock: Final = threading.Lock()
        self.taken = 0
        self.computed = 0
        self.ready = threading.Event()
        self.waits: Final[Counter[str]] = Counter()
        self.gates: Final[list[threading.Event]] = []
        self.stop: Callable[[], object] = bool
        self.inside = False
        self.threads: Final[list[Thread]] = []

    def begin(self, course: Course) -> None:
        """Another run begins."""
        self.course, self.taken, self.computed = course, 0, 0
        self.waits.clear()
        self.ready.clear()
        self.inside = course.ending == "inside"
        self.gates.append(threading.Event())

    def enough(self) -> bool:
        """Whether the run may end."""
        return self.course is not None and self.taken >= self.course.enough

    def item(self, position: int, number: int) -> int | None:
        """Be an item."""
        course, gate = self.course, self.gates[-1]
        assert course is not None
        with self.lock:
            self.computed += 1
            nth = self.computed
        if nth % 4 == 0:
            time.sleep(0.001)
        if course.ending == "timed" and nth == course.enough:
            gate.wait(PATIENCE)
        if course.ending == "within" and nth == course.enough:
            self.stop()
        if course.ending == "error" and nth >= course.enough:
            raise ValueError(position)
        what = course.odd.get(position, "")
        if "late" in what:
            time.sleep(0.03)
        if "fails" in what:
            raise KeyError(position) if "late" in what else IndexError(position)
        if what == "ends":
            raise StopIteration
        return None if what == "none" else number


class Rough:
    """A runtime that interrupts consumers while they wait, and rings where a finalizer could."""

    def __init__(self, stage: Stage) -> None:
        self._stage: Final = stage
        self.lock: Final[Callable[[], Lock]] = REAL.lock
        self.boot: Final = REAL.boot
        self.process: Final[Callable[[], Process]] = REAL.process
        self.tell: Final = REAL.tell
        self.finalizing: Final = REAL.finalizing

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """Make a thread, and remember it."""
        thread = REAL.thread(target, name)
        self._stage.threads.append(thread)
        return thread

    def clock(self) -> float:
        """Return the time. A consumer asks for it when there is nothing to take, before it registers."""
        stage = self._stage
        if stage.inside and stage.enough() and threading.current_thread().name.startswith("consumer-"):
            stage.inside = False
            stage.stop()
        return REAL.clock()

    def parker(self) -> Parker:
        """Make a parker, of which a consumer's may be interrupted."""
        parker = REAL.parker()
        return _Interruptible(self._stage, parker) if threading.current_thread().name.startswith("consumer-") else parker


class _Interruptible:
    def __init__(self, stage: Stage, inner: Parker) -> None:
        self._stage: Final = stage
        self._inner: Final = inner
        self.unpark: Final = inner.unpark

    def park(self, timeout: float | None = None) -> None:
        stage, name = self._stage, threading.current_thread().name
        stage.waits[name] += 1
        if stage.course is not None and stage.waits[name] in stage.course.interrupts:
            self._inner.park(0.001)  # it may have got its permit, and has to pass it on
            raise KeyboardInterrupt
        self._inner.park(timeout)


class Items:
    """A sequence of this process."""

    def __init__(self, stage: Stage, length: int) -> None:
        self._stage: Final = stage
        self._length: Final = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> int | None:
        return self._stage.item(index, index)


class HookedItems(Items):
    """The same with a hook."""

    def on_epoch_end(self) -> None:
        """Fail, or stop the run, if that is what is to happen."""
        course = self._stage.course
        if course is not None and course.ending == "error" and self._stage.enough():
            raise OSError("hook")
        if course is not None and course.ending == "within" and self._stage.computed >= course.enough // 2:
            self._stage.stop()


class Apart:
    """A sequence, or a generator, that is sent to worker processes, with what is to happen there."""

    def __init__(self, length: int) -> None:
        self.length: Final = length
        self.course: Course | None = None
        self.folder = ""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int | None:
        assert self.course is not None
        ending = self.course.ending
        what = self._odd(index)
        if index == self.length - 1 and not self._first("once") and not self._first("twice"):
            if ending == "error":
                raise ValueError(index)
            if ending == "timed":
                time.sleep(PATIENCE)
        if ending == "stuck" and not self._first("once"):
            time.sleep(PATIENCE)
        return None if what == "none" else index

    def _odd(self, index: int) -> str | None:
        """Die, if that is what is to become of this item; return what else is."""
        assert self.course is not None
        what = self.course.odd.get(index)
        if what in {"kill", "exit", "deadly"} and any(self._first(f"{index} {n}") for n in range(2 * RETRIES if what == "deadly" else 1)):
            if what == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return what

    def _first(self, what: str) -> bool:
        """Whether this is asked for the first time in this run, in any process."""
        try:
            Path(self.folder, what).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def copy(self) -> Iterator[int | None]:
        """Be a generator, of which each worker has a copy."""
        course = self.course
        assert course is not None
        for index in range(self.length - os.getpid() % 3):
            if index == self.length - 4 and course.ending == "error":
                raise ValueError(index)
            if index == self.length - 4 and course.ending == "timed":
                time.sleep(PATIENCE)
            yield None if self._odd(index) == "none" else index


class HookedApart(Apart):
    """The same with a hook, which is called in this process."""

    def __init__(self, length: int, stage: Stage) -> None:
        super().__init__(length)
        self.stage: Final = stage

    def __getstate__(self) -> dict[str, object]:
        """Leave behind what can't be sent."""
        return {name: value for name, value in vars(self).items() if name != "stage"}

    def on_epoch_end(self) -> None:
        """Fail, or wait, if that is what is to happen."""
        ending = "" if self.course is None else self.course.ending
        if ending == "error" and self.stage.enough():
            raise OSError("hook")
        if ending == "timed":
            self.stage.ready.set()
            self.stage.gates[-1].wait(PATIENCE)
        if ending == "spoilt":
            vars(self)["spoilt"] = self.stage  # which has locks


class Make(Protocol):
    """A class of enqueuers."""

    def __call__(self, *args: object, **options: object) -> SequenceEnqueuer[object]:
        """Make one."""
        ...


class Player:
    """Plays a log: the enqueuer, who consumes, and who stops."""

    def __init__(self, setting: Setting, ordered: Make, generator: Make, patience: float) -> None:
        self.setting: Final = setting
        self.patience: Final = patience
        self.stage: Final = Stage()
        self.recorder: Final = Recorder(Rough(self.stage))
        self.apart: Final = HookedApart(setting.length, self.stage) if setting.kind == "resent" else Apart(setting.length)
        runtime = self.recorder.runtime
        fork: dict[str, object] = {"use_multiprocessing": True, "context": "fork", "runtime": runtime}
        retry: dict[str, object] = {**fork, "on_worker_death": "retry", "max_retries": RETRIES}
        items = Items(self.stage, setting.length)
        made: dict[str, Callable[[], SequenceEnqueuer[object]]] = {
            "plain": lambda: ordered(items, runtime=runtime),
            "shuffled": lambda: ordered(items, shuffle=True, seed=1, runtime=runtime),
            "hooked": lambda: ordered(HookedItems(self.stage, setting.length), runtime=runtime),
            "generator": lambda: generator(lambda: map(self.stage.item, range(setting.length), range(setting.length)), runtime=runtime),
            "processes": lambda: ordered(self.apart, **retry),
            "resent": lambda: ordered(self.apart, **retry),
            "raising": lambda: ordered(self.apart, **fork),
            "copies": lambda: generator(self.apart.copy, **fork),
        }
        self.enqueuer: Final = made[setting.kind]()
        self.stage.stop = self.enqueuer.stop

    def play(self, courses: Iterable[Course]) -> list[Event]:
        """Play the runs, one after the other, and return the log."""
        try:
            with tempfile.TemporaryDirectory(prefix="traces-") as folder:
                for course in courses:
                    self.apart.course = course
                    self.apart.folder = tempfile.mkdtemp(dir=folder)
                    self._run(course)
        finally:
            self.enqueuer.stop(0)
            for gate in self.stage.gates:
                gate.set()
            self.enqueuer.stop(self.patience)
            self._shoot()  # those that a twin has left
            for thread in self.stage.threads:
                with suppress(RuntimeError):  # it was never started
                    thread.join(self.patience)
        return list(self.recorder.events)

    def _run(self, course: Course) -> None:
        stage, enqueuer = self.stage, self.enqueuer
        stage.begin(course)
        early = [threading.Thread(target=self._stop_early, name="stopper-0", daemon=True)] if course.ending == "early" else []
        for thread in early:
            thread.start()
        enqueuer.start(self.setting.workers, self.setting.size)
        consumers = [threading.Thread(target=self._consume, args=(course,), name=f"consumer-{c}", daemon=True) for c in range(course.consumers)]
        stoppers = [threading.Thread(target=self._stop, args=(timeout,), name=f"stopper-{s}", daemon=True) for s, timeout in enumerate([None, 0.01])]
        racing = stoppers if course.ending == "race" else stoppers[1:] if course.ending == "timed" else []
        for thread in (*consumers, *racing):
            thread.start()
        for thread in (*early, *racing, *consumers):
            if course.ending == "bell":
                self._wait()
                run = enqueuer.current_run()
                assert run is not None
                run.ring()
            thread.join(self.patience)
        if course.ending != "timed":
            enqueuer.stop(self.patience)
        elif len(stage.gates) > 1:
            stage.gates[-2].set()

    def _wait(self) -> None:
        """Wait until the run may end, or nothing is delivered any more."""
        before = -1
        while not self.stage.ready.wait(0.03) and before != self.stage.taken:
            before = self.stage.taken

    def _stop(self, timeout: float | None) -> None:
        self._wait()
        self.enqueuer.stop(timeout)

    def _stop_early(self) -> None:
        give_up = time.monotonic() + self.patience
        while not self.enqueuer.is_running() and time.monotonic() < give_up:
            time.sleep(0.0001)
        self.enqueuer.stop()

    def _consume(self, course: Course) -> None:
        stage = self.stage
        stream = self.enqueuer.get(timeout=course.timeout)
        give_up = time.monotonic() + self.patience
        while time.monotonic() < give_up and not (course.ending in {"stop", "spoilt"} and stage.enough()):
            try:
                next(stream)
            except StopIteration:
                return
            except (TimeoutError, KeyboardInterrupt):
                continue
            except Exception:
                return
            with stage.lock:
                stage.taken += 1
                shot = stage.taken in course.shots
            if shot:
                self._shoot(1)
            if stage.enough():
                stage.ready.set()

    def _shoot(self, count: int = FAR) -> None:
        """Kill worker processes. With the lock of those who start and end them, so that it is none that has got the number of one."""
        run = self.enqueuer.current_run()
        engine = None if run is None else run._terms.compute  # noqa: SLF001 - nothing else knows them
        if isinstance(engine, Processes):
            with engine._lock:  # noqa: SLF001
                for one in [*engine._workers.values()][:count]:  # noqa: SLF001
                    one.kill()


def draw(setting: Setting, number: int) -> dict[str, list[Event]]:
    """Draw logs of a setting, by name."""
    logs: dict[str, list[Event]] = {}

    @settings(
        max_examples=number, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow]
    )
    @given(courses(setting))
    def one(drawn: list[Course]) -> None:
        endings = " ".join(course.ending for course in drawn)
        name = f"{setting.kind} {setting.workers} {setting.size} {len(logs)} {endings}"
        logs[name] = Player(setting, cast("Make", OrderedEnqueuer), cast("Make", GeneratorEnqueuer), PATIENCE).play(drawn)

    one()
    return logs
