"""Starting: what it gives back when it fails, and who may race it (G17, G18, G23)."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest
from pacing import LIMIT

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer, Plan, RunState, SequenceEnqueuer
from enqueuer._runtime import REAL
from enqueuer.errors import RunningError, StartError
from enqueuer.testing.subject import Gate, Numbers

ROOT = Path(__file__).parents[1]


class Refusing:
    """A runtime that gives only so many threads, as a system does that has reached a limit."""

    def __init__(self, threads):
        self.left = threads

    def __getattr__(self, name):
        return getattr(REAL, name)

    def boot(self, main):
        if self.left < 0:
            raise RuntimeError("can't start new thread")
        REAL.boot(main)

    def thread(self, target, name):
        self.left -= 1
        thread = REAL.thread(target, name)
        if self.left < 0:
            thread.start = self.refuse
        return thread

    def refuse(self):
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("threads", [-1, 0, 1, 2])
def test_a_start_that_gets_no_thread_leaves_nothing_running_and_can_be_tried_again(threads) -> None:
    """G18: the loaded state is kept for the next try, too."""
    runtime: Final = Refusing(threads)
    enqueuer = OrderedEnqueuer(Numbers(5), runtime=runtime)
    state = {"seed": 1, "epoch": 2, "position": 3, "rank": 13, "length": 5}
    enqueuer.load_state_dict(state)
    with pytest.raises(StartError, match="3 worker threads"):
        enqueuer.start(3, 4)
    assert not enqueuer.is_running()
    assert enqueuer.statistics().state is RunState.NEW
    assert enqueuer.state_dict() == state
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("enqueuer")]
    runtime.left = 10
    enqueuer.start(3, 4)
    assert next(enqueuer.get()) == 3
    assert enqueuer.stop()


class Closing(SequenceEnqueuer[int]):
    """Its compute calls something when it is closed."""

    def __init__(self, closed, runtime=REAL) -> None:
        super().__init__(None, runtime=runtime)
        self.closed = closed

    def make_plan(self, start):
        return Plan(start=start)

    def make_compute(self):
        closed = self.closed

        class Compute:
            def turn(self, *, hook):
                return 3

            def item(self, worker, epoch, index):
                return index

            def close(self):
                closed()

        return Compute()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_compute_that_fails_to_close_does_not_hang_a_start_that_failed() -> None:
    def fail():
        raise ValueError("on the way out")

    with pytest.raises(StartError, match="3 worker threads"):
        Closing(fail, Refusing(0)).start(3, 4)


def test_a_compute_that_stops_its_own_run_when_it_is_closed_does_not_wait_for_itself() -> None:
    results = []
    enqueuer = Closing(lambda: results.append(enqueuer.stop()), Refusing(0))
    with pytest.raises(StartError):
        enqueuer.start(3, 4)
    assert results in ([False], [True])  # True once start() has taken the failed run back: there is none then


@pytest.mark.concurrency
def test_of_many_starts_at_once_one_succeeds() -> None:
    enqueuer = OrderedEnqueuer(Numbers(5))
    for _ in range(30):
        results = []
        begin = threading.Barrier(4)

        def start(begin=begin, results=results):
            begin.wait(LIMIT)
            try:
                enqueuer.start(2, 4)
                results.append("started")
            except RunningError:
                results.append("refused")

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        assert sorted(results) == ["refused"] * 3 + ["started"]
        assert next(enqueuer.get()) == 0
        assert enqueuer.stop()


@pytest.mark.concurrency
def test_a_stop_that_races_a_start_ends_it_or_comes_before_it() -> None:
    enqueuer = OrderedEnqueuer(Numbers(5))
    for _ in range(200):
        thread = threading.Thread(target=enqueuer.stop)
        thread.start()
        enqueuer.start(3, 4)
        thread.join(LIMIT)
        assert not thread.is_alive()
        if enqueuer.is_running():
            assert next(enqueuer.get()) == 0
        assert enqueuer.stop()


def test_start_does_not_wait_for_user_code() -> None:
    """The length is read by a worker, and so are errors in it: they reach a consumer (G11), not start()."""
    gate = Gate()

    class Slow(Numbers):
        def __len__(self):
            gate.enter()
            return super().__len__()

    enqueuer = OrderedEnqueuer(Slow(3))
    enqueuer.start(2, 4)  # would never return
    assert enqueuer.is_running()
    assert gate.wait_arrived(1)
    assert enqueuer.state_dict()["length"] is None
    assert not enqueuer.stop(0)
    gate.open()
    assert enqueuer.stop()


@pytest.mark.parametrize("sequence", [3, iter([1]), (number for number in [1]), None, {1, 2}])
def test_what_is_no_sequence_is_refused_with_a_hint(sequence) -> None:
    with pytest.raises(TypeError, match="GeneratorEnqueuer"):
        OrderedEnqueuer(sequence)


@pytest.mark.parametrize("seed", ["1", 1.0, True])
def test_a_seed_that_is_no_integer_is_refused(seed) -> None:
    with pytest.raises(TypeError, match="seed"):
        OrderedEnqueuer([1], seed=seed)
    with pytest.raises(TypeError, match="random_seed"):
        GeneratorEnqueuer([1], random_seed=seed)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"seed": 1},
        {"seed": 1, "epoch": 0, "position": 0, "rank": 0, "length": 3, "more": 1},
        {"seed": None, "epoch": 0, "position": 0, "rank": 0, "length": 3},
        {"seed": 1, "epoch": -1, "position": 0, "rank": 0, "length": 3},
        {"seed": 1, "epoch": 0, "position": 3, "rank": 3, "length": 3},
        {"seed": 1, "epoch": 0, "position": 2, "rank": 1, "length": 3},
        {"seed": 1, "epoch": 0, "position": 2, "rank": 2, "length": None},
        {"seed": 1, "epoch": 0, "position": 0, "rank": 0, "length": 0},
        {"seed": 1, "epoch": 0, "position": 0, "rank": 2**63, "length": 3},
        {"seed": 2**200, "epoch": 0, "position": 0, "rank": 0, "length": 3},
    ],
)
def test_a_state_that_none_returned_is_refused_and_changes_nothing(state) -> None:
    enqueuer = OrderedEnqueuer([1, 2, 3], seed=5)
    with pytest.raises(ValueError, match="state"):
        enqueuer.load_state_dict(state)
    assert enqueuer.state_dict() == {"seed": 5, "epoch": 0, "position": 0, "rank": 0, "length": None}


@pytest.mark.parametrize("state", [3, None, {"seed": "1", "epoch": 0, "position": 0, "rank": 0, "length": 3}])
def test_a_state_of_the_wrong_type_is_refused(state) -> None:
    with pytest.raises(TypeError):
        OrderedEnqueuer([1, 2, 3]).load_state_dict(state)


@pytest.mark.parametrize("length", [2, 4])
def test_a_state_of_another_sequence_is_an_error_where_the_stream_would_have_begun(length) -> None:
    enqueuer = OrderedEnqueuer(list(range(length)))
    enqueuer.load_state_dict({"seed": 1, "epoch": 0, "position": 2, "rank": 2, "length": 3})
    enqueuer.start()
    with pytest.raises(ValueError, match="position 2 of an epoch of 3 items"):
        next(enqueuer.get())
    assert enqueuer.stop()


@pytest.mark.parametrize("shuffle", ["False", 42, None])
def test_a_shuffle_that_is_neither_true_nor_false_is_refused(shuffle) -> None:
    """G23: TensorFlow's third argument is easily taken for a seed."""
    with pytest.raises(TypeError, match="shuffle"):
        OrderedEnqueuer([1, 2], False, shuffle)


