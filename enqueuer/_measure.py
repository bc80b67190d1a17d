"""What pays: one sequence read in a plain loop and with several settings, checked, timed and judged. Prints nothing.

Rules:
  1. Checking and timing are apart. Round 0 reads once with every setting and compares digests of the items; it also warms the caches and
     finds how many items there is time for. The rounds after it only take the items, so that nothing but the reading is timed.
  2. The rounds are interleaved, each begins with another setting, and a speed-up is a ratio within one round: a machine that slows down
     slows all of them down. What is told is the median, with the lowest and the highest.
  3. Nothing is advised that did not win every round, and by a tenth at the median; of settings a tenth apart the first is: threads before
     processes, which cost memory and time to start, and fewer workers before more.
  4. All read the same items: the first ones, once, with the same item seeds, without the hook between epochs.
"""

from __future__ import annotations

import enum
import math
import os
import re
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
from .errors import BorderError, EnqueuerError, WorkerDiedError

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
"""Cores in use, below which workers did not compute side by side."""
LARGE: Final = 1e5
"""Bytes of an item, from which on copying it costs more than everything else in handing it over."""
SEED: Final = 0
THREADS_ONLY: Final = "measure threads alone with --mode threads"


class ReadingError(EnqueuerError, RuntimeError):
    """The sequence can't be measured, because of what it does when it is read."""


class Mode(enum.Enum):
    """How the items are computed."""

    PLAIN = "plain"
    THREADS = "threads"
    PROCESSES = "processes"


HINTS: Final = {
    Mode.THREADS: "is it safe to compute items in several threads at once?",
    Mode.PROCESSES: "does an item need more than its index and a copy of the sequence?",
}


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
            case Mode.PROCESSES:
                return "1 process" if self.workers == 1 else f"{self.workers} processes"
            case _:
                assert_never(self.mode)


