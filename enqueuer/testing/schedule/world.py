"""One execution, in which every choice is a scheduler's: locks, parkers, threads and a clock that only move when they are told to.

The threads are real, and one of them runs at a time. A thread that comes to a *scheduling point* says what it is about to do (its *step*)
and waits at its gate until a scheduler chooses it. A step that can't be done now (a lock that is held, a park without a permit) is no
option. Nothing else lets another thread run; so what happens is a function of the choices, and the choices can be written down and made
again.

Scheduling points: the first step of a thread; acquiring a lock; `park`; `unpark`, if no lock is held; `join`; the end of a thread; reading
or writing a field that is shared without a lock (see `guard`), and whatever user code asks for by `World.point()`.

Beside the steps of threads there are *free choices*: a wait with a timeout may end by it whenever it is chosen, and the clock then stands at
its deadline; who is interruptible may be interrupted where it waits; a finalizer may run in any thread that can go on, also inside its
critical section; the start of a thread may fail; and `World.choose()` asks for a number.
"""

from __future__ import annotations

import _thread
import contextvars
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final, Generic, NoReturn, Protocol, TypeVar, cast, final

from ..._types import Lock, Parker, Parted, Process, Runtime, Stoppable, Thread
from ..pace import patiently
from ..subject import BrokenPromise

__all__ = ["Abandoned", "Carriers", "CheckerError", "Failure", "Option", "Point", "Scheduler", "Spawned", "Step", "Taken", "Task", "World"]

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds of an idle machine after which a thread that has come to no scheduling point is taken for stuck in something that is not the world's."""

MOST_STEPS: Final = 20_000
"""Steps after which an execution is said not to end."""


class Abandoned(BaseException):
    """Raised at the scheduling points of an execution that is over, so that its threads unwind."""


class CheckerError(RuntimeError):
    """The exploration itself is wrong, or was given something that it can't explore."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What was found.

    Attributes:
        kind: "broken promise", "deadlock", "livelock", "leak", "unguarded", "error".
        guarantee: Id of the clause of the contract, "" if it is none's.
        what: In words.
    """

    kind: str
    guarantee: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}{f' ({self.guarantee})' if self.guarantee else ''}: {self.what}"


@dataclass(eq=False, slots=True)
class Step:
    """What a thread is about to do.

    Attributes:
        kind: "begin", "acquire", "park", "unpark", "join", "touch", "point", "choose", "settle", "release", "exit".
        of: The lock, parker or task, if there is one.
        label: Of a point or choice, or the name of the field that is touched.
        deadline: When a wait ends by its timeout; None: never.
        options: How many there are to choose from.
    """

    kind: str
    of: object = None
    label: str = ""
    deadline: float | None = None
    options: int = 1


@dataclass(frozen=True, slots=True)
class Option:
    """One way to go on.

    Attributes:
        task: Who goes on.
        how: "" by doing its step, or "timeout", "interrupt", "interrupt, woken", "fails", "finalizer", or a number for `choose`.
        switches: Whether this takes the turn from a thread that could have gone on.
    """

    task: Task
    how: str | int = ""
    switches: bool = False

    def __str__(self) -> str:
        return f"{self.task.name}{f' ({self.how})' if self.how != '' else ''}"


@dataclass(frozen=True, slots=True)
class Taken:
    """What was chosen: the step of one thread, as it is written down.

    Attributes:
        task: Number of the thread.
        step: What it was about to do.
        how: See `Option`.
        choice: Which option it was, None if there was no other.
        enabled: Numbers of the threads that could have gone on.
        switches: See `Option`.
        events: How many events had been recorded before.
    """

    task: int
    step: Step
    how: str | int
    choice: int | None
    enabled: frozenset[int]
    switches: bool = False
    events: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """Where there is something to choose: two options or more. Option 0 goes on with the thread that runs, if it can."""

    world: World
    options: tuple[Option, ...]

    def state(self) -> bytes:
        """Return a digest of all that the future depends on."""
        from .state import digest

        return digest(self.world)


class Scheduler(Protocol):
    """What chooses: one protocol between the loop and every way to search."""

    def begin(self) -> bool:
        """Another execution is to begin; return false if there is none to explore any more."""
        ...

    def choose(self, point: Point) -> int | None:
        """Return the number of an option, None to give this execution up: all that could follow is known."""
        ...

    def end(self, world: World) -> None:
        """The execution has ended, or was given up."""
        ...


