"""The model of the state machine: a sequence that is played, one run as that sequence sees it, and what must come of it.

    Script, Performance    a sequence, and one run as the sequence sees it: who calls what, and what waits at a gate
    Cell, Run, Subject     the model: a run is a list of cells, and how many of them were taken
    Acting, Sent           the sequence, played in this process, and as worker processes have it: they ask this one for every item

It shares no code with what it is compared to.
"""

from __future__ import annotations

import copy
import enum
import itertools
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, cast

from .remote import Do, Remote
from .subject import BrokenPromise, Gate, GeneratorLike, OrderedLike

__all__ = [
    "HOOK",
    "MOST_ITEMS",
    "Ahead",
    "Cell",
    "Item",
    "Kind",
    "Outcome",
    "Reader",
    "Run",
    "Script",
    "State",
    "Subject",
    "attempt",
    "blame",
    "failure",
    "open_gates",
    "same_error",
]

MOST_ITEMS: Final = 6
"""Length of an epoch."""
HOOK: Final = -1
"""In place of an index: the hook."""
MANY: Final = 2**20
"""More than there are runs, versions or items."""
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

    def item(self, index: int, copied: int | None = None) -> Item | None:
        """Play an item; `copied` is the version that a worker process has a copy of, None in this process."""
        with self.lock:
            version = self.version
            if copied is not None:
                self._see(copied == version, "G7", f"an item of version {version} was asked for by a copy of version {copied}", apart=True)
            self.calls[version, index] += 1
            begun = self.calls.total()
            self._see(begun <= self.limit, "G4", f"{begun} items begun, of at most {self.limit} by now", apart=copied is not None)
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

    def _see(self, kept: bool, guarantee: str, what: str, *, apart: bool = False) -> None:
        if self.quiet and not apart:  # what a worker process asked for may arrive after it was killed
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
        self.processes: frozenset[int] = frozenset()  # their numbers

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

    def __init__(self, script: Script, *, shuffle: bool, seed: int, apart: bool = False) -> None:
        self.script: Final = script
        self.shuffle: Final = shuffle
        self.seed = seed
        self.apart: Final = apart  # whether items are computed in worker processes
        self.sequence: Final = (Sent if apart else Acting)(self) if script.hook is None else (SentHooked if apart else ActingHooked)(self)
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

    def blocked_here(self) -> bool:
        """Whether what waits at the gate is in this process, where it can call `stop()` of its own run."""
        run = self.on()
        return run is not None and run.blocked_at() in ({HOOK} if self.apart else range(HOOK, MOST_ITEMS))

    def kills(self) -> bool:
        """Whether `stop(timeout)` leaves nothing behind: processes are killed, and no thread is ever stuck in the hook."""
        return self.apart and (self.script.hook is None or Kind.GATED not in self.script.hook)

    def stage(self) -> Performance:
        """The run on whose behalf the calling thread calls the sequence: an earlier one's threads may still be there."""
        me = threading.get_ident()  # not current_thread(), which makes up a Thread where there is none, and keeps it

        def mine(run: Run) -> bool:
            return any(thread.ident == me and thread.is_alive() for thread in run.threads)

        return next(filter(mine, self.runs[:-1]), self.runs[-1]).performance

    def drop(self) -> None:
        """Drop what worker processes might ask, whoever keeps this subject."""
        if isinstance(self.sequence, Sent):
            self.sequence.drop()
            self.readers.clear()
            self.ordered = None
            del self.enqueuer

    def generate(self) -> Iterator[Item | None]:
        stage = self.stage()
        for index in range(len(self.script.epochs[0])):
            yield cast("Item | None", Do(self.sequence.__getitem__, index)) if self.apart else stage.item(index)


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


class Sent(Remote):
    """The same as worker processes have it: a copy knows of which run and version it is. Length and hook are of this process."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(_Asked(subject))
        self.subject: Final = subject
        self._copied: tuple[int, int] | None = None  # run and version, in a copy that was pickled

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_copied": self._copied or self._now()}

    def drop(self) -> None:
        """Be a mere copy, which serves nobody."""
        vars(self)["_at"] = copy.copy(self._at)

    def _now(self) -> tuple[int, int]:
        """Run and version; in a fork, as they were when it was made. There nobody may be left to release the lock."""
        stage = self.subject.stage()
        return next(number for number, run in enumerate(self.subject.runs) if run.performance is stage), stage.version

    def __len__(self) -> int:
        return self.subject.stage().length()

    def __getitem__(self, index: int) -> Item | None:
        run, version = self._copied or self._now()
        return cast("Item | None", super().__getitem__((run * MANY + version) * MANY + index))


class SentHooked(Sent):
    def on_epoch_end(self) -> None:
        self.subject.stage().hook()


class _Asked:
    """What this process is asked for by a worker process."""

    def __init__(self, subject: Subject) -> None:
        self._subject: Final = subject

    def __len__(self) -> int:
        return MANY**3

    def __getitem__(self, request: int, /) -> Item | None:
        copied, index = divmod(request, MANY)
        run, version = divmod(copied, MANY)
        return self._subject.runs[run].performance.item(index, version)


def attempt(stream: Iterator[Item]) -> Outcome:
    try:
        return next(stream)
    except BaseException as error:  # compared with what was to come
        return error.with_traceback(None)  # whose frames would keep the enqueuer


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
