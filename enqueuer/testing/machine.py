"""A Hypothesis state machine: several enqueuers, driven through everything that may be called, against a model of what must come of it.

`machine_for(factory)` returns the machine, `run_state_machine_as_test` runs it; a step that sees a promise broken raises `BrokenPromise`.
Three parts, which share no code with what they test:

    Script, Performance    a sequence, and one run as the sequence sees it: who calls what, and what waits at a gate
    Cell, Run, Subject     the model: a run is a list of cells, and how many of them were taken
    Machine                the rules: each asks the model what must come, does it, and compares

Rules of the machine:
  1. After each step the model knows all that later steps depend on, whatever the timing was: a step waits for what it sets going. Only
     consumers of an item that waits at its gate stay behind, and the step that frees them waits for them.
  2. No sleep stands for synchronisation. That something does *not* happen can only be seen by giving it time: `linger` does, nothing else.
  3. What a sequence finds wrong while it is called is written down (`Performance.broken`) and raised after the step.
"""

from __future__ import annotations

import enum
import itertools
import json
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import ClassVar, Final, NamedTuple, TypeAlias

from hypothesis import Phase, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from .subject import BrokenPromise, Factory, Gate, GeneratorLike, OrderedLike, promise, within

__all__ = ["Machine", "machine_for", "register_profiles"]

MOST_SUBJECTS: Final = 4
MOST_READERS: Final = 4
MOST_ITEMS: Final = 6
"""Length of an epoch."""
MOST_WAITING: Final = 3
"""Consumers of one run that wait for an item at its gate."""
LINGERING: Final = 0.002
"""Seconds in which workers may show that they begin too much."""
HOOK: Final = -1
"""In place of an index: the hook."""
ERRORS: Final = (ValueError, SystemExit, queue.Empty, KeyboardInterrupt, StopIteration)


class Kind(enum.Flag):
    """What becomes of an item, or of the hook; what waits at its gate may be `None` or fail after that."""

    PLAIN = 0
    NONE = enum.auto()
    GATED = enum.auto()
    FAILS = enum.auto()


@dataclass(frozen=True, slots=True)
class Item:
    """An item: how often the hook had run, its index, and its `item_seed()`."""

    version: int
    index: int
    seed: int


Outcome: TypeAlias = Item | BaseException | None
"""What `next()` returned or raised."""
State: TypeAlias = dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Cell:
    """A rank of a stream; `hook` is what runs just before it. If the order is shuffled, `index` is only the position."""

    epoch: int
    version: int
    index: int
    kind: Kind
    hook: Kind | None


@dataclass(frozen=True, slots=True)
class Script:
    """What a sequence holds, epoch by epoch, and the last again and again; a hook that fails does so instead of that.

    Without a hook there is one epoch. A finite script is a generator's.
    """

    epochs: tuple[tuple[Kind, ...], ...]
    hook: Kind | None = None
    finite: bool = False

    def items(self, version: int) -> tuple[Kind, ...]:
        return self.epochs[min(version, len(self.epochs) - 1)]

    def version(self, epoch: int) -> int:
        return 0 if self.hook is None else epoch

    def hook_fails(self, version: int) -> bool:
        return self.hook is not None and Kind.FAILS in self.hook and version >= len(self.epochs)

    def stream(self, epoch: int, position: int) -> Iterator[Cell]:
        """What must be delivered from there on, rank by rank."""
        hook: Kind | None = None  # not before the first epoch
        while True:
            version = self.version(epoch)
            if hook is not None and self.hook_fails(version):
                yield Cell(epoch, version, HOOK, Kind.FAILS, hook)
                return
            for index, kind in enumerate(self.items(version)):
                if index >= position:
                    yield Cell(epoch, version, index, kind, hook if index == 0 else None)
            if self.finite:
                return
            epoch, position, hook = epoch + 1, 0, self.hook


def failure(version: int, index: int) -> BaseException:
    return ERRORS[(version + index) % len(ERRORS)](version, index)


