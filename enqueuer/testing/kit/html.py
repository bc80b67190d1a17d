"""The report as one page that needs nothing else: the matrix, and for each broken promise a timeline of what the check saw."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Final

from ...guarantees import CONTRACT
from ..subject import Note
from .adapter import BY_NAME
from .report import BAD, Report, Result, Verdict

__all__ = ["page"]

STEP: Final = 30
"""Pixels from one note to the next: they are told in their order, as most of the time is waiting."""

LANE: Final = 34
"""Pixels from one lane to the next."""

LATEST: Final = 60
"""Notes that a timeline has, the last."""

LABEL: Final = 150
"""Pixels for the names of lanes."""

CLASS: Final = {
    Verdict.KEPT: "kept",
    Verdict.BROKEN: "bad",
    Verdict.HANGS: "bad",
    Verdict.INAPPLICABLE: "none",
    Verdict.EXPECTED: "expected",
    Verdict.UNEXPECTED: "bad",
}

_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>$title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2733; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .25rem .5rem; border-bottom: 1px solid #e3e7ec; text-align: left; }
td.verdict { white-space: nowrap; } td.id { font-weight: 600; width: 2.5rem; } .wide { overflow-x: auto; }
.kept { color: #2a7f62; } .bad { color: #b3261e; font-weight: 600; } .none { color: #7a8591; } .expected { color: #8a6100; }
.bad a { color: inherit; } p.clause { color: #56616d; margin: .2rem 0; } code, pre { font: 13px/1.4 ui-monospace, monospace; }
pre { background: #f4f6f8; padding: .6rem; overflow-x: auto; } svg text { font: 11px system-ui, sans-serif; }
</style></head><body>
<h1>$title</h1>
$sums
<h2>Verdicts</h2><div class="wide"><table>$matrix</table></div>
$failures
</body></html>
""")


def page(reports: Sequence[Report]) -> str:
    """Return the page."""
    title = "Conformance of " + ", ".join(report.subject for report in reports)
    failures = [_failure(report, result) for report in reports for result in report.results if result.verdict in BAD]
    return _PAGE.substitute(
        title=escape(title),
        sums="".join(f"<p>{escape(_sum(report))}</p>" for report in reports),
        matrix=_matrix(reports),
        failures=f"<h2>What was seen</h2>{''.join(failures)}" if failures else "",
    )


def _sum(report: Report) -> str:
    return f"{report.subject} ({report.target}): {report.counted}; {report.seconds:.0f} s. At once means within {report.limit:.0f} s."


def _anchor(report: Report, result: Result) -> str:
    return re.sub(r"\W+", "-", f"{report.target}-{result.check}")


def _matrix(reports: Sequence[Report]) -> str:
    rows = [f"<tr><th></th><th>check</th>{''.join(f'<th>{escape(report.subject)}</th>' for report in reports)}</tr>"]
    last = ""
    for row in zip(*(report.results for report in reports), strict=True):
        guarantee = BY_NAME[row[0].check].guarantee
        cells: list[str] = []
        for report, result in zip(reports, row, strict=True):
            word = escape(result.verdict.value)
            told = f'<a href="#{_anchor(report, result)}">{word}</a>' if result.verdict in BAD else word
            why = escape(result.reason or result.what, quote=True)
            cells.append(f'<td class="verdict {CLASS[result.verdict]}" title="{why}">{told}</td>')
        rows.append(f'<tr><td class="id">{guarantee if guarantee != last else ""}</td><td>{_claim(row[0])}</td>{"".join(cells)}</tr>')
        last = guarantee
    return "".join(rows)


def _claim(result: Result) -> str:
    return escape(result.check.replace("_", " "))


