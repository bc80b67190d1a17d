"""What crosses the border between two processes: items, exceptions and computes, as bytes; and the frames that they travel in.

Keeps: G6 (faithful), G10 (errors as they were raised) and G12 (what can't cross is an error that says so). Knows neither processes nor pipes.
Rules:
  1. Whatever user code does here (`__reduce__`, `__setstate__`) is caught by the caller, in the process where it happens.
  2. An exception is made again in the worker first: one that can't be made again as it was is found there, and its text and traceback travel
     instead. So does each member of a group, each cause and each context for itself: one that is lost does not take the others along.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import io
import pickle
import struct
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

LAZILY: Final = (
    "Open files, connections and locks where they are first needed, in the worker process, and leave them out of what __getstate__() returns"
)

DEEP: Final = 20
"""Exceptions that one may have come from, and groups that it may be in, at most; what is before them is in the traceback."""

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


def pack(thing: object) -> memoryview:
    """Return what a compute travels as, with whatever multiprocessing knows how to send."""
    from multiprocessing.reduction import ForkingPickler

    return ForkingPickler.dumps(thing)


def unpack(data: bytes | bytearray | memoryview) -> object:
    """Return the compute."""
    return pickle.loads(data)  # noqa: S301 - from the other process of the same program


class Parcel:
    """A compute on its way to a new worker process. A fork finds it as it is; elsewhere it is opened where an error can be reported."""

    def __init__(self, thing: object, data: bytes | None = None) -> None:
        self._thing: Final = thing
        self._data = data

    def __reduce__(self) -> tuple[type[Parcel], tuple[None, bytes]]:
        try:
            return Parcel, (None, bytes(pack(self._thing)))
        except BaseException as error:
            raise BorderError(
                f"what is to be computed with can't be pickled, which is how it reaches a worker process: {kind_of(error)}: {error}. {LAZILY}"
            ) from error

    def open(self) -> object:
        """Return what is in it, once: multiprocessing keeps the parcel as long as the process lives, and must not keep the bytes in it, too."""
        data, self._data = self._data, None
        return self._thing if data is None else unpack(data)


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
    return pickle.dumps((_sent(error, {}), text), 5)


def unpack_error(message: bytes | bytearray | memoryview) -> BaseException:
    """Return the exception. The worker's traceback is the cause of the first one, going back from it, that has none of its own."""
    sent, text = cast("tuple[_Sent, str]", pickle.loads(message))  # noqa: S301
    error = _arrived(sent)
    first, known = error, {id(error)}
    while (before := first.__cause__ or first.__context__) is not None and id(before) not in known:
        known.add(id(before))
        first = before
    try:
        first.__cause__ = _Traceback(text)
    except BaseException:  # noqa: S110 - it refuses to have one
        pass
    return error


@dataclass(frozen=True, slots=True)
class _Sent:
    """An exception under way. What pickle leaves out of it travels beside it: what it came from, and the members of a group.

    Attributes:
        data: The pickle from which it is made again; None if that failed.
        name: The name of its type.
        said: Its text.
        members: Of a group: its members, and what else is in it.
        cause: Its `__cause__`.
        context: Its `__context__`.
        suppresses: Its `__suppress_context__`.
    """

    data: bytes | None
    name: str
    said: str
    members: tuple[_Sent, ...] | None
    cause: _Sent | None
    context: _Sent | None
    suppresses: bool


def _sent(error: BaseException, known: dict[int, BaseException]) -> _Sent:
    """Return it with all that it came from; `known` are those on the way to it, of which none is sent again."""
    known = {**known, id(error): error}

    def before(one: BaseException | None) -> _Sent | None:
        return None if one is None or id(one) in known or len(known) > DEEP else _sent(one, known)

    name, said = kind_of(error), _said(error)
    members, data = None, _remade(error)
    if data is None and isinstance(error, BaseExceptionGroup) and len(known) <= DEEP:
        group = cast("BaseExceptionGroup[BaseException]", error)
        members = tuple(_sent(member, known) for member in group.exceptions)
        with contextlib.suppress(BaseException):  # G10: the group as it was, though not with all of its members
            data = pickle.dumps((type(group), group.message, dict(group.__dict__)), 5)
    return _Sent(data, name, said, members, before(error.__cause__), before(error.__context__), error.__suppress_context__)


def _arrived(sent: _Sent) -> BaseException:
    """Return the exception, or in its place a `BorderError` that says what it was (G12)."""
    error: BaseException | None = None
    if sent.data is not None:
        with contextlib.suppress(BaseException):  # it could be made again in the worker, and can't be here
            made: object = pickle.loads(sent.data)  # noqa: S301
            error = cast("BaseException", made) if sent.members is None else _group(made, [*map(_arrived, sent.members)])
    if error is None:
        error = BorderError(f"an exception of type {sent.name} was raised, which can't cross the border between two processes; it says: {sent.said}")
    with contextlib.suppress(BaseException):  # it refuses to have one
        error.__cause__ = None if sent.cause is None else _arrived(sent.cause)
        error.__context__ = None if sent.context is None else _arrived(sent.context)
        error.__suppress_context__ = sent.suppresses
    return error


def _group(made: object, members: list[BaseException]) -> BaseException:
    kind, message, state = cast("tuple[type[BaseExceptionGroup[BaseException]], str, dict[str, object]]", made)
    group = kind.__new__(kind, message, members)
    group.__dict__.update(state)
    return group


def _remade(error: BaseException) -> bytes | None:
    """Return the first pickle from which the exception can be made again as it was, None if there is none.

    Pickle calls its class with its `args`. A class that makes a text of its argument makes one of the text then: what comes has other `args`, and
    the exception is made again without its `__init__()`.
    """
    for make in (lambda: error, lambda: _Bare(error)):
        try:
            data = pickle.dumps(make(), 5)
            again = pickle.loads(data)  # noqa: S301
            if type(again) is type(error) and _alike(again.args, error.args):
                return data
        except BaseException:  # noqa: S112 - whatever its own methods raise
            continue
    return None


def _alike(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether two tuples of arguments are equal, or of the same pickle where they can't tell."""
    try:
        if one == other:
            return True
    except BaseException:  # noqa: S110 - arrays
        pass
    return pickle.dumps(one, 5) == pickle.dumps(other, 5)


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
