"""The conformance kit: which promises an enqueuer keeps, by a verdict for each check.

    adapter      a subject, what it lacks, where it deviates on purpose: `Adapter`, and how one is named
    judge        one check in an interpreter of its own
    watch        the process around that: hangs, crashes, what is left behind
    run          all checks: `run(target) -> Report`
    report       verdicts, results, JSON
    html         the same as one page, with timelines
    fixture      a test for each check; needs pytest
    validated    an enqueuer for a real program, which tells as soon as it sees a promise broken: `validated()`
    command      what `python -m enqueuer check` prints

Nothing else of it needs pytest, and nothing Hypothesis.
"""

from __future__ import annotations

from .adapter import Adapter
from .report import Report, Result, Verdict
from .run import run
from .validated import validated

__all__ = ["Adapter", "Report", "Result", "Verdict", "run", "validated"]
