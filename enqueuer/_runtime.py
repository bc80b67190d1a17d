"""The real runtime: the only file of the package that touches threads, locks and the clock.

Rules:
  1. No `threading.Condition`, hence no `Event` and no `Thread.start()` where an interrupt can arrive: `KeyboardInterrupt` breaks them.
  2. What blocks is one C call (`lock.acquire`), which an interrupt leaves either done or not done.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import ClassVar, Final, final

from ._types import Lock, Parker, Parted, Process, Runtime, Stoppable, Thread

__all__ = ["REAL", "identity"]


def identity(fd: int) -> tuple[int, int]:
    """Return which file a descriptor is, none that there is if it is closed: whoever keeps one finds out that it was given away."""
    try:
        return os.fstat(fd)[1:3]
    except OSError:
        return -1, -1


@final
class _OwnedLock(_thread.RLock):  # type: ignore[misc]  # final in its stub only
    """CPython's C lock that remembers its owner: `with` on it is as safe as on a bare lock, and it can say who holds it."""

    owned = _thread.RLock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001 - what threading.Condition asks it, too


@final
class _Permit:
    """A binary semaphore out of a bare C lock: unlocked = there is a permit."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: Final = _thread.allocate_lock()
        self._lock.acquire()

    def park(self, timeout: float | None = None) -> None:
        if timeout is None:
            self._lock.acquire()
        else:
            self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def unpark(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # there was a permit already; two are one


@final
class _Process:
    """One object for each process that starts runs. It knows which runs to end at exit; a fork turns it into a thing of the past."""

    this: ClassVar[_Process | None] = None
    guard: Final = _thread.RLock()  # held by who forks, so that nobody else is making a descriptor then
    begun: Final[list[None]] = []  # forks
    ended: Final[list[None]] = []

    def __init__(self) -> None:
        self.forked = False
        self.private: Final[set[int]] = set()
        self.parted: Final[set[Parted]] = set()
        self.runs: Final[weakref.WeakSet[Stoppable]] = weakref.WeakSet()
        self._finalized = False

    def unforked(self) -> AbstractContextManager[object]:
        return _Process.guard

    @property
    def forks(self) -> tuple[int, int]:
        return len(_Process.begun), len(_Process.ended)

    def keep(self, make: Callable[[], int]) -> int | None:
        if not _Process.guard.acquire(blocking=False):
            return None
        try:
            descriptor = make()
            self.private.add(descriptor)
        except OSError:
            return None
        finally:
            _Process.guard.release()
        return descriptor

    def drop(self, descriptor: int) -> None:
        self.private.discard(descriptor)
        os.close(descriptor)

    def at_exit(self, run: Stoppable) -> None:
        self.runs.add(run)
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None and not self._finalized:  # G20: it runs this before it waits for its processes, in children, too
            self._finalized = True
            multiprocessing.Finalize(None, self.end, exitpriority=1000)

    def end(self) -> None:
        for run in list(self.runs):
            run.stop(0)

    @classmethod
    def current(cls) -> _Process:
        with cls.guard:
            if cls.this is not None:
                return cls.this
            cls.this = cls()
            atexit.register(cls.exit)
            if hasattr(os, "register_at_fork"):  # where there is no fork there is nothing to watch
                # no bytecode of Python's own but in the child: an interrupt that came with it would be lost, and what it did undone
                os.register_at_fork(after_in_child=cls.leave)
                os.register_at_fork(before=cls.guard.acquire, after_in_parent=cls.guard.release, after_in_child=cls.guard._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001
                os.register_at_fork(before=partial(cls.begun.append, None), after_in_parent=partial(cls.ended.append, None))
            return cls.this

    @classmethod
    def exit(cls) -> None:
        if cls.this is not None:
            cls.this.end()

    @classmethod
    def leave(cls) -> None:
        cls.ended[:] = cls.begun
        if cls.this is not None:
            cls.this.forked = True
            for descriptor in cls.this.private:
                try:
                    os.close(descriptor)
                except OSError:
                    pass  # it was on its way to be closed
            for each in cls.this.parted:
                each.forget()
            cls.this = cls()


@final
class _Real:
    def lock(self) -> Lock:
        return _OwnedLock()

    def parker(self) -> Parker:
        return _Permit()

    def boot(self, main: Callable[[], None]) -> None:
        _thread.start_new_thread(self._bare, (main,))

    @staticmethod
    def _bare(main: Callable[[], None]) -> None:
        try:
            main()
        finally:  # G20: threading keeps for ever what it makes up for a bare thread in which somebody asks for the current one
            known: dict[int, object] = getattr(threading, "_active", {})
            known.pop(_thread.get_ident(), None)

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        return threading.Thread(target=target, name=name, daemon=True)

    clock = staticmethod(time.monotonic)

    def process(self) -> Process:
        return _Process.current()

    def tell(self, error: BaseException) -> None:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))

    def finalizing(self) -> bool:
        return sys.is_finalizing()


REAL: Final[Runtime] = _Real()
