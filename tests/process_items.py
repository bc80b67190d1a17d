"""What worker processes compute in tests: sequences and items that can be pickled, in a module that is quick to import."""

from __future__ import annotations

import multiprocessing
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer, item_seed, worker_info
from enqueuer.testing.pace import paced

FOR_EVER = 3600.0
"""Seconds that outlast every test. What an accident leaves behind ends some day all the same."""


def stops(enqueuer, timeout, then=lambda: None):
    """Call `stop(timeout)`, and `then()`; see that both return within `timeout` + 0.5 s (G15); return the seconds that passed.

    On an idle machine the stop is true. A busy one may need longer than that to reap a worker process; then a second stop is true.
    """
    with paced() as machine:
        begun = time.monotonic()
        stopped = enqueuer.stop(timeout)
        then()
        elapsed = time.monotonic() - begun
    assert elapsed < (timeout + 0.5) * machine.factor, f"it took {elapsed:.3f} s, at a pace of {machine.factor:.2f}"
    assert stopped or (machine.factor > 1.5 and enqueuer.stop()), f"the stop is false, at a pace of {machine.factor:.2f}"
    return elapsed


class Items:
    """A sequence of whatever a function returns."""

    def __init__(self, length: int, item: Callable[[int], object] = int) -> None:
        self.length = length
        self.item = item

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> object:
        return self.item(index)


class Hooked(Items):
    """One with a hook, of which the workers learn."""

    epoch = 0

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.epoch, index


class TwoArguments(Exception):
    def __init__(self, left, right) -> None:
        super().__init__(left)
        self.right = right


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("text", threading.Lock())


class UnpicklableThere(Exception):
    """One that its own process can make again, and no other."""

    def __init__(self, pid=None) -> None:
        super().__init__("text")
        self.pid = pid or os.getpid()

    def __reduce__(self):
        return remade, (os.getpid(),)


def remade(pid):
    if pid != os.getpid():
        raise ValueError("not here")
    return UnpicklableThere(pid)


class Stubborn(Exception):
    """One whose every method fails."""

    def __reduce_ex__(self, _):
        raise SystemExit("no pickle")

    def __str__(self) -> str:
        raise KeyboardInterrupt("no text")


class CantBeUnpickledHere:
    def __reduce__(self):
        return only_in, (os.getpid(),)


def only_in(pid):
    if pid != os.getpid():
        raise ValueError("not in this process")
    return CantBeUnpickledHere()


ERRORS = {
    "two arguments": (lambda: TwoArguments(1, 2), TwoArguments),
    "lock": (Unpicklable, RuntimeError),
    "only there": (UnpicklableThere, RuntimeError),
    "stubborn": (Stubborn, Stubborn),
    "exit": (lambda: SystemExit(3), SystemExit),
    "interrupt": (lambda: KeyboardInterrupt("by an item"), KeyboardInterrupt),
    "generator exit": (GeneratorExit, GeneratorExit),
    "empty": (queue.Empty, queue.Empty),
    "stop": (lambda: StopIteration(5), RuntimeError),
    "broken pipe": (lambda: BrokenPipeError("an item's own"), BrokenPipeError),
    "reset": (lambda: ConnectionResetError("an item's own"), ConnectionResetError),
    "end of file": (lambda: EOFError("an item's own"), EOFError),
    "group": (lambda: ExceptionGroup("several", [ValueError(1), KeyError(2)]), ExceptionGroup),
    "name": (lambda: NameError("name", name="it"), NameError),
    "decode": (lambda: UnicodeDecodeError("ascii", b"\xff", 0, 1, "why"), UnicodeDecodeError),
}
"""What an item raises, and as what it arrives."""


def raises(name, index):
    if index == 2:
        make, _ = ERRORS[name]
        raise make()
    return index


def unpicklable(index):
    return threading.Lock() if index == 2 else index


def cant_be_unpickled(index):
    return CantBeUnpickledHere() if index == 2 else index


def array(size, index):
    return np.full(size, index, np.uint8)


def read_only(index):
    made = np.arange(index, index + 1000.0)
    made.flags.writeable = False
    return made


ARRAYS = {
    "plain": lambda: np.arange(6.0),
    "fortran": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": lambda: np.arange(12.0)[::2],
    "backwards": lambda: np.arange(6)[::-1],
    "transposed": lambda: np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "broadcast": lambda: np.broadcast_to(np.arange(3), (4, 3)),
    "objects": lambda: np.array([1, "a", None], object),
    "scalar": lambda: np.array(3.0),
    "empty": lambda: np.empty((0, 3)),
    "text": lambda: np.array(["a", "bb"]),
    "dates": lambda: np.array(["2020-01-01"], "M8[D]"),
    "structured": lambda: np.zeros(3, [("a", "i4"), ("b", "f8")]),
    "big endian": lambda: np.arange(3, dtype=">i4"),
    "large": lambda: np.arange(1 << 19, dtype=np.float64),
}


def some_array(writable, index):
    made = ARRAYS[list(ARRAYS)[index]]()
    if not writable:
        made.flags.writeable = False
    return made


def where(_):
    info = worker_info()
    assert info is not None
    return info.worker, info.workers, info.epoch, info.index, os.getpid()


