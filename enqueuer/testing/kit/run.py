"""All checks of a subject, each in an interpreter of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from ..checks import CHECKS, Check
from ..pace import paced
from .adapter import AdapterError, named, short, unknown
from .judge import Answer
from .report import Report, Result, Verdict
from .watch import MEMORY, STOPPING, Seen, watch

__all__ = ["Progress", "run"]

Progress = Callable[[int, int, Result], object]
"""Called with how many are done, how many there are, and the latest."""

AT_ONCE: Final = (10.0, 20.0)
"""Time limit of an operation that should be immediate: the least, in seconds of an idle machine, and the least multiple of the calibration."""

AT_ALL: Final = (60.0, 200.0)
"""The same of a whole check, which waits for several such things."""

NAMED: Final = 3
"""So many of the things that stay are named."""

CALIBRATION: Final = "items_come_in_rank_order_whatever_their_timing"
"""The check of this package, in threads, that everything is measured by."""


def run(target: str, *, only: Sequence[str] = (), jobs: int = 2, progress: Progress | None = None) -> Report:
    """Judge a subject.

    Blocking: until all checks are done; each ends, whatever the subject does.

    Args:
        target: What is judged; see `load()`.
        only: Guarantees or checks; none: all.
        jobs: How many checks run side by side.
        progress: Called after each check, in the order in which they end.

    Raises:
        AdapterError: There is no such adapter, or no such check.
    """
    since = time.monotonic()
    checks = _chosen(only)
    calibration = _calibration()
    limit, whole = (max(least, times * calibration) for least, times in (AT_ONCE, AT_ALL))
    told = _described(target, whole)
    limit = told.get("limit", 0.0) or limit
    whole = max(whole, limit * AT_ALL[0] / AT_ONCE[0])
    results: dict[str, Result] = {}

    def judge(check: Check) -> None:
        result = _judged(check, told, target, limit, whole)
        results[short(check)] = result
        if progress is not None:
            progress(len(results), len(checks), result)

    pool = ThreadPoolExecutor(jobs)
    try:
        for future in [pool.submit(judge, check) for check in checks]:
            future.result()
    finally:  # after an interrupt nobody wants the rest
        STOPPING.set()
        pool.shutdown(cancel_futures=True)
        STOPPING.clear()
    return Report(
        subject=told.get("subject", ""),
        target=target,
        results=tuple(results[short(check)] for check in checks),
        declared=len(checks),
        limit=limit,
        calibration=calibration,
        seconds=time.monotonic() - since,
    )


@cache
def _calibration() -> float:
    """Return how many seconds a check of this package takes on this machine while it is idle, with the start of its interpreter; measured once.

    What else runs at the moment is taken off: every limit grows by itself while the machine is busy.
    """
    with paced() as machine:
        seen = watch({"target": "threads", "check": CALIBRATION, "limit": AT_ONCE[0]}, AT_ALL[0])
    return seen.seconds / machine.factor


def _chosen(only: Sequence[str]) -> list[Check]:
    wanted: set[str] = set()
    for name in only:
        if not named(name):
            raise unknown(name)
        wanted.add(named(name))
    return [check for check in CHECKS if not only or check.guarantee in wanted or short(check) in wanted]


def _described(target: str, limit: float) -> Answer:
    seen = watch({"target": target, "check": "", "limit": limit}, limit)
    if seen.answer is None:
        what = f"did not end within {limit:.0f} s" if seen.hangs else f"ended the interpreter ({_how(seen.exitcode)})"
        raise AdapterError(f"{target}: loading it {what}. It printed: {seen.output[-2000:] or 'nothing'}")
    if "unusable" in seen.answer:
        raise AdapterError(seen.answer["unusable"])
    return seen.answer


def _judged(check: Check, told: Answer, target: str, limit: float, whole: float) -> Result:
    name = short(check)
    why = told.get("inapplicable", {}).get(name, "")
    if why:
        return Result(check=name, guarantee=check.guarantee, verdict=Verdict.INAPPLICABLE, what=why)
    seen = watch({"target": target, "check": name, "limit": limit}, whole)
    if seen.left and all(what.startswith(MEMORY) for what in seen.left):  # which may be another program's: once more
        seen = watch({"target": target, "check": name, "limit": limit}, whole)
    verdict, guarantee, what = _verdict(check, seen, whole)
    reason = told.get("expected", {}).get(name, "")
    if reason:
        verdict = Verdict.UNEXPECTED if verdict is Verdict.KEPT else Verdict.EXPECTED
    return Result(
        check=name,
        guarantee=guarantee,
        verdict=verdict,
        what=what,
        reason=reason,
        seconds=seen.seconds,
        stacks=seen.output if seen.hangs else (seen.answer or {}).get("trace", ""),
        output=seen.output,
        notes=() if verdict is Verdict.KEPT else seen.notes,
        left=seen.left,
    )


def _verdict(check: Check, seen: Seen, whole: float) -> tuple[Verdict, str, str]:
    answer = seen.answer
    if answer is not None and not answer.get("kept", False):
        return Verdict.BROKEN, answer.get("guarantee", check.guarantee), answer.get("what", answer.get("unusable", ""))
    if seen.hangs:
        what = f"the check did not end within {whole:.0f} s" if answer is None else "the check was done, and the interpreter did not end"
        return Verdict.HANGS, check.guarantee if answer is None else "G20", what
    if answer is None:
        return Verdict.BROKEN, check.guarantee, f"the interpreter was ended in the middle of the check: {_how(seen.exitcode)}"
    if seen.left:
        more = f" and {len(seen.left) - NAMED} more" if len(seen.left) > NAMED else ""
        return Verdict.BROKEN, "G20", f"when the interpreter had ended, there was still {', '.join(seen.left[:NAMED])}{more}"
    if seen.exitcode:
        return Verdict.BROKEN, "G20", f"the check was done, and the interpreter ended badly: {_how(seen.exitcode)}"
    return Verdict.KEPT, check.guarantee, ""


def _how(exitcode: int | None) -> str:
    if exitcode is None:
        return "it was killed"
    return f"exit code {exitcode}" if exitcode >= 0 else f"killed by {signal.Signals(-exitcode).name}"
