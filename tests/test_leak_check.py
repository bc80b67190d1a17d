"""The check that `conftest.py` puts around every test can fail."""

from __future__ import annotations

import os
import threading

import conftest


def test_a_thread_left_behind_is_seen_and_one_that_exits_is_not():
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="left")
    before = set(threading.enumerate()), 0, conftest._descriptors()  # of those there are now, one may be on its way out
    thread.start()
    leaks = conftest._leaks(*before)
    gate.set()
    thread.join()
    assert "thread 'left'" in leaks
    assert len(leaks) == (2 if conftest.TASKS.is_dir() else 1)


def test_a_descriptor_left_behind_is_seen():
    before = set(threading.enumerate()), conftest._tasks(), conftest._descriptors()
    ends = os.pipe()
    leaks = conftest._leaks(*before)
    for end in ends:
        os.close(end)
    assert len(leaks) == (2 if conftest.DESCRIPTORS.is_dir() else 0)