def test_a_seed_that_json_would_not_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        OrderedEnqueuer([1], seed=10**5000)


def test_a_timeout_of_any_size_is_a_number_of_seconds() -> None:
    with OrderedEnqueuer([1]) as enqueuer:
        enqueuer.start()
        assert next(enqueuer.get(timeout=10**400)) == 1
        with pytest.raises(ValueError, match="timeout"):
            enqueuer.get(timeout=-(10**400))


@pytest.mark.parametrize("make", [lambda: OrderedEnqueuer([1], 4), lambda: OrderedEnqueuer(list), lambda: GeneratorEnqueuer([1], 2)])
def test_a_number_for_a_mode_and_a_class_for_a_sequence_are_refused(make):
    """G23."""
    with pytest.raises(TypeError, match=r"use_multiprocessing must be True or False, not|is a class: call it"):
        make()


ELSEWHERE = """
import os, select, signal, socket, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for module, names in (
    (os, ("fork", "register_at_fork", "pidfd_open", "memfd_create", "sched_getaffinity")),
    (select, ("poll",)),
    (signal, ("SIGKILL", "SIGIO", "SIGALRM", "SIGUSR1", "pthread_sigmask", "pidfd_send_signal", "setitimer")),
    (socket, ("AF_UNIX", "SCM_RIGHTS", "socketpair")),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from enqueuer import GeneratorEnqueuer, OrderedEnqueuer

class Hooked(list):
    def on_epoch_end(self):
        self.append(len(self))

with OrderedEnqueuer(Hooked([0, 1]), shuffle=True, seed=3) as enqueuer:
    enqueuer.start(3, 4)
    items = enqueuer.get(timeout=LIMIT)
    assert sorted(next(items) for _ in range(2)) == [0, 1]
    assert sorted(next(items) for _ in range(3)) == [0, 1, 2]
    state = enqueuer.state_dict()
with GeneratorEnqueuer(range(5)) as enqueuer:
    enqueuer.start(2)
    assert list(enqueuer.get()) == [0, 1, 2, 3, 4]
for enqueuer in (OrderedEnqueuer([1], True), GeneratorEnqueuer([1], True)):
    try:
        enqueuer.start()
    except RuntimeError as error:
        print(type(error).__name__, error)
    assert not enqueuer.is_running()
"""


def test_thread_mode_needs_no_posix_system_and_process_mode_says_that_it_does():
    """G18."""
    text = ELSEWHERE.replace("LIMIT", f"{LIMIT}")
    done = subprocess.run([sys.executable, "-W", "error", "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [done.stdout.splitlines()[0]] * 2
    assert done.stdout.startswith("StartError worker processes need a POSIX system")
    assert "Use threads" in done.stdout
