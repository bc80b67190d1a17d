"""Ending a run: by stop, by dropping it, with the interpreter (G14 to G16, G20)."""

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pacing import LIMIT, at_most, wait_for

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer, RunState, _enqueuers
from enqueuer._runtime import REAL
from enqueuer.testing.pace import patiently
from enqueuer.testing.subject import Gate, Hooked, Numbers

pytestmark = pytest.mark.concurrency


@contextmanager
def script(text: str) -> Iterator[subprocess.Popen]:
    """Run a program. It is killed in the end: an item in it may never return."""
    command = [sys.executable, "-W", "error", "-c", text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen) -> str:
    """Press Ctrl-C, and again if it goes unseen: CPython misses one that arrives just before its last system call (D18). Return stderr."""

    def ended(seconds: float) -> bool:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    for _ in range(5):
        process.send_signal(signal.SIGINT)
        if patiently(ended, LIMIT / 6):
            return process.communicate()[1]
    process.kill()
    raise AssertionError("it does not end: " + process.communicate()[1])


def ends_by_ctrl_c(process: subprocess.Popen) -> None:
    """See it begin, press Ctrl-C, and see it end as a program does that catches none."""
    assert process.stdout.readline() == "begun\n"
    err = interrupt(process)
    assert process.returncode in {-signal.SIGINT, 130}
    assert err.rstrip().endswith("KeyboardInterrupt")


STUCK = """
import threading
from enqueuer import OrderedEnqueuer
begun = threading.Event()
class Sequence:
    def __len__(self): return 5
    def __getitem__(self, index):
        begun.set()
        threading.Event().wait()
enqueuer = OrderedEnqueuer(Sequence())
enqueuer.start(2, 4)
begun.wait()
print("begun", flush=True)
"""


def test_the_interpreter_exits_at_once_with_a_long_item_under_way() -> None:
    """G20: without stop(), and without a word."""
    with script(STUCK) as process:
        assert process.stdout.readline() == "begun\n"
        with at_most(5):
            out, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, out, err) == (0, "", "")


def test_ctrl_c_ends_a_program_that_waits_for_a_long_item() -> None:
    """G22: at once, with the usual traceback and exit code."""
    with script(STUCK + "next(enqueuer.get())") as process:
        assert process.stdout.readline() == "begun\n"
        err = interrupt(process)
    assert process.returncode in {-signal.SIGINT, 130}
    assert "KeyboardInterrupt" in err


def test_ctrl_c_during_start_waits_for_no_item() -> None:
    """G18: the workers begin when start() has all of them, so an interrupted start() has nothing to wait for.

    An item that began earlier would wait until start() has returned. No item waits longer: Ctrl-C may come late, and threads must not pile up.
    """
    text = STUCK.replace("threading.Event().wait()", "started.wait()").replace(
        "enqueuer.start(2, 4)",
        """
started = threading.Event()
print("begun", flush=True)
while True:
    started.clear()
    enqueuer.start(40, 40)
    started.set()
    enqueuer.stop()
""",
    )
    for _ in range(5):
        with script(text) as process:
            ends_by_ctrl_c(process)


def test_ctrl_c_inside_a_with_block_closes_and_ends_the_program() -> None:
    text = STUCK.replace("threading.Event().wait()", "threading.Event().wait(0.01)") + "with enqueuer:\n    for _ in enqueuer.get(): pass"
    with script(text) as process:
        ends_by_ctrl_c(process)


def test_a_sequence_is_free_as_soon_as_its_enqueuer_is_dropped() -> None:
    """G20: no reference cycle keeps it, so that no garbage collection has to come."""
    gc.collect()
    gc.disable()
    try:
        sequence = Numbers(5)
        reference = weakref.ref(sequence)
        enqueuer = OrderedEnqueuer(sequence)
        enqueuer.start(2, 4)
        items = enqueuer.get()
        assert [next(items) for _ in range(7)] == [0, 1, 2, 3, 4, 0, 1]
        enqueuer.stop()
        del items, enqueuer, sequence
        assert reference() is None
    finally:
        gc.enable()


