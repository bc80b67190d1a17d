"""Checks of what only worker processes can break: deaths, the border, kills; and what processes add to other promises.

They apply to factories that have processes. What an item does in its worker process is a `Do` that a sequence of this process hands out.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final, NoReturn, cast

from ..pace import paced, seen
from ..remote import Do, asking, remote
from ..subject import MOMENT, Factory, Gate, MakeApart, Numbers, ends, promise, raised, stopping, take, within
from .check import Check
from .consumers import interrupt
from .host import KEPT, LIFE, dead, hosted
from .lifecycle import timed_stop

__all__ = ["CHECKS"]

NOTICED: Final = 1.0
"""Seconds within which a death is noticed on an idle machine (G13)."""

DYING: Final = 0.5
"""Seconds from asking for an item to the death of the worker that computes it, at the most, on an idle machine."""


def _apart(factory: Factory) -> MakeApart:
    if factory.apart is None:
        raise TypeError(f"{factory.name} has no worker processes: this check does not apply")
    return factory.apart


# what is done in worker processes


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _die_and_leave_a_child(note: str, checker: int) -> None:
    """Die while a child holds every descriptor open, those too that a fork would have closed; note its number in a file.

    The child stays until it is killed, or the process of the check is gone.
    """
    for name in os.listdir("/dev/fd"):  # noqa: PTH208
        try:
            os.dup(int(name))
        except OSError:
            continue
    child = os.fork()
    if child == 0:
        while not dead(checker):
            time.sleep(0.1)
        os._exit(0)
    Path(note).write_text(f"{child}")
    _die()


def _sleep_through_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.alarm(LIFE)
    while True:
        time.sleep(1)


def _numbers_by_chance() -> tuple[float, ...]:
    """Return the next numbers of the global random states."""
    numpy = sys.modules.get("numpy")
    return (random.random(),) if numpy is None else (random.random(), float(numpy.random.random()))


def _explode(what: str) -> NoReturn:
    raise ValueError(what)


class _Odd:
    """An item that can't be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("odd")


class _Leaving:
    """An item whose pickling tries to end the process."""

    def __reduce__(self) -> NoReturn:
        raise SystemExit(5)


class _Bomb:
    """An item that can't be unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return _explode, ("bomb",)


class _OddError(Exception):
    """An exception that can't be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("odd")


class _BombError(Exception):
    """An exception that can't be unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return _explode, ("bomb",)


def _raise(kind: type[Exception]) -> NoReturn:
    raise kind("said")


class _Plain:
    """A sequence that is copied into worker processes."""

    def __init__(self, length: int = 3) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> object:
        return index


class _Changing(_Plain):
    """Its hook changes it."""

    epoch = 0

    def __getitem__(self, index: int) -> object:
        return self.epoch, index, os.getpid()

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.length = 3 + self.epoch % 2


class _Spoilt(_Plain):
    """Its hook makes it impossible to pickle."""

    what: object = None

    def on_epoch_end(self) -> None:
        self.what = threading.Lock()


class _Locked(_Plain):
    """It can't be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock: Final = threading.Lock()


# G1, G13: deaths


def _dying(deaths: int) -> tuple[Numbers, Counter[int]]:
    """Return a sequence whose item 2 kills so many workers, and how often each item was asked for."""
    lock, asked = threading.Lock(), Counter[int]()

    def item(index: int) -> object:
        with lock:
            asked[index] += 1
            return Do(_die) if index == 2 and asked[2] <= deaths else index

    return Numbers(100, item), asked


def check_an_item_whose_worker_died_is_computed_again_and_delivered_once(factory: Factory) -> None:
    """G1: with `on_worker_death="retry"`; the others are computed once, as ever."""
    for deaths in (1, 3):
        sequence, asked = _dying(deaths)
        subject = _apart(factory)(remote(sequence), on_worker_death="retry")
        with stopping(factory, subject):
            subject.start(2, 4)
            items = take(factory, subject.get(), 20, "G1")
            promise(items == list(range(20)), "G1", f"with {deaths} deaths at item 2 the items came as {items}")
            promise(asked[2] == deaths + 1, "G1", f"item 2, which killed its worker {deaths} times, was computed {asked[2]} times")
            again = {index: times for index, times in asked.items() if index != 2 and times > 1}
            promise(not again, "G1", f"besides the item whose worker died, these were computed again: {again}")