class Task:
    """A thread of the world."""

    def __init__(self, number: int, name: str, main: Callable[[], object], *, daemon: bool, joinable: bool) -> None:
        self.number: Final = number
        self.name: Final = name
        self.main: Final = main
        self.daemon: Final = daemon  # a thread of the code under test: one that is left over has leaked
        self.joinable: Final = joinable
        self.step: Step | None = Step("begin")
        self.frame: FrameType | None = None  # where it stands, while it waits at its gate
        self.finished = False
        self.how: str | int = ""
        self.locks = 0  # how many it holds
        self.interrupts = 0  # how often it may still be interrupted
        self.awaited = False  # whether anybody has begun to wait for its end
        self.carrier: _Carrier | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"


class _Carrier(threading.Thread):
    """A real thread, which carries one task after another."""

    def __init__(self, carriers: Carriers) -> None:
        super().__init__(name="carrier", daemon=True)
        self.gate: Final = _thread.allocate_lock()
        self.gate.acquire()
        self.job: tuple[World, Task] | None = None
        self._carriers: Final = carriers

    def run(self) -> None:
        """Carry what there is to carry, until there is nothing."""
        while True:
            self.gate.acquire()
            if self.job is None:
                return
            (world, task), self.job = self.job, None
            self.name = task.name
            contextvars.Context().run(world.carry, task)
            task.carrier = None
            if not self._carriers.closed:
                self._carriers.free.append(self)
            world.pass_on()  # the last that it does for this world: it may have its next job then
            del world, task
            if self._carriers.closed and self.job is None:
                return


class Carriers:
    """The real threads of an exploration; its executions use them one after another."""

    def __init__(self) -> None:
        self.free: Final[list[_Carrier]] = []
        self.closed = False  # whoever was stuck and comes back later ends

    def get(self) -> _Carrier:
        """Return a thread that carries nothing."""
        if self.free:
            return self.free.pop()
        carrier = _Carrier(self)
        carrier.start()
        return carrier

    def close(self) -> None:
        """End those that carry nothing: all, unless one is stuck."""
        self.closed = True
        while self.free:
            carrier = self.free.pop()
            carrier.gate.release()
            carrier.join()