def _failure(report: Report, result: Result) -> str:
    clause = next((clause for clause in CONTRACT if clause.id == result.guarantee), None)
    parts = [
        f'<h3 id="{_anchor(report, result)}">{escape(report.subject)}, {result.guarantee}: {_claim(result)}</h3>',
        f'<p class="bad">{escape(result.said)}</p>',
        f'<p class="clause">{clause.id}, {escape(clause.name)}: {escape(clause.text)}</p>' if clause is not None else "",
        f'<div class="wide">{_timeline(result.notes[-LATEST:], result.said)}</div>' if result.notes else "",
        f"<p>Again: <code>python -m enqueuer check {escape(report.target)} --only {escape(result.check)}</code></p>",
        f"<details><summary>Stacks</summary><pre>{escape(result.stacks)}</pre></details>" if result.stacks else "",
        f"<details><summary>Output</summary><pre>{escape(result.output)}</pre></details>" if result.output and result.output != result.stacks else "",
    ]
    return "".join(parts)


@dataclass(slots=True)
class _Box:
    """Something that has begun; it may not have ended."""

    lane: int
    begin: int
    label: str
    end: int | None = None


def _timeline(notes: Sequence[Note], what: str) -> str:
    """Draw lanes: the consumer, then who computes, in the order in which they come. Each note is a step."""
    lanes: dict[str, int] = {"consumer": 0}
    boxes: list[_Box] = []
    marks: list[str] = []
    since = notes[0][0]
    broken: int | None = None
    for step, (_, who, kind, of) in enumerate(notes):
        lane = lanes.setdefault(who, len(lanes))
        if kind in {"begins", "calls"}:
            boxes.append(_Box(lane, step, of))
        elif kind in {"ends", "returns", "raises"}:
            opened = next((box for box in reversed(boxes) if box.lane == lane and box.end is None), None)
            if opened is not None:
                opened.end = step
            if kind == "raises":
                marks.append(_text(step, lane, of, "#b3261e"))
        elif kind == "breaks":
            broken = step if broken is None else broken
        else:
            marks.append(f'<circle cx="{_x(step)}" cy="{_y(lane)}" r="4" fill="#2a5f9e"/>{_text(step, lane, of, "#2a5f9e")}')
    width, height = _x(len(notes)) + 110, _y(len(lanes)) + 22
    seen = _x(len(notes) if broken is None else broken)
    drawn = [
        f'<svg role="img" aria-label="Timeline" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        *(_lane(name, lane, width) for name, lane in lanes.items()),
        *(_box(box, len(notes)) for box in boxes),
        *marks,
        *(_time(step, when - since, height) for step, (when, *_) in enumerate(notes) if step % 4 == 0),
        f'<line x1="{seen}" x2="{seen}" y1="6" y2="{height - 22}" stroke="#b3261e" stroke-width="2"><title>{escape(what)}</title></line>',
        "</svg>",
    ]
    return "".join(drawn)


def _x(step: int) -> int:
    return LABEL + STEP * step


def _y(lane: int) -> int:
    return 24 + LANE * lane


def _time(step: int, seconds: float, height: int) -> str:
    told = f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
    return f'<text x="{_x(step)}" y="{height - 6}" fill="#7a8591">{told}</text>'


def _text(step: int, lane: int, text: str, colour: str) -> str:
    return f'<text x="{_x(step) - 4}" y="{_y(lane) - 8}" fill="{colour}">{escape(text[:18])}</text>'


def _lane(name: str, lane: int, width: int) -> str:
    line = f'<line x1="{LABEL - 10}" x2="{width}" y1="{_y(lane)}" y2="{_y(lane)}" stroke="#e3e7ec"/>'
    return f'<text x="2" y="{_y(lane) + 4}">{escape(name[:24])}</text>{line}'


def _box(box: _Box, steps: int) -> str:
    """A box that has not ended goes to the end, and is open there."""
    end = steps if box.end is None else box.end
    dashes = ' stroke-dasharray="4 3"' if box.end is None else ""
    place = f'x="{_x(box.begin)}" y="{_y(box.lane) - 6}" width="{max(6, STEP * (end - box.begin))}" height="12" rx="3"'
    colour = "#dfe7f1" if box.lane == 0 else "#cfe6dc"
    shape = f'<rect {place} fill="{colour}" stroke="#56616d"{dashes}><title>{escape(box.label)}</title></rect>'
    return f'{shape}<text x="{_x(box.begin) + 3}" y="{_y(box.lane) + 18}" fill="#56616d">{escape(box.label[:22])}</text>'
