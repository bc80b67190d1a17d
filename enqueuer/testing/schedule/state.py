"""What the future of an execution depends on, as a digest: where each thread stands, its locals, and all objects that they reach.

Two executions that come to the same state go on in the same ways, so that a search needs to follow only one of them. Objects are numbered in
the order in which they are met, from the threads in the order in which they were started, so that addresses make no difference.

A frame is its code, the instruction at which it stands, and its locals. What lies on the interpreter's own stack is not seen: the rest of a
`for` loop's iterator, the arguments evaluated so far of a call whose last argument comes to a scheduling point. Code under test keeps
such things in named locals; `tests/test_schedule.py` compares the states of cached searches with those of plain ones.
What can't be looked into is refused, not ignored.
"""

from __future__ import annotations

import _thread
import enum
import hashlib
import marshal
import types
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from types import FrameType
from typing import Final, cast

from . import world as _world
from .liveness import stand
from .world import CheckerError, Failure, SimLock, SimParker, SimThread, Step, Taken, Task, World

__all__ = ["digest", "slots_of"]

_HERE: Final = _world.__file__

_ATOMS: Final = frozenset({int, str, bool, float, bytes, type(None), complex})
_NAMED: Final = (type, types.ModuleType, types.CodeType, types.GenericAlias)
_OPAQUE: Final = (type(_thread.allocate_lock()), type(_thread.RLock()), types.MappingProxyType)


class _Walk:
    """One digest in the making: a flat list of what was met."""

    __slots__ = ("messages", "out", "seen")

    def __init__(self, messages: Mapping[type, frozenset[str]]) -> None:
        self.messages: Final = messages
        self.out: Final[list[object]] = []
        self.seen: Final[dict[int, int]] = {}

    def value(self, value: object) -> None:
        kind = type(value)
        if kind in _ATOMS:
            self.out.append(value)
            return
        seen = self.seen.get(id(value))
        if seen is not None:
            self.out.append("@")
            self.out.append(seen)
            return
        self.seen[id(value)] = len(self.seen)
        self.out.append(kind.__qualname__)
        walker = _WALKERS.get(kind)
        if walker is None:
            walker = _WALKERS[kind] = _walker(kind)
        walker(self, value)

    def frames(self, frame: FrameType | None) -> None:
        while frame is not None:
            code = frame.f_code
            if code.co_filename == _HERE:
                if code is World.carry.__code__:
                    return
            else:
                self.out.append(code.co_qualname)
                instruction, names = stand(code, frame.f_lasti)
                self.out.append(instruction)
                locals_ = frame.f_locals
                for name in names:
                    if name in locals_:
                        self.out.append(name)
                        self.value(locals_[name])
            frame = frame.f_back


def digest(world: World) -> bytes:
    """Return the digest of a world whose threads all stand at scheduling points."""
    walk = _Walk(world.messages)
    out = walk.out
    out += (world.now, world.failing_starts, world.deaths, len(world.told))
    for finalizer in world.finalizers:
        walk.value(finalizer)
    for task in world.tasks:
        step = task.step
        if step is None:
            out.append("ended")
            continue
        out += (step.kind, step.label, step.deadline, task.interrupts, task.awaited)
        walk.value(step.of)
        if step.kind == "begin":
            walk.value(task.main)
        else:
            walk.frames(task.frame)
    return hashlib.blake2b(marshal.dumps(out, 0), digest_size=16).digest()


def _nothing(walk: _Walk, value: object) -> None:
    del walk, value


def _task(walk: _Walk, value: object) -> None:
    walk.out.append(cast("Task", value).number)


def _lock(walk: _Walk, value: object) -> None:
    owner = cast("SimLock", value).owner
    walk.out.append(-1 if owner is None else owner.number)


def _parker(walk: _Walk, value: object) -> None:
    walk.out.append(cast("SimParker", value).permit)


def _thread_of(walk: _Walk, value: object) -> None:
    task = cast("SimThread", value).task
    walk.out.append(-1 if task is None else task.number)


def _items(walk: _Walk, value: object) -> None:
    items = cast("Collection[object]", value)
    walk.out.append(len(items))
    for item in items:
        walk.value(item)


def _unordered(walk: _Walk, value: object) -> None:
    """Of what has no order there may be atoms only."""
    items = cast("Collection[object]", value)
    if not all(type(item) in _ATOMS for item in items):
        raise CheckerError(f"the state of a set of objects can't be told: {items!r}. Keep such objects in a list or a dict")
    _items(walk, sorted(items, key=repr))


def _mapping(walk: _Walk, value: object) -> None:
    mapping = cast("Mapping[object, object]", value)
    walk.out.append(len(mapping))
    for key, content in mapping.items():  # the order counts
        walk.value(key)
        walk.value(content)


def _named(walk: _Walk, value: object) -> None:
    walk.out.append(getattr(value, "__module__", None) or "")
    walk.out.append(getattr(value, "__qualname__", None) or repr(value))


def _member(walk: _Walk, value: object) -> None:
    walk.out.append(cast("enum.Enum", value).name)


def _function(walk: _Walk, value: object) -> None:
    function = cast("types.FunctionType", value)
    _named(walk, function)
    for cell in function.__closure__ or ():
        walk.value(cell)
    if function.__defaults__:
        walk.value(function.__defaults__)
    if function.__kwdefaults__:
        walk.value(function.__kwdefaults__)


def _cell(walk: _Walk, value: object) -> None:
    try:
        content: object = cast("types.CellType", value).cell_contents
    except ValueError:
        return
    walk.value(content)