class Performance:
    """One run as its sequence sees it. The only state here that threads share: all that is public and changes is guarded by `lock`."""

    def __init__(self, script: Script, epoch: int, position: int, max_queue_size: int, item_seed: Callable[[], int]) -> None:
        self.script: Final = script
        self.size: Final = max_queue_size
        self._item_seed: Final = item_seed
        self._first: Final = (epoch, position)
        self.lock: Final = threading.Condition()
        self.version = script.version(epoch)
        self.calls: Counter[tuple[int, int]] = Counter()  # of (version, index)
        self.lengths_read = 0
        self.inside = 0
        self.limit = max_queue_size  # how many items may have been begun by now
        self.quiet = False  # whether nothing may be called any more
        self.broken: list[BrokenPromise] = []
        self._gates: Final[dict[int, Gate]] = {}
        self._open = False
        self.errand: Callable[[], None] | None = None  # what the first to pass a gate does

    # the sequence's side

    def length(self) -> int:
        with self.lock:
            self.lengths_read += 1
            self._see(self.script.hook is not None or self.lengths_read == 1, "G7", "the length of a sequence without a hook was read again")
            return len(self.script.items(self.version))

    def item(self, index: int) -> Item | None:
        with self.lock:
            version = self.version
            self.calls[version, index] += 1
            self._see(self.calls.total() <= self.limit, "G4", f"{self.calls.total()} items begun, of at most {self.limit} by now")
            self.lock.notify_all()
            kind = self.script.items(version)[index]
            self.inside += 1
        try:
            self._pass(kind, index)
            if Kind.FAILS in kind:
                raise failure(version, index)
            return None if Kind.NONE in kind else Item(version, index, self._item_seed())
        finally:
            with self.lock:
                self.inside -= 1

    def hook(self) -> None:
        with self.lock:
            version = self.version + 1
            epoch, position = self._first
            before = sum(len(self.script.items(ended)) for ended in range(epoch, version)) - position
            self._see(self.limit - self.size >= before, "G7", f"the hook before epoch {version} ran before rank {before - 1} of the run was taken")
            self._see(self.inside == 0, "G7", f"the hook before epoch {version} ran while an item was computed")
        self._pass(self.script.hook or Kind.PLAIN, HOOK)
        if self.script.hook_fails(version):
            raise failure(version, HOOK)
        with self.lock:
            self.version = version

    def _pass(self, kind: Kind, index: int) -> None:
        if Kind.GATED in kind:
            self.gate(index).enter()
            with self.lock:
                errand, self.errand = self.errand, None
            if errand is not None:
                errand()

    def _see(self, kept: bool, guarantee: str, what: str) -> None:
        if self.quiet:
            self.broken.append(BrokenPromise("G16", "the sequence was called after stop() had returned true"))
        if not kept:
            self.broken.append(BrokenPromise(guarantee, what))

    # the machine's side

    def gate(self, index: int) -> Gate:
        """Where item `index` of this run waits, or the hook; once open it stays open."""
        with self.lock:
            return self._gates.setdefault(index, Gate(opened=self._open))

    def open_gates(self) -> None:
        with self.lock:
            self._open = True
            gates = list(self._gates.values())
        for gate in gates:
            gate.open()

    def allow(self, taken: int) -> None:
        """From now on `taken` ranks of this run may have been taken."""
        with self.lock:
            self.limit = max(self.limit, taken + self.size)


class Ahead(NamedTuple):
    """What some calls of `next()` get, up to a closed gate or the end of the run.

    Attributes:
        cells: What they get, one cell each; None: the end of a generator. An error or an end is the last.
        taken: How many ranks have been taken then.
        front: How many, if those calls that wait at the gate have skipped what is `None`.
        over: Whether the run is over then.
    """

    cells: list[Cell | None]
    taken: int
    front: int
    over: bool


