"""The house: who may import whom, what a pure file must not know, and that importing does nothing."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pacing import LIMIT

import enqueuer

PACKAGE = Path(enqueuer.__file__).parent

ARROWS: dict[str, set[str]] = {
    # file: the files of the package that it imports; each may import only what stands above it here
    "guarantees": set(),
    "errors": set(),
    "_types": set(),
    "_plan": {"errors"},
    "_window": {"_plan"},
    "_context": {"_plan"},
    "_runtime": {"_types"},
    "_border": {"errors"},
    "_shared": {"_border", "_runtime", "_types"},
    "_threads": {"_types"},
    "_processes": {"_border", "_context", "_runtime", "_shared", "_types", "errors"},
    "_run": {"_context", "_plan", "_types", "_window", "errors"},
    "_enqueuers": {"_plan", "_processes", "_run", "_runtime", "_threads", "_types", "_window", "errors"},
    "__init__": {"_context", "_enqueuers", "_plan", "_run", "_types", "_window", "errors"},
    "_digest": {"errors"},
    "_sources": set(),
    "_measure": {"_context", "_digest", "_enqueuers", "_plan", "_types", "errors"},
    "_report": {"_measure"},
    "__main__": {"_measure", "_report", "_sources", "_types", "errors"},
}
PURE = {"guarantees", "errors", "_types", "_plan", "_window"}
COMMAND = {"_digest", "_sources", "_measure", "_report", "__main__"}
SEAM = {"_thread", "atexit", "os", "threading", "time"}
"""What only `_runtime` may import, the command apart, which is a user of the package like any other."""

BORDER = {"multiprocessing", "os", "select", "signal", "socket", "threading", "time"}
"""What a worker process and the pipe to it need besides."""

SHARED = {"os", "socket"}
"""What shared memory needs: files without a name, and a socket to send them through."""

LATE = {"_border": {"multiprocessing"}, "_enqueuers": {"multiprocessing"}}
"""Who names it inside of functions or for type checkers only: who starts processes has it imported by then."""

MACHINERY = SEAM | {"asyncio", "concurrent", "multiprocessing", "queue", "sched", "select", "selectors", "signal", "socket", "subprocess"}
"""What reaches threads, processes, locks or clocks."""

LAZY = {
    "_border": {"numpy"},
    "_context": {"numpy"},
    "_sources": {"numpy"},
    "_report": {"rich"},
    "testing.checks.processes": {"numpy"},
    "testing.kit.fixture": {"pytest"},
    "testing.machine": {"hypothesis"},
    "testing.schedule.fixture": {"pytest"},
    "testing.terminal": {"rich"},
}
"""What is not of the standard library, and who may use it; the library itself only inside of functions."""


def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every file, by its name with dots, `testing/` included."""
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


TREES = modules()
HOUSE = {name: tree for name, tree in TREES.items() if not name.startswith("testing.")}
PUBLIC = [name for name in enqueuer.__all__ if not name.startswith("__")]


def is_not_run(node: ast.AST) -> bool:
    """Whether an import of the file leaves the node's body alone."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")


def imports(tree: ast.AST, *, run: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements; with `run` only those that run when the file is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (run and is_not_run(node)):
            yield from imports(node, run=run)


def outside(tree: ast.AST, *, run: bool = False) -> set[str]:
    """Return the top-level names of what is imported from outside of the package."""
    found: set[str] = set()
    for node in imports(tree, run=run):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif not node.level and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


def inside(tree: ast.AST, *, run: bool = False) -> set[str]:
    """Return the files of the package that a file at its top imports."""
    found: set[str] = set()
    for node in imports(tree, run=run):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
            found |= {name if name in TREES or name == "testing" else "__init__" for name in names}
    return found


def test_every_file_stands_in_the_table():
    assert set(HOUSE) == set(ARROWS)


def test_arrows_point_one_way_only():
    above: set[str] = set()
    for name, allowed in ARROWS.items():
        assert allowed <= above, f"{name} may not import {allowed - above}"
        above.add(name)


@pytest.mark.parametrize("name", sorted(HOUSE))
def test_a_file_imports_what_the_table_says(name):
    assert inside(HOUSE[name]) - {"testing"} == ARROWS[name]


@pytest.mark.parametrize("name", sorted(HOUSE))
def test_only_the_command_imports_the_tests_and_only_inside_a_function(name):
    assert "testing" not in inside(HOUSE[name], run=True)
    if name != "__main__":
        assert "testing" not in inside(HOUSE[name])


@pytest.mark.parametrize("name", sorted(TREES))
def test_imports_inside_the_package_are_relative_so_that_it_can_be_renamed(name):
    assert "enqueuer" not in outside(TREES[name])


@pytest.mark.parametrize("name", sorted(TREES))
def test_only_the_standard_library_is_needed(name):
    foreign = {module for module in outside(TREES[name]) if module not in sys.stdlib_module_names}
    assert foreign <= LAZY.get(name, set())
    if not name.startswith("testing."):
        assert outside(TREES[name], run=True) <= sys.stdlib_module_names


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_file_knows_no_thread_lock_or_clock(name):
    assert not outside(HOUSE[name]) & MACHINERY


@pytest.mark.parametrize("name", sorted(set(HOUSE) - COMMAND))
def test_only_the_seam_reaches_threads_and_clocks(name):
    allowed = {"_runtime": SEAM, "_processes": BORDER, "_shared": SHARED, **LATE}
    assert outside(HOUSE[name]) & MACHINERY == allowed.get(name, set())
    assert not outside(HOUSE[name], run=True) & {"multiprocessing"}


@pytest.mark.parametrize("name", sorted(HOUSE))
def test_importing_a_file_only_defines_things(name):
    for node in HOUSE[name].body:
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}
        elif isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), "a docstring"
        else:
            assert isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign)


def test_importing_starts_no_thread_and_imports_neither_numpy_nor_multiprocessing_nor_the_tests():
    code = (
        "import sys, threading; modules, threads = set(sys.modules), threading.active_count(); import enqueuer; "
        "new = set(sys.modules) - modules; "  # another tool may have imported what it likes before
        "print(sorted({name.partition('.')[0] for name in new} & {'numpy', 'rich', 'hypothesis', 'multiprocessing', 'asyncio'}), "
        "threading.active_count() - threads, 'enqueuer.testing' in new)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=LIMIT, check=True)
    assert done.stdout.split("\n") == ["[] 0 False", ""]


@pytest.mark.parametrize("name", sorted(TREES))
def test_every_file_says_what_it_is(name):
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_a_docstring(name):
    thing = getattr(enqueuer, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize("name", sorted(set(HOUSE) - {"__main__"}))
def test_what_a_file_offers_is_there_and_sorted(name):
    module = importlib.import_module("enqueuer" if name == "__init__" else f"enqueuer.{name}")
    assert list(module.__all__) == sorted(module.__all__, key=lambda offered: (not offered.isupper(), not offered[0].isupper(), offered))
    for offered in module.__all__:
        assert hasattr(module, offered)


def test_the_map_in_the_package_names_every_file_of_the_library():
    doc = inspect.getdoc(enqueuer)
    assert doc is not None
    named = [line.split()[0] for line in doc.splitlines() if line.startswith("    ") and line.split()[0].rstrip("/") in {*HOUSE, "testing"}]
    files = [name for name in ARROWS if name != "__init__"]
    assert named == [*files, "testing/"]
