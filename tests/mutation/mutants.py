"""The monitor with one thing changed: mutants, made from the syntax trees of `_window.py` and `_run.py`.

A mutant's key is its file, function, kind and number, as `_run.py:Run._put:wake#1`; line numbers are no part of it. Left out are texts,
annotations, asserts, defaults and whatever is no function's.
"""

from __future__ import annotations

import ast
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parents[2] / "enqueuer"

FILES: Final = ("_window.py", "_run.py")

KINDS: Final = {
    "wake": "a wake-up is left out",
    "unlock": "a lock scope is without its lock",
    "after": "the last statement of a lock scope comes after it",
    "before": "the first statement of a lock scope comes before it",
    "swap": "a commit and its neighbour are swapped: what only an interrupt may see",
    "store": "a field or wait set is not changed",
    "once": "a loop is left after its first round",
    "negate": "a condition is negated",
    "operand": "an operand of `and` or `or` is left out",
    "compare": "a comparison is off by one, or negated where it is no condition",
    "drop": "a name is kept until its function returns",
    "const": "a number is off by one",
}
"""What is changed, what matters most first."""

COMMIT: Final = "# the commit"
"""Marks, in the source, the store that rule 4 and rule 2 are about."""

COMMITTING: Final = {"take", "conclude", "stop"}
"""Methods of the window that commit."""

CHANGING: Final = {"pop", "popleft", "clear", "append"}
"""Methods of containers."""

OTHER: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

SHORT: Final = 120
"""Characters of a statement that is shown as a whole."""

OFF_BY_ONE: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)