class Run:
    """The model of one run: what it must deliver, and how much of that it has."""

    def __init__(self, script: Script, state: State | None, max_queue_size: int, item_seed: Callable[[], int]) -> None:
        epoch, position, rank = (0, 0, 0) if state is None else (state[name] or 0 for name in ("epoch", "position", "rank"))
        self.resumed: Final = state is not None
        self.rank: Final = rank  # of the first cell
        self.performance: Final = Performance(script, epoch, position, max_queue_size, item_seed)
        self._stream: Final = script.stream(epoch, position)
        self._cells: Final[list[Cell]] = []
        self.taken = 0
        self.over = False
        self.opened: Final[set[int]] = set()  # gates
        self.waiting = 0  # consumers that wait for what is at a gate
        self.returned: Final[queue.SimpleQueue[list[Outcome]]] = queue.SimpleQueue()  # what consumers in other threads got
        self.threads: frozenset[threading.Thread] = frozenset()

    def cells(self, stop: int) -> list[Cell]:
        """The first `stop` cells, or all if there are fewer."""
        self._cells.extend(itertools.islice(self._stream, max(0, stop - len(self._cells))))
        return self._cells[:stop]

    def cell(self, position: int) -> Cell | None:
        """None: the stream ends there."""
        if position >= len(self._cells):
            self.cells(position + 1)
        return self._cells[position] if position < len(self._cells) else None

    def ahead(self, calls: int) -> Ahead:
        cells: list[Cell | None] = []
        taken = front = self.taken
        over = False
        while len(cells) < calls and not over and self.closed_gate(front) is None:
            cell = self.cell(front)
            over = cell is None or Kind.FAILS in cell.kind
            front += not over
            if cell is None or over or Kind.NONE not in cell.kind:
                cells.append(cell)
                taken = front
        return Ahead(cells, taken, front, over)

    def closed_gate(self, position: int) -> int | None:
        """The gate that a cell is behind: its hook's or its own; None if that is open, or there is none."""
        cell = self.cell(position)
        if cell is None or (cell.hook is not None and Kind.GATED in cell.hook and HOOK not in self.opened):
            return None if cell is None else HOOK
        return cell.index if Kind.GATED in cell.kind and cell.index not in self.opened else None

    def blocked_at(self) -> int | None:
        """The gate that keeps the next `next()` from returning; None if none does."""
        ahead = self.ahead(1)
        return None if ahead.cells else self.closed_gate(ahead.front)

    def skipped_at_most(self) -> int:
        """How many ranks may have been taken: a `next()` that timed out or was stopped may have skipped some that are `None`."""
        with self.performance.lock:
            return self.performance.limit - self.performance.size

    def send_consumer(self, stream: Iterator[Item], calls: int) -> None:
        """Let another thread take; what it gets comes to `returned`."""
        threading.Thread(target=lambda: self.returned.put(consume(stream, calls)), name="consumer", daemon=True).start()


class Reader:
    """A stream, and the run that it is bound to."""

    def __init__(self, stream: Iterator[Item], timeout: float | None) -> None:
        self.stream: Final = stream
        self.timeout: Final = timeout
        self.run: Run | None = None


class Subject:
    """An enqueuer under test, its sequence, and the model of its runs."""

    enqueuer: GeneratorLike[Item]
    ordered: OrderedLike[Item] | None = None  # the same, if it is one of a sequence

    def __init__(self, script: Script, *, shuffle: bool, seed: int) -> None:
        self.script: Final = script
        self.shuffle: Final = shuffle
        self.seed = seed
        self.loaded: State | None = None
        self.runs: Final[list[Run]] = []
        self.readers: Final[list[Reader]] = []

    def __repr__(self) -> str:
        return f"<{self.script}, shuffle={self.shuffle}, seed={self.seed}, {len(self.runs)} runs>"

    def on(self) -> Run | None:
        """The run that is on."""
        return self.runs[-1] if self.runs and not self.runs[-1].over else None

    def blocked(self) -> bool:
        run = self.on()
        return run is not None and run.blocked_at() is not None

    def stage(self) -> Performance:
        """The run on whose behalf the calling thread calls the sequence: an earlier one's threads may still be there."""
        thread = threading.current_thread()
        return next((run for run in self.runs[:-1] if thread in run.threads), self.runs[-1]).performance

    def generate(self) -> Iterator[Item | None]:
        stage = self.stage()
        for index in range(len(self.script.epochs[0])):
            yield stage.item(index)


