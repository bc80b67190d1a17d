"""The engine of process mode: a compute whose items are computed by worker processes, one for each worker thread of the run.

      this process                                        a worker process
    worker thread 0  --- COMPUTE epoch, index (STATE) -->  serve(): compute.item(...)
                     <-- ITEM | SHARED | ERROR | END ----
    worker thread 1  --- a socket pair of its own ------>  another one
         ...
    lifelines (pipes that nobody writes to) ------------>  each one: its end tells that this process is gone

Keeps: G12, G13, and what processes add to G1, G6, G7, G9, G15, G18, G20, G28.
Rules:
  1. No lock is shared between processes, and no pipe between workers: a dead one can take nothing along. Each incarnation has a fresh pair.
  2. A death is seen through the process (pidfd), never through the end of the pipe alone: children of a worker may hold that open.
     It is confirmed, the pipe is drained, a torn message is thrown away, and only then is the item given to another worker.
  3. Whoever waits on a pipe waits on the process, too. `kill()` is therefore the bell that wakes every wait here.
  4. A slot belongs to the thread of its number. `_lock` guards what `halt()` and `kill()` share with it: who is there, who is ready, whether
     all is over. It is never held while anything blocks.
  5. A worker process may not outlive this one, whatever kills that, and whatever the worker is doing: the lifeline's end is a signal (SIGIO).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, cast, final

from ._border import (
    COMPUTE,
    HEADER,
    LARGE,
    LAZILY,
    REQUEST,
    Kind,
    Parcel,
    kind_of,
    pack,
    pack_error,
    pack_item,
    unpack,
    unpack_error,
    unpack_item,
    unpack_sizes,
)
from ._context import Here, current
from ._runtime import REAL, identity
from ._types import Compute, EndOfStream, Lock, Process
from .errors import BorderError, StartError, WorkerDiedError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from ._shared import Desk, Slot, Stock

__all__ = ["Processes", "Workers", "start_method"]

T = TypeVar("T")
R = TypeVar("R")

PATIENCE: Final = 1.0
"""Seconds that a worker process gets to exit once nobody needs it any more; then it is killed."""

GLANCE: Final = 0.25
"""Seconds between two looks at a process where the system has no pidfd (G13 allows 1)."""

SHORT: Final = 1e-3
"""Seconds below which an item is so short that its worker should have the next one at hand; a longer one may keep another worker waiting."""

CURE: Final = (
    'Under spawn and forkserver a script must start its work below `if __name__ == "__main__":`, and what is computed with must be importable: '
    "no class or function that was typed at a prompt"
)

LOW: Final = 3
"""Items that such a worker has at hand when more are looked for: it must not run dry until they are there."""

OWN: Final = 1 << 20
"""Bytes from which on a message has memory of its own: what is freed of the heap, this process may keep."""

CHUNK: Final = 1 << 16
"""Bytes that are asked for when the length of a message is not known yet."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How the worker processes of a run are to be.

    Attributes:
        context: How they are started; see `start_method()`.
        retries: How often an item is computed again whose worker died (G13).
        seed: Root of the items' seeds (G9).
        seeded: Whether worker w begins with a global random state of `seed + w`.
        resend: Whether a turn may change what items are computed from (G7).
    """

    context: BaseContext | str | None
    retries: int
    seed: int
    seeded: bool
    resend: bool


@dataclass(frozen=True, slots=True)
class _Orders:
    """What one worker process is told."""

    number: int
    workers: int
    seed: int
    random_seed: int | None  # of the global random state; None: whatever comes, but not what another worker has (G9)


def start_method(context: BaseContext | str | None) -> BaseContext:
    """Return the context to start processes by: the one that was asked for, or that of the host, whose choice stays open (G25)."""
    import multiprocessing

    if context is None:
        context = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return multiprocessing.get_context(context) if isinstance(context, str) else context


class _Died(Exception):  # noqa: N818 - an event
    """A worker process is gone, or of no use any more and killed. Its first argument says how."""


class _Calls(Protocol):
    def register(self, fd: int, events: int, /) -> None: ...
    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]: ...


class _MakesProcess(Protocol):
    def __call__(self, *, target: object, args: tuple[object, ...], name: str, daemon: bool) -> BaseProcess: ...


class _Incoming:
    """The receiving end of a pipe, message by message. One thread uses it; parent and worker have the same."""

    def __init__(self, fd: int) -> None:
        self._fd: Final = fd
        self._rest = bytearray()

    def receive(self, wait: Callable[[], None], ended: Callable[[], Exception]) -> tuple[int, memoryview]:
        """Return the kind and the content of the next message. A long one is copied once, however long it is.

        `wait` is called where nothing has arrived yet, which a pipe that blocks never says; `ended` returns what is raised at the end.
        """
        data, self._rest = self._rest, bytearray()
        while True:
            if len(data) >= HEADER.size:
                length, kind = HEADER.unpack_from(data)
                goal = HEADER.size + length
                if len(data) >= goal:
                    self._rest = data[goal:]
                    return kind, memoryview(data)[HEADER.size : goal]
                if goal - len(data) > CHUNK:
                    return kind, self._fill(data, goal, wait, ended)[HEADER.size :]
            data += _read(partial(os.read, self._fd, CHUNK), wait, ended)

    def _fill(self, data: bytearray, goal: int, wait: Callable[[], None], ended: Callable[[], Exception]) -> memoryview:
        """Read a long message to its end; a very long one into memory that the system has back when it is dropped."""
        have = len(data)
        view = memoryview(bytearray(goal) if goal < OWN else mmap(-1, goal, MAP_PRIVATE | MAP_ANONYMOUS))
        view[:have] = data
        while have < goal:
            have += _read(partial(os.readv, self._fd, [view[have:]]), wait, ended)
        return view


def _read(read: Callable[[], R], wait: Callable[[], None], ended: Callable[[], Exception]) -> R:
    """Return what `read()` returns once there is something."""
    while True:
        try:
            if chunk := read():
                return chunk
        except BlockingIOError:
            wait()
            continue
        except OSError:  # it was closed, or reset
            pass
        raise ended()


@final
class _Worker:
    """One worker process and the pipe to it. Used by one thread, `kill()` apart."""

    def __init__(self, process: BaseProcess, fd: int, alive: int, channel: int, private: set[int], *, late: bool) -> None:
        self._process: Final = process
        self._fd: Final = fd
        self._channel: Final = channel  # to give it slots; -1 if there are none
        self._alive: Final = alive  # our end of its lifeline
        self._late: Final = late  # whether its exit code comes from a server, after its death
        self._private: Final = private
        self.pid: Final = process.pid or 0
        self.ready = False  # guarded by the engine's lock
        self.state = 0  # which version of the compute it has
        self._read: Final[_Calls] = select.poll()
        self._write: Final[_Calls] = select.poll()
        self._pidfd = self._watch()
        self._wait: Final = None if self._pidfd >= 0 else GLANCE * 1000
        self._read.register(fd, select.POLLIN)
        self._write.register(fd, select.POLLOUT)
        self._incoming: Final = _Incoming(fd)
        self.begun: list[tuple[int, int]] = []  # what it was sent and has not answered: epoch and index
        self.slots: list[Slot | None] = []  # what it was given for each of them
        self._known: set[Slot] = set()  # whose files it has
        self.short = False  # whether its last answer took a short time

    def begin(self, places: list[tuple[int, int]], slots: list[Slot | None]) -> None:
        """Ask for some items. If one is large it may be written to the slot that goes with it."""
        self.begun += places
        self.slots += slots
        numbers = [slot.number if slot is not None and self._gives(slot) else -1 for slot in slots]
        self.send(b"".join([COMPUTE.pack(REQUEST.size, Kind.COMPUTE, *place, number) for place, number in zip(places, numbers, strict=True)]))

    def _gives(self, slot: Slot) -> bool:
        """Whether it has the slot's file, or could be sent it."""
        if slot not in self._known:
            from ._shared import give

            try:
                give(self._channel, slot)
            except OSError:  # it is dead, or too many descriptors are under way
                return False
            self._known.add(slot)
        return True

    def forget(self) -> None:
        """Tell it of slots that there are no more."""
        closed = [slot for slot in self._known if slot.closed]
        if closed:
            self._known.difference_update(closed)
            numbers = b"".join(slot.number.to_bytes(8, "little") for slot in closed)
            self.send(HEADER.pack(len(numbers), Kind.FORGET) + numbers)

    def _watch(self) -> int:
        """Return a descriptor that becomes readable when the process ends (rule 2), -1 where there is no such thing or it has ended already."""
        if not hasattr(os, "pidfd_open"):
            return -1
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return -1
        self._private.add(pidfd)
        self._read.register(pidfd, select.POLLIN)
        self._write.register(pidfd, select.POLLIN)
        return pidfd

    def dead(self, timeout: float | None = 0.0) -> bool:
        """Whether the process has ended; waits for it for so long, None: until it has."""
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(None if timeout is None else timeout * 1000))
        until = time.monotonic() + (PATIENCE if timeout is None else timeout)  # somebody else may reap it: then nobody ever knows
        while self._process.is_alive():
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._process.join(min(left, GLANCE / 10))  # which children of the process may keep from returning
        return True

    def kill(self) -> None:
        """Kill the process, if it still is one. The pidfd can't mean another that has got its number."""
        with contextlib.suppress(OSError):
            if self._pidfd >= 0 and hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                self._process.kill()

    # messages

    def send(self, *parts: bytes | memoryview) -> None:
        """Send messages, in parts. That the process is dead is found out by `receive()`, which first reads what it has still answered."""
        with contextlib.suppress(OSError, _Died):
            for part in parts:
                left = memoryview(part)
                while left:
                    try:
                        left = left[_write(self._fd, left) :]
                    except BlockingIOError:
                        self._await(self._write)

    def answer(self) -> tuple[int, memoryview, Slot | None]:
        """Return the answer to the first of what was begun, and the slot that went with it, or raise `_Died`."""
        since = time.monotonic()
        kind, message = self.receive()
        self.short = time.monotonic() - since < SHORT
        del self.begun[0]
        return kind, message, self.slots.pop(0)

    def receive(self) -> tuple[int, memoryview]:
        """Return the next message, or raise `_Died`."""
        return self._incoming.receive(partial(self._await, self._read), self._death)

    def _await(self, calls: _Calls) -> None:
        """Wait until the pipe is of use; raise `_Died` if the process is dead and all that it wrote was read: what is left is torn (rule 2)."""
        for wait in (self._wait, 0):  # and another look once it is known to be dead: it may have written between the looks at the one and the other
            events = calls.poll(wait)
            if any(fd == self._fd for fd, _ in events) or not (events or (self._pidfd < 0 and self.dead())):
                return
        raise self._death()

    # its end

    def _death(self) -> _Died:
        """Confirm that the process is dead: one that has closed its end is of no use, and is killed."""
        if self.dead(PATIENCE):
            return _Died(_how(self.exitcode()))
        self.kill()
        self.dead(None)
        return _Died("closed its end of the pipe, and was killed")

    def exitcode(self) -> int | None:
        """Return the exit code of a process that has ended, None if it can't be known, because somebody else has reaped it."""
        if self._process.exitcode is None and self._late:
            self._process.join(PATIENCE)
        return self._process.exitcode

    def end(self, patience: float) -> None:
        """Close the pipe, which tells an idle process to exit, and see to it that it does. It may still be killed meanwhile."""
        _drop(self._fd, self._private)
        if not self.dead(patience):
            self.kill()
            self.dead(None)  # G20: a busy machine may take long to end a process; whoever gave it up would leave it
        if self.exitcode() is None:
            self._process._popen.returncode = 255  # type: ignore[attr-defined]  # noqa: SLF001 - else close() would not believe that it has ended

    def release(self) -> None:
        """Leave nothing of a process that has ended (G20). Nobody may kill it any more."""
        self._process.close()
        _drop(self._alive, self._private)
        if self._channel >= 0:
            _drop(self._channel, self._private)
        if self._pidfd >= 0:
            _drop(self._pidfd, self._private)


