"""Ten minutes of everything at once: items of any size, workers that are killed, restarts, drops, and views that are held for a while.

    nox -s soak                       python tests/benchmarks/soak.py [--minutes 10] [--context fork] [--seed 0]

What is delivered is checked when it comes and again when it is let go. Every few seconds a line tells what was done, and what the program has: in
the end no process, thread or descriptor may be left, and memory must not have grown. Exit code 1 if one of these is not so.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import signal
import statistics
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import psutil

from enqueuer import OrderedEnqueuer

SMALLEST, LARGEST = 6, 23
"""Logarithms of the sizes of items, in bytes."""

DEADLY: Final = 1 / 300
"""How often an item kills its worker."""

HELD: Final = 12
"""Views that are held at most."""

EVERY: Final = 10.0
"""Seconds between two lines."""


class Anything:
    """Items of any size, each with its sum; now and then one kills its worker instead."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> dict[str, Any]:
        drawn = random.Random(self.seed * len(self) + index)
        size = int(2 ** drawn.uniform(SMALLEST, LARGEST))
        array = np.full(size, index % 251, np.uint8)
        array[:: max(1, size // 100)] = drawn.randrange(256)
        if int.from_bytes(os.urandom(4), "big") < DEADLY * 2**32:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"index": index, "array": array, "sum": zlib.crc32(array)}


def checked(item: dict[str, Any], index: int) -> None:
    """Raise if an item is not what was made."""
    if item["index"] != index or zlib.crc32(item["array"]) != item["sum"]:
        raise SystemExit(f"item {index} came as item {item['index']}, or its sum is wrong")


def made(seed: int, context: str) -> OrderedEnqueuer[dict[str, Any]]:
    """Return an enqueuer whose workers may die."""
    return OrderedEnqueuer(Anything(seed), use_multiprocessing=True, context=context, on_worker_death="retry", max_retries=20)


class Had:
    """What this program has: itself, and the processes that come of it."""

    def __init__(self) -> None:
        self._self = psutil.Process()

    def memory(self) -> float:
        """Return the megabytes of all, each counted once."""
        total = 0
        for process in [self._self, *self._self.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it has just ended
                continue
        return total / 1e6

    def left(self) -> tuple[int, int, int]:
        """Return the numbers of processes, threads and descriptors."""
        return len(self._self.children(recursive=True)), threading.active_count(), self._self.num_fds()


def more(after: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
    """Whether there is more of anything."""
    return any(now > then for now, then in zip(after, before, strict=True))


def played(enqueuer: OrderedEnqueuer[dict[str, Any]], drawn: random.Random, held: deque[tuple[int, dict[str, Any]]]) -> Iterator[int]:
    """Read one run for a while; yield once for each item."""
    enqueuer.start(drawn.randint(1, 4), drawn.randint(1, 12))
    for index, item in enumerate(enqueuer.get()):
        checked(item, index)
        yield index
        held.append((index, item | {"array": item["array"][:]}))
        while len(held) > drawn.randint(0, HELD):
            at, kept = held.popleft()
            checked(kept, at)
        if drawn.random() < 1 / 400:
            return


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--context", default="fork", choices=multiprocessing.get_all_start_methods())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    drawn, had, held = random.Random(options.seed), Had(), deque[tuple[int, dict[str, Any]]]()
    with made(0, options.context) as first:
        for _ in played(first, drawn, held):
            break  # what multiprocessing keeps for itself is there from now on
    del first
    held.clear()
    gc.collect()
    before = had.left()
    begun = told = time.monotonic()
    memory: list[float] = []
    items = runs = drops = 0
    while time.monotonic() - begun < options.minutes * 60:
        enqueuer = made(drawn.randrange(1000), options.context)
        for _ in range(drawn.randint(1, 3)):
            for _ in played(enqueuer, drawn, held):
                items += 1
                if time.monotonic() - told > EVERY:
                    told = time.monotonic()
                    memory.append(had.memory())
                    processes, threads, descriptors = had.left()
                    print(
                        f"{told - begun:5.0f} s  {items:7} items  {runs:4} runs  {drops:3} drops  {memory[-1]:6.0f} MB  {processes} processes"
                        f"  {threads} threads  {descriptors} descriptors",
                        flush=True,
                    )
            runs += 1
            if drawn.random() < 0.2:  # it is dropped while it runs
                drops += 1
                break
            enqueuer.stop()
        del enqueuer
    while held:
        at, kept = held.popleft()
        checked(kept, at)
    del kept
    gc.collect()
    deadline = time.monotonic() + 10
    while more(after := had.left(), before) and time.monotonic() < deadline:
        time.sleep(0.05)
    quarter = max(1, len(memory) // 4)
    early, late = statistics.median(memory[quarter : 2 * quarter] or [0.0]), statistics.median(memory[-quarter:] or [0.0])
    print(f"{items} items, {runs} runs; processes, threads, descriptors: before {before}, after {after}; memory {early:.0f} MB, then {late:.0f} MB")
    return 0 if not more(after, before) and late <= 1.3 * early + 50 else 1


if __name__ == "__main__":
    raise SystemExit(main())
