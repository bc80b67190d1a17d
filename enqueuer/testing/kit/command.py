"""What `python -m enqueuer check` does: all checks of one subject or of several, and a table of verdicts.

Exit codes: 0 nothing is broken; 1 something is broken or hangs, an expected failure has passed, or not all checks ran; 2 wrong usage; 130
interrupted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from ..checks import CHECKS
from ..terminal import Line, OneLine, show, width, wrap
from .adapter import BY_NAME, OWN, AdapterError, short
from .html import page
from .judge import STOPPED
from .report import BAD, Report, Result, Verdict
from .run import run

__all__ = ["Asked", "answer", "listed"]

SHOWN: Final = {
    Verdict.KEPT: ("kept", ""),
    Verdict.BROKEN: ("BROKEN", "bold red"),
    Verdict.HANGS: ("HANGS", "bold red"),
    Verdict.INAPPLICABLE: ("-", "dim"),
    Verdict.EXPECTED: ("expected", "yellow"),
    Verdict.UNEXPECTED: ("PASSES", "bold red"),
}
"""How a verdict looks in the table."""

STACK: Final = 12
"""Lines of a traceback that are shown, the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of the command.

    Attributes:
        targets: What is judged; none: this package in every mode.
        only: Guarantees or checks; none: all.
        jobs: Checks side by side.
        as_json: Whether the result is for programs.
        html: Where the report is written as a page, "" if it is not.
    """

    targets: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    jobs: int = 2
    as_json: bool = False
    html: str = ""


def answer(asked: Asked, program: str, out: TextIO, err: TextIO) -> int:
    """Do what was asked; the result goes to `out`, progress and errors to `err`. Return the exit code."""
    line = OneLine(err)
    reports: list[Report] = []
    problem = ""
    try:
        for target in asked.targets or tuple(OWN):

            def progress(done: int, count: int, result: Result, target: str = target) -> None:
                if line.due():
                    line.write(f"{target}: {done} of {count}, {result.guarantee} {result.check}")

            reports.append(run(target, only=asked.only, jobs=asked.jobs, progress=progress))
            line.end(_sum(reports[-1]))
    except AdapterError as error:  # what is known of others is told all the same
        line.end()
        problem = f"{program}: {error}\n"
    if asked.as_json:
        out.write(json.dumps([report.as_json() for report in reports], indent=2) + "\n")
    elif reports:
        show(_table(reports) + _told(reports), out)
    if asked.html:
        Path(asked.html).write_text(page(reports), encoding="utf-8")
    err.write(problem)
    return 2 if problem else max(report.exit_code for report in reports)


def listed(out: TextIO) -> None:
    """Tell of each check what it claims, how, and what it needs."""
    lines: list[Line] = []
    for check in CHECKS:
        how = check.why.partition(": ")[2]
        needs = f"; needs {', '.join(sorted(check.needs))}" if check.needs else ""
        lines += [(text, "bold") for text in wrap(f"{check.guarantee} {short(check).replace('_', ' ')}")]
        lines += [(text, "") for text in wrap(f"    {how} ({check.level}{needs})")]
    show(lines, out)


def _sum(report: Report) -> str:
    lacks = report.declared - len(report.results)
    return f"{report.target}: {report.counted or 'nothing'}{f', {lacks} did not run' if lacks else ''}, {report.seconds:.0f} s"


def _claim(result: Result) -> str:
    return result.check.replace("_", " ")


def _table(reports: Sequence[Report]) -> list[Line]:
    """One row for each check, one column for each subject; where that does not fit, the verdicts are below the claim."""
    rows = list(zip(*(report.results for report in reports), strict=True))
    heads = [report.target for report in reports]
    sizes = [max(len(head), 8) for head in heads]
    left = max((len(_claim(row[0])) for row in rows), default=0) + 5
    lines: list[Line] = []
    wide = left + sum(sizes) + 2 * len(sizes) <= width()
    if wide:
        lines.append((" " * left + "".join(f"  {head:>{size}}" for head, size in zip(heads, sizes, strict=True)), "dim"))
    watched = ""
    for row in rows:
        guarantee = BY_NAME[row[0].check].guarantee
        mark, watched = f"{guarantee if guarantee != watched else '':4} ", guarantee
        words = [SHOWN[result.verdict][0] for result in row]
        style = next((SHOWN[result.verdict][1] for result in row if result.verdict in BAD), "")
        if wide:
            lines.append(
                (f"{mark}{_claim(row[0]):{left - 5}}" + "".join(f"  {word:>{size}}" for word, size in zip(words, sizes, strict=True)), style)
            )
        else:
            said = words[0] if len(set(words)) == 1 else ", ".join(f"{head} {word}" for head, word in zip(heads, words, strict=True))
            lines += [(text, style) for text in wrap(f"{guarantee} {_claim(row[0])}: {said}")]
    return [*lines, ("", "")]


def _told(reports: Sequence[Report]) -> list[Line]:
    lines: list[Line] = []
    for report in reports:
        for result in report.results:
            if result.verdict in BAD:
                lines += [(text, "bold red") for text in wrap(f"{report.target}, {result.guarantee}: {_claim(result)}")]
                lines += [(text, "") for text in wrap(f"  {result.said}")]
                if result.verdict is Verdict.HANGS or STOPPED in result.what:
                    lines += [(part, "dim") for text in result.stacks.splitlines()[-STACK:] for part in wrap(text)]
                lines.append(("", ""))
    for report in reports:
        lines += [(text, "bold") for text in wrap(_sum(report))]
        why = Counter(result.what for result in report.results if result.verdict is Verdict.INAPPLICABLE)
        lines += [(text, "dim") for reason, count in why.items() for text in wrap(f"  - {count} not applicable: {reason}")]
        expected = [result for result in report.results if result.verdict is Verdict.EXPECTED]
        lines += [(text, "yellow") for result in expected for text in wrap(f"  {result.guarantee} {_claim(result)}: as expected, {result.reason}")]
    return lines