def test_a_dropped_enqueuer_ends_its_run_while_its_workers_wait_for_room() -> None:
    enqueuer = OrderedEnqueuer(Numbers(5))
    enqueuer.start(3, 2)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("enqueuer-worker")]
    assert wait_for(lambda run=enqueuer: run.statistics().blocked_workers == 3)
    del enqueuer
    gc.collect()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_items_are_dropped_when_they_are_handed_on() -> None:
    """G6: neither the worker nor the stream nor the run keeps a delivered item alive."""

    class Item:
        pass

    with OrderedEnqueuer(Numbers(50, lambda _: Item())) as enqueuer:
        enqueuer.start(2, 3)
        items = enqueuer.get()
        references = [weakref.ref(next(items)) for _ in range(20)]
        assert wait_for(lambda: enqueuer.statistics().blocked_workers == 2)
        assert [reference() for reference in references] == [None] * 20


def test_items_computed_ahead_are_dropped_outside_the_lock() -> None:
    """Their finalizers are user code: one that uses the enqueuer must not meet a lock that is held."""
    seen = []

    class Item:
        def __del__(self):
            seen.append(enqueuer.statistics().state)

    enqueuer = OrderedEnqueuer(Numbers(50, lambda _: Item()))
    enqueuer.start(2, 3)
    assert wait_for(lambda: enqueuer.statistics().ready == 3)
    assert enqueuer.stop()
    assert RunState.STOPPED in seen


def test_an_error_that_a_lower_rank_displaces_is_dropped_outside_the_lock() -> None:
    """G10: only one error is delivered; the frames of the other may hold what has a finalizer."""
    owned, gate = [], Gate()

    class Local:
        def __del__(self):
            owned.append(enqueuer._lock.owned())

    def item(index):
        local = Local() if index == 1 else None
        if index == 0:
            gate.enter()
        raise ValueError(index, local is None)

    enqueuer = OrderedEnqueuer(Numbers(2, item))
    enqueuer.start(2, 2)
    assert wait_for(lambda: enqueuer.statistics().error is not None)
    gate.open()
    with pytest.raises(ValueError, match="0"):
        next(enqueuer.get())
    assert enqueuer.stop()
    gc.collect()
    assert owned == [False]


def test_stop_during_the_hook_waits_for_it_and_begins_no_epoch() -> None:
    gate = Gate()
    sequence = Hooked(2, gate.enter)
    enqueuer = OrderedEnqueuer(sequence)
    enqueuer.start(3, 4)
    items = enqueuer.get()
    assert [next(items), next(items)] == [0, 1]
    assert gate.wait_arrived(1)
    assert not enqueuer.stop(0)
    gate.open()
    assert enqueuer.stop()
    assert sorted(sequence.computed) == [0, 1]


class Hundredfold:
    """The real runtime with a slow clock: a second of it lasts 100 seconds, so that a slow machine misses no deadline."""

    def __getattr__(self, name):
        return getattr(REAL, name)

    def clock(self):
        return REAL.clock() / 100

    def thread(self, target, name):
        thread = REAL.thread(target, name)
        join = thread.join
        thread.join = lambda timeout=None: join(None if timeout is None else 100 * timeout)
        return thread


def test_stop_with_idle_workers_is_true_whatever_the_timeout() -> None:
    """G15: only threads in user code are given up at the deadline."""
    enqueuer = OrderedEnqueuer(Numbers(5), runtime=Hundredfold())
    for _ in range(50):
        enqueuer.start(4, 2)
        assert wait_for(lambda: enqueuer.statistics().blocked_workers == 4)
        assert enqueuer.stop(0)


def test_generators_made_from_a_callable_are_closed_and_the_callers_own_are_not() -> None:
    closed = []

    def numbers():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    enqueuer = GeneratorEnqueuer(numbers)
    enqueuer.start(2, 3)
    assert next(enqueuer.get()) == 0
    assert enqueuer.stop()
    assert len(closed) == 1
    own = numbers()
    enqueuer = GeneratorEnqueuer(own)
    enqueuer.start(2, 3)
    assert next(enqueuer.get()) == 0
    assert enqueuer.stop()
    assert len(closed) == 1
    assert next(own) > 0
    own.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_while_a_generator_is_closed_is_told_as_threads_do_and_hinders_nothing() -> None:
    def stubborn():
        try:
            yield from range(100)
        finally:
            raise ValueError("on the way out")

    enqueuer = GeneratorEnqueuer(stubborn)
    enqueuer.start(2, 3)
    assert next(enqueuer.get()) == 0
    assert enqueuer.stop()


