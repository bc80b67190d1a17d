"""What is explored of an enqueuer: small scenarios, each about one thing. Not their product.

A scenario gets a `Stage`: a world, and enqueuers on its runtime, whose fields are guarded. It judges as the checks do, by what a user sees.
The bounds are in the names of the sizes: W workers, Q `max_queue_size`, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, Protocol, TypeVar, cast

from ... import GeneratorEnqueuer, OrderedEnqueuer
from ..._context import Here
from ..._enqueuers import SequenceEnqueuer
from ..._plan import Place, Plan, permutation
from ..._run import Run, Terms
from ..._types import EndOfStream, Engine, Process, Runtime
from ...errors import RunningError, StartError, WorkerDiedError
from ..subject import REFERENCE, Factory, promise
from ..twins import Twin
from .apart import Kept, engine_of
from .explore import Scenario
from .guard import Discipline, guard
from .world import Failure, Task, World

__all__ = ["SCENES", "Scene", "Stage"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E_ = TypeVar("E_", bound=SequenceEnqueuer[int])

RUN: Final = Discipline(
    {"_terms", "_lock", "_process", "_outer", "_watch", "_window"},
    {
        "_rung": {"*"},  # only ever set, by anyone
        "_parkers": {"ring", "_wait"},  # the bell; a worker's own, which was there before it
        "_takers": {"ring"},
        "_starting": {"_boot", "start"},  # by the thread that starts the others, and by who has waited for it
        "_present": {"stop"},  # when no other thread runs any more
    },
)
"""The fields of a run."""

WINDOW: Final = Discipline({"size", "barrier", "serial", "first"})
"""The fields of its window."""

FACE: Final = Discipline(
    {
        "sequence",
        "use_multiprocessing",
        "_context",
        "_retries",
        "_runtime",
        "_lock",
        "_items",
        "shuffle",
        "_open",
        "_foreign",
        "random_seed",
        "_turns",
        "_counts",
    },
    {"_run": {"current_run"}},  # one reference, published by one store
)
"""The fields of an enqueuer."""

MESSAGES: Final = {Run: frozenset({"_claims"}), Here: frozenset({"epoch", "index"})}
"""Fields that messages alone are made of: no decision depends on them, so they are left out of states."""


SEED: Final = 2
"""Of shuffled orders: two of them differ."""


class _Makes(Protocol[T_co]):
    def __call__(self, source: object, /, *, runtime: Runtime, **options: object) -> T_co: ...


class Stage:
    """A world, and enqueuers of one factory in it."""

    def __init__(self, world: World, factory: Factory) -> None:
        self.world: Final = world
        self._factory: Final = factory

    def ordered(self, sequence: object, **options: object) -> OrderedEnqueuer[int]:
        """Make an enqueuer of a sequence."""
        make = cast("_Makes[OrderedEnqueuer[int]]", self._factory.ordered)
        return _guarded(make(sequence, runtime=self.world.runtime, **options))

    def guarded(self, enqueuer: E_) -> E_:
        """Check every access to the enqueuer and its runs."""
        return _guarded(enqueuer)

    def apart(self, sequence: object, retries: int = 0, *, large: bool = False) -> OrderedEnqueuer[int]:
        """Make an enqueuer of a sequence in process mode; if its items are large they are `Kept`."""
        return _apart(self.ordered(sequence), retries, large=large)

    def copies(self, generator: object) -> GeneratorEnqueuer[int]:
        """Make an enqueuer of a generator in process mode: each worker iterates a copy of its own."""
        return _apart(self.generator(generator, use_multiprocessing=True, context="fork"), 0)

    def generator(self, generator: object, **options: object) -> GeneratorEnqueuer[int]:
        """Make an enqueuer of a generator."""
        make = cast("_Makes[GeneratorEnqueuer[int]]", self._factory.generator)
        return _guarded(make(generator, runtime=self.world.runtime, **options))


def _guarded(enqueuer: E_) -> E_:
    object.__setattr__(enqueuer, "__class__", _guarding(type(enqueuer)))
    return guard(enqueuer, enqueuer._lock, FACE)


@cache
def _guarding(kind: type[SequenceEnqueuer[int]]) -> type:
    def make_run(self: SequenceEnqueuer[int], terms: Terms[int]) -> Run[int]:
        run = kind.make_run(self, terms)
        guard(run._window, terms.lock, WINDOW)
        return guard(run, terms.lock, RUN)

    return type(kind.__name__, (kind,), {"make_run": make_run, "__qualname__": kind.__qualname__, "__module__": kind.__module__})


def _apart(enqueuer: E_, retries: int, *, large: bool = False) -> E_:
    """Let its items be computed by processes of the world."""
    object.__setattr__(enqueuer, "__class__", _apart_as(type(enqueuer), retries, large))
    return enqueuer


@cache
def _apart_as(kind: type[SequenceEnqueuer[int]], retries: int, large: bool) -> type:
    def make_engine(self: SequenceEnqueuer[int], plan: Plan, process: Process) -> Engine[int]:
        del plan
        return engine_of(self.make_compute(), self._runtime.lock(), process, retries=retries, large=large)

    return type(kind.__name__, (kind,), {"_make_engine": make_engine, "__qualname__": kind.__qualname__, "__module__": kind.__module__})


class Numbers:
    """A sequence: item `index` is `base + index`. What begins and ends is counted: one thread runs at a time, so that needs no lock."""

    def __init__(self, stage: Stage, length: int, *, slow: bool = False, nones: tuple[int, ...] = (), errors: tuple[int, ...] = ()) -> None:
        self.length: Final = length
        self._world: Final = stage.world
        self._slow: Final = slow
        self._nones: Final = nones
        self._errors: Final = errors
        self.begun = 0
        self.under_way = 0
        self.over = False  # whether a stop() has returned true
        self.base = 0  # what is added to every index

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int | None:
        promise(not self.over, "G16", f"item {index} was called after stop() had returned true")
        item = self.base + index
        self.begun += 1
        self.under_way += 1
        if self._slow:
            self._world.point("computes")
        self.under_way -= 1
        if index in self._errors:
            raise ValueError(index)
        return None if index in self._nones else item


class Hooked(Numbers):
    """The same, with a hook that looks at who is there."""

    hooks = 0
    taken = 0  # written by the consumer, when it has the item

    def on_epoch_end(self) -> None:
        self.hooks += 1
        promise(self.under_way == 0, "G7", "the hook ran while an item was computed")
        promise(self.begun == self.hooks * self.length, "G7", f"hook {self.hooks} ran after {self.begun} items, of {self.length} an epoch")
        promise(self.taken >= self.hooks * self.length - 1, "G7", f"hook {self.hooks} ran when {self.taken} items had been taken")
        self._world.point("hook")


def _takes(stream: Iterator[T], count: int) -> list[T]:
    items: list[T] = []
    while len(items) < count:
        item = next(stream)
        items.append(item)
    return items


def _all(stream: Iterator[T], most: int | None = None) -> list[T]:
    """Take what there is, so many at most."""
    items: list[T] = []
    while len(items) != most:
        try:
            item = next(stream)
        except StopIteration:
            break
        items.append(item)
    return items


def _stops(stage: Stage, enqueuer: SequenceEnqueuer[int], *sequences: Numbers) -> None:
    """Stop it: it is to return true, and nothing is left then."""
    stopped = enqueuer.stop()
    for sequence in sequences:
        sequence.over = True
    left = stage.world.left()
    promise(stopped is True, "G14", f"stop() returned {stopped}")
    promise(not left, "G20", f"stop() has returned, and {', '.join(left)} had not ended")
    promise(not enqueuer.is_running(), "G19", "is_running() after stop()")


# the scenarios


def plain(stage: Stage, workers: int, size: int) -> None:
    """One consumer takes some items, and the workers go on as far as they may; then it stops."""
    count = size + 1
    sequence = Numbers(stage, 2)
    enqueuer = stage.ordered(sequence)
    enqueuer.start(workers, size)
    items = _takes(enqueuer.get(), count)
    promise(items == [rank % 2 for rank in range(count)], "G2", f"the items came as {items}")
    stage.world.settle()
    promise(sequence.begun <= count + size, "G4", f"{sequence.begun} items were computed, {count} taken, with max_queue_size={size}")
    promise(sequence.begun == count + size, "G21", f"{sequence.begun} items were computed, {count} taken, and nobody works: the window is {size}")
    _stops(stage, enqueuer, sequence)


def prefetched(stage: Stage, workers: int, size: int) -> None:
    """Nobody takes anything: the workers compute as much as they may, all the same."""
    sequence = Numbers(stage, 3)
    enqueuer = stage.ordered(sequence)
    enqueuer.start(workers, size)
    stage.world.settle()
    promise(sequence.begun == size, "G21", f"{sequence.begun} items were computed before anybody asked, with max_queue_size={size}")
    _stops(stage, enqueuer, sequence)


def met(stage: Stage, workers: int, size: int) -> None:
    """Two items that wait for each other: two workers must compute at once."""

    class Meeting(Numbers):
        def __getitem__(self, index: int) -> int | None:
            parkers[1 - index % 2].unpark()
            parkers[index % 2].park()
            return super().__getitem__(index)

    parkers = [stage.world.runtime.parker(), stage.world.runtime.parker()]
    enqueuer = stage.ordered(Meeting(stage, 2))
    enqueuer.start(workers, size)
    items = _takes(enqueuer.get(), 2)
    promise(items == [0, 1], "G2", f"the items came as {items}")
    parkers[0].unpark()  # whoever is in an item of the next epoch goes home
    parkers[1].unpark()
    enqueuer.stop(1)


def stopped(stage: Stage, workers: int, size: int) -> None:
    """Somebody stops while items are computed and taken."""
    sequence = Numbers(stage, 2, slow=True)
    enqueuer = stage.ordered(sequence)
    enqueuer.start(workers, size)
    stopper = stage.world.spawn("stopper", partial(_stops, stage, enqueuer, sequence))
    stream = enqueuer.get()
    items = _all(stream, 2)
    promise(items == [0, 1][: len(items)], "G2", f"the items came as {items}")
    stopper.join()
    end = next(stream, "the end")
    promise(end == "the end", "G16", f"{end!r} was delivered after stop()")


def hook(stage: Stage, workers: int, size: int) -> None:
    """Two epochs, with a hook in between."""
    sequence = Hooked(stage, 2, slow=True)
    enqueuer = stage.ordered(sequence)
    enqueuer.start(workers, size)
    stream = enqueuer.get()
    items: list[int] = []
    while len(items) < 3:
        item = next(stream)
        items.append(item)
        sequence.taken += 1
    promise(items == [0, 1, 0], "G2", f"the items came as {items}")
    promise(sequence.hooks == 1, "G7", f"{sequence.hooks} hooks in the second epoch")
    _stops(stage, enqueuer, sequence)


def errors(stage: Stage, workers: int, size: int) -> None:
    """An item is None, and two fail."""
    sequence = Numbers(stage, 4, slow=True, nones=(0,), errors=(2, 3))
    enqueuer = stage.ordered(sequence)
    enqueuer.start(workers, size)
    stream = enqueuer.get()
    first = next(stream)
    promise(first == 1, "G3", f"the first item is None, and {first!r} came")
    try:
        second: object = next(stream)
    except ValueError as error:
        second = error.args
    promise(second == (2,), "G10", f"item 2 failed, and {second!r} came")
    third = next(stream, "the end")
    promise(third == "the end", "G10", f"{third!r} came after an error")
    promise(not enqueuer.is_running(), "G19", "is_running() after an error was delivered")
    stage.world.settle()
    left = stage.world.left()
    promise(not left, "G20", f"the run has failed, and {', '.join(left)} stay")
    _stops(stage, enqueuer, sequence)


def shuffled(stage: Stage, workers: int, size: int) -> None:
    """Epochs have orders of their own, and follow one another without a stop in between."""
    enqueuer = stage.ordered(Numbers(stage, 2), shuffle=True, seed=SEED)
    enqueuer.start(workers, size)
    items = _takes(enqueuer.get(), 4)
    expected = permutation(SEED, 0, 2) + permutation(SEED, 1, 2)
    promise(items == expected, "G8", f"the items came as {items}, the orders are {expected}")
    _stops(stage, enqueuer)


def consumers(stage: Stage, workers: int, size: int) -> None:
    """Two consumers share the items, then somebody stops."""
    enqueuer = stage.ordered(Numbers(stage, 3))
    enqueuer.start(workers, size)
    other = stage.world.spawn("consumer", partial(_takes, enqueuer.get(), 1))
    mine = _takes(enqueuer.get(), 1)
    theirs = other.join()
    promise(sorted(mine + theirs) == [0, 1], "G24", f"two consumers got {mine} and {theirs}")
    _stops(stage, enqueuer)


def ends(stage: Stage, workers: int, size: int) -> None:
    """Two consumers come to the end of a generator."""
    enqueuer = stage.generator(partial(iter, [0, None, 1]))
    enqueuer.start(workers, size)
    other = stage.world.spawn("consumer", partial(_all, enqueuer.get()))
    mine = _all(enqueuer.get())
    theirs = other.join()
    promise(sorted(mine + theirs) == [0, 1], "G5", f"of 0, None and 1 two consumers got {mine} and {theirs}")
    promise(not enqueuer.is_running(), "G19", "is_running() after the end")
    _stops(stage, enqueuer)


def interrupted(stage: Stage, workers: int, size: int) -> None:
    """One of two consumers is interrupted where it waits, and goes on."""
    enqueuer = stage.ordered(Numbers(stage, 3))
    enqueuer.start(workers, size)
    other = stage.world.spawn("consumer", partial(_takes, enqueuer.get(), 1))
    stream = enqueuer.get()
    stage.world.interruptible()
    mine: list[int] = []
    while not mine:
        try:
            item = next(stream)
        except KeyboardInterrupt:
            continue
        mine.append(item)
    stage.world.interruptible(0)
    theirs = other.join()
    promise(sorted(mine + theirs) == [0, 1], "G22", f"two consumers, one of them interrupted, got {mine} and {theirs}")
    _stops(stage, enqueuer)


def leaves(stage: Stage, workers: int, size: int) -> None:
    """One of two consumers is interrupted where it waits, and goes away: what it might have had is the other's."""
    enqueuer = stage.ordered(Numbers(stage, 3))
    enqueuer.start(workers, size)
    other = stage.world.spawn("consumer", partial(_takes, enqueuer.get(), 2))
    stream = enqueuer.get()
    stage.world.interruptible()
    mine: list[int] = []
    try:
        item = next(stream)
        mine.append(item)
    except KeyboardInterrupt:
        pass
    stage.world.interruptible(0)
    theirs = other.join()
    expected = [[0, 1, 2], [0, 1]][not mine]
    promise(sorted(mine + theirs) == expected, "G22", f"two consumers, one of whom was interrupted unless it got something, got {mine} and {theirs}")
    _stops(stage, enqueuer)