def _keep(fd: int, private: set[int], unless: contextlib.ExitStack) -> int:
    """Keep a descriptor from forks, and from being left open unless all goes well."""
    private.add(fd)
    unless.callback(_drop, fd, private)
    return fd


def _write(fd: int, view: memoryview) -> int:
    """Write to a socket, without the signal that would end a program which does not ignore SIGPIPE, as Python does by default."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        if one.gettimeout():  # the host's default for new sockets: this one waits elsewhere
            one.setblocking(False)
        return one.send(view, getattr(socket, "MSG_NOSIGNAL", 0))
    finally:
        one.detach()


def _drop(fd: int, private: set[int]) -> None:
    private.discard(fd)
    os.close(fd)


def _how(exitcode: int | None) -> str:
    if exitcode is None:
        return "died, and something else in this process has reaped it, so that its exit code is unknown,"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}" + (" (by hand, or was memory short?)" if exitcode == -signal.SIGKILL else "")


@final
class Processes(Generic[T]):
    """The engine. `turn()` and `close()` of the compute are called here, `item()` in the workers, on copies."""

    def __init__(self, compute: Compute[T], workers: Workers, lock: Lock, process: Process) -> None:
        self._compute: Final = compute
        self._asked: Final = workers
        self._lock: Final = lock
        self._process: Final = process
        self._context: BaseContext | None = None  # written by open()
        self._count = 0  # workers of the run; written by open()
        self._ahead: Callable[[int], list[tuple[int, int]]] = _none  # written by open() and close()
        self._state = 0  # version of the compute; written in turns, before any item that it is for
        self._data: bytes | memoryview = b""  # the compute of that version
        self._workers: Final[dict[int, _Worker]] = {}  # guarded by _lock
        self._stock: Stock | None = None  # written by _share() and close(); what is in it is guarded by _lock
        self._large = False  # whether an item has been large; only ever set
        self._halted = False  # guarded by _lock: no worker that is not ready is waited for
        self._killed = False  # guarded by _lock: no worker may be started any more

    def open(self, workers: int, ahead: Callable[[int], list[tuple[int, int]]]) -> None:
        """Start the first worker processes, before there are worker threads."""
        context = start_method(self._asked.context)
        self._context, self._count, self._ahead = context, workers, ahead
        with _undecided():
            _prepare(context)
        for number in range(workers):
            if self._halted:  # stopped meanwhile
                return
            self._start(number)

    def turn(self, *, hook: bool) -> int | None:
        """Turn here, and pickle once for all workers what the hook may have changed (G7)."""
        length = self._compute.turn(hook=hook)
        if hook and self._asked.resend:
            try:
                data = pack(self._compute)
            except BaseException as error:
                raise BorderError(
                    f"after on_epoch_end() the sequence is sent to the worker processes, and can't be pickled ({kind_of(error)}: {error}). {LAZILY}"
                ) from error
            self._state, self._data = self._state + 1, data
        return length

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        """Let the worker process of this number compute an item; if it dies, see to the next.

        So that a worker idles neither for a round trip nor for a consumer that holds the GIL, it is sent the next ones while it computes
        this, if items are short. If it dies, this item is blamed, and the others are sent again uncounted (G13).
        """
        retries = 0
        lost: list[tuple[int, int]] = []
        while True:
            one = self._workers.get(worker)  # without the lock: nobody else changes what is there for this worker
            if one is None:  # it died
                try:
                    one = self._start(worker)
                except Exception as error:
                    raise StartError(f"the worker process for index {index} died, and a new one could not be started: {error}") from error
            try:
                if not one.ready:
                    self._await(one)
                if one.state != self._state:
                    one.send(HEADER.pack(len(self._data), Kind.STATE), self._data)
                    one.state = self._state
                if not one.begun:
                    self._ask(one, lost or [(epoch, index)])
                if one.short and len(one.begun) <= LOW and (following := self._ahead(worker)):
                    self._ask(one, following)
                kind, message, slot = one.answer()
            except _Died as died:
                ready, lost = one.ready, one.begun
                code = one.exitcode()
                self._bury(worker, one)
                if not ready or retries >= self._asked.retries or self._halted:  # G13
                    raise self._told(one, died, worker, epoch, index, code=code, retries=retries, ready=ready) from None
                retries += 1
                continue
            if kind == Kind.SHARED:
                parts = self._leased(slot, message)
                return cast("T", unpack_item(message, parts))
            self._vacate([slot])
            match kind:
                case Kind.ITEM:
                    if len(message) >= LARGE and not self._large:
                        self._share()
                    return cast("T", unpack_item(message))
                case Kind.END:
                    raise EndOfStream
                case _:
                    raise unpack_error(message)

    def _share(self) -> None:
        """An item was large: share memory from now on. Small ones never need it."""
        stock = self._make_stock()
        with self._lock:
            if not self._large:  # nobody else was faster
                self._large, self._stock, stock = True, stock, None
        if stock is not None:
            stock.close()

    def _make_stock(self) -> Stock | None:
        """Return memory for large items; None where it can't be shared: they go on through the pipe."""
        if not _can_share():
            return None
        try:
            from ._shared import Stock
        except (ImportError, OSError):  # no ctypes, no mmap, no resource; no C library of its own
            return None
        return Stock(self._process)

    def _ask(self, one: _Worker, places: list[tuple[int, int]]) -> None:
        """Ask for some items, with slots to write them to once there have been large ones."""
        slots: list[Slot | None] = [None] * len(places)
        if self._large and self._stock is not None:
            with self._lock:
                slots = [self._stock.take() for _ in places]
            one.forget()
        one.begin(places, slots)

    def _leased(self, slot: Slot | None, message: memoryview) -> list[memoryview]:
        """Return the parts of an item that was written to a slot. The slot comes back when nothing refers to them any more."""
        assert slot is not None
        assert self._stock is not None
        views = self._stock.views(slot, unpack_sizes(message))
        with self._lock:
            self._stock.lend(slot)  # not before: it might be given to another worker
        return views

    def _vacate(self, slots: list[Slot | None]) -> None:
        """Take back slots that nobody will write to."""
        for slot in slots:
            if slot is not None and self._stock is not None:
                with self._lock:
                    self._stock.vacate(slot)

    def leave(self, worker: int) -> None:
        """End the process of this worker; nobody asks it for anything any more."""
        one = self._workers.get(worker)
        if one is not None:
            self._bury(worker, one)

    def halt(self) -> None:
        """The run is over: what was to become a worker need not."""
        with self._lock:
            self._halted = True
            for one in self._workers.values():
                if not one.ready:
                    one.kill()

    def kill(self) -> bool:
        """Kill every worker process, at once; their threads find out by themselves."""
        with self._lock:
            self._halted = self._killed = True
            for one in self._workers.values():
                one.kill()
        return True

    def close(self) -> None:
        """Leave no process and no descriptor; close the compute."""
        for number in range(self._count):
            self.leave(number)
        stock, self._stock = self._stock, None  # nobody else is left
        if stock is not None:
            stock.close()
        self._ahead = _none  # the other one keeps the run alive
        self._compute.close()

    def _start(self, number: int) -> _Worker:
        """Start a worker process with a pipe (rule 1) and a lifeline of its own: whom a file's signals go to is one setting for all its copies."""
        from multiprocessing import process as processes
        from multiprocessing.connection import Connection

        context, private = self._context, self._process.private
        assert context is not None
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            with self._process.unforked():
                here, there = socket.socketpair()
                pipe = theirs.enter_context(Connection(there.detach()))
                fd = _keep(here.detach(), private, ours)
                there_too, here_too = os.pipe()
                lifeline = theirs.enter_context(Connection(there_too, writable=False))
                alive = _keep(here_too, private, ours)
                desk, channel = None, -1
                if _can_share():
                    ours_third, theirs_third = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                    desk = theirs.enter_context(Connection(theirs_third.detach()))
                    channel = _keep(ours_third.detach(), private, ours)
                    os.set_blocking(channel, False)
            os.set_blocking(fd, False)
            orders = _Orders(number, self._count, self._asked.seed, self._asked.seed + number if self._asked.seeded else None)
            make = cast("_MakesProcess", context.Process)  # type: ignore[attr-defined]
            process = make(target=serve, args=(pipe, lifeline, desk, Parcel(self._compute), orders), name=f"enqueuer-worker-{number}", daemon=False)
            _spare_descriptors()
            with _uninterrupted(), _undecided():
                process.start()
            _bind(lifeline.fileno(), process.pid or 0)  # it may take long to come up, and sees to that itself only then
            # G25: it is ours alone; multiprocessing would wait for it at exit, in forks of this process, too
            getattr(processes, "_children", set[object]()).discard(process)
            one = _Worker(process, fd, alive, channel, private, late=context.get_start_method() == "forkserver")
            ours.pop_all()
        one.state = self._state
        with self._lock:
            self._workers[number] = one
            if self._killed or self._halted:
                one.kill()
        return one

    def _await(self, one: _Worker) -> None:
        """Wait until a new worker is ready, or raise what kept it from that."""
        kind, message = one.receive()
        if kind != Kind.READY:
            error = unpack_error(message)
            raise BorderError(f"a worker process could not unpickle what it is to compute with: {kind_of(error)}: {error}. {CURE}") from error
        with self._lock:
            one.ready = True

    def _bury(self, worker: int, one: _Worker) -> None:
        with self._lock:
            patience = 0.0 if self._killed or not one.ready else PATIENCE
        one.end(patience)
        with self._lock:
            del self._workers[worker]
        self._vacate(one.slots)
        one.release()

    def _told(
        self, one: _Worker, died: _Died, worker: int, epoch: int, index: int, *, code: int | None, retries: int, ready: bool
    ) -> WorkerDiedError:
        """Return the error that says what happened, and what to do."""
        who = f"worker process {one.pid} (worker {worker})"
        if not ready:
            text = f"{who} {died} before it was ready for index {index} of epoch {epoch}. Its own output may say why. {CURE}"
        elif not self._asked.retries:
            text = f'{who} {died} while it had index {index} of epoch {epoch}; on_worker_death="retry" would compute the item again'
        else:
            text = f"{who} {died} while it had index {index} of epoch {epoch}, after {retries} of at most {self._asked.retries} retries of this item"
        return WorkerDiedError(text, pid=one.pid, exitcode=code, index=index, epoch=epoch, retries=retries)