def test_a_straggler_in_an_iterator_keeps_a_restarted_run_waiting_and_nothing_worse() -> None:
    """G16: two runs share the caller's iterator; they take turns at it."""
    gate = Gate()

    class Slow:
        number = -1

        def __iter__(self):
            return self

        def __next__(self):
            gate.enter()
            self.number += 1
            return self.number

    enqueuer = GeneratorEnqueuer(Slow())
    enqueuer.start(1, 1)
    assert gate.wait_arrived(1)
    assert not enqueuer.stop(0)
    enqueuer.start(2, 2)
    items = enqueuer.get()
    gate.open()
    assert [next(items) for _ in range(3)] == [1, 2, 3]  # item 0 went with the run that was stopped
    assert enqueuer.stop()


def test_what_fails_in_a_worker_outside_of_an_item_is_delivered_too(monkeypatch) -> None:
    """What must not happen: a fault of the enqueuer itself, or an exception thrown into its thread. G10 and G21 all the same."""
    enqueuer = OrderedEnqueuer(Numbers(5))
    monkeypatch.setattr("enqueuer._window.Window.put", None)
    enqueuer.start(2, 1)
    with pytest.raises(TypeError):
        next(enqueuer.get(timeout=LIMIT))
    assert enqueuer.stop()
    assert isinstance(enqueuer.statistics().error, TypeError)


@pytest.mark.interrupts
def test_an_exception_thrown_into_a_waiting_worker_comes_after_what_was_computed() -> None:
    enqueuer = OrderedEnqueuer(Numbers(5))
    enqueuer.start(1, 3)
    assert wait_for(lambda: enqueuer.statistics().blocked_workers == 1)
    (worker,) = (thread for thread in threading.enumerate() if thread.name == "enqueuer-worker-0")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(MemoryError))
    items, got = enqueuer.get(timeout=LIMIT), []
    with pytest.raises(MemoryError):
        for item in items:
            got.append(item)  # noqa: PERF402 - what came before the error counts
    assert got[:3] == [0, 1, 2]
    assert enqueuer.stop()


FORGOTTEN = """
import sys
from enqueuer import OrderedEnqueuer
class Holder:
    def __init__(self, enqueuer): self.enqueuer = enqueuer
    def __del__(self): self.enqueuer.stop(5)  # false where the system has stopped a worker on its way out
def with_block():
    with OrderedEnqueuer([1, 2, 3]) as enqueuer:
        enqueuer.start(2)
        yield from enqueuer.get()
def finally_block():
    enqueuer = OrderedEnqueuer([1, 2, 3])
    enqueuer.start(2)
    try: yield from enqueuer.get()
    finally: enqueuer.stop()
def deleted():
    enqueuer = OrderedEnqueuer([1, 2, 3])
    enqueuer.start(2)
    global kept
    kept = Holder(enqueuer)
    yield from enqueuer.get()
items = globals()[sys.argv[1]]()
assert next(items) == 1
"""


@pytest.mark.parametrize("how", ["with_block", "finally_block", "deleted"])
@pytest.mark.parametrize(
    "end", ["", "raise SystemExit(0)", "import gc; gc.disable(); sys.setswitchinterval(1e-5)"], ids=["ends", "exits", "switches"]
)
def test_the_interpreter_exits_though_a_stop_comes_when_no_thread_runs_any_more(how, end) -> None:
    """G20: generators and finalizers that are kept until the very end call stop() when the workers can no longer answer."""
    process = subprocess.run([sys.executable, "-W", "error", "-c", FORGOTTEN + end, how], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


FROZEN = """
import atexit, threading, time, types
frozen, held = threading.Event(), threading.Event()
def freeze():  # registered first, hence called when the enqueuer has done its own
    while kept.enqueuer.statistics().threads: time.sleep(0.001)  # the enqueuer waits no longer than a second for them
    frozen.set()
    held.wait()
atexit.register(freeze)
from enqueuer import OrderedEnqueuer
class Holder:
    def __init__(self, enqueuer): self.enqueuer = enqueuer
    def __del__(self): print(self.enqueuer.stop(5), self.enqueuer.stop(), flush=True)
enqueuer = OrderedEnqueuer([1, 2, 3])
enqueuer.start(2)
elsewhere = types.ModuleType("elsewhere")  # or the frame of the stuck thread would keep this module, and nothing in it would be finalized
exec("def hold(lock, frozen, held):\\n frozen.wait()\\n with lock:\\n  held.set()\\n  frozen.__class__().wait()", elsewhere.__dict__)
threading.Thread(target=elsewhere.hold, args=(enqueuer._lock, frozen, held), daemon=True).start()
kept = Holder(enqueuer)
del enqueuer
"""


def test_a_stop_at_the_very_end_does_not_wait_for_a_thread_that_was_stopped_for_ever_with_the_lock() -> None:
    """G20: a busy machine may stop it there."""
    process = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "True True\n", "")


