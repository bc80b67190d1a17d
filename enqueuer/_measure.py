"""What pays: one sequence read in a plain loop and with several settings, checked, timed and judged. Prints nothing.

Rules:
  1. Checking and timing are apart. Round 0 reads once with every setting and compares digests of the items; it also warms the caches and
     finds how many items there is time for. The rounds after it only take the items, so that nothing but the reading is timed.
  2. The rounds are interleaved, each begins with another setting, and a speed-up is a ratio within one round: a machine that slows down
     slows all of them down. What is told is the median, with the lowest and the highest.
  3. Nothing is advised that did not win every round, and by a tenth at the median; of settings a tenth apart the one with fewer workers is.
  4. All read the same items: the first ones, once, with the same item seeds, without the hook between epochs.
"""

from __future__ import annotations

import enum
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import compress
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Final, assert_never

from ._context import Here, current
from ._digest import OpaqueError, fingerprint
from ._enqueuers import OrderedEnqueuer
from ._plan import Place, Plan
from ._types import SequenceLike
from .errors import EnqueuerError

__all__ = ["PLAIN", "Advice", "Job", "Measurement", "Mode", "Pass", "ReadingError", "Row", "Setting", "measure", "shortly"]

BUDGET: Final = 16.0
"""Seconds that all passes together should take when nobody says how many items; twice that if workers slow things down."""
ROUNDS: Final = 5
MOST_ITEMS: Final = 100_000
ENOUGH: Final = 8
"""Items for each worker of the largest setting that are worth giving up rounds for."""
MARGIN: Final = 1.1
"""A gain below this is none."""
TINY: Final = 50e-6
"""Seconds an item below which handing it over is what costs."""
ALONE: Final = 1.2
"""Cores in use, below which threads did not compute side by side."""
SEED: Final = 0


class ReadingError(EnqueuerError, RuntimeError):
    """The sequence can't be measured, because of what it does when it is read."""


class Mode(enum.Enum):
    """How the items are computed."""

    PLAIN = "plain"
    THREADS = "threads"


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to read the sequence."""

    mode: Mode
    workers: int

    def __str__(self) -> str:
        match self.mode:
            case Mode.PLAIN:
                return "plain loop"
            case Mode.THREADS:
                return "1 thread" if self.workers == 1 else f"{self.workers} threads"
            case _:
                assert_never(self.mode)


PLAIN: Final = Setting(Mode.PLAIN, 0)


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure.

    Attributes:
        sequence: What to read.
        settings: How, beside the plain loop; fewer workers first.
        max_queue_size: Bound of every run (G4).
        items: How many of the first items to read; None: as many as there is time for.
        rounds: How many timed rounds; None: as many as there is time for, up to `ROUNDS`.
        step: Seconds that the consumer is busy with each item, without using the processor.
    """

    sequence: SequenceLike[object]
    settings: tuple[Setting, ...]
    max_queue_size: int = 10
    items: int | None = None
    rounds: int | None = None
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Pass:
    """One reading. All times in seconds.

    Attributes:
        seconds: From the start to the end of the last item's step.
        first: From the start to the first item.
        delivered: Items that were delivered; those that are `None` are not (G3).
        reached: The index before which the reading ended.
        waited: For how long the consumer waited for items; in the plain loop: computed them.
        idle: For how long the workers waited, together.
        cpu: Processor time of the whole process.
    """

    seconds: float
    first: float
    delivered: int
    reached: int
    waited: float
    idle: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Row:
    """What was found for one setting.

    Attributes:
        setting: The setting.
        passes: Its timed readings, one a round.
        speedups: How many times as fast as the plain loop, in each round.
        same: Whether it delivered the plain loop's items in their order; None: could not be found out.
        note: Why `same` is not true.
    """

    setting: Setting
    passes: tuple[Pass, ...]
    speedups: tuple[float, ...]
    same: bool | None
    note: str

    @property
    def items_per_second(self) -> float:
        """Items delivered a second."""
        return median(one.delivered / one.seconds for one in self.passes)

    @property
    def speedup(self) -> float:
        """How many times as fast as the plain loop."""
        return median(self.speedups)

    @property
    def waited(self) -> float:
        """Share of the time that the consumer waited for items."""
        return min(1.0, median(one.waited / one.seconds for one in self.passes))

    @property
    def busy(self) -> float | None:
        """Share of the time that a worker did not wait for room: it computed, or waited for a core or the GIL. None without workers."""
        workers = self.setting.workers
        return max(0.0, median(1 - one.idle / (one.seconds * workers) for one in self.passes)) if workers else None

    @property
    def first(self) -> float:
        """Seconds to the first item."""
        return median(one.first for one in self.passes)

    @property
    def cores(self) -> float:
        """Cores in use, at the mean, while the consumer was not busy with its own step."""
        return median(one.cpu / (one.waited if self.setting == PLAIN else one.seconds) for one in self.passes)