PLAIN: Final = Setting(Mode.PLAIN, 0)


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure.

    Attributes:
        sequence: What to read.
        settings: How, beside the plain loop; threads first, and fewer workers first.
        max_queue_size: Bound of every run (G4).
        items: How many of the first items to read; None: as many as there is time for.
        rounds: How many timed rounds; None: as many as there is time for, up to `ROUNDS`.
        step: Seconds that the consumer is busy with each item, without using the processor.
        context: The start method of worker processes; None: the host's.
    """

    sequence: SequenceLike[object]
    settings: tuple[Setting, ...]
    max_queue_size: int = 10
    items: int | None = None
    rounds: int | None = None
    step: float = 0.0
    context: str | None = None


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
        cpu: Processor time of the whole process, and of worker processes; None: that of worker processes can't be known.
    """

    seconds: float
    first: float
    delivered: int
    reached: int
    waited: float
    idle: float
    cpu: float | None


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
        """Share of the time that a worker did not wait for room: it started, computed, or waited for a core or the GIL. None without workers."""
        workers = self.setting.workers
        return max(0.0, median(1 - one.idle / (one.seconds * workers) for one in self.passes)) if workers else None

    @property
    def first(self) -> float:
        """Seconds to the first item."""
        return median(one.first for one in self.passes)

    @property
    def cores(self) -> float | None:
        """Cores in use, at the mean, while the consumer was not busy with its own step. None if it can't be known."""
        used = [one.cpu / (one.waited if self.setting == PLAIN else one.seconds) for one in self.passes if one.cpu is not None]
        return median(used) if used else None


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
        method: How worker processes were started; empty without any.
        rows: The plain loop's, then one a setting.
    """

    job: Job
    length: int
    items: int
    rounds: int
    nbytes: int
    cores: int
    gil: bool
    method: str
    rows: tuple[Row, ...]

    @property
    def advice(self) -> Advice:
        """What follows."""
        return _advise(self)


def measure(job: Job, progress: Callable[[int, int, str], None] = lambda _done, _total, _what: None) -> Measurement:
    """Read a sequence in every setting and say what pays.

    Blocking: About `2 * BUDGET` seconds at most, if the job does not say how many items, unless a single item takes seconds: at least one
        is read, twice in every setting.
    Callers: The main thread, to be interruptible; an interrupt leaves at most threads that are in the midst of an item, and no process.

    Args:
        job: What to measure.
        progress: Called before every reading with the number of readings done, their total, and what is read next.

    Raises:
        ReadingError: The sequence is empty, an item or its length raised, a worker process died, or something can't be pickled for one.
        StartError: The system does not give that many threads.
    """
    length = _length(job.sequence)
    method = _method(job)
    if method:
        job = replace(job, context=method)
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
    return Measurement(job, length, items, rounds, nbytes, cores, gil, method, rows)


def shortly(error: BaseException) -> str:
    """Return an error in one line: its type, its message, the line of code that raised it."""
    places = [(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    if places and os.path.dirname(places[-1][0]) == os.path.dirname(__file__):  # noqa: PTH120 - raised in a worker process, whose traceback is text
        places = re.findall(r'^  File "(.+)", line (\d+), in (.+)$', str(error.__cause__), re.MULTILINE) or places
    where = f" ({os.path.basename(places[-1][0])}, line {places[-1][1]}, in {places[-1][2]})" if places else ""  # noqa: PTH119
    return f"{_kind_and_message(error)}{where}"


def _kind_and_message(error: BaseException) -> str:
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "(its message can't be had)"
    return f"{type(error).__name__}{': ' if message else ''}{message[:200]}"


def _length(sequence: SequenceLike[object]) -> int:
    try:
        length = len(sequence)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise ReadingError(f"its length can't be read: len() raised {shortly(error)}") from error
    if length < 1:
        raise ReadingError(f"its length is {length}: there is nothing to measure")
    return length


def _method(job: Job) -> str:
    """Return how worker processes are to be started: as was asked for, or as the host does, whose choice stays open (G25)."""
    if not any(setting.mode is Mode.PROCESSES for setting in job.settings):
        return ""
    import multiprocessing
    from multiprocessing.reduction import ForkingPickler

    method = job.context or multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method != "fork":  # A2
        try:
            ForkingPickler.dumps(job.sequence)
        except (Exception, SystemExit, GeneratorExit) as error:
            raise ReadingError(
                f"processes that are started by {method!r} need a sequence that can be pickled, and pickling it raised {_kind_and_message(error)}: "
                f"make it picklable, try --context fork, or {THREADS_ONLY}"
            ) from error
    return method


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
    children, cpu, begin = _children(), process_time(), perf_counter()
    if setting.mode is Mode.PLAIN:
        return _consumed(_plain(part), job.step, enough, see, begin=begin, cpu=cpu)
    processes = setting.mode is Mode.PROCESSES
    enqueuer = _Once(part, processes, seed=SEED, context=job.context)
    try:
        enqueuer.start(setting.workers, job.max_queue_size)
        try:
            one = _consumed(enqueuer.get(), job.step, enough, see, begin=begin, cpu=cpu)
        except (Exception, SystemExit, GeneratorExit) as error:
            raise ReadingError(_told(error, setting, enqueuer.statistics().rank)) from error
        reached = enqueuer.statistics().rank
        enqueuer.stop()  # what the workers waited is known when they have left
        statistics = enqueuer.statistics()
        used = one.cpu
        if processes and used is not None:
            used = None if job.context == "forkserver" else used + _children() - children  # the fork server's children are not ours
        return replace(one, reached=reached, waited=statistics.consumers_waited, idle=statistics.workers_waited, cpu=used)
    finally:
        enqueuer.stop(0)  # an interrupt waits for no item


def _told(error: BaseException, setting: Setting, index: int) -> str:
    """Say what went wrong with workers, and not in the plain loop."""
    said = " ".join(str(error).split())
    match error:
        case WorkerDiedError():
            said = said.partition("; on_worker_death")[0]  # nobody has to hear of it here
            return f"with {setting}, and not in the plain loop, {said}: repair it, or {THREADS_ONLY}"
        case BorderError():
            return f"with {setting}, {said}: {THREADS_ONLY}"
        case _:
            return f"item {index} raised {shortly(error)} with {setting}, and not in the plain loop: {HINTS[setting.mode]}"


def _children() -> float:
    """Return the processor time of child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


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
        return one.reached, _Check(False, f"{what}: {HINTS[setting.mode]}")
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
    most = max(row.setting.workers for row in others)
    told = f"{best.setting}, was {best.speedup:.2f} times as fast ({_range(best)})"
    told = f"The best{' that delivered the same items' if len(others) < len(found.rows) - 1 else ''}, {told}."
    if best.speedup < MARGIN:
        if found.items < 2 * most:
            return Advice(PLAIN, False, f"Too little was read to say: {found.items} of {found.length} items (--items). {told}")
        return Advice(PLAIN, False, " ".join(["Read it in a plain loop: nothing gains 10 %.", told, *_why(found, plain, others)]))
    if min(best.speedups) <= 1:
        return Advice(PLAIN, False, f"Too noisy to say: try --rounds {2 * found.rounds}, or a quieter machine. {told}")
    chosen = next(row for row in others if row.speedup * MARGIN >= best.speedup and min(row.speedups) > 1)
    reason = f"Use {chosen.setting}: {chosen.speedup:.2f} times as fast as a plain loop ({_range(chosen)})."
    return Advice(chosen.setting, True, " ".join([reason, *_beyond(found, chosen, others, enough=found.items >= 2 * most)]))