def _method(walk: _Walk, value: object) -> None:
    """Bound, of Python or of C."""
    method = cast("types.MethodType", value)
    walk.out.append(method.__name__)
    owner: object = method.__self__
    if not isinstance(owner, types.ModuleType):
        walk.value(owner)


def _partial(walk: _Walk, value: object) -> None:
    made = cast("partial[object]", value)
    walk.value(made.func)
    _items(walk, made.args)
    _mapping(walk, made.keywords)


def _reference(walk: _Walk, value: object) -> None:
    walk.value(cast("weakref.ref[object]", value)())


def _generator(walk: _Walk, value: object) -> None:
    generator = cast("types.GeneratorType[object, object, object]", value)
    frame = generator.gi_frame
    if frame is not None:
        walk.out.append(frame.f_lasti)
        _mapping(walk, dict(frame.f_locals))
        walk.value(generator.gi_yieldfrom)


def _exception(walk: _Walk, value: object) -> None:
    error = cast("BaseException", value)
    walk.value(error.args)
    walk.value(error.__cause__)
    _mapping(walk, vars(error))


def _object(walk: _Walk, value: object) -> None:
    kind = type(value)
    left_out = _left_out(walk, kind)
    names = _SLOTS.get(kind)
    if names is None:
        names = _SLOTS[kind] = slots_of(kind)
    for name in names:
        if name in left_out:
            continue
        try:
            content = object.__getattribute__(value, name)
        except AttributeError:
            continue
        walk.out.append(name)
        walk.value(content)
    for name, content in getattr(value, "__dict__", _NO_FIELDS).items():
        if name not in left_out:
            walk.out.append(name)
            walk.value(content)


_NO_FIELDS: Final[dict[str, object]] = {}


def _left_out(walk: _Walk, kind: type) -> frozenset[str]:
    for base, names in walk.messages.items():
        if issubclass(kind, base):
            return names
    return frozenset()


def _reduced(walk: _Walk, value: object) -> None:
    """An iterator of a built-in type says itself where it stands."""
    _items(walk, value.__reduce__())


def _bytes(walk: _Walk, value: object) -> None:
    walk.out.append(bytes(cast("memoryview", value)))


def _shown(walk: _Walk, value: object) -> None:
    walk.out.append(repr(value))


def slots_of(kind: type) -> list[str]:
    """Return the names of what instances keep in slots."""
    names: list[str] = []
    for base in reversed(kind.__mro__):
        slots = vars(base).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return [name for name in names if name not in {"__weakref__", "__dict__"}]


_SLOTS: Final[dict[type, list[str]]] = {}

_WALKERS: Final[dict[type, Callable[[_Walk, object], None]]] = {
    Task: _task,
    SimLock: _lock,
    SimParker: _parker,
    SimThread: _thread_of,
    World: _nothing,
    type(None): _nothing,
    tuple: _items,
    list: _items,
    deque: _items,
    dict: _mapping,
    set: _unordered,
    frozenset: _unordered,
    range: _shown,
    types.FunctionType: _function,
    types.CellType: _cell,
    types.MethodType: _method,
    types.BuiltinMethodType: _method,
    types.MethodWrapperType: _method,
    types.GeneratorType: _generator,
    partial: _partial,
    object: _nothing,
    memoryview: _bytes,
    slice: _shown,
}
for _constant in (Step, Taken, Failure):
    _WALKERS[_constant] = _nothing


def _atom(base: type) -> Callable[[_Walk, object], None]:
    """Look into a value of a type that is derived from an atom's."""
    shown = cast("Callable[[object], str]", str.__str__ if base is str else base.__repr__)

    def walk_atom(walk: _Walk, value: object) -> None:
        walk.out.append(shown(value))

    return walk_atom


def _both(walker: Callable[[_Walk, object], None], walk: _Walk, value: object) -> None:
    """Look into what a value has from a built-in type, and into its own fields."""
    walker(walk, value)
    _object(walk, value)


_BASES: Final = ((dict, _mapping), (list, _items), (tuple, _items), (deque, _items), *((atom, _atom(atom)) for atom in (int, str, bytes, float)))


def _hidden(kind: type) -> int:
    """Return how many bytes of an instance are neither slots nor what every object has: the state of an extension type."""
    pointers = len(slots_of(kind)) + bool(kind.__dictoffset__) + bool(kind.__weakrefoffset__)
    return max(0, kind.__basicsize__ - object.__basicsize__ - 8 * pointers)


def _walker(kind: type[object]) -> Callable[[_Walk, object], None]:
    """Choose how to look into a type that was not met before."""
    if issubclass(kind, enum.Enum):
        return _member
    if issubclass(kind, _NAMED):
        return _named
    if issubclass(kind, _OPAQUE):
        return _nothing
    if issubclass(kind, weakref.ref):
        return _reference
    if issubclass(kind, BaseException):
        return _exception
    for base, walker in _BASES:
        if issubclass(kind, base):
            return partial(_both, walker)
    if kind.__module__.startswith(__package__ or "") and kind.__name__ in {"_Runtime", "_Process"}:
        return _nothing
    if kind.__flags__ & (1 << 9) and not _hidden(kind):  # a class that was made by a class statement
        return _object
    if issubclass(kind, Iterator):
        return _reduced
    raise CheckerError(f"the state of a {kind.__module__}.{kind.__qualname__} can't be told: keep it out of what threads of a scenario can reach")