def timed(stage: Stage, workers: int, size: int) -> None:
    """A consumer gives up waiting, and tries again."""
    enqueuer = stage.ordered(Numbers(stage, 3))
    enqueuer.start(workers, size)
    stream = enqueuer.get(timeout=1)
    items: list[object] = []
    late = 0
    while len(items) < 2 and late < 2:
        try:
            item = next(stream, "the end")
        except TimeoutError:
            late += 1
            promise(stage.world.now >= late, "G26", f"next() gave up after {stage.world.now} s, and may wait 1 s each time: this is time {late}")
            continue
        items.append(item)
    promise(items == [0, 1][: len(items)], "G26", f"after {late} timeouts the items came as {items}")
    rest = _takes(enqueuer.get(), 2 - len(items))
    promise([*items, *rest] == [0, 1], "G26", f"after {late} timeouts the items came as {items} and {rest}")
    _stops(stage, enqueuer)


def restarted(stage: Stage, workers: int, size: int) -> None:
    """A stop that does not wait for an item, and another run beside what is left of the first."""
    first = Numbers(stage, 2)  # not slow: between a claim and what becomes of it there is the lock to stop at
    enqueuer = stage.ordered(first)
    enqueuer.start(workers, size)
    old = enqueuer.get()
    taken = next(old)
    promise(taken == 0, "G2", f"{taken} came first")
    stopped = enqueuer.stop(0)
    promise(not stopped or not stage.world.left(), "G15", "stop(0) returned true, and something has not ended")
    first.base = 10
    enqueuer.start(workers, size)
    items = _takes(enqueuer.get(), 2)
    promise(items == [10, 11], "G17", f"the second run delivered {items}")
    end = next(old, "the end")
    promise(end == "the end", "G16", f"a stream of the first run delivered {end!r}")
    enqueuer.stop()
    stage.world.settle()
    left = stage.world.left()
    promise(not left, "G20", f"both runs are over, and {', '.join(left)} stay")