@dataclass(frozen=True, slots=True)
class Advice:
    """Which setting to use, whether it is faster than the plain loop, and why, in plain words."""

    setting: Setting
    pays: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that was found: for the plain loop, which is the first row, and for each setting.

    Attributes:
        job: What was asked for.
        length: Items of the sequence.
        items: How many of the first ones every reading read.
        rounds: How many timed rounds there were.
        nbytes: Bytes in the buffers of the items of one reading.
        cores: Processor cores that this process may use.
        gil: Whether this Python has a GIL that is on.
        rows: The plain loop's, then one a setting.
    """

    job: Job
    length: int
    items: int
    rounds: int
    nbytes: int
    cores: int
    gil: bool
    rows: tuple[Row, ...]

    @property
    def advice(self) -> Advice:
        """What follows."""
        return _advise(self)


def measure(job: Job, progress: Callable[[int, int, str], None] = lambda _done, _total, _what: None) -> Measurement:
    """Read a sequence in every setting and say what pays.

    Blocking: About `2 * BUDGET` seconds at most, if the job does not say how many items, unless a single item takes seconds: at least one
        is read, twice in every setting.
    Callers: The main thread, to be interruptible; an interrupt leaves at most threads that are in the midst of an item.

    Args:
        job: What to measure.
        progress: Called before every reading with the number of readings done, their total, and what is read next.

    Raises:
        ReadingError: The sequence is empty, or an item or its length raised.
        StartError: The system does not give that many threads.
    """
    length = _length(job.sequence)
    settings = (PLAIN, *job.settings)
    share = BUDGET / len(settings)  # seconds for all passes of one setting
    rounds = job.rounds or ROUNDS
    enough = ENOUGH * max(setting.workers for setting in settings)

    def probed(read: int, seconds: float) -> bool:
        return job.items is None and (seconds > share or (seconds > share / (rounds + 1) and read >= enough))

    def report(done: int, setting: Setting, what: str) -> None:
        progress(done, (rounds + 1) * len(settings), f"{setting}, {what}")

    report(0, PLAIN, "checking")
    seen = _Seen()
    probe = _read(job, PLAIN, min(length, job.items or MOST_ITEMS), probed, seen)
    if not probe.delivered:
        raise ReadingError(f"all of the {probe.reached} items that were read are None, which an enqueuer skips: there is nothing to measure")
    items, checks = probe.reached, {PLAIN: _Check(True, "")}
    if job.rounds is None and job.items is None:
        rounds = max(1, min(ROUNDS, int(share / probe.seconds) - 1))
    for done, setting in enumerate(job.settings, 1):
        report(done, setting, "checking")
        items, checks[setting] = _checked(job, setting, items, seen, math.inf if job.items else 2 * max(probe.seconds, share / (rounds + 1)))

    passes: dict[Setting, list[Pass]] = {setting: [] for setting in settings}
    for number in range(rounds):
        shift = number % len(settings)
        for done, setting in enumerate(settings[shift:] + settings[:shift], (number + 1) * len(settings)):
            report(done, setting, f"round {number + 1} of {rounds}")
            passes[setting].append(_read(job, setting, items))

    rows = tuple(
        Row(
            setting,
            tuple(passes[setting]),
            tuple(plain.seconds / one.seconds for plain, one in zip(passes[PLAIN], passes[setting], strict=True)),
            checks[setting].same,
            checks[setting].note,
        )
        for setting in settings
    )
    gil = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
    nbytes = sum(seen.sizes[: passes[PLAIN][0].delivered])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Measurement(job, length, items, rounds, nbytes, cores, gil, rows)


def shortly(error: BaseException) -> str:
    """Return an error in one line: its type, its message, the line of code that raised it."""
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "(its message can't be had)"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""  # noqa: PTH119
    return f"{type(error).__name__}{': ' if message else ''}{message[:200]}{where}"


def _length(sequence: SequenceLike[object]) -> int:
    try:
        length = len(sequence)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise ReadingError(f"its length can't be read: len() raised {shortly(error)}") from error
    if length < 1:
        raise ReadingError(f"its length is {length}: there is nothing to measure")
    return length


# one reading


class _Part:
    """The first items of a sequence, without a hook."""

    def __init__(self, sequence: SequenceLike[object], length: int) -> None:
        self._sequence: Final = sequence
        self._length: Final = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> object:
        return self._sequence[index]


class _Once(OrderedEnqueuer[object]):
    """One epoch: nothing is computed ahead of an epoch that nobody will read."""

    def make_plan(self, start: Place) -> Plan:
        return replace(super().make_plan(start), epochs=1)


def _plain(part: _Part) -> Iterator[object]:
    """The plain loop. An item may ask about itself as it may in a worker (G9)."""
    here = Here(None, None, 0, 1, SEED)
    token = current.set(here)
    try:
        for index in range(len(part)):
            here.epoch, here.index = 0, index
            try:
                item = part[index]
            except (Exception, SystemExit, GeneratorExit) as error:
                before = f", or measure only those before it with --items {index}" if index else ""
                raise ReadingError(f"item {index} raised {shortly(error)}: repair it{before}") from error
            yield item
    finally:
        current.reset(token)


def _never(read: int, seconds: float) -> bool:
    del read, seconds
    return False


def _read(
    job: Job, setting: Setting, length: int, enough: Callable[[int, float], bool] = _never, see: Callable[[object], object] = lambda _: None
) -> Pass:
    """Read the first `length` items, or until `enough(items, seconds)`; `see` each of them."""
    part = _Part(job.sequence, length)
    cpu, begin = process_time(), perf_counter()
    match setting.mode:
        case Mode.PLAIN:
            return _consumed(_plain(part), job.step, enough, see, begin=begin, cpu=cpu)
        case Mode.THREADS:
            enqueuer = _Once(part, seed=SEED)
        case _:
            assert_never(setting.mode)
    try:
        enqueuer.start(setting.workers, job.max_queue_size)
        try:
            one = _consumed(enqueuer.get(), job.step, enough, see, begin=begin, cpu=cpu)
        except (Exception, SystemExit, GeneratorExit) as error:
            raise ReadingError(
                f"item {enqueuer.statistics().rank} raised {shortly(error)} with {setting}, and not in the plain loop: "
                "is it safe to compute items in several threads at once?"
            ) from error
        reached = enqueuer.statistics().rank
        enqueuer.stop()  # what the workers waited is known when they have left
        statistics = enqueuer.statistics()
        return replace(one, reached=reached, waited=statistics.consumers_waited, idle=statistics.workers_waited)
    finally:
        enqueuer.stop(0)  # an interrupt waits for no item


def _consumed(
    stream: Iterable[object], step: float, enough: Callable[[int, float], bool], see: Callable[[object], object], *, begin: float, cpu: float
) -> Pass:
    """Consume a stream, as a plain loop is to be accounted for."""
    first, delivered, read, own = 0.0, 0, 0, 0.0
    for item in stream:
        read += 1
        if item is not None:  # G3
            if not delivered:
                first = perf_counter() - begin
            delivered += 1
            see(item)
            if step:
                arrived = perf_counter()
                sleep(step)
                own += perf_counter() - arrived
        if enough(read, perf_counter() - begin):
            break
    now = perf_counter()
    return Pass(now - begin, first, delivered, read, now - begin - own, 0.0, process_time() - cpu)


# the check


@dataclass(frozen=True, slots=True)
class _Check:
    same: bool | None
    note: str


class _Seen:
    """The digests and sizes of the items of one reading."""

    def __init__(self) -> None:
        self.digests: Final[list[bytes]] = []
        self.sizes: Final[list[int]] = []
        self.opaque = ""

    def __call__(self, item: object) -> None:
        try:
            found = fingerprint(item)
        except OpaqueError as error:
            self.opaque = self.opaque or str(error)
            self.digests.append(b"")
            self.sizes.append(0)
        else:
            self.digests.append(found.digest)
            self.sizes.append(found.nbytes)


def _checked(job: Job, setting: Setting, items: int, plain: _Seen, limit: float) -> tuple[int, _Check]:
    """Read once; return how many of the items there was time for, and whether they were the plain loop's."""
    seen = _Seen()
    one = _read(job, setting, items, lambda _, seconds: seconds > limit, seen)
    pairs = list(zip(plain.digests, seen.digests, strict=False))
    wrong = next(compress(range(len(pairs)), (a != b for a, b in pairs)), None)
    if wrong is not None:
        again = _Seen()
        _read(job, PLAIN, items, lambda _, __: len(again.digests) > wrong, again)
        if again.digests[: wrong + 1] != plain.digests[: wrong + 1]:
            return one.reached, _Check(None, "Two readings in the plain loop differ, too: random items can't be compared.")
        what = f"{str(setting).capitalize()} delivered other items than the plain loop, first at item {wrong}"
        return one.reached, _Check(False, f"{what}: is it safe to compute items in several threads at once?")
    if plain.opaque or seen.opaque:
        return one.reached, _Check(None, plain.opaque or seen.opaque)
    return one.reached, _Check(True, "")