Step = tuple[str, int | None]
Edit = Callable[[ast.AST], ast.AST | list[ast.stmt]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file.

    Attributes:
        key: Names it.
        file: Which file it is of.
        function: Where: the qualified name.
        kind: Of `KINDS`.
        change: What is changed, in a line.
        make: Makes the whole file, changed.
    """

    key: str
    file: str
    function: str
    kind: str
    change: str
    make: Callable[[], str] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Found:
    """A node, the way to it from the root, the way to the outermost function that it is in, and the name of the innermost."""

    node: ast.AST
    way: tuple[Step, ...]
    base: tuple[Step, ...]
    function: str


def mutants() -> list[Mutant]:
    """Return all of today's files, in the order of the source."""
    return [mutant for file in FILES for mutant in mutants_of(file, (PACKAGE / file).read_text())]


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return those of one file."""
    tree = ast.parse(source)
    lines = source.splitlines()
    counts: Counter[tuple[str, str]] = Counter()
    alone: dict[tuple[Step, ...], tuple[ast.Module, bytes]] = {}  # each function, by itself, and as bytes: a fast way to make copies
    made: list[Mutant] = []
    for found in _walk(tree):
        if found.base not in alone:
            module = ast.Module([_follow(tree, found.base)], [])
            alone[found.base] = module, pickle.dumps(module)
        module, kept = alone[found.base]
        for kind, way, edit, change in _edits(found, tree, lines):
            counts[found.function, kind] += 1
            key = f"{file}:{found.function}:{kind}#{counts[found.function, kind]}"
            inner = (("body", 0), *way[len(found.base) :])
            changed = pickle.loads(kept)
            _replace(changed, inner, edit)
            said = change or "  ->  ".join(_shown(module, changed, inner))
            made.append(Mutant(key, file, found.function, kind, said, partial(_text, source, way, edit)))
    return made


def _text(source: str, way: tuple[Step, ...], edit: Edit) -> str:
    tree = ast.parse(source)
    _replace(tree, way, edit)
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def unchanged(file: str) -> Mutant:
    """Return the mutant in which nothing is changed."""
    return Mutant(f"{file}::none#1", file, "", "none", "", lambda: ast.unparse(ast.parse((PACKAGE / file).read_text())) + "\n")


# where


def _walk(tree: ast.Module) -> Iterator[_Found]:
    """Everything that a function does, in the order of the source."""
    yield from _inside(tree, (), "", None)


def _inside(node: ast.AST, way: tuple[Step, ...], function: str, base: tuple[Step, ...] | None) -> Iterator[_Found]:
    name = node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""
    qualified = f"{function}.{name}" if function and name else function or name
    if base is None and isinstance(node, ast.FunctionDef):
        base = way
    if base is not None:
        yield _Found(node, way, base, qualified)
    for step, child in _children(node):
        yield from _inside(child, (*way, step), qualified, base)


def _children(node: ast.AST) -> Iterator[tuple[Step, ast.AST]]:
    skipped = {"annotation", "returns", "decorator_list", "args"} if isinstance(node, ast.FunctionDef | ast.AnnAssign) else set()
    for name, value in ast.iter_fields(node):
        if name in skipped:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.Raise | ast.Assert):
                yield (name, index), child


def _follow(tree: ast.AST, way: tuple[Step, ...]) -> ast.AST:
    node = tree
    for name, index in way:
        value = getattr(node, name)
        node = value if index is None else value[min(index, len(value) - 1)]
    return node


def _replace(tree: ast.AST, way: tuple[Step, ...], edit: Edit) -> None:
    *before, (name, index) = way
    parent = _follow(tree, tuple(before))
    if index is None:
        setattr(parent, name, edit(getattr(parent, name)))
        return
    made = edit(getattr(parent, name)[index])
    getattr(parent, name)[index : index + 1] = made if isinstance(made, list) else [made]


def _shown(tree: ast.AST, changed: ast.AST, way: tuple[Step, ...]) -> tuple[str, str]:
    """Return the statement that holds what is there, before and after; what of it is short enough, if it is long."""
    shown = "", ""
    for length in range(len(way), 0, -1):
        before, after = (_follow(root, way[:length]) for root in (tree, changed))
        if isinstance(before, ast.cmpop):
            continue
        heads = _head(before), _head(after)
        if shown[0] and len(heads[0]) > SHORT:
            break
        shown = heads
        if isinstance(before, ast.stmt):
            break
    return shown


def _head(node: ast.AST) -> str:
    """A statement in a line: its head, if it has a body."""
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}:"
    if isinstance(node, ast.While):
        return f"while {ast.unparse(node.test)}:"
    if isinstance(node, ast.With | ast.For | ast.Try | ast.FunctionDef):
        return ast.unparse(node).splitlines()[0]
    return " ".join(ast.unparse(node).split())


# what


def _edits(found: _Found, tree: ast.Module, lines: list[str]) -> Iterator[tuple[str, tuple[Step, ...], Edit, str]]:
    """What can be changed at a node: kind, where, how, and a line about it if the statement does not say it."""
    node, way = found.node, found.way
    if isinstance(node, ast.stmt):
        yield from _statements(found)
        yield from _swaps(found, tree, lines)
    if isinstance(node, ast.With) and _is_lock(node):
        yield from _scopes(node, way)
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Constant):
        yield "negate", (*way, ("test", None)), _negated, ""
    if isinstance(node, ast.comprehension):
        for number in range(len(node.ifs)):
            yield "negate", (*way, ("ifs", number)), _negated, ""
    if isinstance(node, ast.While):
        yield "once", way, _once, f"{_head(node)}  ->  once"
    if isinstance(node, ast.BoolOp):
        for number in range(len(node.values)):
            yield "operand", way, _without(number), ""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and (isinstance(node.ops[0], OFF_BY_ONE) or not _is_condition(tree, way)):
        yield "compare", (*way, ("ops", 0)), lambda op: OTHER[type(op)](), ""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for other in (node.value + 1, node.value - 1):
            yield "const", way, lambda _, other=other: ast.Constant(other), ""


def _statements(found: _Found) -> Iterator[tuple[str, tuple[Step, ...], Edit, str]]:
    """Statements that can be left out, and the targets of those that have several."""
    node, way = found.node, found.way
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        name = call.func.attr
        if name.startswith("_wake_") or name == "unpark":
            yield "wake", way, _left_out, f"left out: {_head(node)}"
        elif name in CHANGING and isinstance(call.func.value, ast.Attribute):
            yield "store", way, _left_out, f"left out: {_head(node)}"
    if found.function.endswith(".__init__"):
        return
    if isinstance(node, ast.Delete):
        kind = "drop" if isinstance(node.targets[0], ast.Name) else "store"
        yield kind, way, _left_out, f"left out: {_head(node)}"
    elif isinstance(node, ast.AugAssign) and _is_field(node.target):
        yield "store", way, _left_out, f"left out: {_head(node)}"
    elif isinstance(node, ast.Assign):
        yield from _targets(node, way)


def _targets(node: ast.Assign, way: tuple[Step, ...]) -> Iterator[tuple[str, tuple[Step, ...], Edit, str]]:
    for number, target in enumerate(node.targets):
        if isinstance(target, ast.Tuple):
            for place, element in enumerate(target.elts):
                if _is_field(element):
                    yield "store", (*way, ("targets", number), ("elts", place)), lambda _: ast.Name("_", ast.Store()), ""
        elif _is_field(target):
            if len(node.targets) > 1:
                yield "store", (*way, ("targets", number)), lambda _: [], ""
            else:
                yield "store", way, _left_out, f"left out: {_head(node)}"
        elif isinstance(target, ast.Name) and isinstance(node.value, ast.Constant) and node.value.value is None and target.id == "item":
            yield "drop", way, _left_out, f"left out: {_head(node)}"


def _scopes(node: ast.With, way: tuple[Step, ...]) -> Iterator[tuple[str, tuple[Step, ...], Edit, str]]:
    yield "unlock", way, lambda scope: scope.body, f"{_head(node)} around  {_head(node.body[0])}  ->  no lock"
    if len(node.body) > 1:
        yield "after", way, _last_after, f"after its lock scope: {_head(node.body[-1])}"
        yield "before", way, _first_before, f"before its lock scope: {_head(node.body[0])}"


def _swaps(found: _Found, tree: ast.Module, lines: list[str]) -> Iterator[tuple[str, tuple[Step, ...], Edit, str]]:
    """A statement and the one that follows it, if one of them commits."""
    if found.way[-1][1] is None:
        return
    *before, (field, index) = found.way
    block = getattr(_follow(tree, tuple(before)), field)
    if index + 1 >= len(block) or isinstance(found.node, ast.FunctionDef):
        return
    one, two = block[index : index + 2]
    if not (_commits(one, lines) or _commits(two, lines)) or not _are_free(one, two):
        return

    def swapped(parent: ast.AST) -> ast.AST:
        one, two = getattr(parent, field)[index : index + 2]
        if isinstance(two, ast.Return):
            kept = ast.Assign([ast.Name("_kept", ast.Store())], two.value)
            getattr(parent, field)[index : index + 2] = [kept, one, ast.Return(ast.Name("_kept", ast.Load()))]
        else:
            getattr(parent, field)[index : index + 2] = [two, one]
        return parent

    yield "swap", tuple(before), swapped, f"{_head(two)}  before  {_head(one)}"


def _are_free(one: ast.stmt, two: ast.stmt) -> bool:
    """Whether they can be swapped: what comes second uses no name that the first has bound, and is no mere return."""
    if isinstance(two, ast.Return) and not isinstance(two.value, ast.Call):
        return False
    if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
        return False
    bound = {node.id for node in ast.walk(one) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return not bound & {node.id for node in ast.walk(two) if isinstance(node, ast.Name)}


def _commits(node: ast.stmt, lines: list[str]) -> bool:
    if any(COMMIT in line for line in lines[node.lineno - 1 : node.end_lineno]) and not isinstance(node, ast.With | ast.Try | ast.While):
        return True
    value = getattr(node, "value", None)
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in COMMITTING
        and ast.unparse(value.func.value).endswith("window")
    )


def _is_lock(node: ast.With) -> bool:
    return ast.unparse(node.items[0].context_expr) == "self._lock"


def _is_field(target: ast.AST) -> bool:
    """Whether it is a field of something, or an element of one."""
    return isinstance(target, ast.Attribute) or (isinstance(target, ast.Subscript) and isinstance(target.value, ast.Attribute))


def _is_condition(tree: ast.Module, way: tuple[Step, ...]) -> bool:
    """Whether it is a whole condition, which is negated as such."""
    field = way[-1][0]
    return field in {"test", "ifs"} or (field == "operand" and isinstance(_follow(tree, way[:-1]), ast.UnaryOp) and way[-2][0] == "test")


# how


def _left_out(node: ast.AST) -> ast.AST:
    del node
    return ast.Pass()


def _negated(test: ast.AST) -> ast.AST:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _once(loop: ast.AST) -> ast.AST:
    loop.body.append(ast.Break())
    return loop


def _without(number: int) -> Edit:
    def edit(node: ast.AST) -> ast.AST:
        rest = node.values[:number] + node.values[number + 1 :]
        return rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)

    return edit


def _last_after(scope: ast.AST) -> list[ast.stmt]:
    return [ast.With(scope.items, scope.body[:-1]), scope.body[-1]]


def _first_before(scope: ast.AST) -> list[ast.stmt]:
    return [scope.body[0], ast.With(scope.items, scope.body[1:])]