def dropped(stage: Stage, workers: int, size: int) -> None:
    """The enqueuer is dropped without a stop, at any moment and in any thread."""
    box = [stage.ordered(Numbers(stage, 2))]
    box[0].start(workers, size)
    stream = box[0].get()
    first = next(stream)
    promise(first == 0, "G2", f"{first} came first")
    del stream
    stage.world.finalize(box.clear)
    stage.world.settle()
    while box:  # nothing else has happened
        box.clear()
    stage.world.settle()
    left = stage.world.left()
    promise(not left, "G20", f"nobody can reach the enqueuer, and {', '.join(left)} stay")


def rung(stage: Stage, workers: int, size: int) -> None:
    """A finalizer that asks for the end runs in any thread while a consumer takes."""
    enqueuer = stage.ordered(Numbers(stage, 2))
    enqueuer.start(workers, size)
    stage.world.finalize(enqueuer.stop)
    stream = enqueuer.get()
    items = _all(stream, 2)
    promise(items == [0, 1][: len(items)], "G2", f"the items came as {items}")
    _stops(stage, enqueuer)


def within_item(stage: Stage, workers: int, size: int) -> None:
    """An item stops its own run."""
    enqueuers: list[OrderedEnqueuer[int]] = []
    answers: list[bool] = []

    class Stopping(Numbers):
        def __getitem__(self, index: int) -> int | None:
            item = super().__getitem__(index)
            if index == 1:
                stopped = enqueuers[0].stop()
                answers.append(stopped)
            return item

    enqueuers.append(stage.ordered(Stopping(stage, 2)))
    enqueuers[0].start(workers, size)
    items = _all(enqueuers[0].get())
    promise(items == [0, 1][: len(items)] and len(items) < 3, "G16", f"the items came as {items}")
    promise(not any(answers), "G14", f"stop() from an item returned {answers}")
    _stops(stage, enqueuers[0])