class Acting:
    """The sequence of a subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject: Final = subject

    def __len__(self) -> int:
        return self.subject.stage().length()

    def __getitem__(self, index: int, /) -> Item | None:
        return self.subject.stage().item(index)


class ActingHooked(Acting):
    def on_epoch_end(self) -> None:
        self.subject.stage().hook()


def attempt(stream: Iterator[Item]) -> Outcome:
    try:
        return next(stream)
    except BaseException as error:  # compared with what was to come
        return error


def consume(stream: Iterator[Item], calls: int) -> list[Outcome]:
    """The outcomes of so many calls; the last is the first that raised."""
    outcomes: list[Outcome] = []
    while len(outcomes) < calls and not (outcomes and isinstance(outcomes[-1], BaseException)):
        outcomes.append(attempt(stream))
    return outcomes


def open_gates(runs: Sequence[Run]) -> None:
    for run in runs:
        run.opened.update(range(HOOK, MOST_ITEMS))
        run.performance.allow(run.ahead(run.waiting).front)
        run.performance.open_gates()


def same_error(outcome: Outcome, wanted: BaseException) -> bool:
    if isinstance(wanted, StopIteration):
        return type(outcome) is RuntimeError
    return isinstance(outcome, BaseException) and type(outcome) is type(wanted) and outcome.args == wanted.args


def blame(outcome: Outcome) -> str:
    """The guarantee that an outcome breaks where another item was to come."""
    match outcome:
        case None:
            return "G3"
        case StopIteration():
            return "G5"
        case TimeoutError():
            return "G26"
        case BaseException():
            return "G10"
        case _:
            return "G2"


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
        subject = Subject(script, shuffle=shuffle, seed=seed)
        if script.finite:
            subject.enqueuer = self.factory.generator(subject.generate, random_seed=seed)
        else:
            sequence = Acting(subject) if script.hook is None else ActingHooked(subject)
            subject.enqueuer = subject.ordered = self.factory.ordered(sequence, shuffle=shuffle, seed=seed)
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
        before = frozenset(threading.enumerate())
        run = Run(subject.script, subject.loaded, max_queue_size, self.factory.item_seed)
        subject.loaded = None
        subject.runs.append(run)
        within("G17", "start()", lambda: subject.enqueuer.start(workers, max_queue_size), self.limit)
        run.threads = frozenset(threading.enumerate()) - before
        self.seen["start"] += 1
        for reader in subject.readers:
            if reader.run is not None:
                outcome = self._next(reader, reader.run, patient=False)
                promise(isinstance(outcome, StopIteration), "G16", f"a stream of an earlier run gave {outcome!r}")
                self.seen["a stream of an earlier run"] += 1

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
                promise(not any(thread.is_alive() for thread in run.threads), "G20", "stop() returned true, and threads of the run are left")
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
        deadline = monotonic() + self.limit

        def call() -> Outcome:
            outcome = attempt(reader.stream)
            while patient and reader.timeout is not None and isinstance(outcome, TimeoutError) and monotonic() < deadline:
                outcome = attempt(reader.stream)  # G26: for the same item
            return outcome

        return within("G21", "next()", call, self.limit)

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
            return [run.returned.get(timeout=self.limit) for _ in range(count)]
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

    @precondition(_some(Subject.blocked))
    @rule(subject=_among(Subject.blocked))
    def stop_inside(self, subject: Subject) -> None:
        """Let the item (or hook) that a consumer waits for call `stop()`."""
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
            promise(answers.get(timeout=self.limit) is False, "G14", "stop() inside of an item did not return false")
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

    def _gone(self, runs: Sequence[Run]) -> int:
        """Wait until no thread of these runs is left; return how many there were."""
        threads = [thread for run in runs for thread in run.threads if thread.is_alive()]
        for thread in threads:
            thread.join(self.limit)
            promise(not thread.is_alive(), "G20", f"{thread.name} of a run that is over is still there after {self.limit:g} s")
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
        if seen is None:
            self.is_running()
            self.nothing_is_computed_twice_or_too_early()
            if self.broken:
                raise self.broken[0]


def machine_for(factory: Factory) -> type[Machine]:
    """Return the machine that drives the products of a factory."""
    return type(
        f"Machine[{factory.name}]", (Machine,), {"factory": factory, "limit": factory.limit, "seen": Counter[str](), "broken": list[BrokenPromise]()}
    )


def register_profiles() -> None:
    """Register Hypothesis profiles: `dev` is quick, `ci` tries the same examples each time and shrinks none, `deep` takes an hour or more."""
    common = settings(deadline=None, print_blob=True, database=None)
    settings.register_profile("dev", common, max_examples=40, stateful_step_count=30)
    settings.register_profile("ci", common, max_examples=300, stateful_step_count=40, derandomize=True, phases=(Phase.generate,))
    settings.register_profile("deep", common, max_examples=20_000, stateful_step_count=60)
