"""A process that uses a subject as a program does, and then ends or is ended: what stays of it is what a check looks at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from itertools import filterfalse
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, TypeAlias, cast

from ..pace import patiently, seen
from ..subject import LIMIT, BrokenPromise, Factory, promise

__all__ = ["KEPT", "Body", "Host", "dead", "hosted"]

Told: TypeAlias = int | tuple[str, str]
"""A number of a process, or a guarantee and how it was broken."""

Tell: TypeAlias = Callable[[int], None]
Body: TypeAlias = Callable[[Factory, Tell], None]
"""What is done in it. It may tell numbers: the processes that it has started."""

KEPT: Final[list[object]] = []
"""What a body wants to be there until its process ends."""

LIFE: Final = 600
"""Seconds after which such a process ends itself: the check's own process was killed, or would have ended it long before."""


class Host:
    """Such a process, seen from the one that checks."""

    def __init__(self, factory: Factory, guarantee: str, body: Body) -> None:
        here, there = multiprocessing.Pipe(duplex=False)
        self._connection: Final = here
        self._limit: Final = factory.limit
        self._guarantee: Final = guarantee
        self.pids: Final[set[int]] = set()
        self.process: Final = multiprocessing.get_context("fork").Process(target=_begin, args=(factory, guarantee, body, there))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: this process has threads
            self.process.start()
        there.close()

    def tells(self, pids: int) -> bool:
        """Wait until it has told of so many processes; whether it has."""

        def told(seconds: float) -> bool:
            until = time.monotonic() + seconds
            while len(self.pids) < pids and self._connection.poll(max(0.0, until - time.monotonic())):
                if not self._hear():
                    break
            return len(self.pids) >= pids

        return patiently(told, LIMIT)  # a subject that hangs later is not judged by how it begins

    def ends(self, how: int = 0) -> bool:
        """Wait for its end; whether it came in time. Raises the `BrokenPromise` that it was ended by, another one if it ended otherwise."""

        def ended(seconds: float) -> bool:
            self.process.join(seconds)
            return self.process.exitcode is not None

        patiently(ended, self._limit)
        while self._connection.poll() and self._hear():
            pass
        code = self.process.exitcode
        promise(code in {None, how}, self._guarantee, f"a process of its own, in which the check used the subject, ended with {code}")
        return code is not None

    def _hear(self) -> bool:
        try:
            told = cast("Told", self._connection.recv())
        except EOFError:
            return False
        if isinstance(told, tuple):
            raise BrokenPromise(*told)
        self.pids.add(told)
        return True

    def left(self) -> list[int]:
        """Return which of the processes that it told of are left, after waiting for them to end."""
        seen(lambda: all(map(dead, self.pids)), self._limit)
        return [pid for pid in self.pids if not dead(pid)]

    def close(self) -> None:
        """Kill what is left."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self._connection.close()
        for pid in filterfalse(dead, self.pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def hosted(factory: Factory, guarantee: str, body: Body) -> Generator[Host]:
    """Do something in a process of multiprocessing; kill what is left of it at the end. An error in it breaks the guarantee."""
    host = Host(factory, guarantee, body)
    try:
        yield host
    finally:
        host.close()


def _begin(factory: Factory, guarantee: str, body: Body, connection: Connection[Told, object]) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFE)
    server = sys.modules.get("multiprocessing.forkserver")
    if server is not None:
        vars(getattr(server, "_forkserver"))["_forkserver_pid"] = None  # noqa: B009 - that is the parent's, and can't be used here
    lock = threading.Lock()

    def tell(what: Told) -> None:
        with lock:
            connection.send(what)

    try:
        body(factory, tell)
    except BrokenPromise as broken:
        tell((broken.guarantee, broken.what))
    except Exception as error:
        tell((guarantee, f"in a process of its own the check was stopped by {type(error).__name__}: {error}"))


def dead(pid: int) -> bool:
    """Whether there is no such process, or nothing to do but to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True