def check_a_death_ends_the_run_with_an_error_that_tells_it(factory: Factory) -> None:
    """G13: the pid, the exit code or signal, and the index; at that rank; in time, at the pace of the machine."""
    deaths: Final = (("9", Do(_die)), ("3", Do(os._exit, 3)), ("0", Do(os._exit, 0)))
    for code, death in deaths:
        pids, died = list[int](), list[float]()

        def item(index: int, death: Do = death, pids: list[int] = pids, died: list[float] = died) -> object:
            if index != 2:
                return index
            pids.append(asking())
            died.append(time.monotonic())
            return death

        subject = _apart(factory)(remote(Numbers(5, item)))
        with stopping(factory, subject):
            with paced() as machine:
                subject.start(2, 4)
                stream = subject.get()
                items = take(factory, stream, 2, "G13")
                got = raised(factory, partial(next, stream), "G13", "the next() that meets a death")
                elapsed = time.monotonic() - died[0] if died else 0.0
            promise(items == [0, 1] and isinstance(got, RuntimeError), "G13", f"after {items} the death of a worker with item 2 arrived as {got!r}")
            words = set("".join(c if c.isalnum() else " " for c in str(got)).replace("SIGKILL", "9").split())
            named = {str(pids[0]), "2", code} if pids else {"2", code}
            promise(named <= words, "G13", f"of pid, index and exit code ({named}) not all are named: {got}")
            promise(elapsed <= (NOTICED + DYING) * machine.factor, "G13", f"it took {elapsed:.1f} s until a death was told")
            promise(len(pids) == 1, "G13", f"without retries an item was computed {len(pids)} times")
            promise(not subject.is_running() and ends(factory, stream, "G13"), "G13", "the run went on after a death was told")


def check_a_death_is_noticed_though_a_child_holds_the_pipe(factory: Factory) -> None:
    """G13: the end of a pipe does not tell it; in time, at the pace of the machine."""
    died: list[float] = []

    def item(index: int) -> object:
        if index == 1 and not died:
            died.append(time.monotonic())
            return Do(_die_and_leave_a_child, note.name, os.getpid())
        return index

    subject = _apart(factory)(remote(Numbers(5, item)))
    with NamedTemporaryFile("r") as note, stopping(factory, subject):
        try:
            with paced() as machine:
                subject.start(1, 2)
                stream = subject.get()
                take(factory, stream, 1, "G13")
                got = raised(factory, partial(next, stream), "G13", "next(), after a worker has died and left a child,")
                elapsed = time.monotonic() - died[0] if died else 0.0
            promise(isinstance(got, RuntimeError), "G13", f"the death of a worker that has left a child arrived as {got!r}")
            limit = (NOTICED + DYING) * machine.factor
            promise(elapsed <= limit, "G13", f"it took {elapsed:.1f} s to notice the death of a worker that has left a child")
        finally:
            with suppress(ProcessLookupError, ValueError):  # no such child, or none yet
                os.kill(int(note.read()), signal.SIGKILL)


def check_retries_have_an_end_and_keep_the_order(factory: Factory) -> None:
    """G13: at most `max_retries` times an item; idle workers may die, too."""
    for most in (0, 2):
        sequence, asked = _dying(most + 10)
        subject = _apart(factory)(remote(sequence), on_worker_death="retry", max_retries=most)
        with stopping(factory, subject):
            subject.start(2, 4)
            stream = subject.get()
            items = take(factory, stream, 2, "G13")
            got = raised(factory, partial(next, stream), "G13", "the next() that meets one death too many")
            promise(asked[2] == most + 1, "G13", f"with max_retries={most} an item was computed {asked[2]} times")
            promise(isinstance(got, RuntimeError), "G13", f"after {items} one death too many arrived as {got!r}")
    subject = _apart(factory)(remote(Numbers(7, lambda index: (index, asking()))), on_worker_death="retry")
    with stopping(factory, subject):
        subject.start(2, 3)
        stream = subject.get()
        for rank in range(21):
            index, pid = cast("tuple[int, int]", take(factory, stream, 1, "G13")[0])
            promise(index == rank % 7, "G13", f"with workers that died when they were idle or not, item {index} came at rank {rank}")
            if rank in {4, 9, 14}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


# G6, G12: the border