def within_hook(stage: Stage, workers: int, size: int) -> None:
    """The hook stops its own run."""
    enqueuers: list[OrderedEnqueuer[int]] = []
    answers: list[bool] = []

    class Stopping(Numbers):
        def on_epoch_end(self) -> None:
            stopped = enqueuers[0].stop(5)
            answers.append(stopped)

    enqueuers.append(stage.ordered(Stopping(stage, 1)))
    enqueuers[0].start(workers, size)
    items = _all(enqueuers[0].get())
    promise(items == [0], "G16", f"the items came as {items}")
    promise(answers == [False], "G14", f"stop() from the hook returned {answers}")
    _stops(stage, enqueuers[0])


def hook_fails(stage: Stage, workers: int, size: int) -> None:
    """The hook fails, and two consumers wait for the next epoch."""

    class Failing(Numbers):
        def on_epoch_end(self) -> None:
            raise LookupError("hook")

    enqueuer = stage.ordered(Failing(stage, 1))
    enqueuer.start(workers, size)

    def consume() -> list[object]:
        stream = enqueuer.get()
        got: list[object] = []
        while True:
            try:
                item: object = next(stream)
            except StopIteration:
                return got
            except LookupError:
                item = "told"
            got.append(item)

    other = stage.world.spawn("consumer", consume)
    mine = consume()
    theirs = other.join()
    promise(sorted(map(str, mine + theirs)) == ["0", "told"], "G11", f"two consumers got {mine} and {theirs}")
    _stops(stage, enqueuer)


def stops(stage: Stage, workers: int, size: int) -> None:
    """Two threads stop at once, one of them with a timeout, while an item is computed."""
    sequence = Numbers(stage, 2, slow=True)
    enqueuer = stage.ordered(sequence)
    enqueuer.start(workers, size)

    def stop() -> bool:
        stopped = enqueuer.stop(1)
        left = stage.world.left()
        promise(not (stopped and left), "G15", f"stop(1) returned true, and {', '.join(left)} had not ended")
        promise(stopped or stage.world.now >= 1, "G15", f"stop(1) gave up after {stage.world.now} s")
        return stopped

    other = stage.world.spawn("stopper", stop)
    _stops(stage, enqueuer, sequence)
    other.join()


def starts(stage: Stage, workers: int, size: int) -> None:
    """Somebody stops while start() is under way."""
    sequence = Numbers(stage, 2)
    enqueuer = stage.ordered(sequence)
    stopper = stage.world.spawn("stopper", enqueuer.stop)
    try:
        enqueuer.start(workers, size)
    except StartError:
        promise(False, "G18", "start() failed because of a stop()")
    stopped = stopper.join()
    promise(stopped is True, "G14", f"stop() returned {stopped}")
    _stops(stage, enqueuer, sequence)


def both_start(stage: Stage, workers: int, size: int) -> None:
    """Two threads start it at once: one of them is refused."""
    sequence = Numbers(stage, 2)
    enqueuer = stage.ordered(sequence)

    def start() -> bool:
        try:
            enqueuer.start(workers, size)
        except RunningError:
            return False
        return True

    other = stage.world.spawn("starter", start)
    mine = start()
    theirs = other.join()
    promise(mine != theirs, "G18", f"of two start() at once {mine + theirs} have started a run")
    items = _takes(enqueuer.get(), 1)
    promise(items == [0], "G2", f"the items came as {items}")
    _stops(stage, enqueuer, sequence)


def refused(stage: Stage, workers: int, size: int) -> None:
    """A thread can't be started: start() says so and leaves nothing, and another start() works."""
    sequence = Numbers(stage, 2)
    enqueuer = stage.ordered(sequence)
    try:
        enqueuer.start(workers, size)
    except StartError:
        left = stage.world.left()
        promise(not left or stage.world.now, "G18", f"start() has failed, and {', '.join(left)} had not ended")
        promise(sequence.begun == 0, "G18", "start() has failed, and an item was called")
        stage.world.settle()
        left = stage.world.left()
        promise(not left, "G18", f"start() has failed, and {', '.join(left)} stay")
        enqueuer.start(workers, size)
    items = _takes(enqueuer.get(), 1)
    promise(items == [0], "G17", f"the items came as {items}")
    _stops(stage, enqueuer, sequence)


def watched(stage: Stage, workers: int, size: int) -> None:
    """Somebody reads the statistics and the state while the run is on."""
    enqueuer = stage.ordered(Numbers(stage, 2))
    enqueuer.start(workers, size)

    def watch() -> None:
        now = enqueuer.statistics()
        promise(now.ready <= now.claimed - now.rank <= size, "G4", f"{now.ready} ready, {now.claimed - now.rank} claimed, of at most {size}")
        promise(now.rank == 2 * now.epoch + now.position, "G27", f"rank {now.rank} is position {now.position} of epoch {now.epoch}, of 2 items each")
        rank = enqueuer.state_dict()["rank"]
        promise(rank is not None and now.rank <= rank <= 2, "G27", f"the state stands at rank {rank}, after {now.rank}")

    watcher = stage.world.spawn("watcher", watch)
    items = _takes(enqueuer.get(), 2)
    promise(items == [0, 1], "G2", f"the items came as {items}")
    watcher.join()
    _stops(stage, enqueuer)


def crashed(stage: Stage, workers: int, size: int) -> None:
    """A worker process dies, at any moment, and what it had is computed again."""
    died = _until_one_dies(stage, workers, size, retries=1)
    promise(died is None or "before it was ready" in str(died), "G13", f"a worker may die once, and next() raised {died}")


def crash_told(stage: Stage, workers: int, size: int) -> None:
    """A worker process dies, and that ends the run with an error."""
    died = _until_one_dies(stage, workers, size, retries=0)
    promise(died is None or not stage.world.deaths, "G13", f"nobody died, and next() raised {died}")


def _until_one_dies(stage: Stage, workers: int, size: int, *, retries: int) -> WorkerDiedError | None:
    sequence = Numbers(stage, 3)
    enqueuer = stage.apart(sequence, retries)
    enqueuer.start(workers, size)
    stream = enqueuer.get()
    items: list[int] = []
    died: WorkerDiedError | None = None
    while len(items) < 2 and died is None:
        try:
            item = next(stream)
        except WorkerDiedError as error:
            died = error
            break
        items.append(item)
    promise(items == [0, 1][: len(items)], "G13", f"the items came as {items}")
    _stops(stage, enqueuer, *([] if died else [sequence]))
    return died


