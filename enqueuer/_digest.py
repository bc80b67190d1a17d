"""Whether two items are the same, and how large they are, of whatever type: a digest, and the bytes in its buffers.

Arrays and tensors go by content, containers by what is in them, and everything else by what `pickle` would keep of it: not by the pickle
itself, which differs between equal objects that share their parts differently.
"""

from __future__ import annotations

import copyreg
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Protocol, cast, runtime_checkable

from .errors import EnqueuerError

__all__ = ["Fingerprint", "OpaqueError", "fingerprint"]


class OpaqueError(EnqueuerError, TypeError):
    """An item holds something that can't be told from another of its kind: a lock, an open file, a generator."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of an item: equal items have equal digests; `nbytes` counts the buffers in it (bytes, arrays), nothing else."""

    digest: bytes
    nbytes: int


def fingerprint(item: object) -> Fingerprint:
    """Return the fingerprint of an item.

    Raises:
        OpaqueError: There is none.
    """
    walk = _Walk({})
    try:
        walk.feed(item)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise OpaqueError(f"Items of type {type(item).__name__!r} can't be compared: {error} ({type(error).__name__}).") from error
    return walk.result()


@runtime_checkable
class _ArrayLike(Protocol):
    def __array__(self) -> _Array: ...


class _Array(Protocol):
    dtype: object
    nbytes: int

    def tolist(self) -> object: ...


class _Walk:
    def __init__(self, path: dict[int, int]) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._nbytes = 0
        self._path = path  # id -> depth of what is being walked through: an item may contain itself

    def result(self) -> Fingerprint:
        return Fingerprint(self._hash.digest(), self._nbytes)

    def feed(self, value: object) -> None:
        kind = type(value)
        self._say(kind.__module__, kind.__qualname__)
        if value is None or isinstance(value, bool | int | float | complex | str):
            self._say(repr(value))
        elif id(value) in self._path:
            self._say("again", self._path[id(value)])
        elif not self._buffer(value):
            self._path[id(value)] = len(self._path)
            self._parts(value)
            del self._path[id(value)]

    def _say(self, *words: object) -> None:
        text = repr(words).encode()
        self._hash.update(b"%d:%b" % (len(text), text))

    def _buffer(self, value: object) -> bool:
        """Feed a buffer as its content; false if it is none, or one of references."""
        try:
            view = memoryview(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # this is how one asks before 3.12
        except (TypeError, ValueError, BufferError):
            return False
        with view:
            if "O" in view.format:
                return False
            self._say(view.format, view.shape)
            self._hash.update(view.tobytes())
            self._nbytes += view.nbytes
            return True

    def _parts(self, value: object) -> None:
        match value:
            case list() | tuple():
                parts = cast("Iterable[object]", value)
                for part in parts:
                    self.feed(part)
                self._say("end")
            case dict():
                self._unordered(cast("dict[object, object]", value).items())
            case set() | frozenset():
                self._unordered(cast("Iterable[object]", value))
            case type() | FunctionType() | BuiltinFunctionType():
                self._say(value.__module__, value.__qualname__)
            case _ArrayLike():  # a tensor, or an array whose elements are no plain numbers
                array = value.__array__()
                if not self._buffer(array):
                    self._say(str(array.dtype))
                    self._nbytes += array.nbytes
                    self.feed(array.tolist())
            case _:
                self._reduced(value)

    def _unordered(self, parts: Iterable[object]) -> None:
        walks: list[Fingerprint] = []
        for part in parts:
            walk = _Walk(self._path)
            walk.feed(part)
            walks.append(walk.result())
        self._nbytes += sum(walk.nbytes for walk in walks)
        self._say(sorted(walk.digest for walk in walks))

    def _reduced(self, value: object) -> None:
        reducer = copyreg.dispatch_table.get(type(value))
        reduced: object = value.__reduce_ex__(4) if reducer is None else reducer(value)
        if isinstance(reduced, tuple):
            for part in cast("tuple[object, ...]", reduced):
                self.feed(list(cast("Iterable[object]", part)) if hasattr(part, "__next__") else part)
        else:
            self._say(reduced)