def _array(number: int) -> object:
    """Make one of some arrays that are easily damaged."""
    import numpy

    plain = numpy.arange(24).reshape(4, 6)
    fixed = numpy.arange(5.0)
    fixed.flags.writeable = False
    made: tuple[object, ...] = (
        plain,
        plain.astype(">f8"),
        numpy.asfortranarray(plain.astype(numpy.uint8)),
        plain[::2, ::-3],
        fixed,
        fixed[::2],
        numpy.array(3.5),
        numpy.empty((0, 3), numpy.int16),
        numpy.array([("a", 1), ("b", 2)], [("name", "U3"), ("number", "<i4")]),
        numpy.array(["2020-01-01", "NaT"], "datetime64[D]"),
        numpy.full((300, 1000), 7, numpy.float32),
        numpy.broadcast_to(numpy.arange(3), (2, 3)),
    )
    return made[number % len(made)]


ARRAYS: Final = 12


def check_what_crosses_the_border_arrives_equal(factory: Factory) -> None:
    """G6: arrays with the same dtype, shape, values and writability; what was delivered stays as it is, also after stop."""
    import numpy

    subject = factory.ordered(Numbers(ARRAYS, lambda index: Do(_array, index)))
    with stopping(factory, subject):
        subject.start(2, 4)
        items = take(factory, subject.get(), 2 * ARRAYS, "G6")
        subject.stop()
    for number, item in enumerate(items):
        made = numpy.asarray(_array(number))
        promise(isinstance(item, numpy.ndarray), "G6", f"an array arrived as {type(item)}")
        arrived = numpy.asarray(item)
        promise(
            (arrived.dtype, arrived.shape) == (made.dtype, made.shape), "G6", f"{made.dtype}, {made.shape} came as {arrived.dtype}, {arrived.shape}"
        )
        promise(arrived.tobytes() == made.tobytes(), "G6", f"an array of {made.dtype} and shape {made.shape} has other values")
        writable = arrived.flags.writeable
        promise(writable == made.flags.writeable, "G6", f"array {number % ARRAYS} came {'' if writable else 'not '}writable, and was not made so")
    things = [{"a": [1, None, (2.5, "x")], "b": {3}}, b"\0" * 200_000, "", True, 2**100, ...]
    other = factory.ordered(Numbers(len(things), things.__getitem__))
    with stopping(factory, other):
        other.start(2, 4)
        found = take(factory, other.get(), len(things), "G6")
        promise(found == things, "G6", f"{things} arrived as {found}")


HELD: Final = 3
"""Of so many large items, one is kept."""


def _large(number: int) -> object:
    """Make an array that is large enough to be shared, of one number."""
    import numpy

    return numpy.full((10, 4000), number, numpy.float32)


