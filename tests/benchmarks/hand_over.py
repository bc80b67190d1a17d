"""What it costs to hand an item over, as a multiple of a bare `queue.Queue`: as many producers, the same size, one consumer, the same items.

Run by hand. Rounds of both are interleaved, because machines drift; the ratio of each pair is what counts.

    python tests/benchmarks/hand_over.py [--rounds 25] [--items 20000]
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import threading
import time
from typing import Final

from enqueuer import OrderedEnqueuer

SHAPES: Final = ((2, 10), (1, 10), (8, 2), (2, 100))
"""Workers and queue sizes; the first is the one that is judged."""

LIMIT: Final = 1.5
"""At most so many times a bare queue."""


class Tiny:
    """Items that cost nothing to compute."""

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> tuple[int, int]:
        return (index, 0)


def bare(workers: int, size: int, items: int) -> float:
    """Return microseconds an item through a `queue.Queue`."""
    channel: queue.Queue[tuple[int, int]] = queue.Queue(size)

    def produce(first: int) -> None:
        for index in range(first, items + 1, workers):
            channel.put((index, 0))

    threads = [threading.Thread(target=produce, args=(first,)) for first in range(workers)]
    for thread in threads:
        thread.start()
    channel.get()
    before = time.perf_counter()
    for _ in range(items):
        channel.get()
    elapsed = time.perf_counter() - before
    for thread in threads:
        thread.join()
    return elapsed / items * 1e6


def ours(workers: int, size: int, items: int) -> float:
    """Return microseconds an item through an `OrderedEnqueuer`."""
    with OrderedEnqueuer(Tiny()) as enqueuer:
        enqueuer.start(workers, size)
        stream = enqueuer.get()
        next(stream)
        before = time.perf_counter()
        for _ in range(items):
            next(stream)
        return (time.perf_counter() - before) / items * 1e6


def main() -> int:
    """Print a line for each shape; return 1 if the first is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--items", type=int, default=20_000)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f}; medians of {options.rounds} interleaved rounds of {options.items} items, quartiles of the ratio")
    print(f"{'workers':>7} {'queue':>5} {'queue.Queue':>12} {'enqueuer':>12} {'ratio':>6}")
    judged = 0.0
    for workers, size in SHAPES:
        pairs = [(bare(workers, size, options.items), ours(workers, size, options.items)) for _ in range(options.rounds)]
        low, ratio, high = statistics.quantiles([mine / theirs for theirs, mine in pairs], n=4)
        theirs, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{workers:7} {size:5} {theirs:9.1f} µs {mine:9.1f} µs {ratio:6.2f}  ({low:.2f} to {high:.2f})")
        judged = judged or ratio
    return int(judged > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