def _prepare(context: BaseContext) -> None:
    """Start what is multiprocessing's own, before anything of ours is changed: the resource tracker, the fork server."""
    from multiprocessing import resource_tracker

    if not hasattr(select, "poll"):
        raise OSError("process mode needs a system with poll() and socket pairs")
    if context.get_start_method() != "fork":
        resource_tracker.ensure_running()
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver

        try:
            forkserver.ensure_running()
        except ChildProcessError:  # G28: it is a child of the process that this one was forked from; we need one of our own
            forkserver._forkserver._forkserver_pid = None  # type: ignore[attr-defined]  # noqa: SLF001
            forkserver.ensure_running()


def _can_share() -> bool:
    """Whether the system has what shared memory takes, and this interpreter counts references exactly."""
    return (
        all(hasattr(os, name) for name in ("memfd_create", "posix_fallocate"))
        and hasattr(socket, "SCM_RIGHTS")
        and sys.implementation.name == "cpython"
        and getattr(sys, "_is_gil_enabled", _always)()
    )


def _always() -> bool:
    return True


def _spare_descriptors() -> None:
    """Raise OSError if there is no room for what multiprocessing opens: it leaves its first pipe open if it can't have a second."""
    with contextlib.ExitStack() as opened:
        for _ in range(2):
            for end in os.pipe():
                opened.callback(os.close, end)


