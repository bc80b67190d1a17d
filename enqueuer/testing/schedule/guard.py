"""Who may touch what: under exploration, each field of a guarded object is touched by the owner of its lock only.

A search through schedules sees what can go wrong between two scheduling points of the lock. A field that is written or read without the
lock escapes it: nothing happens to run in between. So the discipline itself is checked, at every access of every execution.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Final, TypeVar, cast

from ..._types import Lock
from .state import slots_of
from .world import Failure, Step, world

__all__ = ["Discipline", "guard"]

T = TypeVar("T")

_NOBODY: Final = frozenset[str]()


class Discipline:
    """What the fields of a class are.

    Every field is guarded, except constants.

    Attributes:
        constants: Fields that are written before anybody else knows the object, and never again.
        alone: Field -> functions that may touch it without the lock, for a reason that the code gives; "*" stands for all.
    """

    def __init__(self, constants: set[str], alone: Mapping[str, set[str]] | None = None) -> None:
        self.constants: Final = frozenset(constants)
        self.alone: Final = {name: frozenset(functions) for name, functions in (alone or {}).items()}


def guard(guarded: T, lock: Lock, discipline: Discipline) -> T:
    """Check every access to the object from now on; return it."""
    here = world.get()
    if here is not None:
        here.guards[id(guarded)] = lock
        object.__setattr__(guarded, "__class__", _guarded(cast("type", type(guarded)), discipline))
    return guarded


@cache
def _guarded(kind: type, discipline: Discipline) -> type:
    constants = discipline.constants
    slots = frozenset(slots_of(kind))

    def look(self: object, name: str) -> object:
        if name not in constants and (name in slots or name in _fields(self)):
            _touch(self, name, discipline)
        return object.__getattribute__(self, name)

    def write(self: object, name: str, value: object) -> None:
        if name not in constants and not name.startswith("__"):
            _touch(self, name, discipline)
        object.__setattr__(self, name, value)

    members: dict[str, object] = {"__slots__": (), "__getattribute__": look, "__setattr__": write, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**members, "__qualname__": kind.__qualname__, "__module__": kind.__module__})


def _fields(guarded: object) -> Mapping[str, object]:
    try:
        return cast("dict[str, object]", object.__getattribute__(guarded, "__dict__"))
    except AttributeError:
        return {}


def _touch(guarded: object, name: str, discipline: Discipline) -> None:
    here = world.get()
    if here is None or here.over or here.current is None:
        return
    owned = here.guards[id(guarded)].owned()
    alone = discipline.alone.get(name, _NOBODY)
    frame = sys._getframe(2)
    if not owned and "*" not in alone and frame.f_code.co_name not in alone:
        where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
        here.fail(Failure("unguarded", "", f"{here.current.name} touched {type(guarded).__qualname__}.{name} without the lock, in {where}"))
    if name in here.touches and (not owned or "*" in alone):
        here.reach(Step("touch", label=name), frame)
