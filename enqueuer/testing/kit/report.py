"""What came of it: a verdict for each check, and what it rests on."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Final

from ..subject import Note
from .adapter import BY_NAME

__all__ = ["Report", "Result", "Verdict"]


class Verdict(enum.Enum):
    """Of one check."""

    KEPT = "kept"
    BROKEN = "broken"
    HANGS = "hangs"
    INAPPLICABLE = "not applicable"
    EXPECTED = "expected failure"
    UNEXPECTED = "unexpected pass"


BAD: Final = frozenset({Verdict.BROKEN, Verdict.HANGS, Verdict.UNEXPECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one check.

    Attributes:
        check: Its name, without "check_".
        guarantee: The clause that it watches; if it is broken, the one that was seen to be.
        verdict: The verdict.
        what: What was seen, if it was not kept; why, if it does not apply.
        reason: Why a failure is expected, "" if it is not.
        seconds: How long it took.
        stacks: Of all threads, where it hangs; the traceback of what failed.
        output: What was printed meanwhile, its end.
        notes: What the check saw, if it was not kept: when, who, what, of what; see `enqueuer.testing.subject.Note`.
        left: What stayed when the interpreter had ended: processes, which were killed, and names of shared memory that no process uses. Those
            may be another program's, so they are left alone.
    """

    check: str
    guarantee: str
    verdict: Verdict
    what: str = ""
    reason: str = ""
    seconds: float = 0.0
    stacks: str = ""
    output: str = ""
    notes: tuple[Note, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """What is to be told of it."""
        return self.what or f"it was expected to fail, and passes: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of all checks of one subject.

    Attributes:
        subject: Its name.
        target: How it was named.
        results: One for each check that was to run, in their order; fewer if the run was cut.
        declared: How many were to run.
        limit: Seconds after which something that should come at once is a hang.
        calibration: Seconds that one check of this package took; limits are multiples of it.
        seconds: How long all took.
    """

    subject: str
    target: str
    results: tuple[Result, ...]
    declared: int
    limit: float
    calibration: float
    seconds: float
    counts: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        counted = Counter(result.verdict for result in self.results)
        object.__setattr__(self, "counts", {verdict.value: counted[verdict] for verdict in Verdict})

    @property
    def counted(self) -> str:
        """How often there was each verdict, in words."""
        return ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)

    @property
    def bad(self) -> tuple[Result, ...]:
        """What is not as it should be."""
        return tuple(result for result in self.results if result.verdict in BAD)

    @property
    def exit_code(self) -> int:
        """0 if nothing is broken or hangs, no expected failure has passed, and all checks have run; else 1."""
        return int(bool(self.bad) or len(self.results) != self.declared)

    def as_json(self) -> dict[str, object]:
        """Return it as what JSON can say."""
        found: dict[str, object] = asdict(self)
        found["results"] = [_row(result) for result in self.results]
        found["exit_code"] = self.exit_code
        return found


def _row(result: Result) -> dict[str, object]:
    row: dict[str, object] = asdict(result)
    check = BY_NAME[result.check]
    return row | {"verdict": result.verdict.value, "watches": check.guarantee, "level": check.level}