def check_what_is_held_stays_as_it_is(factory: Factory) -> None:
    """G6: large arrays, some of them kept while many more come and after stop, by themselves, by a part of them and in a reference cycle."""
    import numpy

    subject = factory.ordered(Numbers(20, lambda index: Do(_large, index)))
    held: list[tuple[int, object]] = []
    with stopping(factory, subject):
        subject.start(2, 4)
        stream = subject.get()
        for number in range(60):
            (item,) = take(factory, stream, 1, "G6")
            array = numpy.asarray(item)
            promise(array.flags.writeable, "G6", "a large array came not writable, and was not made so")
            array += 1000  # it is the consumer's
            if number % HELD == 0:
                cycle: list[object] = [array]
                cycle.append(cycle)
                held.append((number, (array, array[3:5, ::7], cycle)[number // HELD % 3]))
        subject.stop()
    for number, kept in held:
        array = numpy.asarray(kept[0] if isinstance(kept, list) else kept)
        promise((array == number % 20 + 1000).all(), "G6", f"what was kept of item {number} has become {array}")


def _border(factory: Factory) -> Iterator[tuple[str, BaseException]]:
    """Yield what arrives in place of items and exceptions that can't be pickled or unpickled, with the name of their type."""
    odd: Final = (
        ("_Odd", Do(_Odd)),
        ("_Leaving", Do(_Leaving)),
        ("_Bomb", Do(_Bomb)),
        ("lock", Do(threading.Lock)),
        ("_OddError", Do(_raise, _OddError)),
        ("_BombError", Do(_raise, _BombError)),
    )
    for kind, action in odd:

        def item(index: int, action: Do = action) -> object:
            return action if index == 2 else index

        subject = factory.ordered(Numbers(5, item))
        with stopping(factory, subject):
            subject.start(2, 4)
            stream = subject.get()
            items = take(factory, stream, 2, "G12")
            got = raised(factory, partial(next, stream), "G12", f"the next() that meets {kind}")
            promise(items == [0, 1] and isinstance(got, Exception), "G12", f"after {items} {kind} arrived as {got!r}")
            promise(not subject.is_running(), "G19", f"is_running() is true after {kind} was met")
        assert got is not None
        yield kind, got


def check_what_cant_cross_the_border_is_an_error(factory: Factory) -> None:
    """G12: items and exceptions that can't be pickled or unpickled, at their rank."""
    for _ in _border(factory):
        pass


def check_what_cant_cross_the_border_is_named(factory: Factory) -> None:
    """G12: the error names index and type."""
    for kind, got in _border(factory):
        text = "".join(traceback.format_exception_only(got))
        promise(kind in text and ("index 2" in text or "item 2" in text), "G12", f"index 2 or its type {kind} is not named: {text}")


def check_a_hook_that_spoils_the_sequence_is_told(factory: Factory) -> None:
    """G12: what it made of the sequence can't be sent to the worker processes."""
    subject = _apart(factory)(_Spoilt())
    with stopping(factory, subject):
        subject.start(2, 4)
        stream = subject.get()
        take(factory, stream, 3, "G12")
        got = raised(factory, partial(next, stream), "G12", "the next() after a hook that spoils the sequence")
        promise(isinstance(got, RuntimeError), "G12", f"a sequence that can't be pickled after its hook arrived as {got!r}")
        promise("pickle" in str(got) and "lock" in str(got), "G12", f"it is not said that the sequence can't be pickled, and why: {got}")


# G7, G9


def check_what_the_hook_changes_reaches_the_processes(factory: Factory) -> None:
    """G7: the length included; the copies of the processes are replaced."""
    subject = _apart(factory)(_Changing())
    with stopping(factory, subject):
        subject.start(2, 4)
        stream = subject.get()
        for epoch in range(4):
            length = 3 + epoch % 2
            items = cast("list[tuple[int, int, int]]", take(factory, stream, length, "G7"))
            found = [item[:2] for item in items]
            promise(found == [(epoch, index) for index in range(length)], "G7", f"after {epoch} hooks, which count, the items came as {found}")
            promise(os.getpid() not in {item[2] for item in items}, "G7", "items were computed in this process")


def check_worker_processes_have_random_states_of_their_own(factory: Factory) -> None:
    """G9: no two begin with the same; nor with that of this process."""
    _random_states_differ(factory, deaths=0)


def check_a_worker_after_a_death_has_a_random_state_of_its_own(factory: Factory) -> None:
    """G9: it does not begin again with that of the dead one."""
    _random_states_differ(factory, deaths=1)


def _random_states_differ(factory: Factory, *, deaths: int) -> None:
    gate, pids, dead = Gate(), set[int](), list[int]()

    def item(index: int) -> object:
        pids.add(asking())
        if index < 3:
            gate.enter()
        if index == 4 and len(dead) < deaths:
            dead.append(asking())
            return Do(_die)
        return Do(_numbers_by_chance)

    before = random.getstate()
    own = random.random()
    random.setstate(before)
    subject = _apart(factory)(remote(Numbers(100, item)), on_worker_death="retry" if deaths else "raise")
    with stopping(factory, subject, gate=gate):
        subject.start(3, 6)
        promise(gate.wait_arrived(3, factory.limit), "G21", "of three workers not all began")
        gate.open()
        items = cast("list[tuple[float, ...]]", take(factory, subject.get(), 20, "G9"))
        for state in zip(*items, strict=True):
            same = len(state) - len(set(state))
            promise(not same and own not in state, "G9", f"{same} of {len(state)} numbers from the global states of worker processes came twice")


# G15, G18, G20: what is left


def _gone(factory: Factory, pid: int) -> bool:
    """Whether there is no such process. One that is dead has been reaped, too, unless that is for the fork server to do."""
    if factory.method == "forkserver":
        return dead(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _children(factory: Factory) -> set[int]:
    """Return the processes that this one, or the fork server, has started, except those that the latter has yet to reap."""
    server = sys.modules.get("multiprocessing.forkserver")
    parents: set[object] = {os.getpid()}
    if server is not None:
        parents.add(getattr(getattr(server, "_forkserver", None), "_forkserver_pid", None))
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent in parents and not _gone(factory, int(path.parent.name)):
            found.add(int(path.parent.name))
    return found


def _all_gone(factory: Factory, pids: set[int], limit: float) -> set[int]:
    """Return who is left after so many seconds."""

    def left() -> set[int]:
        return {pid for pid in pids if not _gone(factory, pid)}

    seen(lambda: not left(), limit)
    return left()


def check_at_the_deadline_processes_are_killed(factory: Factory) -> None:
    """G15: and reaped, whatever they do with signals; `stop(timeout)` is true, and in time, at the pace of the machine."""
    for timeout in (0, 0.3):
        gate, pids = Gate(opened=True), set[int]()

        def item(index: int, gate: Gate = gate, pids: set[int] = pids) -> object:
            del index
            pids.add(asking())
            gate.enter()
            return Do(_sleep_through_signals)

        subject = factory.ordered(Numbers(5, item))
        with stopping(factory, subject):
            subject.start(2, 4)
            promise(gate.wait_arrived(2, factory.limit), "G21", "of two workers not all began")
            exited, elapsed, allowed = timed_stop(factory, subject, timeout)
            left = _all_gone(factory, pids, MOMENT)
            for pid in left:
                os.kill(pid, signal.SIGKILL)  # not ours to leave
            promise(elapsed <= allowed, "G15", f"stop({timeout}) took {elapsed:.2f} s of {allowed:.2f}")
            promise(not left, "G15", f"stop({timeout}) returned {exited} and left the processes {left} computing")
            promise(exited, "G15", f"stop({timeout}) returned false, with nothing left")


def check_no_process_is_left(factory: Factory) -> None:
    """G20: after stop, a failure, an end, and when nobody can reach the run any more."""
    pids: set[int] = set()

    def item(index: int) -> object:
        pids.add(asking())
        return index

    def failing(index: int) -> object:
        if index == 3:
            raise ValueError(index)
        return item(index)

    def numbers() -> Generator[object]:
        for index in range(5):
            yield item(index)

    for how in ("stop()", "a failure", "the end of a generator", "losing the last reference"):
        pids.clear()
        subject = factory.generator(numbers) if "end" in how else factory.ordered(Numbers(5, failing if how == "a failure" else item))
        with stopping(factory, *([] if "losing" in how else [subject])):
            subject.start(3, 4)
            stream = subject.get()
            take(factory, stream, 3, "G20")
            if how == "stop()":
                within("G14", how, subject.stop, factory.limit)
            elif how == "a failure":
                raised(factory, partial(next, stream), "G20", "a failing run")
            elif "end" in how:
                take(factory, stream, 2, "G20")
                ends(factory, stream, "G20")
            del subject, stream
            gc.collect()
            left = _all_gone(factory, pids, 0 if how == "stop()" else factory.limit)
            promise(pids and not left, "G20", f"{how} left the processes {left} of {pids}")


def _be_busy(factory: Factory, tell: Callable[[int], None]) -> None:
    def item(index: int) -> object:
        tell(asking())
        return index if index < 0 else Do(_sleep_through_signals)

    subject = factory.ordered(Numbers(5, item))
    subject.start(2, 4)
    time.sleep(60)


def check_no_process_outlives_a_parent_that_is_killed(factory: Factory) -> None:
    """G20: whatever it computes."""
    with hosted(factory, "G20", _be_busy) as host:
        promise(host.tells(2), "G21", "of two workers not all began")
        host.process.kill()
        host.ends(-signal.SIGKILL)
        promise(not (left := host.left()), "G20", f"the parent was killed, and the processes {left} went on")


LARGE: Final = 2_800_000
"""Bytes that no pipe holds."""


def _leave_large_items(factory: Factory, tell: Callable[[int], None]) -> None:
    def item(index: int) -> object:
        tell(asking())
        return Do(bytes, LARGE + index)

    subject = factory.ordered(Numbers(1000, item))
    subject.start(16, 40)  # so that some worker is about to say something, whenever the end comes
    stream = subject.get()
    KEPT.append((subject, stream))
    take(factory, stream, 1, "G20")


def check_an_exit_does_not_wait_for_large_items(factory: Factory) -> None:
    """G20: a process that exits without stop(), while its workers compute and send, ends at once and leaves none of them."""
    for _ in range(2):
        with hosted(factory, "G20", _leave_large_items) as host:
            promise(host.ends(), "G20", f"a process that exits without stop(), large items under way, was there after {factory.limit:.0f} s")
            promise(not (left := host.left()), "G20", f"a process has exited without stop(), and the processes {left} went on")


# G22


def check_an_interrupt_from_a_terminal_loses_nothing(factory: Factory) -> None:
    """G22: which reaches every process of the group; the stream goes on with the same rank."""

    def interrupted(factory: Factory, _: object) -> None:
        os.setpgid(0, 0)
        interrupt(factory, partial(os.killpg, 0, signal.SIGINT))

    with hosted(factory, "G22", interrupted) as host:
        promise(host.ends(), "G22", f"a program that was interrupted from a terminal was there after {factory.limit:.0f} s")


@contextmanager
def _few_descriptors(more: int) -> Generator[None]:
    """Let no more than so many be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(free + more, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def check_a_start_that_fails_leaves_no_process(factory: Factory) -> None:
    """G18: for want of descriptors in its midst, with a sequence that can't be pickled, in a daemonic process: a clear error, nothing left."""
    apart = _apart(factory)
    first = apart(_Plain())
    with stopping(factory, first):
        first.start(1, 1)  # what multiprocessing keeps for good
        first.stop()
    before, threads = _children(factory), set(threading.enumerate())

    def refused(subject_of: _Plain, workers: int, word: str) -> None:
        subject = apart(subject_of)
        with stopping(factory, subject):
            got = raised(factory, partial(subject.start, workers, 4), "G18", "a start() that fails")
            promise(isinstance(got, RuntimeError), "G18", f"a start() that had to fail gave {got!r}")
            promise(word in str(got), "G18", f"a start() that failed does not say why ({word}): {got}")
            promise(not subject.is_running(), "G18", "a start() that failed left the run on")
            left = _all_gone(factory, _children(factory) - before, MOMENT if factory.method == "forkserver" else 0.0)
            promise(not left, "G18", f"a start() that failed left the processes {left}")
            stayed = {thread for thread in set(threading.enumerate()) - threads if thread.name != "within"}
            promise(not stayed, "G18", f"a start() that failed left the threads {stayed}")

    if factory.method != "forkserver":  # which itself does not survive that
        with _few_descriptors(30):
            refused(_Plain(), 40, "open files")
    config: dict[str, object] = vars(multiprocessing.current_process())["_config"]
    daemon = config.get("daemon")
    config["daemon"] = True
    try:
        refused(_Plain(), 2, "daemonic")
    finally:
        config["daemon"] = daemon
    if factory.method != "fork":
        refused(_Locked(), 2, "pickle")
    again = apart(_Locked() if factory.method == "fork" else _Plain())
    with stopping(factory, again):
        again.start(2, 4)
        items = take(factory, again.get(), 4, "G18")
        promise(items == [0, 1, 2, 0], "G18", f"after starts that failed, one that did not delivered {items}")


CHECKS: Final = (
    Check("G1", check_an_item_whose_worker_died_is_computed_again_and_delivered_once, frozenset({"processes", "retry"})),
    Check("G6", check_what_crosses_the_border_arrives_equal, frozenset({"processes"})),
    Check("G6", check_what_is_held_stays_as_it_is, frozenset({"processes"})),
    Check("G7", check_what_the_hook_changes_reaches_the_processes, frozenset({"hook", "processes"})),
    Check("G9", check_worker_processes_have_random_states_of_their_own, frozenset({"processes"}), chance=True),
    Check("G9", check_a_worker_after_a_death_has_a_random_state_of_its_own, frozenset({"processes", "retry"}), chance=True),
    Check("G12", check_what_cant_cross_the_border_is_an_error, frozenset({"processes"})),
    Check("G12", check_what_cant_cross_the_border_is_named, frozenset({"processes"})),
    Check("G12", check_a_hook_that_spoils_the_sequence_is_told, frozenset({"hook", "processes"})),
    Check("G13", check_a_death_ends_the_run_with_an_error_that_tells_it, frozenset({"processes"})),
    Check("G13", check_a_death_is_noticed_though_a_child_holds_the_pipe, frozenset({"processes"})),
    Check("G13", check_retries_have_an_end_and_keep_the_order, frozenset({"processes", "retry"})),
    Check("G15", check_at_the_deadline_processes_are_killed, frozenset({"deadline", "processes"})),
    Check("G18", check_a_start_that_fails_leaves_no_process, frozenset({"processes"})),
    Check("G20", check_no_process_is_left, frozenset({"generator", "processes"})),
    Check("G20", check_no_process_outlives_a_parent_that_is_killed, frozenset({"processes"})),
    Check("G20", check_an_exit_does_not_wait_for_large_items, frozenset({"processes"})),
    Check("G22", check_an_interrupt_from_a_terminal_loses_nothing, frozenset({"processes"})),
)