_deciding: Final[list[None]] = []
"""One for each start under way before which the host had not chosen a start method."""


@contextlib.contextmanager
def _undecided() -> Generator[None]:
    """Leave the choice of a start method to the host (G25): multiprocessing makes it for good as soon as it tells a child what it is."""
    import multiprocessing

    default = multiprocessing.get_all_start_methods()[0]
    if multiprocessing.get_start_method(allow_none=True) and not _deciding:
        yield
        return
    _deciding.append(None)
    try:
        yield
    finally:
        if multiprocessing.get_start_method(allow_none=True) == default:  # another one the host has chosen meanwhile
            multiprocessing.set_start_method(None, force=True)
        _deciding.pop()


@contextlib.contextmanager
def _uninterrupted() -> Generator[None]:
    """Keep Ctrl-C and SIGTERM away from a process that has not yet said what is to become of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# in the worker process


def serve(
    pipe: Connection[bytes, bytes], lifeline: Connection[bytes, bytes], channel: Connection[bytes, bytes] | None, parcel: Parcel, orders: _Orders
) -> None:
    """Be a worker process: compute what is asked for until the pipe ends."""
    process = REAL.process()
    fd = pipe.fileno()
    process.private.add(fd)
    process.private.add(lifeline.fileno())
    if channel is not None:
        process.private.add(channel.fileno())
    _settle(lifeline.fileno())
    answers = _Answers(fd)
    tables = None if channel is None else partial(_table, channel.fileno(), identity(channel.fileno()), process.private)
    try:
        compute = cast("Compute[object]", parcel.open())
    except BaseException as error:  # told, not printed
        answers.send(Kind.ERROR, pack_error(error), [])
        return
    _sow(orders.random_seed)  # what was opened may have imported numpy
    try:
        answers.send(Kind.READY, b"", [])
        serving = _Serving(compute, answers, tables, orders)
        del compute  # the first version, which is there until the next one comes
        serving.run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the run was stopped, and nobody waits for the answer
    finally:
        process.end()  # what items have left running


class _Serving:
    def __init__(self, compute: Compute[object], answers: _Answers, tables: Callable[[], Desk] | None, orders: _Orders) -> None:
        self._compute: Compute[object] | None = compute  # None while the next one is on its way, and if it is broken
        self._answers: Final = answers
        self._tables = tables
        self._desk: Desk | None = None
        self._number: Final = orders.number
        self._here: Final = Here(None, current.get(), orders.number, orders.workers, orders.seed)
        self._broken: BaseException | None = None  # why the state that came last can't be used

    def run(self) -> None:
        current.set(self._here)
        pid = os.getpid()
        while True:
            try:
                kind, data = self._answers.incoming.receive(_nothing, EOFError)
            except EOFError:
                return
            if kind == Kind.STATE:
                self._renew(data)
                continue
            if kind == Kind.FORGET:
                desk = self._having()
                if desk is not None:
                    desk.forget(number for (number,) in struct.iter_unpack("<Q", data))
                continue
            self._answer(*REQUEST.unpack(data))
            if os.getpid() != pid:  # the item has forked, and this is the child: nobody asked it for anything
                sys.stdout.flush()
                os._exit(0)

    def _renew(self, data: memoryview) -> None:
        """Have the next version of the compute. The one before goes first: there may not be room for both."""
        self._compute = self._broken = None
        try:
            self._compute = cast("Compute[object]", unpack(data))
        except BaseException as error:  # told with the next item
            self._broken = error

    def _answer(self, epoch: int, index: int, slot: int) -> None:
        here, pid = self._here, os.getpid()
        desk = self._having() if slot >= 0 else None  # before there is a large item: what stays has its place in the heap
        try:
            if self._broken is not None:
                raise BorderError(f"what on_epoch_end() made of the sequence can't be unpickled in a worker process: {self._broken!r}")  # G12
            here.epoch, here.index = epoch, index
            assert self._compute is not None
            item = self._compute.item(self._number, epoch, index)
            try:
                head, parts = pack_item(item)
            except BaseException as error:  # G12
                raise BorderError(
                    f"item {index} of epoch {epoch} is of type {kind_of(item)}, and can't be pickled: {kind_of(error)}: {error}"
                ) from error
            placed = desk is not None and os.getpid() == pid and sum(map(len, parts)) >= LARGE and desk.place(slot, parts)
        except EndOfStream:
            answer: tuple[Kind, bytes, list[bytes | memoryview]] = Kind.END, b"", []
        except BaseException as error:  # G10: whatever its type
            answer = Kind.ERROR, pack_error(error), []
        else:
            answer = (Kind.SHARED, head, []) if placed else (Kind.ITEM, head, parts)
            item = None
        here.epoch = here.index = None
        if os.getpid() == pid:
            self._answers.send(*answer)

    def _having(self) -> Desk | None:
        """Return what keeps the slots, made when it is needed first; None where memory can't be shared."""
        if self._desk is None and self._tables is not None:
            try:
                self._desk = self._tables()
            except (ImportError, OSError):  # as in _share(), or items have taken the files away
                self._tables = None
        return self._desk


def _table(channel: int, own: tuple[int, int], private: set[int]) -> Desk:
    from ._shared import Desk

    return Desk(channel, own, private)


class _Answers:
    """The worker's end of the pipe."""

    def __init__(self, fd: int) -> None:
        self._fd: Final = fd
        os.set_blocking(fd, True)
        self._own: Final = identity(fd)
        self.incoming: Final = _Incoming(fd)

    def send(self, kind: Kind, head: bytes, parts: list[bytes | memoryview]) -> None:
        """Send an answer. A descriptor that an item has closed may be another file by now: that one is left alone."""
        if identity(self._fd) != self._own:
            raise BrokenPipeError
        length = sum(map(len, parts))
        begin = HEADER.pack(len(head) + length, kind) + head
        pieces: list[bytes | memoryview] = [begin, *parts]
        for part in [b"".join(pieces)] if length < CHUNK else pieces:
            view = memoryview(part)
            while view:
                view = view[os.write(self._fd, view) :]


def _settle(lifeline: int) -> None:
    """Have signals as a worker should, and end when the parent does (rule 5)."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, _nothing)  # Ctrl-C is the parent's; SIG_IGN would be inherited by what items start
    signal.signal(signal.SIGTERM, _nothing)  # which a scheduler sends to every process of a job, so that the parent can save its state
    os.register_at_fork(before=_hold_sigterm, after_in_parent=_release_sigterm, after_in_child=_terminable)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if hasattr(signal, "SIGIO"):
        signal.signal(signal.SIGIO, signal.SIG_DFL)  # which ends the process, also one that holds the GIL
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    if _bind(lifeline, os.getpid()):
        poll = select.poll()
        poll.register(lifeline, 0)
        if poll.poll(0):  # the parent was gone before
            os._exit(1)
    else:
        threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()


_masks: Final = threading.local()
"""The signals that the thread which forks had blocked before."""


def _hold_sigterm() -> None:
    """Block SIGTERM while an item forks: a child that gets it before it has its default again would ignore it."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _terminable() -> None:
    """Let SIGTERM end what an item forks, as multiprocessing relies on."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release_sigterm()


def _bind(lifeline: int, pid: int) -> bool:
    """Have a process be sent SIGIO when the other end of its lifeline is closed (rule 5); whether the system does that."""
    if not (hasattr(fcntl, "F_SETOWN") and hasattr(os, "O_ASYNC") and hasattr(signal, "SIGIO")):
        return False
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, pid)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    return True


def _watch(lifeline: int) -> None:
    """Where there is no SIGIO: as good, unless the item holds the GIL."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def _nothing(*_: object) -> None:
    """Do nothing, with whatever."""


def _none(worker: int) -> list[tuple[int, int]]:
    """Nobody is to be asked for anything ahead."""
    del worker
    return []


def _sow(seed: int | None) -> None:
    """Begin with a global random state of one's own (G9): `random`, and numpy's where it is imported."""
    random.seed(None if seed is None else seed % 2**129)  # it ignores the sign; others stay as they are
    numpy = sys.modules.get("numpy")
    if numpy is None or (seed is None and "numpy.random" not in sys.modules):
        return  # whoever imports it later gets a fresh state, and numpy imports it no sooner than asked, which takes some 10 ms
    numpy.random.seed(None if seed is None else seed % 2**32)
