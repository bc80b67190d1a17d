"""Layered drawings of small state graphs, as SVG: states row by row, edges downwards.

Between two rows of states there is one of labels, and an edge has a place of its own in each row that it passes, so nothing overlaps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import fmean
from typing import Final, TypeAlias

Node: TypeAlias = Hashable
SWEEPS: Final = 24
LETTER: Final = 6.2
"""Width of a letter of an edge's label."""


@dataclass(frozen=True)
class Picture:
    """How one state looks: SVG around (0, 0), and its size."""

    svg: str
    width: float
    height: float


def rows(nodes: Sequence[Node], edges: Sequence[tuple[Node, Node, str]]) -> dict[Node, int]:
    """Return the row of each node: the length of the longest way to it."""
    row = dict.fromkeys(nodes, 0)
    for _ in nodes:
        moved = False
        for source, target, _ in edges:
            if row[target] <= row[source]:
                row[target], moved = row[source] + 1, True
        if not moved:
            return row
    raise ValueError("there is a cycle: it has no rows")


def layout(row: dict[Node, int], links: list[tuple[Node, Node]], widths: dict[Node, float]) -> dict[Node, float]:
    """Return the x of each node: rows ordered by where their neighbours are, then pulled towards them as far as there is room."""
    layers: list[list[Node]] = [[] for _ in range(max(row.values()) + 1)]
    for node in row:
        layers[row[node]].append(node)
    above: dict[Node, list[Node]] = {node: [] for node in row}
    below: dict[Node, list[Node]] = {node: [] for node in row}
    for source, target in links:
        above[target].append(source)
        below[source].append(target)
    x = {node: float(place) for layer in layers for place, node in enumerate(layer)}

    def pull(near: dict[Node, list[Node]], node: Node) -> float:
        return fmean([x[other] for other in near[node]]) if near[node] else x[node]

    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for layer in layers if down else reversed(layers):
            layer.sort(key=lambda node: pull(near, node))
            if sweep < SWEEPS // 3:  # first the order only
                x.update({node: float(place) - len(layer) / 2 for place, node in enumerate(layer)})
            else:
                x.update(_apart(layer, [pull(near, node) for node in layer], widths))
    return x


def _apart(layer: list[Node], wanted: list[float], widths: dict[Node, float]) -> dict[Node, float]:
    """Return places as wanted, but so far apart that nothing overlaps: the mean of shifting to the right and of shifting to the left."""
    right, left = list(wanted), list(wanted)
    gaps = [(widths[one] + widths[other]) / 2 for one, other in pairwise(layer)]
    for place, gap in enumerate(gaps):
        right[place + 1] = max(right[place + 1], right[place] + gap)
    for place, gap in reversed(list(enumerate(gaps))):
        left[place] = min(left[place], left[place + 1] - gap)
    return {node: (one + other) / 2 for node, one, other in zip(layer, right, left, strict=True)}


def draw(nodes: Sequence[Node], edges: Sequence[tuple[Node, Node, str]], picture: Callable[[Node], Picture], title: str, legend: Picture) -> str:
    """Return the drawing; an edge is (from, to, label)."""
    row = {node: 2 * at for node, at in rows(nodes, edges).items()}
    pictures = {node: picture(node) for node in nodes}
    widths = {node: pictures[node].width + 26 for node in nodes}
    ways: list[list[Node]] = []
    for number, (source, target, label) in enumerate(edges):
        bends: list[Node] = [("bend", number, at) for at in range(row[source] + 1, row[target])]
        row |= {bend: at for at, bend in enumerate(bends, row[source] + 1)}
        widths |= dict.fromkeys(bends, 20.0) | {bends[0]: LETTER * len(label) + 14}
        ways.append([source, *bends, target])
    x = layout(row, [link for way in ways for link in pairwise(way)], widths)
    height = max(one.height for one in pictures.values())
    y = {node: 60 + height / 2 + row[node] * (height + 54) / 2 for node in row}
    half = {node: pictures[node].height / 2 if node in pictures else 0.0 for node in row}
    lines: list[str] = []
    labels: list[str] = []
    for (_, _, label), way in zip(edges, ways, strict=True):
        path = f"M{x[way[0]]:.1f},{y[way[0]] + half[way[0]]:.1f}"
        for one, other in pairwise(way):
            top, bottom = y[one] + half[one], y[other] - half[other] - (5 if other == way[-1] else 0)
            path += f" C{x[one]:.1f},{(top + bottom) / 2:.1f} {x[other]:.1f},{(top + bottom) / 2:.1f} {x[other]:.1f},{bottom:.1f}"
        lines.append(f'<path class="edge" d="{path}"/>')
        place = f'x="{x[way[1]]:.1f}" y="{y[way[1]] + 4:.1f}"'
        labels += [f'<text class="{kind}" {place}>{escape(label)}</text>' for kind in ("halo", "label")]
    boxes = [f'<g transform="translate({x[node]:.1f},{y[node]:.1f})">{pictures[node].svg}</g>' for node in nodes]
    left, right = min(x[node] - widths[node] / 2 for node in row), max(x[node] + widths[node] / 2 for node in row)
    wide = max(right - left, legend.width, 8.5 * len(title)) + 32
    left = (left + right - wide) / 2
    low = max(y.values()) + height / 2
    tall = low + legend.height + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} 0 {wide:.0f} {tall:.0f}" width="{wide:.0f}" height="{tall:.0f}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n{ARROW}\n"
        f'<rect x="{left:.0f}" width="{wide:.0f}" height="{tall:.0f}" fill="#fff"/>\n'
        f'<text class="title" x="{left + 16:.0f}" y="28">{escape(title)}</text>\n'
        + "\n".join([*lines, *labels, *boxes])
        + f'\n<g transform="translate({left + 16:.0f},{low + 30:.0f})">{legend.svg}</g>\n</svg>\n'
    )


STYLE: Final = (
    "text{font:12px sans-serif;text-anchor:middle;fill:#222}"
    ".title{font:bold 14px sans-serif;text-anchor:start}"
    ".halo{font:11px sans-serif;fill:#fff;stroke:#fff;stroke-width:4px;stroke-linejoin:round}.label{font:11px sans-serif;fill:#1a4f8b}"
    ".note{font:11px sans-serif;text-anchor:start}"
    ".small{font:10px sans-serif;fill:#555}"
    ".edge{fill:none;stroke:#8a94a3;stroke-width:1.2;marker-end:url(#arrow)}"
)
ARROW: Final = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="1" refY="5" markerWidth="6" markerHeight="6" orient="auto">'
    '<path d="M0,0 L10,5 L0,10 z" fill="#8a94a3"/></marker></defs>'
)