def draws(_):
    return os.getpid(), random.random(), np.random.random(), item_seed()  # noqa: NPY002 - the global states are asked


def draws_with_others(folder, workers, index):
    """Draw when each of the workers has an item."""
    (Path(folder) / str(os.getpid())).touch()
    while len(os.listdir(folder)) < workers:  # noqa: PTH208
        time.sleep(0.002)
    return draws(index)


def draws_or_dies(folder, index):
    """Die at the first try of index 1."""
    drawn = draws(index)
    if index == 1:
        try:
            (Path(folder) / "died").touch(exist_ok=False)
        except FileExistsError:
            return drawn
        (Path(folder) / "drawn").write_text(repr(drawn[1:3]))
        os._exit(1)
    return drawn


def forks_and_returns(index):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return index


def forks_and_raises(index):
    if not (pid := os.fork()):
        raise SystemExit(1)
    os.waitpid(pid, 0)
    return index


def forks_for_long(folder, index):
    """Leave a child that lives until it is killed."""
    if not (pid := os.fork()):
        os.closerange(0, 3)
        time.sleep(FOR_EVER)
        os._exit(0)
    (Path(folder) / str(pid)).touch()
    return index


def forks_for_long_and_dies(folder, index):
    forks_for_long(folder, index)
    os._exit(5)


def runs_a_program(index):
    return int(subprocess.check_output([sys.executable, "-c", f"print({index})"]))


def leaves_a_program(folder, index):
    process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOR_EVER})"])
    process.returncode = 0  # or its finalizer warns
    (Path(folder) / str(process.pid)).touch()
    return index


def holds_the_gil(index):
    return sum(range(3 * 10**6)) * 0 + index


def closes_everything(index):
    if index == 2:
        os.closerange(3, 1000)
    return index


def closes_everything_and_opens_others(index):
    if index == 2:
        os.closerange(3, 1000)
        for _ in range(20):
            os.dup(0)
    return index


def changes_directory(folder, index):
    os.chdir(folder)
    return index


def sleeps(index):
    time.sleep(FOR_EVER)
    return index


def says(folder, index):
    (Path(folder) / str(index)).touch()
    return index


def says_and_sleeps(folder, index):
    (Path(folder) / str(index)).touch()
    time.sleep(FOR_EVER)


def sleeps_at(indices, index):
    if index in indices:
        time.sleep(FOR_EVER)
    return index


def waits_for(file, index):
    while not os.path.exists(file):  # noqa: PTH110
        time.sleep(0.002)
    return index


def waits_for_at(file, indices, index):
    return waits_for(file, index) if index in indices else index


def dies_at(indices, index):
    if index in indices:
        os._exit(7)
    return index


def nested(processes, limit, index):
    """Be read from an enqueuer of one's own."""
    with OrderedEnqueuer(Items(5, lambda inner: (index, inner)), processes, context="fork") as enqueuer:
        enqueuer.start(2, 3)
        items = enqueuer.get(timeout=limit)
        return [next(items) for _ in range(6)]


def nested_and_left(limit, index):
    enqueuer = OrderedEnqueuer(Items(5), True, context="fork")
    enqueuer.start(2, 3)
    kept.append(enqueuer)
    return next(enqueuer.get(timeout=limit)) + index


kept: list[object] = []


def nested_generator(limit, index):
    with GeneratorEnqueuer(lambda: iter(range(index)), True, context="fork") as enqueuer:
        enqueuer.start(2, 3)
        return list(enqueuer.get(timeout=limit))


def in_a_pool(method):
    """Be a task of a multiprocessing.Pool, whose workers are daemons."""
    try:
        with OrderedEnqueuer(Items(5), True, context=method) as enqueuer:
            enqueuer.start(2, 3)
            return "started"
    except RuntimeError as error:
        return type(error).__name__, str(error)


# generators


def counts(lengths):
    """Be an iterator that is as long as its worker is told."""
    info = worker_info()
    worker = 0 if info is None else info.worker
    for number in range(lengths[worker]):
        yield worker, number


def counts_with_none(lengths):
    for worker, number in counts(lengths):
        yield None if number % 2 else (worker, number)


def shares(length):
    """Share numbers out, as documented."""
    for number in range(length):
        info = worker_info()
        assert info is not None
        if number % info.workers == info.worker:
            yield number


def seeds():
    info = worker_info()
    assert info is not None
    yield info.worker, random.random(), float(np.random.random())  # noqa: NPY002


def fails_in(worker, at):
    for number in range(100):
        info = worker_info()
        assert info is not None
        if info.worker == worker and number == at:
            raise LookupError(number)
        yield info.worker, number


def dies_in(worker, at):
    for number in range(100):
        info = worker_info()
        assert info is not None
        if info.worker == worker and number == at:
            os._exit(9)
        yield info.worker, number


def endless():
    number = 0
    while True:
        yield number
        number += 1


def stalls(file, worker):
    for number in range(100):
        info = worker_info()
        assert info is not None
        if info.worker == worker and number == 1:
            waits_for(file, 0)
        yield info.worker, number


def terminates_a_child(index):
    """Return how a child ended that was forked here and then terminated, as multiprocessing does it."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(FOR_EVER,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode
