"""Sequences and generators that live in the test's process, and are read from worker processes, however those were started.

     worker process                      the test's process, the host
     Remote[index]  --- index, seed -->  a thread for each connection: sequence[index]
                    <-- item | error --

A `Remote` is picklable, since it holds an address only. Gates, locks, counters and closures stay in the host, so that a check needs not know
where its items are asked for. An item that is a `Do` is a call that travels: the worker process makes it, and what it returns is the item.

The host is there as long as something that it serves is, and closes within a moment of the last. Its threads are named "within", which the
checks take for their own. A fork of the host makes one of its own. Nothing here keeps an enqueuer alive that refers to a served sequence.
"""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeAlias, TypeVar, cast

from .. import item_seed, worker_info
from .._border import pack_error, unpack_error

if TYPE_CHECKING:
    from .._types import SequenceLike

__all__ = ["Do", "Remote", "RemoteGenerator", "asking", "remote", "remote_generator", "remote_seed"]

T = TypeVar("T")
P = ParamSpec("P")

GLANCE: Final = 0.05
"""Seconds between two looks of a host at whether it still serves anything."""


class Do:
    """An item that is made by a call in the process that asks for it. The callable must be importable there."""

    def __init__(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self._call: Final[Callable[[], object]] = partial(call, *args, **kwargs)

    def __call__(self) -> object:
        return self._call()


class _Served:
    """What a host serves. Whoever reads it keeps it alive; the host does not."""

    def __init__(self, real: object) -> None:
        self.real: Final = real


class _Host:
    """One listening socket of one process."""

    def __init__(self) -> None:
        self.key: Final = secrets.token_bytes(16)
        self.lock: Final = threading.Lock()
        self.closed = False  # guarded by lock
        self.served: Final[weakref.WeakValueDictionary[int, _Served]] = weakref.WeakValueDictionary()
        self._count = 0  # guarded by lock
        self._listener: Final = socket.socket(socket.AF_UNIX)
        name = f"enqueuer-{os.getpid()}-{secrets.token_hex(8)}"
        self.address: Final = f"\0{name}" if Path("/proc/net/unix").exists() else str(Path(tempfile.gettempdir(), name))
        self._listener.bind(self.address)
        self._listener.listen(128)
        self._listener.settimeout(GLANCE)

    def add(self, served: _Served) -> int | None:
        """Serve it, and return its number; None if this host has closed."""
        with self.lock:
            if self.closed:
                return None
            self._count += 1
            self.served[self._count] = served
            return self._count

    def run(self) -> None:
        """Accept connections until nothing is served any more."""
        with self._listener:
            while self._needed():
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                connection.setblocking(True)
                threading.Thread(target=_serve, args=(Connection(connection.detach()), self.key, self.served), name="within", daemon=True).start()
        if not self.address.startswith("\0"):
            Path(self.address).unlink(missing_ok=True)

    def _needed(self) -> bool:
        with self.lock:
            self.closed = not self.served
        return not self.closed


_locks: Final[dict[int, threading.Lock]] = {}  # one for each process: a fork may find that of its parent taken
_hosts: Final[dict[int, _Host]] = {}


def _host(served: _Served) -> tuple[_Host, int]:
    """Have it served by this process's host; return that, and its number there."""
    pid = os.getpid()
    with _locks.setdefault(pid, threading.Lock()):
        host = _hosts.get(pid)
        number = host.add(served) if host is not None else None
        if host is None or number is None:
            host = _hosts[pid] = _Host()
            number = host.add(served)
            assert number is not None
            threading.Thread(target=host.run, name="within", daemon=True).start()
        return host, number


class _Asked(threading.local):
    """What a thread of the host was asked for, and by whom."""

    seed: int | None = None
    pid: int | None = None


_asked: Final = _Asked()
_Message: TypeAlias = tuple[int, str, tuple[int, ...], int | None, int]  # number, what, its argument, seed, pid


def remote_seed() -> int:
    """Return the `item_seed()` of the item that calls this, in the process that asked for it."""
    seed = _asked.seed
    return item_seed() if seed is None else seed


def asking() -> int:
    """Return the pid of the process that asks for the item that calls this."""
    return os.getpid() if _asked.pid is None else _asked.pid


def _serve(connection: Connection[bytes, bytes], key: bytes, served: weakref.WeakValueDictionary[int, _Served]) -> None:
    """Answer one worker process, until it is gone."""
    iterators: dict[int, Iterator[object]] = {}
    with connection, suppress(EOFError, OSError):
        if secrets.compare_digest(connection.recv_bytes(), key):
            while True:
                connection.send_bytes(_answer(served, iterators, connection.recv_bytes()))


def _answer(served: weakref.WeakValueDictionary[int, _Served], iterators: dict[int, Iterator[object]], message: bytes) -> bytes:
    number, what, argument, _asked.seed, _asked.pid = cast("_Message", pickle.loads(message))  # noqa: S301 - it knew the key
    try:
        real = served[number].real
        if what == "item":
            (index,) = argument
            return pickle.dumps(("item", cast("SequenceLike[object]", real)[index]), 5)
        name, first, step = argument
        if name not in iterators:
            iterators[name] = islice(cast("Callable[[], Iterable[object]]", real)(), first, None, step)
        for item in iterators[name]:
            return pickle.dumps(("item", item), 5)
        return pickle.dumps(("end", None))
    except BaseException as error:
        return pickle.dumps(("error", pack_error(error)))
    finally:
        _asked.seed = _asked.pid = None


class _Address:
    """Where something is served, and by whom; in the host itself it is at hand."""

    def __init__(self, real: object) -> None:
        self._served: _Served | None = _Served(real)
        host, self._number = _host(self._served)
        self._address, self._key, self._pid = host.address, host.key, os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_served": None}

    def real(self) -> object | None:
        """Return what is served, if this is the process where it lives."""
        return self._served.real if self._served is not None and self._pid == os.getpid() else None

    def ask(self, what: str, *argument: int) -> tuple[str, object]:
        """Ask the host."""
        try:
            seed: int | None = item_seed()
        except RuntimeError:
            seed = None
        connection = self._connect()
        message: _Message = self._number, what, argument, seed, os.getpid()
        connection.send_bytes(pickle.dumps(message))
        kind, item = cast("tuple[str, object]", pickle.loads(connection.recv_bytes()))  # noqa: S301 - from the host
        if kind == "error":
            raise unpack_error(cast("bytes", item))
        return kind, item() if isinstance(item, Do) else item

    def _connect(self) -> Connection[bytes, bytes]:
        place = os.getpid(), threading.get_ident(), self._address
        connection = _connections.get(place)
        if connection is None:
            plain = socket.socket(socket.AF_UNIX)
            plain.connect(self._address)
            connection = _connections[place] = Connection(plain.detach())
            connection.send_bytes(self._key)
        return connection


_connections: Final[dict[tuple[int, int, str], Connection[bytes, bytes]]] = {}


class Remote:
    """A sequence that lives in the host."""

    def __init__(self, sequence: SequenceLike[object]) -> None:
        self._at: Final = _Address(sequence)
        hook = getattr(sequence, "on_epoch_end", None)
        if callable(hook):
            self.on_epoch_end = hook  # itself, so that one that does nothing is recognised

    def __getstate__(self) -> dict[str, object]:
        return {"_at": self._at}

    def __len__(self) -> int:
        real = self._at.real()
        assert real is not None, "the length is read by the host"
        return len(cast("SequenceLike[object]", real))

    def __getitem__(self, index: int) -> object:
        real = self._at.real()
        if real is None:
            return self._at.ask("item", index)[1]
        item = cast("SequenceLike[object]", real)[index]
        return item() if isinstance(item, Do) else item


class RemoteGenerator:
    """A callable that makes the iterator of a worker process: its share of the items of one that lives in the host, and is its own there."""

    def __init__(self, make: Callable[[], Iterable[object]]) -> None:
        self._at: Final = _Address(make)
        self._made = 0

    def __call__(self) -> Iterator[object]:
        info = worker_info()
        first, step = (info.worker, info.workers) if info is not None else (0, 1)
        self._made += 1
        real = self._at.real()
        if real is not None:
            yield from islice(cast("Callable[[], Iterable[object]]", real)(), first, None, step)
            return
        while True:
            kind, item = self._at.ask("next", self._made, first, step)
            if kind == "end":
                return
            yield item


def remote(sequence: SequenceLike[T]) -> SequenceLike[T]:
    """Return the sequence as worker processes of any kind can read it; what is none, as it is."""
    if not hasattr(type(sequence), "__getitem__"):
        return sequence
    return cast("SequenceLike[T]", Remote(sequence))


def remote_generator(generator: Iterable[T] | Callable[[], Iterable[T]]) -> Iterable[T] | Callable[[], Iterable[T]]:
    """Return the generator in the same way. An iterator is left as it is: worker processes get copies of it, or can't have it."""
    if hasattr(type(generator), "__next__"):
        return generator
    make = generator if callable(generator) else getattr(generator, "__iter__", None)
    return generator if make is None else cast("Callable[[], Iterable[T]]", RemoteGenerator(make))
