"""A Hypothesis state machine: several enqueuers, driven through everything that may be called, against a model of what must come of it.

`machine_for(factory)` returns the machine, `run_state_machine_as_test` runs it; a step that sees a promise broken raises `BrokenPromise`.
Each rule asks the model (`model.py`) what must come, does it, and compares.

Rules of the machine:
  1. After each step the model knows all that later steps depend on, whatever the timing was: a step waits for what it sets going. Only
     consumers of an item that waits at its gate stay behind, and the step that frees them waits for them.
  2. No sleep stands for synchronisation. That something does *not* happen can only be seen by giving it time: `linger` does, nothing else.
  3. What a sequence finds wrong while it is called is written down (`Performance.broken`) and raised after the step.
  4. In process mode the sequence stays in this process, and workers ask for each item (`Sent`): gates and counts are the same. What differs
     is little: only a hook can stop its own run, a stop with a timeout kills what is computed, and no process may be left.
"""

from __future__ import annotations

import itertools
import json
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from hypothesis import Phase, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from .checks import CAPABILITIES
from .kit.adapter import Adapter, AdapterError
from .model import (
    HOOK,
    MOST_ITEMS,
    Ahead,
    Cell,
    Item,
    Kind,
    Outcome,
    Reader,
    Run,
    Script,
    State,
    Subject,
    attempt,
    blame,
    failure,
    open_gates,
    same_error,
)
from .pace import patiently
from .subject import BrokenPromise, Factory, joined, promise, within

__all__ = ["Machine", "machine_for", "register_profiles"]

T = TypeVar("T")

MOST_SUBJECTS: Final = 4
MOST_READERS: Final = 4
MOST_WAITING: Final = 3
"""Consumers of one run that wait for an item at its gate."""
LINGERING: Final = 0.002
"""Seconds in which workers may show that they begin too much."""

KINDS: Final = strategies.sampled_from(
    (*[Kind.PLAIN] * 8, *[Kind.NONE] * 3, *[Kind.GATED] * 4, Kind.GATED | Kind.NONE, Kind.FAILS, Kind.GATED | Kind.FAILS)
)
EPOCHS: Final = strategies.lists(KINDS, min_size=1, max_size=MOST_ITEMS - 1).map(tuple)
HOOKS: Final = strategies.sampled_from((Kind.PLAIN, Kind.GATED, Kind.FAILS, Kind.GATED | Kind.FAILS))
SEEDS: Final = strategies.integers(0, 1)
SIZES: Final = strategies.tuples(strategies.integers(1, 3), strategies.integers(1, 5))
"""Workers and `max_queue_size`."""
MAYBE_SIZES: Final = strategies.one_of(SIZES, SIZES, strategies.none())


def _endless(epochs: list[tuple[Kind, ...]], hook: Kind | None) -> Script:
    """A script whose last epoch has something to deliver, or `next()` might look for it for ever."""
    if all(Kind.NONE in kind for kind in epochs[-1]):
        epochs[-1] += (Kind.PLAIN,)
    return Script(tuple(epochs), hook)


def _tame(script: Script) -> Script:
    """The same without whatever the model could not place in an order that it does not know."""
    hook = None if script.hook is None else script.hook & ~Kind.GATED
    return Script(tuple((Kind.PLAIN,) * len(kinds) for kinds in script.epochs), hook)


SCRIPTS: Final = strategies.one_of(
    strategies.builds(_endless, strategies.lists(EPOCHS, min_size=1, max_size=1), strategies.none()),
    strategies.builds(_endless, strategies.lists(EPOCHS, min_size=1, max_size=3), HOOKS),
)


def _received(source: queue.SimpleQueue[T], limit: float) -> T:
    """Return what comes first; raise `queue.Empty` if nothing does within `limit` seconds of an idle machine."""
    came: list[T] = []

    def comes(seconds: float) -> bool:
        with suppress(queue.Empty):
            came.append(source.get(timeout=seconds))
        return bool(came)

    if not patiently(comes, limit):
        raise queue.Empty
    return came[0]


def _some(which: Callable[[Subject], object]) -> Callable[[Machine], bool]:
    """A precondition: there is such a subject."""
    return lambda machine: any(map(which, machine.subjects))


