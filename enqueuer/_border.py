"""What crosses the border between two processes: items, exceptions and computes, as bytes; and the frames that they travel in.

Keeps: G6 (faithful), G10 (errors as they were raised) and G12 (what can't cross is an error that says so). Knows neither processes nor pipes.
Rules:
  1. Whatever user code does here (`__reduce__`, `__setstate__`) is caught by the caller, in the process where it happens.
  2. An exception is made again in the worker first: one that can't be made again is found there, and its text and traceback travel instead.
"""

from __future__ import annotations

import enum
import importlib
import io
import pickle
import struct
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeVar, cast

from .errors import BorderError

__all__ = [
    "COMPUTE",
    "HEADER",
    "LARGE",
    "REQUEST",
    "Kind",
    "Parcel",
    "kind_of",
    "pack",
    "pack_error",
    "pack_item",
    "unpack",
    "unpack_error",
    "unpack_item",
    "unpack_sizes",
]

T = TypeVar("T")

HEADER: Final = struct.Struct("<QB")
"""Before each message: its length without this header, and its kind."""

REQUEST: Final = struct.Struct("<qqq")
"""An item that is asked for: epoch, index, and the number of the slot that it may be written to, -1 for none."""

COMPUTE: Final = struct.Struct(HEADER.format + "qqq")
"""The whole message that asks for it."""

LARGE: Final = 1 << 15
"""Bytes from which on an item is better shared than sent, and a buffer is a part of its own."""

LINE: Final = 64
"""A part of an item begins at a multiple of so many bytes: an array may want that."""

MANY: Final = 1000
"""Parts of an item at most; other buffers stay in the pickle."""

_LENGTHS: Final = struct.Struct("<HH")
"""How a head begins: length of the name, number of parts."""

_ONE: Final = struct.Struct("<HHQ")
"""How it does if there is one part: its length, too."""


class Kind(enum.IntEnum):
    """What a message is. The parent sends `STATE`, `COMPUTE` and `FORGET`, the worker the others."""

    STATE = 1
    COMPUTE = 2
    READY = 3
    ITEM = 4
    ERROR = 5
    END = 6
    SHARED = 7
    FORGET = 8


class _Traceback(Exception):  # noqa: N818 - not an error, but where one came from
    """The traceback of a worker process, as the cause of the error that it led to."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def kind_of(thing: object) -> str:
    """Return the name of a thing's type, as an error should say it."""
    kind = type(thing)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def pack(thing: object) -> bytes:
    """Return what a compute travels as, with whatever multiprocessing knows how to send."""
    from multiprocessing.reduction import ForkingPickler

    return bytes(ForkingPickler.dumps(thing))


def unpack(data: bytes | bytearray | memoryview) -> object:
    """Return the compute."""
    return pickle.loads(data)  # noqa: S301 - from the other process of the same program


class Parcel:
    """A compute on its way to a new worker process. A fork finds it as it is; elsewhere it is opened where an error can be reported."""

    def __init__(self, thing: object, data: bytes | None = None) -> None:
        self._thing: Final = thing
        self._data: Final = data

    def __reduce__(self) -> tuple[type[Parcel], tuple[None, bytes]]:
        try:
            return Parcel, (None, pack(self._thing))
        except BaseException as error:
            raise BorderError(
                f"what is to be computed with can't be pickled, which spawn and forkserver need and fork does not: {kind_of(error)}: {error}"
            ) from error

    def open(self) -> object:
        """Return what is in it."""
        return self._thing if self._data is None else unpack(self._data)


def pack_item(item: object) -> tuple[bytes, list[bytes | memoryview]]:
    """Return what an item travels as: a head, its pickle, and its large buffers.

    The head has the sizes of these parts, and the name of the item's type for the error if it can't be made again (G12).
    """
    buffers: list[memoryview] = []
    if "numpy" in sys.modules:
        buffer = io.BytesIO()
        _Faithful(buffer, 5, buffer_callback=lambda one: _within(one, buffers)).dump(item)
        pickled = buffer.getvalue()
    else:
        pickled = pickle.dumps(item, 5, buffer_callback=lambda one: _within(one, buffers))
    name = kind_of(item).encode()[:1000]
    if not buffers:
        return _ONE.pack(len(name), 1, len(pickled)) + name, [pickled]
    before = HEADER.size + _LENGTHS.size + 8 * (1 + len(buffers)) + len(name) + len(pickled)
    parts: list[bytes | memoryview] = [pickled + bytes(-before % LINE), *buffers]  # behind its end a pickle is not read
    return struct.pack(f"<HH{len(parts)}Q", len(name), len(parts), *map(len, parts)) + name, parts


def _within(buffer: pickle.PickleBuffer, buffers: list[memoryview]) -> bool:
    """Whether a buffer goes into the pickle; else it is a part of its own."""
    raw = buffer.raw()
    if raw.nbytes < LARGE or len(buffers) == MANY:
        return True
    buffers.append(raw)
    return False


