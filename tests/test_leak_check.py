"""What `conftest.py` puts around every test can fail."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import conftest
import pytest

pytest_plugins = ["pytester"]


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


@pytest.mark.parametrize("full", [True, False])
def test_a_skip_fails_the_session_where_the_machine_lacks_nothing(pytester, monkeypatch, full):
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))
    pytester.makeini("[pytest]\ntimeout = 100")
    pytester.makepyfile(f"""
        import conftest, pytest

        conftest.FULL = {full}

        @pytest.mark.skipif(True, reason="the machine is too small")
        def test_skipped():
            raise AssertionError

        @pytest.mark.xfail
        def test_expected():
            raise AssertionError
    """)
    outcome = pytester.runpytest_subprocess("-p", "conftest", "-p", "no:cacheprovider")
    outcome.assert_outcomes(skipped=1, xfailed=1)
    assert outcome.ret == (1 if full else 0)
    assert ("the machine is too small" in outcome.stdout.str()) == full


def test_a_limit_for_a_hang_follows_the_pace(pytester, monkeypatch):
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))
    pytester.makeini("[pytest]\ntimeout = 100")
    pytester.makepyfile("""
        import conftest, pytest

        conftest.PACE = 3.0

        @pytest.mark.timeout(7)
        def test_marked(request):
            assert request.node.get_closest_marker("timeout").args == (21.0,)

        def test_plain(request):
            assert request.node.get_closest_marker("timeout").args == (300.0,)
    """)
    pytester.runpytest_subprocess("-p", "conftest", "-p", "no:cacheprovider").assert_outcomes(passed=2)
