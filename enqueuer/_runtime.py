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
from typing import ClassVar, Final, final

from ._types import Lock, Parker, Process, Runtime, Stoppable, Thread

__all__ = ["REAL"]


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
    guard: ClassVar = _thread.allocate_lock()

    def __init__(self) -> None:
        self.forked = False
        self.runs: Final[weakref.WeakSet[Stoppable]] = weakref.WeakSet()

    def at_exit(self, run: Stoppable) -> None:
        self.runs.add(run)

    @classmethod
    def current(cls) -> _Process:
        with cls.guard:
            if cls.this is not None:
                return cls.this
            cls.this = cls()
            atexit.register(cls.end)
            if hasattr(os, "register_at_fork"):  # where there is no fork there is nothing to watch
                os.register_at_fork(after_in_child=cls.leave)
            return cls.this

    @classmethod
    def end(cls) -> None:
        for run in list(cls.this.runs) if cls.this is not None else ():
            run.stop(0)

    @classmethod
    def leave(cls) -> None:
        cls.guard = _thread.allocate_lock()  # the old one may be held by a thread that is not here
        if cls.this is not None:
            cls.this.forked = True
            cls.this = cls()


@final
class _Real:
    def lock(self) -> Lock:
        return _OwnedLock()

    def parker(self) -> Parker:
        return _Permit()

    def boot(self, main: Callable[[], None]) -> None:
        _thread.start_new_thread(main, ())

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