class World:
    """One execution. A scenario gets it as its argument, and builds what it tries with `runtime`."""

    def __init__(
        self, scheduler: Scheduler, carriers: Carriers, *, touches: frozenset[str] = frozenset(), failing_starts: int = 0, deaths: int = 0
    ) -> None:
        self.runtime: Final[Runtime] = _Runtime(self)
        self.touches: Final = touches  # fields whose every access is a scheduling point, see `guard`
        self.failing_starts = failing_starts  # how many threads may still fail to start
        self.deaths = deaths  # how many processes may still be killed, see `apart`
        self.tasks: Final[list[Task]] = []
        self.taken: Final[list[Taken]] = []
        self.now = 0.0
        self.current: Task | None = None
        self.failure: Failure | None = None
        self.cut = False  # given up by the scheduler
        self.over = False  # threads unwind
        self.finalizers: Final[list[Callable[[], object]]] = []
        self.told: Final[list[BaseException]] = []
        self.guards: Final[dict[int, Lock]] = {}  # id of an object -> the lock that guards it
        self.reached: Final[set[tuple[str, int]]] = set()  # where locks were acquired, and where threads have waited
        self.events: Callable[[], int] = int  # how many were recorded
        self.messages: Mapping[type, frozenset[str]] = {}  # see Scenario
        self.blame: Callable[[Failure, list[Task]], str] = nobody
        self._scheduler: Final = scheduler
        self._carriers: Final = carriers
        self._free = True  # whether there is anything to choose
        self._crash: BaseException | None = None
        self._done: Final = _thread.allocate_lock()
        self._done.acquire()

    # for scenarios

    def spawn(self, name: str, main: Callable[[], T]) -> Spawned[T]:
        """Start a thread of the scenario's own. Its exception is the scenario's failure."""
        return Spawned(self, name, main)

    def point(self, label: str) -> None:
        """Be a scheduling point: others may run here."""
        self.reach(Step("point", label=label), sys._getframe(1))

    def choose(self, label: str, options: int = 2) -> int:
        """Return a number below `options`: each is tried."""
        return int(self.reach(Step("choose", label=label, options=options), sys._getframe(1))) if options > 1 else 0

    @contextmanager
    def as_it_comes(self) -> Generator[None]:
        """Choose nothing meanwhile: threads go on for as long as they can. For what is explored elsewhere."""
        self._free = False
        try:
            yield
        finally:
            self._free = True

    def settle(self) -> None:
        """Wait until nobody else can go on, timeouts and the like apart."""
        self.reach(Step("settle"), sys._getframe(1))

    def left(self) -> list[str]:
        """Return the names of the threads of the code under test that have not ended."""
        return [task.name for task in self.tasks if task.daemon and not task.finished]

    def interruptible(self, times: int = 1) -> None:
        """Let this thread be interrupted where it waits, so often: `KeyboardInterrupt` is raised there."""
        self.me().interrupts = times

    def finalize(self, finalizer: Callable[[], object]) -> None:
        """Let it be called once, at any moment from now on, in any thread: as the garbage collector calls one."""
        self.finalizers.append(finalizer)

    def fail(self, failure: Failure) -> NoReturn:
        """The execution is over: this was found."""
        if self.failure is None and not self.over:
            self.failure = failure
        self.over = True
        raise Abandoned

    # the execution

    def run(self, main: Callable[[], object]) -> None:
        """Run it to its end; see `failure`, `cut` and `taken` then."""
        try:
            self.hand(self.add("main", main, daemon=False))
            self._wait()
        except BaseException:  # interrupted: let the threads unwind
            self.cut = self.over = True
            for task in self.tasks:
                if task.carrier is not None and task.carrier.job is not None:  # it was about to begin
                    with suppress(RuntimeError):  # its gate may be open already
                        task.carrier.gate.release()
            if any(task.carrier is not None for task in self.tasks):
                self._done.acquire(timeout=PATIENCE)
            raise
        if self._crash is not None:
            raise self._crash
        if not (self.cut or self.failure is not None or all(task.finished for task in self.tasks)):
            raise CheckerError("the execution has ended although not all of its threads have")

    def _wait(self) -> None:
        if patiently(lambda seconds: self._done.acquire(timeout=seconds), PATIENCE):
            return
        running = self.current
        frame = sys._current_frames().get(running.carrier.ident or 0) if running is not None and running.carrier is not None else None
        where = f" in {frame.f_code.co_qualname}, line {frame.f_lineno}" if frame is not None else ""
        raise CheckerError(f"{running} has not come to a scheduling point for {PATIENCE:g} s{where}: what it waits for there is not the runtime's")

    def add(self, name: str, main: Callable[[], object], *, daemon: bool = True, joinable: bool = True) -> Task:
        """There is another thread. It begins when it is chosen."""
        if self.over:
            raise Abandoned
        task = Task(len(self.tasks), name, main, daemon=daemon, joinable=joinable)
        self.tasks.append(task)
        return task

    def me(self) -> Task:
        """Return the thread that runs, which is the one that asks."""
        task = self.current
        if task is None or task.carrier is None or task.carrier.ident != _thread.get_ident():
            self._crash = CheckerError(f"{threading.current_thread().name} is no thread of this world, and has come to a scheduling point of it")
            self.over = True
            raise self._crash
        return task

    def reach(self, step: Step, frame: FrameType) -> str | int:
        """The current thread has come to a scheduling point, in that frame. Return how it goes on, when it does."""
        if self.over:
            raise Abandoned
        task = self.me()
        outer = task.step, task.frame  # if this is in a finalizer, the step that it has delayed
        task.step, task.frame = step, frame
        while True:
            option = self._pick()
            if option is None:
                self.over = True
            elif option.task is not task:
                self.hand(option.task)
                assert task.carrier is not None
                task.carrier.gate.acquire()
            if self.over:
                task.step, task.frame = outer
                raise Abandoned
            if task.how != "finalizer":
                break
            self.finalizers.pop(0)()
        task.step, task.frame = outer
        return task.how

    def hand(self, task: Task) -> None:
        """Let a thread run."""
        self.current = task
        if task.carrier is None:
            task.carrier = self._carriers.get()
            task.carrier.job = self, task
        task.carrier.gate.release()

    def carry(self, task: Task) -> None:
        """Body of a real thread: run a task from its beginning to its end."""
        world.set(self)
        task.step = None
        try:
            task.main()
            if task.joinable:  # of a bare thread nobody can know whether its last instructions are done
                self.reach(Step("exit"), sys._getframe())
        except Abandoned:
            pass
        except BaseException as error:
            if not self.over:
                self.over = True
                self.failure = (
                    Failure("broken promise", error.guarantee, error.what)
                    if isinstance(error, BrokenPromise)
                    else Failure("error", "", f"{task.name} raised {error!r}{_where(error)}")
                )
        finally:
            task.finished, task.step, task.frame = True, None, None

    def pass_on(self) -> None:
        """The current task has ended: let the next one run, or unwind if the execution is over."""
        if not self.over:
            option = self._pick()
            if option is not None:
                return self.hand(option.task)
            self.over = True
        for task in self.tasks:
            if task.carrier is not None and not task.finished:
                return self.hand(task)
        self._done.release()
        return None

    def _pick(self) -> Option | None:
        """Choose who goes on, and write it down; None if nobody does."""
        try:
            options = self._options()
            if not options:
                self._stuck()
                return None
            choice = None
            if len(options) > 1 and self._free:
                choice = self._scheduler.choose(Point(self, options))
                if choice is None:
                    self.cut = True
                    return None
        except BaseException as error:  # told by run()
            self._crash = error
            return None
        option = options[choice or 0]
        task = option.task
        assert task.step is not None
        enabled = frozenset(option.task.number for option in options)
        self.taken.append(Taken(task.number, task.step, option.how, choice, enabled, option.switches, self.events()))
        if len(self.taken) > MOST_STEPS:
            self.failure = Failure("livelock", "", f"no end after {MOST_STEPS} steps")
            return None
        task.how = option.how
        return option

    def _options(self) -> tuple[Option, ...]:
        for task in self.tasks:
            if task.daemon and task.step is not None and task.step.kind == "begin":
                return (Option(task),)  # until its first scheduling point it does nothing that others could see
        current = self.current
        going = current is not None and current.step is not None and current.step.kind not in {"settle", "exit"} and _can(current.step)
        first: list[Option] = []
        others: list[Option] = []
        free: list[Option] = []
        last: list[Option] = []  # what happens when nothing else does
        for task in self.tasks:
            step = task.step
            if step is None:
                continue
            if step.kind == "settle" or (step.kind == "exit" and not task.awaited):  # a thread that has nothing left to do may stay for long
                last.append(Option(task))
                continue
            can = _can(step)
            if can:
                hows: Iterable[str | int] = range(step.options) if step.kind == "choose" else ("",)
                (first if task is current else others).extend(Option(task, how, going and task is not current) for how in hows)
                if self.finalizers and step.kind != "begin":
                    free.append(Option(task, "finalizer", switches=True))
            if step.deadline is not None:
                free.append(Option(task, "timeout", switches=True))
            if task.interrupts and step.kind in {"park", "acquire"}:
                free.append(Option(task, "interrupt", switches=True))
                if can and step.kind == "park":
                    free.append(Option(task, "interrupt, woken", switches=True))
        if not first and not others:
            last.sort(key=lambda option: option.task.step is not None and option.task.step.kind == "settle")
            others = last[:1]
        return (*first, *others, *free)

    def _stuck(self) -> None:
        left = [task for task in self.tasks if not task.finished]
        if left:
            kind = "leak" if all(task.daemon for task in left) else "deadlock"
            found = Failure(kind, "", "; ".join(f"{task.name} {waits(task)}" for task in left))
            self.failure = Failure(kind, self.blame(found, left), found.what)