def kept(stage: Stage, workers: int, size: int) -> None:
    """Large items are kept for a while, and nobody writes to their memory meanwhile."""
    sequence = Numbers(stage, 3)
    enqueuer = stage.apart(sequence, 1, large=True)
    enqueuer.start(workers, size)
    stream = cast("Iterator[Kept]", enqueuer.get())
    before: Kept | None = None
    died = False
    taken = 0
    while taken < 3 and not died:
        try:
            item = next(stream)
        except WorkerDiedError:
            died = True
            break
        if before is not None:
            promise(before.read() == taken - 1, "G6", f"what was kept of item {taken - 1} has become {before.read()}")
            before.drop()
        promise(item.read() == taken, "G6", f"item {taken} arrived as {item.read()}")
        before = item
        taken += 1
    _stops(stage, enqueuer, *([] if died else [sequence]))
    promise(before is None or before.read() == taken - 1, "G6", "what was kept has changed after stop()")
    promise(before is None or not before.lost, "G20", "a slot has not come back")


def killed(stage: Stage, workers: int, size: int) -> None:
    """At its deadline stop(timeout) kills the worker processes."""
    sequence = Numbers(stage, 2, slow=True)
    enqueuer = stage.apart(sequence)
    enqueuer.start(workers, size)
    stopped = enqueuer.stop(1)
    left = stage.world.left()
    promise(not (stopped and left), "G15", f"stop(1) returned true, and {', '.join(left)} had not ended")
    stage.world.settle()
    left = stage.world.left()
    promise(not left, "G20", f"the run was stopped, and {', '.join(left)} stay")


class _Shares:
    """A compute of workers that take turns: worker w has so many items, each named after it."""

    def __init__(self, counts: list[int]) -> None:
        self._counts: Final = counts

    def turn(self, *, hook: bool) -> None:
        del hook

    def item(self, worker: int, epoch: int, index: int, /) -> int:
        del epoch, index
        if not self._counts[worker]:
            raise EndOfStream
        self._counts[worker] -= 1
        return worker

    def close(self) -> None:
        pass


class Turns(SequenceEnqueuer[int]):
    """Its workers take turns, on threads: as worker processes do that iterate copies of a generator."""

    def __init__(self, counts: list[int], runtime: Runtime) -> None:
        super().__init__(counts, runtime=runtime)
        self._counts: Final = counts

    def make_plan(self, start: Place) -> Plan:
        return Plan(rotating=True, epochs=1, start=start)

    def make_compute(self) -> _Shares:
        return _Shares(list(self._counts))


def turns(stage: Stage, workers: int, size: int) -> None:
    """Workers take turns; one has more items than the others, whose ranks are skipped when they have none."""
    enqueuer = stage.guarded(Turns([2, *[1] * (workers - 1)], stage.world.runtime))
    enqueuer.start(workers, size)
    items = _all(enqueuer.get())
    promise(items == [*range(workers), 0], "G2", f"the items came as {items}")
    _stops(stage, enqueuer)


def copies(stage: Stage, workers: int, size: int) -> None:
    """Each worker process iterates its own copy of a generator; they take turns."""
    opened: list[int] = []

    def numbers() -> Iterator[int]:
        opened.append(0)
        copy = len(opened)
        return iter([copy] * (2 - copy))  # one has an item, the other has none

    enqueuer = stage.copies(numbers)
    with stage.world.as_it_comes():
        enqueuer.start(workers, size)
    items = _all(enqueuer.get())
    promise(items == [1], "G2", f"the items came as {items}")
    _stops(stage, enqueuer)


def resumed(stage: Stage, workers: int, size: int) -> None:
    """A state is saved beside a consumer, and another run begins where it stands."""
    enqueuer = stage.ordered(Numbers(stage, 3))
    enqueuer.start(workers, size)
    consumer = stage.world.spawn("consumer", partial(_takes, enqueuer.get(), 1))
    state = enqueuer.state_dict()
    rank = state["rank"]
    promise(rank in {0, 1}, "G27", f"the state stands at rank {rank}, and at most 1 item was taken")
    consumer.join()
    _stops(stage, enqueuer)
    enqueuer.load_state_dict(state)
    enqueuer.start(workers, size)
    items = _takes(enqueuer.get(), 1)
    promise(items == [rank], "G27", f"resumed at rank {rank}, the items came as {items}")
    _stops(stage, enqueuer)


# the registry