class _Faithful(pickle.Pickler):
    """Keeps arrays writable, or not, as they were (G6): protocol 5 does so only for contiguous ones that are plain. Tensors go as arrays."""

    def reducer_override(self, thing: object) -> object:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        import numpy

        if not isinstance(thing, numpy.ndarray):
            return _as_array(thing)
        array, kind = cast("_Array", thing), type(cast("object", thing))
        plain = kind is numpy.ndarray and array.flags.forc and not array.dtype.hasobject and array.dtype.kind not in "mMV"
        return NotImplemented if plain or array.flags.writeable else (_freeze, (array.copy("K"),))


class _Flags(Protocol):
    writeable: bool
    forc: bool


class _Dtype(Protocol):
    kind: str
    hasobject: bool


class _Array(Protocol):
    @property
    def flags(self) -> _Flags: ...
    @property
    def dtype(self) -> _Dtype: ...
    def copy(self, order: str, /) -> object: ...


class _Tensor(Protocol):
    requires_grad: bool

    def numpy(self) -> object: ...


def _as_array(thing: object) -> object:
    """Return how a tensor of torch is made of an array that has the same memory; its own pickle copies, or makes a file for each."""
    torch = sys.modules.get("torch")
    kind = getattr(torch, "Tensor", None)
    if kind is None or type(thing) is not kind:
        return NotImplemented
    tensor = cast("_Tensor", thing)
    if tensor.requires_grad:
        return NotImplemented
    try:
        return _tensor, (tensor.numpy(),)
    except (TypeError, RuntimeError):  # on another device, sparse, or of a type that numpy has not
        return NotImplemented


class _Torch(Protocol):
    def from_numpy(self, array: object, /) -> object: ...


def _tensor(array: object) -> object:
    return cast("_Torch", importlib.import_module("torch")).from_numpy(array)


def _freeze(array: _Array) -> object:
    array.flags.writeable = False
    return array


def unpack_sizes(message: memoryview) -> tuple[int, ...]:
    """Return how long the parts are, from the head."""
    return struct.unpack_from(f"<{_LENGTHS.unpack_from(message)[1]}Q", message, _LENGTHS.size)


def _parts_of(message: memoryview, place: int) -> Iterator[memoryview]:
    """Yield the parts that came with the head. A large buffer is in memory of its own, unless it is most of the message."""
    for number, size in enumerate(unpack_sizes(message)):
        part = message[place : place + size]
        yield part if number == 0 or 2 * size > len(message) else memoryview(bytearray(part))
        place += size


def unpack_item(message: memoryview, shared: Sequence[memoryview] = ()) -> object:
    """Return an equal item. It owns its memory, but for buffers that are shared: those it refers to."""
    length, count = _LENGTHS.unpack_from(message)
    begin = _LENGTHS.size + 8 * count
    try:
        if count == 1 and not shared:
            return pickle.loads(message[begin + length :])  # noqa: S301 - from the other process of the same program
        pickled, *buffers = shared or _parts_of(message, begin + length)
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - the same
    except BaseException as error:  # G12
        name = bytes(message[begin : begin + length]).decode(errors="replace")
        raise BorderError(f"an item of type {name} can't be unpickled in this process: {_said(error)}") from error


def pack_error(error: BaseException) -> bytes:
    """Return what an exception travels as: itself if it can be made again as it is (G10), its type and text in any case, and its traceback."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:
        text = f"{kind_of(error)} (its traceback can't be formatted)\n"
    data = _remade(error)
    return pickle.dumps((data, kind_of(error), _said(error), text), 5)


def unpack_error(message: bytes | bytearray | memoryview) -> BaseException:
    """Return the exception, with the worker's traceback as its cause."""
    data, name, said, text = cast("tuple[bytes | None, str, str, str]", pickle.loads(message))  # noqa: S301
    error: BaseException | None = None
    if data is not None:
        try:
            error = cast("BaseException", pickle.loads(data))  # noqa: S301
        except BaseException:  # it could be made again in the worker, and can't be here
            error = None
    if error is None:  # G12
        error = BorderError(f"an exception of type {name} was raised, which can't cross the border between two processes; it says: {said}")
    try:
        error.__cause__ = _Traceback(text)  # it does not survive pickling, hence only here
    except BaseException:  # noqa: S110 - it refuses to have one
        pass
    return error


def _remade(error: BaseException) -> bytes | None:
    """Return the first pickle from which the exception can be made again, None if there is none."""
    for make in (lambda: error, lambda: _Bare(error)):
        try:
            data = pickle.dumps(make(), 5)
            again = pickle.loads(data)  # noqa: S301
            if type(again) is type(error) and len(again.args) == len(error.args):
                return data
        except BaseException:  # noqa: S112 - whatever its own methods raise
            continue
    return None


class _Bare:
    """An exception that is made again without its `__init__()`, which may ask for more than `args`."""

    def __init__(self, error: BaseException) -> None:
        self._error: Final = error

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _make_bare, (type(self._error), self._error.args, dict(self._error.__dict__))


def _make_bare(kind: type[BaseException], args: tuple[object, ...], state: dict[str, object]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _said(error: BaseException) -> str:
    try:
        return f"{kind_of(error)}: {error}"
    except BaseException:
        return f"{kind_of(error)} (its text can't be had)"