world: Final[contextvars.ContextVar[World | None]] = contextvars.ContextVar("enqueuer_world", default=None)
"""The world whose thread this is."""


def nobody(failure: Failure, tasks: list[Task]) -> str:
    """Blame no clause of the contract."""
    del failure, tasks
    return ""


def _where(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else f" ({traceback.tb_frame.f_code.co_qualname}, line {traceback.tb_lineno})"


def _can(step: Step) -> bool:
    """Whether it can be done now."""
    if step.kind == "acquire":
        return cast("SimLock", step.of).owner is None
    if step.kind == "park":
        return cast("SimParker", step.of).permit
    if step.kind == "join":
        return cast("Task", step.of).finished
    return True


def waits(task: Task) -> str:
    """Say what a thread waits for, and where."""
    step = task.step
    assert step is not None
    where = f" in {task.frame.f_code.co_qualname}, line {task.frame.f_lineno}" if task.frame is not None else ""
    if step.kind == "acquire":
        owner = cast("SimLock", step.of).owner
        return f"waits for a lock{f' that {owner.name} holds' if owner is not None else ''}{where}"
    if step.kind == "park":
        return f"is parked, and nobody wakes it{where}"
    if step.kind == "join":
        return f"waits for {cast('Task', step.of).name} to end{where}"
    return f"stands before {step.kind} {step.label}{where}"


# what the code under test gets from the runtime


@final
class SimLock:
    """A re-entrant lock; only its owner writes."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self.owner: Task | None = None
        self._depth = 0

    def __enter__(self) -> bool:
        world = self._world
        if world.over:
            raise Abandoned
        task, frame = world.me(), sys._getframe(1)
        world.reached.add((frame.f_code.co_qualname, frame.f_lineno))
        if self.owner is not task:
            if world.reach(Step("acquire", self), frame) == "interrupt":
                task.interrupts -= 1
                raise KeyboardInterrupt
            self.owner = task
            task.locks += 1
        self._depth += 1
        return True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        world = self._world
        if world.over:
            return
        if self._depth == 1 and world.finalizers:
            world.reach(Step("release", self), sys._getframe(1))
        self._depth -= 1
        if not self._depth and self.owner is not None:
            self.owner.locks -= 1
            self.owner = None

    def owned(self) -> bool:
        """Whether the calling thread holds it."""
        return not self._world.over and self.owner is self._world.current and self.owner is not None


@final
class SimParker:
    """A permit."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self.permit = False

    def park(self, timeout: float | None = None) -> None:
        """Wait for the permit."""
        world, frame = self._world, sys._getframe(1)
        if world.over:
            raise Abandoned
        world.reached.add((frame.f_code.co_qualname, frame.f_lineno))
        deadline = None if timeout is None else world.now + max(timeout, 0.0)
        how = world.reach(Step("park", self, deadline=deadline), frame)
        if how == "timeout":  # the permit, if one comes in this moment, stays
            assert deadline is not None
            world.now = max(world.now, deadline)
            return
        if how != "interrupt":
            self.permit = False
        if how != "":
            world.me().interrupts -= 1
            raise KeyboardInterrupt

    def unpark(self) -> None:
        """Grant it."""
        world = self._world
        if world.over:
            return
        if not world.me().locks:
            world.reach(Step("unpark", self), sys._getframe(1))
        self.permit = True


@final
class SimThread:
    """A thread of the code under test."""

    def __init__(self, world: World, target: Callable[[], None], name: str) -> None:
        self._world: Final = world
        self._target: Final = target
        self._name: Final = name
        self.task: Task | None = None

    def start(self) -> None:
        """Start it."""
        world = self._world
        if world.failing_starts and world.choose("the start fails"):
            world.failing_starts -= 1
            raise RuntimeError("can't start new thread")
        self.begin()

    def begin(self) -> None:
        """Start it; this can't fail."""
        self.task = self._world.add(self._name, self._target)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        assert self.task is not None
        world, frame = self._world, sys._getframe(1)
        world.reached.add((frame.f_code.co_qualname, frame.f_lineno))
        deadline = None if timeout is None else world.now + max(timeout, 0.0)
        self.task.awaited = True
        if world.reach(Step("join", self.task, deadline=deadline), frame) == "timeout":
            assert deadline is not None
            world.now = max(world.now, deadline)

    def is_alive(self) -> bool:
        """Whether it has begun, and not ended."""
        return self.task is not None and not self.task.finished


class Spawned(Generic[T]):
    """A thread of a scenario's own."""

    def __init__(self, world: World, name: str, main: Callable[[], T]) -> None:
        self._world: Final = world
        self._main: Final = main
        self._results: Final[list[T]] = []
        self._task: Final = world.add(name, self._run, daemon=False)

    def _run(self) -> None:
        self._results.append(self._main())

    def join(self) -> T:
        """Wait for its end; return what its function has returned."""
        self._task.awaited = True
        self._world.reach(Step("join", self._task), sys._getframe(1))
        return self._results[0]


class _Process:
    """A process that nobody forks and that never exits."""

    forked = False

    def __init__(self) -> None:
        self.private: Final[set[int]] = set()
        self.parted: Final[set[Parted]] = set()

    forks = 0, 0

    def unforked(self) -> AbstractContextManager[object]:
        return nullcontext()

    def keep(self, make: Callable[[], int]) -> int | None:
        return make()

    def drop(self, descriptor: int) -> None:
        pass

    def at_exit(self, run: Stoppable) -> None:
        pass

    def end(self) -> None:
        pass


@final
class _Runtime:
    """The seam."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self._process: Final = _Process()

    def lock(self) -> Lock:
        return SimLock(self._world)

    def parker(self) -> Parker:
        return SimParker(self._world)

    def boot(self, main: Callable[[], None]) -> None:
        self._world.add("boot", main, joinable=False)

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        return SimThread(self._world, target, name)

    def clock(self) -> float:
        return self._world.now

    def process(self) -> Process:
        return self._process

    def tell(self, error: BaseException) -> None:
        self._world.told.append(error)

    def finalizing(self) -> bool:
        return False