@dataclass(frozen=True, slots=True)
class Scene:
    """A scenario, before it is known of whose enqueuers.

    Attributes:
        name: Short, to be typed.
        body: What happens; its first line says it.
        workers, size: How many, and `max_queue_size`.
        tier: "ci", or "deep" if it takes too long for that.
        touches, failing_starts, deaths: See `Scenario`.
    """

    name: str
    body: Callable[[Stage, int, int], None]
    workers: int
    size: int
    tier: str = "ci"
    touches: frozenset[str] = frozenset()
    failing_starts: int = 0
    deaths: int = 0

    @property
    def says(self) -> str:
        """What happens in it."""
        return (self.body.__doc__ or "").strip().splitlines()[0]

    def of(self, factory: Factory = REFERENCE) -> Scenario:
        """Return the scenario with the enqueuers of a factory."""
        return Scenario(
            name=self.name,
            says=self.says,
            body=partial(_play, self, factory),
            touches=self.touches,
            failing_starts=self.failing_starts,
            deaths=self.deaths,
            messages=MESSAGES,
            blame=_blame,
        )


def _play(scene: Scene, factory: Factory, world: World) -> None:
    Twin.forget()
    try:
        scene.body(Stage(world, factory), scene.workers, scene.size)
    finally:
        Twin.forget()  # nobody could end them outside of this world


_BLAMED: Final = (("take", "G21"), ("_join", "G14"), ("stop", "G14"), ("start", "G18"))
"""Who is blamed for waiting for ever in a function."""


def _blame(failure: Failure, tasks: list[Task]) -> str:
    """Say which clause it is: a consumer's, if one waits; else that of whoever stops or starts; threads that are left over break G20."""
    if failure.kind == "leak":
        return "G20"
    found: set[str] = set()
    for task in tasks:
        frame = None if task.daemon else task.frame
        while frame is not None:
            found.add(frame.f_code.co_name)
            frame = frame.f_back
    return next((guarantee for name, guarantee in _BLAMED if name in found), "G21")


BELL: Final = frozenset({"_rung", "_takers", "_parkers"})
"""What a bell touches without the lock."""

SCENES: Final = {
    scene.name: scene
    for scene in (
        Scene("plain-w1", plain, 1, 1),
        Scene("plain-q1", plain, 2, 1),
        Scene("plain", plain, 2, 2),
        Scene("prefetch", prefetched, 2, 2),
        Scene("meet", met, 2, 2, tier="deep"),
        Scene("stop", stopped, 2, 1),
        Scene("hook", hook, 2, 2),
        Scene("errors", errors, 2, 2),
        Scene("shuffle", shuffled, 2, 3),
        Scene("consumers", consumers, 2, 1),
        Scene("ends", ends, 1, 1),
        Scene("interrupt", interrupted, 2, 1),
        Scene("leave", leaves, 2, 1),
        Scene("timeout", timed, 1, 1),
        Scene("restart", restarted, 1, 1),
        Scene("drop", dropped, 1, 1, touches=BELL),
        Scene("bell", rung, 1, 1, touches=BELL),
        Scene("stop-in-item", within_item, 2, 1),
        Scene("stop-in-hook", within_hook, 2, 1),
        Scene("hook-fails", hook_fails, 1, 1),
        Scene("stops", stops, 1, 1),
        Scene("stop-in-start", starts, 2, 1),
        Scene("starts", both_start, 1, 1),
        Scene("start-fails", refused, 2, 1, failing_starts=1),
        Scene("statistics", watched, 2, 1),
        Scene("crash", crashed, 1, 1, deaths=1),
        Scene("crash-told", crash_told, 1, 1, deaths=1),
        Scene("kill", killed, 1, 1),
        Scene("keep", kept, 1, 1),
        Scene("keep-crash", kept, 1, 1, deaths=1),
        Scene("turns", turns, 2, 2),
        Scene("copies", copies, 2, 1, tier="deep"),
        Scene("ends-w2", ends, 2, 2, tier="deep"),
        Scene("timeout-w2", timed, 2, 1, tier="deep"),
        Scene("hook-fails-w2", hook_fails, 2, 2, tier="deep"),
        Scene("crash-ahead", crashed, 1, 2, deaths=1, tier="deep"),
        Scene("crash-w2", crashed, 2, 2, deaths=1, tier="deep"),
        Scene("keep-w2", kept, 2, 2, tier="deep"),
        Scene("resume", resumed, 1, 1),
        Scene("plain-w3", plain, 3, 2),
        Scene("stop-w3", stopped, 3, 2, tier="deep"),
        Scene("restart-w2", restarted, 2, 1, tier="deep"),
    )
}
"""By name."""
