"""What dies in worker processes, in `test_deaths.py`: sequences that every start method can send, without pytest."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path

from enqueuer.testing.pace import seen

FOR_EVER = 3600.0
"""Seconds that outlast every test. What an accident leaves behind ends some day all the same."""

CODE = 17
"""Exit code of a worker that leaves by `os._exit()`."""

DEADLY = 2
"""Index of the item that is deadly, where one is."""

LENGTH = 4


class Failure(Exception):
    """What an item raises."""


def until(condition: Callable[[], object], what: str, limit: float = 30.0) -> None:
    """Wait for what another process does, which has no other way to tell; for `limit` seconds of an idle machine."""
    assert seen(condition, limit, 0.001), f"it did not come to this: {what}"


def alive(pid: int) -> bool:
    """Whether there is such a process, which is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def press(pid: int) -> None:
    """Send the signal; to be done again if it goes unseen: CPython misses one that arrives just before a system call that blocks (D18)."""
    os.kill(pid, signal.SIGUSR1)
    time.sleep(0.01)


class Fate:
    """How a worker is to die, and how many times; kept in a folder, since all processes and runs share it."""

    def __init__(self, folder: Path, how: str, times: int = 1) -> None:
        self.folder, self.how, self.times = folder, how, times
        self.parent = os.getpid()

    def due(self) -> int | None:
        """Return the number of the death that is to be died here and now, None in the parent and when all were died."""
        if os.getpid() == self.parent:
            return None
        for number in range(self.times):
            try:
                (self.folder / f"death-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return number
        return None

    def die(self, number: int) -> None:
        """Die. Leaves a note of who did, and when."""
        note = self.folder / f"note-{number}.new"
        note.write_text(f"{os.getpid()} {time.monotonic()}")
        note.rename(self.folder / f"note-{number}")
        match self.how:
            case "exception":
                raise Failure("on purpose", number)
            case "exit":
                os._exit(CODE)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        while True:  # hang
            time.sleep(FOR_EVER)

    def strike(self) -> None:
        """Die, if it is due."""
        if (number := self.due()) is not None:
            self.die(number)

    def note(self, number: int = 0) -> tuple[int, float]:
        """Wait for the death; return the process and the time."""
        note = self.folder / f"note-{number}"
        until(note.exists, f"death {number}")
        pid, when = note.read_text().split()
        return int(pid), float(when)


class Items:
    """Item `index` is `(index, pid of its worker)`. What was computed is kept in the folder."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.epoch = 0

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        with (self.fate.folder / f"computed-{index}").open("a") as file:
            file.write(f"{os.getpid()}\n")
        self.compute(index)
        return index, os.getpid()

    def compute(self, index):
        """Do what is to be done in an item."""


class Unready(Items):
    """Dies when it is unpickled, before its worker is ready."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.fate.strike()


class Short(Items):
    """Many short items, which a worker is asked for ahead. Each epoch has a deadly one, as long as it is due."""

    def __len__(self):
        return 16 * LENGTH

    def __getitem__(self, index):
        if index == 8 * LENGTH:
            self.fate.strike()
        return index, os.getpid()


class AfterFork:
    """Dies in the forked process, before the worker begins: by multiprocessing's own hook, or as `random.seed()`."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        util.register_after_fork(self, AfterFork.begin)  # as long as this object lives

    def begin(self):
        if self.fate.how != "exception":  # multiprocessing swallows it
            self.fate.strike()

    def seed(self, *_):
        self.fate.strike()


class InItem(Items):
    def compute(self, index):
        if index == DEADLY:
            self.fate.strike()


class WithoutSuccessor(InItem):
    """Kills its worker in an item, and then the next one before that is ready."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        if (self.fate.folder / "note-0").exists():
            self.successor.strike()


class SuccessorDies:
    """The same where nothing is unpickled."""

    def __init__(self, first: Fate, successor: Fate) -> None:
        self.first, self.successor = first, successor
        util.register_after_fork(self, SuccessorDies.begin)

    def begin(self):
        if (self.first.folder / "note-0").exists():
            self.successor.strike()


class Grim:
    """Dies when it is pickled."""

    def __init__(self, fate: Fate, number: int) -> None:
        self.fate, self.number = fate, number

    def __reduce__(self):
        self.fate.die(self.number)


class Pickled(Items):
    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index == DEADLY and (number := self.fate.due()) is not None:
            return Grim(self.fate, number)
        return item


class Resent(Items):
    """Dies when it is unpickled after `on_epoch_end()`."""

    def on_epoch_end(self):
        self.epoch += 1

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.epoch:
            self.fate.strike()


class Idle(Items):
    """Dies by a signal that comes from outside; its items return at once."""

    def compute(self, index):
        signal.signal(signal.SIGUSR1, lambda *_: self.fate.strike())

    def die_there(self, pid):
        """Kill the idle worker; wait until that is done."""
        if self.fate.how == "kill":
            (self.fate.folder / "note-0").write_text(f"{pid} {time.monotonic()}")
            (self.fate.folder / "death-0").touch()
            os.kill(pid, signal.SIGKILL)
        else:
            note = self.fate.folder / "note-0"
            until(lambda: note.exists() or press(pid), "the end of the worker, by its signal")
        if self.fate.how != "hang":
            until(lambda: not alive(pid), f"the end of process {pid}")


class WhileHook(Idle):
    """Dies while the hook runs in the parent."""

    def on_epoch_end(self):
        self.epoch += 1
        if self.epoch == 1 and not (self.fate.folder / "death-0").exists():
            pid = int((self.fate.folder / f"computed-{LENGTH - 1}").read_text().split()[-1])
            self.die_there(pid)


class WhileStopping(Items):
    """Waits in the deadly item until the test opens a pipe, then dies."""

    def compute(self, index):
        if index == DEADLY and (number := self.fate.due()) is not None:
            (self.fate.folder / f"begun-{number}").touch()
            (self.fate.folder / f"go-{number}").read_text()  # a FIFO: blocks until someone has written
            self.fate.die(number)


class WithChild(Items):
    """Forks children that live on and hold every descriptor, then dies."""

    def compute(self, index):
        if index == DEADLY and (number := self.fate.due()) is not None:
            for fork in (os.fork, ctypes.PyDLL(None).fork):  # the second is seen by no hook of `os.register_at_fork()`: nothing gets closed
                child = fork()
                if child == 0:
                    while True:
                        signal.pause()
                (self.fate.folder / f"child-{child}").touch()
            self.fate.die(number)

    def children(self):
        return [int(file.name.removeprefix("child-")) for file in self.fate.folder.glob("child-*")]


class LeavesThread(Items):
    """Leaves a thread in its worker, which keeps the process from exiting."""

    def compute(self, index):
        threading.Thread(target=time.sleep, args=(FOR_EVER,)).start()