# the advice


def _range(row: Row) -> str:
    rounds = len(row.speedups)
    return f"{min(row.speedups):.2f} to {max(row.speedups):.2f} in {rounds} rounds" if rounds > 1 else "in a single round: a hint at most"


def _advise(found: Measurement) -> Advice:
    plain, *others = (row for row in found.rows if row.same is not False)
    if not others:
        return Advice(PLAIN, False, "Read it in a plain loop: everything else delivered other items.")
    best = max(others, key=lambda row: row.speedup)
    told = f"{best.setting}, was {best.speedup:.2f} times as fast ({_range(best)})"
    told = f"The best{' that delivered the same items' if len(others) < len(found.rows) - 1 else ''}, {told}."
    if best.speedup < MARGIN:
        if found.items < 2 * others[-1].setting.workers:
            return Advice(PLAIN, False, f"Too little was read to say: {found.items} of {found.length} items (--items). {told}")
        return Advice(PLAIN, False, " ".join(["Read it in a plain loop: nothing gains 10 %.", told, *_why(found, plain, others)]))
    if min(best.speedups) <= 1:
        return Advice(PLAIN, False, f"Too noisy to say: try --rounds {2 * found.rounds}, or a quieter machine. {told}")
    chosen = next(row for row in others if row.speedup * MARGIN >= best.speedup and min(row.speedups) > 1)
    reason = f"Use {chosen.setting}: {chosen.speedup:.2f} times as fast as a plain loop ({_range(chosen)})."
    if chosen.waited < 1 - 1 / MARGIN:
        reason += " The consumer hardly waits any more."
    elif chosen is others[-1]:
        reason += f" The consumer still waits {chosen.waited:.0%} of the time: see what --workers {chosen.setting.workers * 2} does."
    elif found.items >= 2 * others[-1].setting.workers:
        reason += " More workers do not gain 10 % on top."
    return Advice(chosen.setting, True, reason)


def _why(found: Measurement, plain: Row, others: list[Row]) -> Iterator[str]:
    """Why nothing pays, as far as it was measured."""
    each = median(one.waited / max(1, one.delivered) for one in plain.passes)
    used = max((row.cores for row in others if row.setting.workers > 1), default=None)
    if each < TINY:
        yield f"An item takes {each * 1e6:.1f} us, less than it costs to hand it over."
    elif used is not None and plain.cores < 1 / 2:
        yield "The items mostly wait, and not side by side: something that they share holds them up (a lock, a connection, a disk)."
    elif used is not None and used >= ALONE:
        yield "More than one core was at work, but got no more done: the items contend for something."
    elif used is not None and plain.cores > 1 / ALONE:
        if found.cores == 1:
            yield "The items need the processor, and there is one core."
        elif found.gil:
            yield "The items need the processor, and threads kept only one core busy: they hold the GIL."
    if not found.job.step:
        yield "If your consumer works between items, --step MS shows whether reading ahead pays."
