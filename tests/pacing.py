"""What a test may ask of the machine that it runs on: time, cores, memory. No verdict rests on a fixed real time.

A *limit for a hang* is `LIMIT`: generous, for nothing waits for it unless something hangs, and longer on a slow machine.
A *time that is promised* is measured by `at_most`, against the pace of the machine in the very same moments.
What may be looked at only is waited for by `wait_for`. What needs a machine of some size says so by a mark from here,
and is skipped elsewhere with its reason; on a machine that has it all, a skip is a failure (see `conftest`).
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import pytest

from enqueuer.testing.pace import pace, paced, seen

PACE: Final = pace()
"""The pace of this machine when the tests began."""

LIMIT: Final = 30.0 * PACE
"""Seconds after which something that should come at once is called a hang."""

CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""How many processors this process may use."""

SHARED_MEMORY: Final = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0  # noqa: PTH112
"""Bytes of named shared memory that are free."""

HAS_MEMFD: Final = hasattr(os, "memfd_create")
"""Whether there is shared memory without a name."""

FULL: Final = platform.libc_ver()[0] == "glibc" and CORES >= 2 and HAS_MEMFD and SHARED_MEMORY >= 1 << 28
"""Whether no test has a reason to be skipped."""

two_cores = pytest.mark.skipif(CORES < 2, reason="two processes can't compute at the same time: this one may use one core only")
memfd = pytest.mark.skipif(not HAS_MEMFD, reason="this system has no memory without a name (os.memfd_create)")


def shared_memory(size: int) -> pytest.MarkDecorator:
    """Skip where less than `size` bytes of named shared memory are free."""
    return pytest.mark.skipif(size > SHARED_MEMORY, reason=f"/dev/shm has {SHARED_MEMORY >> 20} MiB free, and this takes {size >> 20}")


@contextmanager
def at_most(seconds: float) -> Generator[None]:
    """Fail if what is done inside takes more than `seconds` of an idle machine; a witness beside it tells how slow this one is meanwhile."""
    with paced() as machine:
        begun = time.monotonic()
        yield
        elapsed = time.monotonic() - begun
    assert elapsed <= seconds * machine.factor, f"it took {elapsed:.3f} s of {seconds:g}, at a pace of {machine.factor:.2f}"


def wait_for(condition: Callable[[], object], limit: float = LIMIT) -> bool:
    """Wait until something that can only be looked at is so; return whether it is within `limit` seconds of an idle machine."""
    return seen(condition, limit, 0.002)