def test_a_stop_at_the_very_end_gives_a_stuck_item_up() -> None:
    text = """
import os, types
elsewhere = types.ModuleType("elsewhere")  # or the stuck frame would keep this module, and nothing in it would be finalized
exec('''
import threading
begun = threading.Event()
class Sequence:
    def __len__(self): return 5
    def __getitem__(self, index):
        begun.set()
        threading.Event().wait()
''', vars(elsewhere))
from enqueuer import OrderedEnqueuer
enqueuer = OrderedEnqueuer(elsewhere.Sequence())
enqueuer.start(2, 4)
elsewhere.begun.wait()
class Late:
    def __del__(self, stop=enqueuer.stop, write=os.write): write(1, str(stop()).encode())
late = Late()
"""
    with script(text) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert (out, err) == ("False", "")


def test_a_with_block_that_is_left_by_an_exception_does_not_wait_for_a_stuck_item(monkeypatch) -> None:
    """Not longer than `PATIENCE`, a second; less here, so that the test is not as long."""
    assert _enqueuers.PATIENCE == 1
    monkeypatch.setattr(_enqueuers, "PATIENCE", 0.1)
    gate = Gate()
    enqueuer = OrderedEnqueuer(Numbers(5, lambda _: gate.enter()))
    with at_most(4.1), pytest.raises(TimeoutError, match="rank 0"), enqueuer:
        enqueuer.start(2, 2)
        assert gate.wait_arrived(2)
        next(enqueuer.get(timeout=0.01))
    assert not enqueuer.is_running()
    gate.open()
    assert enqueuer.stop()


def test_an_item_of_an_inner_run_may_stop_the_outer_one() -> None:
    """G14: to wait there would be to wait for the item that waits for it."""
    results = []

    def inner(index):
        results.append(outer.stop())
        return index

    def item(_):
        with OrderedEnqueuer(Numbers(3, inner)) as enqueuer:
            enqueuer.start(1, 1)
            return next(enqueuer.get(timeout=LIMIT))

    outer = OrderedEnqueuer(Numbers(3, item))
    outer.start(1, 1)
    assert list(outer.get(timeout=LIMIT)) == []
    assert outer.stop(LIMIT)
    assert results
    assert set(results) == {False}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_child_of_an_item_that_forks_does_not_go_on_as_a_worker() -> None:
    """G28: it ends with its item, and computes nothing for a run that is its parent's."""
    text = """
import os, sys
from enqueuer import OrderedEnqueuer
class Sequence:
    def __len__(self): return 100
    def __getitem__(self, index):
        if index == 1: os.fork()
        return index, os.getpid()
with OrderedEnqueuer(Sequence()) as enqueuer:
    enqueuer.start(1, 4)
    items = enqueuer.get()
    assert [next(items) for _ in range(9)] == [(index, os.getpid()) for index in range(9)]
assert os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]) == 0
"""
    process = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_leaving_a_with_block_in_a_forked_child_hides_nothing() -> None:
    """G28: get() and stop() raise there; the end of the block does not, or it would hide how it was left."""
    with OrderedEnqueuer(Numbers(5)) as enqueuer:
        enqueuer.start(2, 4)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with pytest.raises(RuntimeError, match="fork"):
                    enqueuer.get()
                enqueuer.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert next(enqueuer.get()) == 0
