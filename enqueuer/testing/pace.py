"""How slow this machine is at the moment, so that a check judges the subject and not the machine.

A second of the contract is a second of a machine that does nothing else. On a busy or a slow machine the same work
takes longer. A *witness*, a process that shares nothing with the subject, repeats a fixed piece of work and times it.
The pace is the ratio of its slowest time to the time on an idle machine, and at least 1. A check multiplies by it:
every limit after which it reports a hang, every time that the contract promises, and every moment for which it watches
for something that must not happen.

The witness computes without waiting for anything, so its time grows with the processors' speed and with whatever else
wants them; a subject that sleeps, waits or is stuck does not slow it down, and finds no excuse here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

__all__ = ["Pace", "pace", "paced", "patiently", "seen"]

IDLE_SECONDS: Final = 0.012
"""Seconds that the piece of work takes on an idle machine of an ordinary speed."""

WITNESS: Final = """
import os, select, signal, sys, time

def work():
    begun, total = time.perf_counter(), 0
    for number in range(100_000):
        total += number * number
    return time.perf_counter() - begun

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches this process, too
parent = os.getppid()
slowest = max(work(), work())
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0] and os.getppid() == parent:
    slowest = max(slowest, work())
print(max(slowest, work(), work()), flush=True)
"""
"""It works twice before what is timed, again and again meanwhile, and twice after. A line tells it to stop, and so does the death of its parent. The
end of its input would not do: a process that is forked meanwhile may hold the other end open."""


class Pace:
    """What a witness has seen.

    Attributes:
        factor: How many times as long as on an idle machine the slowest piece of work took; at least 1, and 1 until the witness was heard.
    """

    def __init__(self) -> None:
        self.factor = 1.0


@contextmanager
def paced() -> Generator[Pace]:
    """Have a witness beside what is done inside; its result is there when the block has ended, whether or not it raised.

    Blocking: for the start of an interpreter before, and for two pieces of work after; some hundredths of a second.
    """
    seen = Pace()
    command = [sys.executable, "-I", "-S", "-c", WITNESS]
    # Without close_fds it is started by posix_spawn(). Otherwise this thread would wait for the end of a pipe that tells whether exec() failed, and a
    # worker process that another thread forks in that moment would hold the other end open for as long as it lives.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as witness:  # noqa: S603
        assert witness.stdin is not None
        assert witness.stdout is not None
        try:
            assert witness.stdout.readline() == b"ready\n"
            yield seen
        finally:
            witness.stdin.write(b"\n")
            witness.stdin.flush()
            seen.factor = max(1.0, float(witness.stdout.readline()) / IDLE_SECONDS)


def pace() -> float:
    """Return the pace of this moment."""
    with paced() as seen:
        pass
    return seen.factor


def patiently(wait: Callable[[float], bool], seconds: float) -> bool:
    """Return whether what `wait(seconds)` waits for came, within that time on an idle machine.

    If it did not come in time, the pace is measured, and on a slower machine it waits for the rest. Whatever comes in time costs nothing more.
    """
    return wait(seconds) or (seconds > 0 and wait(seconds * (pace() - 1)))


def seen(look: Callable[[], object], limit: float, every: float = 0.01) -> bool:
    """Look every `every` seconds until `look()` is true; return whether it was within `limit` seconds of an idle machine."""

    def comes(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not (there := look()) and time.monotonic() < until:
            time.sleep(every)
        return bool(there)

    return patiently(comes, limit)
