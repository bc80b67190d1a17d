"""What worker processes cost and gain: tiny items against `multiprocessing.Pool.imap`, items of CPU against the ideal, and deaths.

Run by hand. Rounds of what is compared are interleaved, because machines drift; the ratio of each pair is what counts.

    python tests/benchmarks/processes.py [--rounds 11] [--items 5000] [--context fork]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from enqueuer import OrderedEnqueuer

SHAPES: Final = ((2, 10), (1, 10), (4, 10), (2, 100))
"""Workers and queue sizes."""

CPU: Final = 5e-3
"""Seconds of processor time that an item takes where the ideal is known."""

LATE: Final = 1.0
"""Seconds within which a death is to be noticed (G13)."""


def tiny(index: int) -> tuple[int, int]:
    """Return what costs nothing to compute."""
    return (index, 0)


def busy(index: int) -> tuple[int, int]:
    """Keep a core busy first."""
    before = time.thread_time()
    while time.thread_time() - before < CPU:
        pass
    return (index, 0)


class Endless:
    """The items of a function."""

    def __init__(self, function: Callable[[int], tuple[int, int]]) -> None:
        self.function = function

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.function(index)


class Deadly:
    """The worker that gets item 20 for the first time is killed, and leaves behind when that was."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def __call__(self, index: int) -> tuple[int, int]:
        if index == 20 and not self.note.exists():
            self.note.write_text(repr(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        return (index, 0)


def pooled(function: Callable[[int], tuple[int, int]], context: str, workers: int, items: int) -> float:
    """Return microseconds an item through `Pool.imap`, which knows no bound."""
    with multiprocessing.get_context(context).Pool(workers) as pool:
        pool.map(function, range(4 * workers), 1)  # all workers are there
        before = time.perf_counter()
        stream = pool.imap(function, range(items))
        for _ in range(items):
            next(stream)
        return (time.perf_counter() - before) / items * 1e6


def ours(function: Callable[[int], tuple[int, int]], context: str, workers: int, size: int, items: int) -> float:
    """Return microseconds an item through an `OrderedEnqueuer`."""
    with OrderedEnqueuer(Endless(function), use_multiprocessing=True, context=context) as enqueuer:
        enqueuer.start(workers, size)
        stream = enqueuer.get()
        for _ in range(size):  # all workers are there
            next(stream)
        before = time.perf_counter()
        for _ in range(items):
            next(stream)
        return (time.perf_counter() - before) / items * 1e6


def plain(function: Callable[[int], tuple[int, int]], items: int) -> float:
    """Return microseconds an item in a plain loop."""
    before = time.perf_counter()
    for index in range(items):
        function(index)
    return (time.perf_counter() - before) / items * 1e6


def death(context: str, on_worker_death: Literal["raise", "retry"]) -> float:
    """Return seconds from the kill until the consumer has the error, or the item."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "killed")
        with OrderedEnqueuer(Endless(Deadly(note)), use_multiprocessing=True, context=context, on_worker_death=on_worker_death) as enqueuer:
            enqueuer.start(2)
            try:
                for index, _ in enqueuer.get():
                    if index == 20:
                        break
            except RuntimeError:
                pass
            return time.monotonic() - float(note.read_text())


def main() -> int:
    """Print a line for each comparison; return 1 if a death was noticed late."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--context", default="fork", choices=multiprocessing.get_all_start_methods())
    options = parser.parse_args()
    context, rounds = options.context, options.rounds
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"load {os.getloadavg()[0]:.2f}, {cores} cores, {context}, Python {sys.version.split()[0]}; medians of {rounds} interleaved rounds, quartiles"
    )
    print(f"{options.items} tiny items:")
    print(f"{'workers':>7} {'queue':>5} {'Pool.imap':>12} {'enqueuer':>12} {'ratio':>6}")
    for workers, size in SHAPES:
        pairs = [(pooled(tiny, context, workers, options.items), ours(tiny, context, workers, size, options.items)) for _ in range(rounds)]
        told(f"{workers:7} {size:5}", pairs)
    items = max(20, options.items // 50)
    print(f"{items} items of {CPU * 1e3:.0f} ms of processor time, two workers; against a plain loop divided by two, and against Pool.imap:")
    triples = [(plain(busy, items) / 2, pooled(busy, context, 2, items), ours(busy, context, 2, 10, items)) for _ in range(rounds)]
    told("        ideal", [(ideal, mine) for ideal, _, mine in triples])
    told("         pool", [(theirs, mine) for _, theirs, mine in triples])
    print("a worker is killed:")
    late = 0
    for on_worker_death, until in (("raise", "the error"), ("retry", "the item")):
        seconds = [death(context, on_worker_death) for _ in range(rounds)]
        print(f"{on_worker_death:>13} {statistics.median(seconds) * 1e3:9.1f} ms until {until}  (at most {max(seconds) * 1e3:.1f} ms)")
        late += on_worker_death == "raise" and max(seconds) > LATE
    return late


def told(shape: str, pairs: list[tuple[float, float]]) -> None:
    """Print one comparison."""
    low, ratio, high = statistics.quantiles([mine / theirs for theirs, mine in pairs], n=4)
    theirs, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{shape} {theirs:9.1f} µs {mine:9.1f} µs {ratio:6.2f}  ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
