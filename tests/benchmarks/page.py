"""The page of performance, its figures and its data, from what `peers.py` and `growth.py` have kept.

nox -s bench -- --page            writes docs/performance.md, docs/performance.json and two pictures beside it
"""

from __future__ import annotations

import json
import statistics
from typing import Any, Final

import matplotlib as mpl
from peers import KEPT, PACKAGES, ROOT, ROWS, Row

mpl.use("Agg")
from matplotlib import pyplot as plt

DOCS: Final = ROOT / "docs"
COLOURS: Final = {"reached": "#2a7f62", "missed": "#c1502e", "not judged": "#8a8a8a"}
WHO: Final = {
    "tfk": "keras 2.15",
    "k3": "Keras 3",
    "torch": "torch DataLoader",
    "nodes": "torchdata nodes",
    "grain": "grain",
    "spdl": "spdl",
    "queue": "a bare queue.Queue",
    "whole": "the same without ends of epochs",
    "limit": "computing and one copy",
}

Kept = dict[str, Any]


def best(row: Row, kept: Kept) -> dict[str, list[float]]:
    """Return for each line of a row how many times as fast as the best of its peers this project was, round by round."""
    found: dict[str, list[float]] = {}
    for peers in row.faster:
        found[peers] = []
        for number, mine in enumerate(kept["us"]["ours"]):
            theirs = [value for name in peers.split(",") if (value := kept["us"][name][number])]
            if mine and theirs:
                found[peers].append(min(theirs) / mine)
    return found


def ratios(results: dict[str, Kept]) -> None:
    """Draw one bar for each ratio that is judged, and a mark where it has to be."""
    lines: list[tuple[str, float, float, float, float, str]] = []
    for row in ROWS:
        kept = results.get(row.name)
        if kept is None:
            continue
        for peers, found in best(row, kept).items():
            if found:
                who = WHO[peers] if peers in WHO else "the best of " + ", ".join(peers.split(","))
                middle, least = statistics.median(found), row.faster[peers]
                lines.append((f"{row.name}: {who}", middle, min(found), max(found), least, "reached" if middle >= least else "missed"))
    figure, axes = plt.subplots(figsize=(11, 0.34 * len(lines) + 1.2))
    for place, (_, middle, low, high, least, verdict) in enumerate(reversed(lines)):
        axes.barh(place, middle, color=COLOURS[verdict], height=0.62)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        axes.plot([least, least], [place - 0.4, place + 0.4], color="black", linewidth=2)
        axes.text(max(high, least) * 1.06, place, f"{middle:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(lines)), [line[0] for line in reversed(lines)], fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="#8a8a8a", linewidth=0.8, linestyle=":")
    axes.set_xlabel("times as fast (median; thin line: lowest to highest round; thick mark: to be reached)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(DOCS / "performance-ratios.png", dpi=110)
    plt.close(figure)


def curves(growth: Kept) -> None:
    """Draw how cost grows."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 6))
    for axes, what in zip(panels.flat, ("workers", "queue", "item", "epoch"), strict=True):
        for mode, colour in (("thread", "#2a5f9e"), ("process", "#c1502e")):
            axes.plot(growth[what]["values"], growth[what][mode], marker="o", markersize=3, color=colour, label=mode)
        axes.set_xlabel(growth[what]["says"], fontsize=8)
        axes.set_ylabel("µs an item", fontsize=8)
        axes.set_yscale("log")
        if what != "workers":
            axes.set_xscale("log")
        axes.grid(visible=True, which="major", linewidth=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels.flat[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "performance-growth.png", dpi=110)
    plt.close(figure)


def told(us: float, unit: str) -> str:
    """Return a figure as a table should say it."""
    return f"{us:.1f} items" if unit == "items" else f"{us:,.1f} µs" if us < 100 else f"{us:,.0f} µs"


def table(results: dict[str, Kept]) -> list[str]:
    """Return the rows."""
    lines = ["| row | this project | the others | judged |", "|---|---|---|---|"]
    for row in ROWS:
        kept = results.get(row.name)
        if kept is None:
            continue
        unit = "items" if row.most else "µs"
        middle = {name: statistics.median(good) for name, values in kept["us"].items() if (good := [value for value in values if value])}
        others = ", ".join(f"{name} {told(us, unit)}" for name, us in middle.items() if name != "ours")
        lines.append(f"| {row.name} | {told(middle['ours'], unit)} | {others or 'none'} | {kept['verdict']}: {'; '.join(kept['said'])} |")
    return lines


def page(results: dict[str, Kept], growth: Kept, load: float) -> str:
    """Return the page."""
    versions = "; ".join(f"{name}: {', '.join(packages)}" for name, packages in PACKAGES.items())
    return "\n".join(
        (
            "# Performance",
            "",
            "Made by `nox -s bench -- --page` from `performance.json`, which a run of `nox -s bench` has left; nothing here is typed by hand.",
            "Every row is read by all in turn, round after round, on one machine with two cores; what counts is the ratio within a round.",
            f"The load before a round was at most {load:.2f}. Absolute times are of that machine.",
            "",
            f"Peers, each in an environment of its own: {versions}.",
            "",
            "![How many times as fast as the best peer](performance-ratios.png)",
            "",
            *table(results),
            "",
            "## How cost grows",
            "",
            "Two workers and a queue of ten unless that is varied, tiny items unless their size is; epochs have a hook.",
            f"Medians of {growth['rounds']} readings.",
            "",
            "![Cost over workers, queue, item size and epoch length](performance-growth.png)",
            "",
        )
    )


def write() -> None:
    """Write all of it."""
    kept, growth = json.loads((KEPT / "result.json").read_text()), json.loads((KEPT / "growth.json").read_text())
    results = {each["row"]: each for each in kept}
    load = max(max(each["loads"]) for each in kept)
    (DOCS / "performance.json").write_text(json.dumps({"rows": kept, "growth": growth}, indent=1) + "\n")
    (DOCS / "performance.md").write_text(page(results, growth, load))
    ratios(results)
    curves(growth)
