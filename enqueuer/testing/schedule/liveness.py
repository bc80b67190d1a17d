"""Which locals of a frame may still be read: the others are no part of the state, and two executions that differ in them are the same.

The usual analysis, backwards over the byte code: a local is live before an instruction that loads it, and before one that does not store it
and has a successor before which it is live. Successors are the next instruction, the target of a jump, and the handler of an exception.
"""

from __future__ import annotations

import dis
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from types import CodeType
from typing import Final, Protocol, cast

__all__ = ["stand"]

_ENDS: Final = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"})
"""Instructions that the next one does not follow."""


@cache
def stand(code: CodeType, offset: int) -> tuple[int, tuple[str, ...]]:
    """Return the number of the instruction in which a frame stands, and the names of the locals that may be read after it.

    `offset` is the frame's `f_lasti`; CPython lets it point at the instruction or behind it, as it has been specialised or not.
    """
    offsets, names, calls = _all(code)
    number = bisect_right(offsets, offset) - 1
    number += number in calls  # 3.11 makes some calls in the instruction before, once it is specialised
    return number, tuple(sorted({*names[number], *code.co_cellvars, *code.co_freevars}))  # functions within may read the latter


@cache
def _all(code: CodeType) -> tuple[list[int], list[frozenset[str]], frozenset[int]]:
    """Return the offsets of all instructions, what is live behind each, also if it raises, and which only prepare a call."""
    instructions = list(dis.get_instructions(code))
    place = {instruction.offset: number for number, instruction in enumerate(instructions)}
    successors: list[list[int]] = []
    raising: list[list[int]] = []
    table = _handlers(code)
    for number, instruction in enumerate(instructions):
        following = [number + 1] if instruction.opname not in _ENDS and number + 1 < len(instructions) else []
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            following.append(place[int(instruction.argval)])
        successors.append(following)
        raising.append([place[target] for start, end, target in table if start <= instruction.offset < end])
    before: list[frozenset[str]] = [frozenset()] * len(instructions)
    behind = list(before)
    changed = True
    while changed:
        changed = False
        for number in reversed(range(len(instructions))):
            loads, stores = _effect(instructions[number].opname, instructions[number].argval)
            out = frozenset[str]().union(*(before[following] for following in successors[number]))
            raised = frozenset[str]().union(*(before[handler] for handler in raising[number]))
            behind[number] = out | raised
            entering = loads | (out - stores) | raised
            if entering != before[number]:
                before[number], changed = entering, True
    calls = frozenset(number for number, instruction in enumerate(instructions) if instruction.opname == "PRECALL")
    return [instruction.offset for instruction in instructions], behind, calls


class _Entry(Protocol):
    start: int
    end: int
    target: int


class _Parses(Protocol):
    def __call__(self, code: CodeType, /) -> Sequence[_Entry]: ...


def _handlers(code: CodeType) -> list[tuple[int, int, int]]:
    """Return from where to where which handler is in charge; the standard library reads that table, but does not document how."""
    parse = cast("_Parses", vars(dis)["_parse_exception_table"])
    return [(entry.start, entry.end, entry.target) for entry in parse(code)]


def _effect(name: str, value: object) -> tuple[frozenset[str], frozenset[str]]:
    """Return which locals an instruction reads, and which it writes or deletes."""
    if "FAST" not in name:
        return frozenset(), frozenset()
    names = [value] if isinstance(value, str) else list(cast("tuple[str, ...]", value))
    if name == "DELETE_FAST":  # which fails if there is none
        return frozenset(names), frozenset(names)
    if name in {"STORE_FAST", "STORE_FAST_STORE_FAST"}:
        return frozenset(), frozenset(names)
    if name == "STORE_FAST_LOAD_FAST":
        return frozenset(names[1:]) - frozenset(names[:1]), frozenset(names[:1])
    return frozenset(names), frozenset()
