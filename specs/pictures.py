"""State diagrams for readers, drawn from TLC's own state graphs of the smallest models.

python specs/pictures.py          write figures/*.svg
python specs/pictures.py --check  say whether they are what the models give
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Final

from cover import BASE, HERE, MODELS, WINDOW, Value, dump, keep, pairs, scan, window
from draw import Picture, draw

CELL: Final = 30
KINDS: Final = {
    "taken": "#dfe3e8",
    "ready": "#a8dba8",
    "under way": "#ffe08a",
    "not claimed": "#fff",
    "failed": "#f3a6a0",
    "not open": "none",
}
"""What a rank can be, and its colour."""


@dataclass(frozen=True)
class Figure:
    """A state graph to draw: states that look the same are one, so it does not matter which worker does what."""

    title: str
    constants: dict[str, Value]


QUIET: Final = {"Kinds": ["item"], "TurnFails": False, "Epochs": 1}
HOOK: Final = {"W": 1, "Length": 1, "Epochs": 2, "Barrier": True, "TurnFails": True}
FIGURES: Final = {
    "one-at-a-time": Figure("One worker, max_queue_size 1: one item at a time", {**QUIET, "W": 1, "Size": 1}),
    "one-ahead": Figure("One worker, max_queue_size 2: it computes ahead of the consumer", {**QUIET, "W": 1}),
    "two-workers": Figure("Two workers, two items: item 1 may be ready first, and waits", {**QUIET}),
    "error": Figure(
        "Two workers, items that may fail: what comes before is delivered, and the lowest rank wins", {**QUIET, "Kinds": ["item", "error"]}
    ),
    "hook": Figure("One worker, two epochs of one item, a hook between them that may fail", {**QUIET, **HOOK}),
}


def of_window(name: str) -> str:
    """Return the drawing of a small state graph."""
    constants = {**BASE, **FIGURES[name].constants}
    graph = window(constants)
    total, size = constants["Length"] * constants["Epochs"], constants["Size"]
    looks = [json.dumps(_look(dict(zip(WINDOW, state, strict=False)), total)) for state in graph.states]
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for source, called, arguments, returned, target in graph.edges:
        labels.setdefault((looks[source], looks[target]), {})[_label(called, arguments, returned, graph.states[source][1])] = None
    edges = [(source, target, ", ".join(label)) for (source, target), label in labels.items()]
    return draw([*dict.fromkeys(looks)], edges, lambda node: _picture(json.loads(node), size), FIGURES[name].title, _legend())


def _look(win: dict[str, Value], total: int) -> Value:
    """What is drawn of a state."""
    under, ready = {rank for rank, _ in win["under"]}, {rank for rank, _ in win["ready"]}
    cells = []
    for rank in range(total):
        if rank < win["rank"]:
            cells.append("taken")
        elif rank in ready:
            cells.append("ready")
        elif rank in under and rank < win["claimed"]:
            cells.append("under way")
        elif rank >= win["end"]:
            cells.append("failed" if win["error"] and rank == win["end"] else "not open")
        else:
            cells.append("not claimed")
    word = win["state"] if win["state"] != "running" else "" if not win["turning"] else "turn" if under else "not started"
    return [word, win["rank"], cells]


def _label(name: str, arguments: Value, returned: Value, rank: int) -> str:
    if name == "claim":
        return f"claim: {returned[1]}" if returned[0] == "rank" else "claim: the turn"
    if name == "take":
        return f"take: {rank}"
    if name == "finish":
        return f"finish {arguments[0]}: {'error' if arguments[1] else 'no more'}"
    if name == "turned" and arguments[0]:
        return "turned: error"
    return f"{name} {arguments[0]}" if name == "put" else name


def _cell(x: float, y: float, kind: str, text: str = "") -> str:
    line = 'stroke="#b9c0ca" stroke-dasharray="3 3"' if kind == "not open" else 'stroke="#555"'
    return f'<rect x="{x}" y="{y}" width="{CELL}" height="22" fill="{KINDS[kind]}" {line}/><text x="{x + CELL / 2}" y="{y + 15}">{text}</text>'


def _picture(look: Value, size: int) -> Picture:
    word, rank, cells = look
    wide = max(CELL * len(cells), 64)
    fill = {"ended": "#eef8ee", "failed": "#fdeeee", "stopped": "#f2f2f2"}.get(word, "#fafbfc")
    left = -CELL * len(cells) / 2
    parts = [f'<rect x="{-wide / 2 - 8}" y="-29" width="{wide + 16}" height="58" rx="8" fill="{fill}" stroke="#c4ccd6"/>']
    parts += [_cell(left + CELL * number, -11, kind, str(number)) for number, kind in enumerate(cells)]
    parts.append(f'<text class="small" y="-17">{word or "running"}</text>')
    if rank < len(cells):
        first, last = left + CELL * rank + 2, left + CELL * min(rank + size, len(cells)) - 2
        parts.append(f'<path d="M{first},16 v5 H{last} v-5" fill="none" stroke="#1a4f8b" stroke-width="1.5"/>')
    return Picture("".join(parts), wide + 16, 58)


def _legend() -> Picture:
    parts, x = [], 0.0
    for kind in KINDS:
        parts.append(_cell(x, 0, kind) + f'<text class="note" x="{x + CELL + 5}" y="15">{kind}</text>')
        x += CELL + 18 + 6.5 * len(kind)
    parts.append(f'<path d="M0,34 v5 H{CELL} v-5" fill="none" stroke="#1a4f8b" stroke-width="1.5"/>')
    parts.append(f'<text class="note" x="{CELL + 5}" y="41">the window: the ranks that may be claimed or wait</text>')
    return Picture("".join(parts), x, 50)


# the monitor

MONITOR: Final = {"W": 1, "Size": 1, "Length": 1, "Epochs": 1, "Barrier": False, "Stoppers": [], "Kinds": ["item"], "HookFails": False}
WORKER: Final = {
    "first": "begins",
    "parked": "waits",
    "turn": "has the turn",
    "turning": "opens the epoch",
    "claimed": "has claimed 0",
    "computing": "computes 0",
    "leave": "is to leave",
    "exit": "leaves",
    "gone": "is gone",
}
CONSUMER: Final = {"out": "is elsewhere", "look": "calls next()", "parked": "waits", "item": "has item 0", "stop": "has seen the end"}


def of_monitor() -> str:
    """Return the drawing of one run with one worker and one consumer, from where start() returns; each edge is a critical section."""
    defaults = MODELS["defaults"]["OrderedEnqueuer"]
    nodes, links = scan(dump("OrderedEnqueuer", {**defaults, **MONITOR}))
    looks = {name: json.dumps(_monitor(node)) for name, node in nodes.items() if node["boot"] == ["done"]}
    drawn = dict.fromkeys(sorted({looks[target] for _, target, action in links if action == "BeginRun"}))
    ended = {name for name, node in nodes.items() if node["con"][0]["got"] == "stop"}  # whoever calls again gets the same again
    steps = {(looks[one], looks[other], action) for one, other, action in links if one in looks and not (one in ended and action == "CallNext")}
    leaving: dict[str, dict[str, list[str]]] = {}
    for source, target, action in sorted(steps):
        if source != target:
            leaving.setdefault(source, {}).setdefault(target, []).append(action)
    queue = [*drawn]
    for look in queue:
        queue += [target for target in leaving.get(look, ()) if target not in drawn]
        drawn |= dict.fromkeys(queue)
    edges = [(source, target, ", ".join(label)) for source in drawn for target, label in leaving.get(source, {}).items()]
    title = "The monitor: one worker, one consumer, max_queue_size 1, one item"
    return draw([*drawn], edges, lambda node: _threads(json.loads(node)), title, _legend())


def _monitor(node: dict[str, Value]) -> Value:
    (win,), (pc,), (permits,), (consumer,) = node["win"], node["pc"], node["permits"], node["con"]
    win["under"], win["ready"] = pairs(win["under"]), pairs(win["ready"])
    ((_, does),) = pairs(pc)
    worker = "is woken" if does == "parked" and permits else WORKER[does]
    who = consumer["got"] if consumer["pc"] == "out" and consumer["got"] else consumer["pc"]
    return [*_look(win, 1), worker, "is woken" if who == "parked" and consumer["permit"] else CONSUMER[who]]


def _threads(look: Value) -> Picture:
    *inside, worker, consumer = look
    picture = _picture(inside, 1)
    parts = [f'<rect x="-88" y="-48" width="176" height="96" rx="8" fill="#fff" stroke="#c4ccd6"/><g transform="translate(0,-16)">{picture.svg}</g>']
    parts += [f'<text x="0" y="{y}">{text}</text>' for y, text in ((26, f"worker {worker}"), (42, f"consumer {consumer}"))]
    return Picture("".join(parts), 176, 96)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="State diagrams, drawn from TLC's state graphs of the smallest models.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a figure is not what its model gives")
    check = parser.parse_args().check
    texts = {name: of_window(name) for name in FIGURES} | {"monitor": of_monitor()}
    keep({HERE / "figures" / f"{name}.svg": text for name, text in texts.items()}, check=check)


if __name__ == "__main__":
    main()