def _beyond(found: Measurement, chosen: Row, others: list[Row], *, enough: bool) -> Iterator[str]:
    """What more workers, or those of the other mode, do on top."""
    mode, workers = chosen.setting.mode, chosen.setting.workers
    alike = [row for row in others if row.setting.mode is mode]
    rest = [row for row in others if row.setting.mode is not mode]
    if chosen.waited < 1 - 1 / MARGIN:
        yield "The consumer hardly waits any more."
    elif chosen is not alike[-1]:
        if enough:
            yield "More workers do not gain 10 % on top."
    elif mode is Mode.PROCESSES and workers >= found.cores and (found.rows[0].cores or 0.0) > 1 / 2:  # items that mostly wait need no core each
        yield f"The consumer still waits {chosen.waited:.0%} of the time, and there are no more cores."
    else:
        yield f"The consumer still waits {chosen.waited:.0%} of the time: see what --workers {workers * 2} does."
    if rest:
        best = max(rest, key=lambda row: row.speedup)
        yield f"The best of the {best.setting.mode.value}, {best.setting}, was {best.speedup:.2f} times as fast."
        yield from _slow_start(rest)


def _slow_start(rows: list[Row]) -> Iterator[str]:
    """Whether processes might gain more in a longer run."""
    processes = [row for row in rows if row.setting.mode is Mode.PROCESSES]
    if processes:
        best = max(processes, key=lambda row: row.speedup)
        share = median(one.first / one.seconds for one in best.passes)
        if share > 1 - 1 / MARGIN:
            yield f"Until the first item of {best.setting}, {share:.0%} of its time was over; a longer run spreads that."


def _why(found: Measurement, plain: Row, others: list[Row]) -> Iterator[str]:
    """Why nothing pays, as far as it was measured."""
    each = median(one.waited / max(1, one.delivered) for one in plain.passes)
    several = [row for row in others if row.setting.workers > 1]
    threads = max((row.cores or 0.0 for row in several if row.setting.mode is Mode.THREADS), default=None)
    processes = any(row.setting.mode is Mode.PROCESSES for row in several)
    own = plain.cores or 0.0
    if each < TINY:
        yield f"An item takes {each * 1e6:.1f} us, less than it costs to hand it over."
    elif several and own < 1 / 2:
        where = "a lock, a connection, a disk, cores that other programs use"
        yield f"The items mostly wait, and not side by side: something that they share holds them up ({where})."
    elif threads is not None and threads >= ALONE:
        yield "More than one core was at work, but got no more done: the items contend for something."
    elif several and own > 1 / ALONE:
        if found.cores == 1:
            yield "The items need the processor, and there is one core."
        else:
            if threads is not None and found.gil:
                yield "The items need the processor, and threads kept only one core busy: they hold the GIL."
            if processes:
                yield f"Processes lost what they gained by starting and by sending the items{_size(found, plain)}."
    yield from _slow_start(others)
    if not found.job.step:
        yield "If your consumer works between items, --step MS shows whether reading ahead pays."


def _size(found: Measurement, plain: Row) -> str:
    """Return how large an item is, where that matters."""
    nbytes = found.nbytes / max(1, plain.passes[0].delivered)
    return f" ({nbytes / 1e6:.2g} MB each)" if nbytes >= LARGE else ""