def _among(which: Callable[[Subject], object]) -> strategies.SearchStrategy[Subject]:
    """Such a subject."""
    return strategies.runner().flatmap(lambda machine: strategies.sampled_from([subject for subject in machine.subjects if which(subject)]))


def _any(_: Subject) -> bool:
    return True


def _idle(subject: Subject) -> bool:
    return subject.on() is None


def _ordered(subject: Subject) -> bool:
    return subject.ordered is not None


def _certain(subject: Subject) -> bool:
    """Whether the model knows where the stream stands. A state that depends on the timing is looked at, and not loaded."""
    return subject.loaded is not None or not subject.runs or subject.runs[-1].taken == subject.runs[-1].skipped_at_most()


def _loadable(subject: Subject) -> bool:
    return _ordered(subject) and _idle(subject) and _certain(subject)


def _sharable(subject: Subject) -> bool:
    """Whether the model can tell what several consumers get together."""
    run = subject.on()
    return run is not None and not subject.shuffle and not run.waiting


class Machine(RuleBasedStateMachine):
    """The rules. Not to be run itself: `machine_for` says on what."""

    factory: ClassVar[Factory]
    limit: ClassVar[float]
    seen: ClassVar[Counter[str]]
    """How often each rule did what it is for, and each situation came up."""
    broken: ClassVar[list[BrokenPromise]]
    """What was found."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: Final[list[Subject]] = []
        self.saved: Final[dict[tuple[Script, bool], State]] = {}
        self.orders: Final[dict[tuple[int, int, int], dict[int, int]]] = {}  # (seed, epoch, length) -> position -> index, as far as seen
        self.seeds: Final[dict[tuple[bool, int, int, int], int]] = {}  # (finite, seed, epoch, index) -> item_seed()

    # making enqueuers; most of them are started at once

    @initialize(script=SCRIPTS, shuffle=strategies.booleans(), seed=SEEDS, sizes=MAYBE_SIZES)
    def make_first(self, script: Script, shuffle: bool, seed: int, sizes: tuple[int, int] | None) -> None:
        self._make(_tame(script) if shuffle else script, shuffle=shuffle, seed=seed, sizes=sizes)

    @precondition(lambda self: len(self.subjects) < MOST_SUBJECTS)
    @rule(script=SCRIPTS, shuffle=strategies.booleans(), seed=SEEDS, sizes=MAYBE_SIZES)
    def make_ordered(self, script: Script, shuffle: bool, seed: int, sizes: tuple[int, int] | None) -> None:
        self._make(_tame(script) if shuffle else script, shuffle=shuffle, seed=seed, sizes=sizes)
        self.seen["make_ordered"] += 1

    @precondition(lambda self: len(self.subjects) < MOST_SUBJECTS)
    @rule(kinds=strategies.lists(KINDS, max_size=MOST_ITEMS), seed=SEEDS, sizes=MAYBE_SIZES)
    def make_generator(self, kinds: list[Kind], seed: int, sizes: tuple[int, int] | None) -> None:
        self._make(Script((tuple(kinds),), finite=True), shuffle=False, seed=seed, sizes=sizes)
        self.seen["make_generator"] += 1

    @precondition(lambda self: len(self.subjects) < MOST_SUBJECTS)
    @rule(like=_among(_any), seed=SEEDS, sizes=MAYBE_SIZES)
    def make_like(self, like: Subject, seed: int, sizes: tuple[int, int] | None) -> None:
        """Make a second enqueuer of an equal sequence."""
        self._make(like.script, shuffle=like.shuffle, seed=seed, sizes=sizes)
        self.seen["make_like"] += 1

    def _make(self, script: Script, *, shuffle: bool, seed: int, sizes: tuple[int, int] | None) -> None:
        make = self.factory.apart or self.factory.ordered
        subject = Subject(script, shuffle=shuffle, seed=seed, apart=self.factory.apart is not None)
        if script.finite:
            subject.enqueuer = self.factory.generator(subject.generate, random_seed=seed)
        else:
            subject.enqueuer = subject.ordered = make(subject.sequence, shuffle=shuffle, seed=seed)
        self.subjects.append(subject)
        for timeout in (None, 0.001):
            self.get(subject, timeout)
        if sizes is not None:
            self.start(subject, sizes)

    # start, stop, save, load

    @precondition(_some(_idle))
    @rule(subject=_among(_idle), sizes=SIZES)
    def start(self, subject: Subject, sizes: tuple[int, int]) -> None:
        self.seen["start again"] += bool(subject.runs)
        self.seen["start at a loaded state"] += subject.loaded is not None
        self.seen["start beside stragglers"] += any(thread.is_alive() for run in subject.runs for thread in run.threads)
        workers, max_queue_size = sizes
        before, processes = frozenset(threading.enumerate()), self._processes()
        run = Run(subject.script, subject.loaded, max_queue_size, self.factory.item_seed)
        subject.loaded = None
        subject.runs.append(run)
        within("G17", "start()", lambda: subject.enqueuer.start(workers, max_queue_size), self.limit)
        run.threads = frozenset(thread for thread in threading.enumerate() if thread.name != "within") - before  # those answer worker processes
        run.processes = self._processes() - processes
        self.seen["start"] += 1
        for reader in subject.readers:
            if reader.run is not None:
                outcome = self._next(reader, reader.run, patient=False)
                promise(isinstance(outcome, StopIteration), "G16", f"a stream of an earlier run gave {outcome!r}")
                self.seen["a stream of an earlier run"] += 1

    def _processes(self) -> frozenset[int]:
        """The child processes of this one that it has not reaped, whoever started them; none where the system does not say."""
        if self.factory.method not in {"fork", "spawn"}:  # those of a fork server are its own
            return frozenset()
        if self.factory.method == "spawn":
            resource_tracker.ensure_running()  # it is no run's
        found: set[int] = set()
        for task in Path("/proc/self/task").glob("*/children"):
            with suppress(OSError):  # a thread that is gone
                found.update(map(int, task.read_text().split()))
        return frozenset(found)

    @precondition(_some(Subject.on))
    @rule(subject=_among(Subject.on))
    def refuse(self, subject: Subject) -> None:
        """What only works between two runs is refused during one, which goes on untouched."""
        refused: dict[str, Callable[[], None]] = {"G18": subject.enqueuer.start}
        if (enqueuer := subject.ordered) is not None:
            refused["G27"] = lambda: enqueuer.load_state_dict(enqueuer.state_dict())
        for guarantee, call in refused.items():
            try:
                within(guarantee, "a call during a run", call, self.limit)
            except RuntimeError:
                continue
            raise BrokenPromise(guarantee, "start() or load_state_dict() during a run raised nothing")
        self.seen["refuse"] += 1

    @rule(subject=_among(_any), timeout=strategies.sampled_from((None, 0.0, 0.01)))
    def stop(self, subject: Subject, timeout: float | None) -> None:
        """Without a timeout the gates open while it waits; with one they stay closed."""
        runs = subject.runs[-1:]
        for run in runs:
            if timeout is not None and run.waiting:
                self._arrived(run)
        self.seen["stop kills"] += subject.kills() and timeout is not None and any(run.performance.inside for run in runs)
        opener = threading.Thread(target=open_gates, args=(runs if timeout is None else [],), name="opener")
        opener.start()
        exited = within("G14" if timeout is None else "G15", f"stop({timeout})", lambda: subject.enqueuer.stop(timeout), self.limit)
        opener.join()
        promise(exited or timeout is not None, "G14", "stop() returned false, although every item ended")
        for run in runs:
            self._over(run, freed=timeout is None)
            if exited:
                with run.performance.lock:
                    run.performance.quiet = True
                left = [thread for thread in run.threads if thread.is_alive()]
                promise(not left, "G20", f"stop() returned true, and threads of the run are left: {left}")
                promise(not run.processes & self._processes(), "G20", "stop() returned true, and processes of the run are left")
            elif subject.kills():
                self._gone([run], "G15")  # all that may have kept it is a slow machine
        self.seen["stop"] += 1
        self.seen["stop leaves stragglers"] += not exited

    def _over(self, run: Run, *, freed: bool) -> None:
        """A run was stopped: its consumers are released, and get nothing, unless the items were `freed` meanwhile."""
        run.over, waiting, run.waiting = True, run.waiting, 0
        for (outcome,) in self._returned(run, waiting, "G14"):
            promise(freed or isinstance(outcome, StopIteration), "G16", f"a consumer that stop() released got {outcome!r}")
            self.seen["stop releases a consumer"] += 1

    @precondition(_some(_ordered))
    @rule(subject=_among(_ordered))
    def save(self, subject: Subject) -> None:
        state = self._state(subject)
        if _certain(subject):
            self.saved[subject.script, subject.shuffle] = state
        self.seen["save"] += 1

    @precondition(_some(_loadable))
    @rule(subject=_among(_loadable))
    def load(self, subject: Subject) -> None:
        """Load what was saved last of this enqueuer, or of another that reads an equal sequence."""
        enqueuer = subject.ordered
        assert enqueuer is not None
        state = self._state(subject)
        state = self.saved.get((subject.script, subject.shuffle), state)
        within("G27", "load_state_dict()", lambda: enqueuer.load_state_dict(state), self.limit)
        subject.loaded, subject.seed = state, state["seed"] or 0
        self._state(subject)
        self.seen["load"] += 1

    def _state(self, subject: Subject) -> State:
        """The state, which must be the model's."""
        assert subject.ordered is not None
        state = within("G27", "state_dict()", subject.ordered.state_dict, self.limit)
        promise(json.loads(json.dumps(state)) == state, "G27", f"not a JSON value: {state}")
        promise(state["seed"] == subject.seed, "G27", f"the seed is {subject.seed}, not as in {state}")
        if subject.loaded is not None:
            promise(state == subject.loaded, "G27", f"{subject.loaded} was loaded, state_dict() is {state}")
            return state
        run = subject.runs[-1] if subject.runs else Run(subject.script, None, 1, self.factory.item_seed)
        position = (state["rank"] or 0) - run.rank
        promise(run.taken <= position <= run.skipped_at_most(), "G27", f"rank {run.rank + run.taken} is the next to take, state_dict() is {state}")
        cell = run.cell(position)
        assert cell is not None  # a sequence does not end
        promise((state["epoch"], state["position"]) == (cell.epoch, max(cell.index, 0)), "G27", f"{cell} is next, state_dict() is {state}")
        return state

    # get and take

    @precondition(_some(lambda subject: len(subject.readers) < MOST_READERS))
    @rule(subject=_among(lambda subject: len(subject.readers) < MOST_READERS), timeout=strategies.sampled_from((None, 0.0, 0.001)))
    def get(self, subject: Subject, timeout: float | None) -> None:
        subject.readers.append(Reader(subject.enqueuer.get(timeout=timeout), timeout))
        self.seen["get"] += 1

    @precondition(_some(lambda subject: len(subject.readers) > 1))
    @rule(subject=_among(lambda subject: len(subject.readers) > 1), which=strategies.integers(0, 9))
    def drop(self, subject: Subject, which: int) -> None:
        del subject.readers[which % len(subject.readers)]
        self.seen["drop"] += 1

    @rule(subject=_among(_any), which=strategies.integers(0, 9), count=strategies.integers(1, 8))
    def take(self, subject: Subject, which: int, count: int) -> None:
        """Take items, up to one that waits at its gate: there a stream with a timeout must say so."""
        reader = subject.readers[which % len(subject.readers)]
        while count and self._take_one(subject, reader):
            count -= 1

    def _take_one(self, subject: Subject, reader: Reader) -> bool:
        """Take an item; false if there was none."""
        run = reader.run if reader.run is not None or not subject.runs else subject.runs[-1]
        if run is None or run.over:
            outcome = self._next(reader, run, patient=False)
            wanted = RuntimeError if run is None else StopIteration
            promise(isinstance(outcome, wanted), "G16", f"no run is on for this stream: next() gave {outcome!r}, not {wanted.__name__}")
            self.seen[f"{wanted.__name__} without a run"] += 1
            return False
        ahead = run.ahead(1)
        run.performance.allow(ahead.front)
        if ahead.cells:
            self._judge(subject, run, ahead.cells[0], self._next(reader, run, patient=True))
            self._commit(run, ahead)
            self.seen["take"] += 1
        elif reader.timeout is not None:
            outcome = self._next(reader, run, patient=False)
            promise(isinstance(outcome, TimeoutError), blame(outcome), f"the next item waits at its gate, and next() gave {outcome!r}")
            self.seen["TimeoutError"] += 1
        return bool(ahead.cells) and not run.over

    def _next(self, reader: Reader, run: Run | None, *, patient: bool) -> Outcome:
        reader.run = run  # G16: for good
        waited_for = True

        def call() -> Outcome:
            outcome = attempt(reader.stream)
            while patient and reader.timeout is not None and isinstance(outcome, TimeoutError) and waited_for:
                outcome = attempt(reader.stream)  # G26: for the same item
            return outcome

        try:
            return within("G21", "next()", call, self.limit)
        finally:
            waited_for = False

    def _judge(self, subject: Subject, run: Run, cell: Cell | None, outcome: Outcome) -> None:
        """Compare what came with the cell that was to come."""
        said = f"at {cell}: {outcome!r}"
        if cell is None:
            promise(isinstance(outcome, StopIteration), "G5", f"a generator's stream, after its last item: {outcome!r}")
        elif Kind.FAILS in cell.kind:
            promise(same_error(outcome, failure(cell.version, cell.index)), "G11" if cell.index == HOOK else "G10", said)
        else:
            guarantee = "G27" if run.resumed and run.taken == 0 else blame(outcome)
            promise(isinstance(outcome, Item), guarantee, said)
            assert isinstance(outcome, Item)
            if subject.shuffle:
                self._judge_order(subject, cell, outcome.index)
            promise(outcome.version == cell.version, "G7", said)
            promise(subject.shuffle or outcome.index == cell.index, guarantee, said)
            key = (subject.script.finite, subject.seed, cell.epoch, outcome.index)
            promise(self.seeds.setdefault(key, outcome.seed) == outcome.seed, "G9", f"at {cell}: another item_seed() than before")
            alike = [other for other, seed in self.seeds.items() if seed == outcome.seed and other[0] == key[0]]
            promise(alike == [key], "G9", f"one item_seed() for (finite, seed, epoch, index) {alike}")

    def _judge_order(self, subject: Subject, cell: Cell, index: int) -> None:
        """An order is not known beforehand: it must be a permutation, and always the same."""
        length = len(subject.script.items(cell.version))
        order = self.orders.setdefault((subject.seed, cell.epoch, length), {})
        self.seen["an order again"] += cell.index in order
        promise(order.setdefault(cell.index, index) == index, "G8", f"index {index} at {cell}, where it was {order[cell.index]} before")
        promise(0 <= index < length and list(order.values()).count(index) == 1, "G8", f"index {index} at {cell} makes no permutation: {order}")

    def _commit(self, run: Run, ahead: Ahead) -> None:
        """What was ahead was taken."""
        run.taken, run.over, last = ahead.taken, ahead.over, ahead.cells[-1]
        self.seen["an end"] += last is None
        self.seen["an error"] += last is not None and run.over
        self.seen["a later epoch"] += last is not None and last.epoch > 0

    @precondition(_some(Subject.on))
    @rule(subject=_among(Subject.on))
    def take_elsewhere(self, subject: Subject) -> None:
        """Another thread takes an item, and waits for it if need be."""
        run = subject.on()
        assert run is not None
        if run.waiting < MOST_WAITING:
            self._wait_elsewhere(subject, run)
            self._resolve(subject, run)
            self.seen["take_elsewhere"] += 1

    def _wait_elsewhere(self, subject: Subject, run: Run) -> None:
        run.waiting += 1
        run.performance.allow(run.ahead(run.waiting).front)
        run.send_consumer(subject.enqueuer.get(), 1)

    def _resolve(self, subject: Subject, run: Run) -> None:
        """Those who wait get what is ahead, until a gate is closed or the run is over."""
        ahead = run.ahead(run.waiting)
        if ahead.cells:
            consumers = run.waiting if ahead.over else len(ahead.cells)
            run.waiting -= consumers
            self._judge_shares(subject, run, ahead, self._returned(run, consumers, "G21"))
            self._commit(run, ahead)

    @precondition(_some(_sharable))
    @rule(subject=_among(_sharable), shares=strategies.lists(strategies.integers(1, 4), min_size=2, max_size=3))
    def take_together(self, subject: Subject, shares: list[int]) -> None:
        """Several consumers at once, each with a stream of its own."""
        run = subject.on()
        assert run is not None
        ahead = run.ahead(sum(shares))
        if not ahead.over and len(ahead.cells) < sum(shares):
            shares = [1] * len(ahead.cells)  # what is before the closed gate is all they may ask for
            ahead = run.ahead(len(shares))
        if shares:
            run.performance.allow(ahead.front)
            for share in shares:
                run.send_consumer(subject.enqueuer.get(), share)
            self._judge_shares(subject, run, ahead, self._returned(run, len(shares), "G21"))
            self._commit(run, ahead)
            self.seen["take_together"] += 1

    def _judge_shares(self, subject: Subject, run: Run, ahead: Ahead, shares: list[list[Outcome]]) -> None:
        """Consumers in several threads share what is ahead: each item goes to one of them, an error too, and all others end."""
        last = ahead.cells[-1]
        if len(ahead.cells) == len(shares) == len(shares[0]) == 1:
            self._judge(subject, run, last, shares[0][0])
            return
        wanted = [(cell.version, cell.index) for cell in ahead.cells if cell is not None and Kind.FAILS not in cell.kind]
        came = [[(item.version, item.index) for item in share if isinstance(item, Item)] for share in shares]
        raised = [share[-1] for share in shares if isinstance(share[-1], BaseException)]
        errors = [error for error in raised if not isinstance(error, StopIteration)]
        said = f"ahead was {ahead.cells}, consumers got {shares}"
        promise(not any(None in share for share in shares), "G3", said)
        if last is not None and ahead.over:
            promise(len(errors) == 1 and same_error(errors[0], failure(last.version, last.index)), "G11" if last.index == HOOK else "G10", said)
        else:
            promise(not errors, "G10", said)
            promise(ahead.over or not raised, "G5", said)
        promise(Counter(itertools.chain(*came)) == Counter(wanted), "G24", said)
        for share in came:
            rest = iter(wanted)
            promise(all(item in rest for item in share), "G24", said)  # ranks rise

    def _returned(self, run: Run, count: int, guarantee: str) -> list[list[Outcome]]:
        """What so many consumers in other threads got."""
        try:
            return [_received(run.returned, self.limit) for _ in range(count)]
        except queue.Empty:
            raise BrokenPromise(guarantee, f"a next() in another thread did not return within {self.limit:g} s") from None

    # gates

    @precondition(_some(Subject.blocked))
    @rule(subject=_among(Subject.blocked))
    def open_gate(self, subject: Subject) -> None:
        """Let that pass which the next `next()` has to wait for."""
        run = subject.on()
        gate = run.blocked_at() if run is not None else None
        assert run is not None
        assert gate is not None
        run.opened.add(gate)
        run.performance.allow(run.ahead(run.waiting).front)
        run.performance.gate(gate).open()
        self._resolve(subject, run)
        self.seen["open_gate"] += 1

    @precondition(_some(Subject.blocked_here))
    @rule(subject=_among(Subject.blocked_here))
    def stop_inside(self, subject: Subject) -> None:
        """Let the item (or hook) that a consumer waits for call `stop()`; an item in another process can't."""
        run = subject.on()
        gate = run.blocked_at() if run is not None else None
        assert run is not None
        assert gate is not None
        if not run.waiting:
            self._wait_elsewhere(subject, run)
        self._arrived(run)
        answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        with run.performance.lock:
            run.performance.errand = lambda: answers.put(subject.enqueuer.stop())
        run.performance.gate(gate).open()
        try:
            promise(_received(answers, self.limit) is False, "G14", "stop() inside of an item did not return false")
        except queue.Empty:
            raise BrokenPromise("G14", f"stop() inside of an item did not return within {self.limit:g} s") from None
        self._over(run, freed=False)
        self.seen["stop_inside"] += 1

    def _arrived(self, run: Run) -> None:
        """Wait until that which a consumer waits for is under way."""
        gate = run.blocked_at()
        arrived = gate is None or run.performance.gate(gate).wait_arrived(1, self.limit)
        promise(arrived, "G21", "a consumer waits for an item, and nobody computes it")

    @precondition(_some(lambda subject: len(subject.runs) > 1))
    @rule(subject=_among(lambda subject: len(subject.runs) > 1))
    def release(self, subject: Subject) -> None:
        """Let the items of earlier runs end, and with them those runs' threads."""
        open_gates(subject.runs[:-1])
        self.seen["release"] += 1
        self.seen["release stragglers"] += self._gone(subject.runs[:-1])

    def _gone(self, runs: Sequence[Run], guarantee: str = "G20") -> int:
        """Wait until no thread or process of these runs is left; return how many threads there were."""
        threads = [thread for run in runs for thread in run.threads if thread.is_alive()]
        for thread in threads:
            promise(joined(thread, self.limit), guarantee, f"{thread.name} of a run that is over is still there after {self.limit:g} s")
        left = self._processes() & frozenset(itertools.chain.from_iterable(run.processes for run in runs))
        promise(not left, guarantee, f"processes {sorted(left)} of a run that is over are left")
        return len(threads)

    @precondition(_some(Subject.on))
    @rule(subject=_among(Subject.on))
    def linger(self, subject: Subject) -> None:
        """Give workers time to begin more than they may."""
        stage = subject.runs[-1].performance
        with stage.lock:
            stage.lock.wait_for(lambda: stage.calls.total() > stage.limit, LINGERING)
        self.seen["linger"] += 1

    # at all times

    @invariant()
    def is_running(self) -> None:
        for subject in self.subjects:
            running = within("G19", "is_running()", subject.enqueuer.is_running, self.limit)
            promise(running == (subject.on() is not None), "G19", f"is_running() is {running}")

    @invariant()
    def nobody_gets_what_waits_at_a_gate(self) -> None:
        for subject in self.subjects:
            for run in subject.runs:
                if run.waiting and not run.returned.empty():
                    (outcome,) = run.returned.get()
                    run.waiting -= 1
                    raise BrokenPromise(blame(outcome), f"the next item waits at its gate, and next() gave {outcome!r}")

    @invariant()
    def nothing_is_computed_twice_or_too_early(self) -> None:
        for subject in self.subjects:
            for run in subject.runs:
                with run.performance.lock:
                    calls, limit, broken = run.performance.calls.copy(), run.performance.limit, run.performance.broken
                if broken:
                    raise broken[0]
                excess = calls - Counter((cell.version, cell.index) for cell in run.cells(limit))
                promise(subject.shuffle or not excess, "G1", f"computed too often, or out of turn: {excess} of (version, index)")

    def teardown(self) -> None:
        """Let everything end. What does not is a broken promise, unless one was seen already and is on its way."""
        seen = sys.exc_info()[1]
        if isinstance(seen, BrokenPromise):
            self.broken.append(seen)
        open_gates([run for subject in self.subjects for run in subject.runs])
        for subject in self.subjects:
            try:
                self.stop(subject, None)
                self._gone(subject.runs)
            except BrokenPromise as broken:
                self.broken.append(broken)
        try:
            if seen is None:
                self.is_running()
                self.nothing_is_computed_twice_or_too_early()
                if self.broken:
                    raise self.broken[0]
        finally:
            for subject in self.subjects:
                subject.drop()


def machine_for(subject: Factory | Adapter) -> type[Machine]:
    """Return the machine that drives the products of a factory, or of the factory of an adapter of the conformance kit.

    Raises:
        AdapterError: The adapter lacks something. The machine drives everything there is.
    """
    if isinstance(subject, Adapter):
        for capability, why in subject.lacks.items():
            raise AdapterError(f"{subject.factory.name} lacks {CAPABILITIES[capability]} ({why}), and the state machine drives everything there is")
        subject = subject.factory
    factory = subject
    return type(
        f"Machine[{factory.name}]", (Machine,), {"factory": factory, "limit": factory.limit, "seen": Counter[str](), "broken": list[BrokenPromise]()}
    )


def register_profiles() -> None:
    """Register Hypothesis profiles: `dev` is quick, `ci` tries the same examples each time and shrinks none, `deep` takes ten minutes."""
    common = settings(deadline=None, print_blob=True, database=None)
    settings.register_profile("dev", common, max_examples=40, stateful_step_count=30)
    settings.register_profile("ci", common, max_examples=300, stateful_step_count=40, derandomize=True, phases=(Phase.generate,))
    settings.register_profile("deep", common, max_examples=4_000, stateful_step_count=60)
