"""What every test gets: a check that it left no thread and no file descriptor behind, and limits for hangs at the pace of this machine.

pytest switches faulthandler on by itself; markers and limits, in seconds of an idle machine, are in `pyproject.toml`. Where the machine lacks
nothing that a test may need, a skipped test fails the session.
"""

from __future__ import annotations

import _thread
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import numpy  # noqa: F401 - its own threads are to be there before the first count
import pytest
from hypothesis import HealthCheck, settings
from pacing import FULL, PACE, wait_for
from process_helpers import children

from enqueuer import _runtime
from enqueuer.testing import twins

PATIENCE: Final = 10.0
"""Seconds within which a thread that has nothing left to do must be gone, on an idle machine."""

TASKS: Final = Path("/proc/self/task")
DESCRIPTORS: Final = Path("/proc/self/fd")


settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SKIPPED: Final[list[str]] = []
"""The tests that this session skipped, with the reasons."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test as much longer as this machine is slower, before it counts as a hang."""
    otherwise = float(config.getini("timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        item.add_marker(pytest.mark.timeout((otherwise if marker is None else marker.args[0]) * PACE), append=False)


def pytest_collection_finish() -> None:
    """Leave what the collection has made to itself: tests collect garbage, the explorer after every execution, and look through all that there is."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write down what is skipped; an expected failure is reported as skipped, too."""
    if report.skipped and not hasattr(report, "wasxfail"):
        SKIPPED.append(f"{report.nodeid}: {report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test was skipped though the machine lacks nothing: a test that is always skipped would look like one that passes."""
    if SKIPPED and FULL and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why such a session has failed."""
    if SKIPPED and FULL:
        terminalreporter.section("skipped on a machine that lacks nothing", red=True)
        for line in SKIPPED:
            terminalreporter.write_line(line)


def _tasks() -> int:
    """Return the number of threads, those unknown to `threading` included; 0 where the system does not say."""
    return len(list(TASKS.iterdir())) if TASKS.is_dir() else 0


def _descriptors() -> dict[str, str]:
    """Return the open descriptors and what they are of; nothing where the system does not say."""
    found: dict[str, str] = {}
    for link in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        try:
            found[link.name] = str(link.readlink())
        except OSError:
            continue  # the one that listed the directory
    return found


def _leaks(threads: set[threading.Thread], tasks: int, descriptors: dict[str, str]) -> list[str]:
    """Return what there is now and was not before."""
    leaks = [f"thread {thread.name!r}" for thread in threading.enumerate() if thread not in threads]
    if (now := _tasks()) > tasks:
        leaks.append(f"{now - tasks} threads of the system")
    leaks.extend(f"descriptor {name} of {of}" for name, of in _descriptors().items() if name not in descriptors)
    return leaks


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the test that left a twin's run, a thread or a descriptor behind. Threads on their way out get time to exit, and nothing else does."""
    before = set(threading.enumerate()), _tasks(), _descriptors()
    yield
    left = [*twins._runs, *twins._engines, *twins._left, *twins._descriptors, *twins._late]
    twins.Twin.forget()
    assert not left, f"left behind by a twin, and ended in a test that knows nothing of it: {left}"
    if not _leaks(*before):
        return
    gc.collect()  # what was dropped in a reference cycle
    wait_for(lambda: not _leaks(*before), PATIENCE)
    if leaks := _leaks(*before):
        pytest.fail("left behind: " + ", ".join(leaks))


@pytest.fixture(autouse=True, scope="session")
def bare_threads_are_measured() -> Iterator[None]:
    """Under coverage, trace the bare thread that starts the workers too: `threading.settrace` reaches only what `threading` starts."""
    trace = threading.gettrace()
    if trace is None:
        yield
        return

    def start(main: object, arguments: tuple[object, ...]) -> int:
        def traced() -> None:
            sys.settrace(trace)
            main(*arguments)

        return _thread.start_new_thread(traced, ())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_runtime, "_thread", SimpleNamespace(**{**vars(_thread), "start_new_thread": start}))
        yield


@pytest.fixture(scope="session")
def multiprocessings_own() -> None:
    """Have what multiprocessing keeps for its other start methods before anything is counted."""
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()
    forkserver.ensure_running()


@pytest.fixture
def no_processes(multiprocessings_own: None) -> Iterator[None]:
    """Fail the test that left a process behind, dead or alive."""
    before = children()
    yield
    gc.collect()
    if not wait_for(lambda: children() <= before, 5):
        left = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children() - before}
        left = {pid: what for pid, what in left.items() if b"forkserver import main" not in what}  # it was started again; its own are not ours
    else:
        left = {}
    if left:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        pytest.fail(f"left behind: {left}")


@pytest.fixture(autouse=True, scope="session")
def interrupts_arrive() -> None:
    """Let Ctrl-C reach tests and the programs they start, also where the shell that started pytest ignores it, as for jobs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Armed:
    """Lets interrupts through between its entry and its exit, one for each time."""

    def __init__(self) -> None:
        self.open = False

    def __enter__(self) -> None:
        self.open = True

    def __exit__(self, *_: object) -> None:
        self.open = False

    def strike(self, *_: object) -> None:
        if self.open:
            self.open = False
            raise KeyboardInterrupt


@pytest.fixture
def interrupts() -> Callable[[float], AbstractContextManager[_Armed]]:
    """Return a context that raises `KeyboardInterrupt` in the main thread every so many seconds, wherever it is, inside `with armed`."""

    @contextmanager
    def striking(every: float) -> Iterator[_Armed]:
        armed = _Armed()
        before = signal.signal(signal.SIGALRM, armed.strike)
        signal.setitimer(signal.ITIMER_REAL, every, every)
        try:
            yield armed
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return striking
