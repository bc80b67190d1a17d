"""`validated()`: a program that runs as it is, and hears of broken promises."""

from __future__ import annotations

import contextlib
import dis
import itertools
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from itertools import islice, pairwise

import numpy as np
import pytest
from pacing import LIMIT, wait_for

from enqueuer import OrderedEnqueuer
from enqueuer.testing.kit import validated
from enqueuer.testing.pace import paced
from enqueuer.testing.subject import BrokenPromise
from enqueuer.testing.twins import TWINS, Twin

LENGTH = 7


class Items:
    """One of them is `None`."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> int | None:
        return None if index == 3 else index


class LastFirst(Items):
    """The first item waits until another worker has completed the second, and has begun the third. It takes two."""

    def __init__(self) -> None:
        self.third = threading.Event()

    def __getitem__(self, index: int) -> int | None:
        if index == 2:
            self.third.set()
        assert index or self.third.wait(LIMIT)
        return super().__getitem__(index)


class Hooked(Items):
    """Its hook does nothing, and is none."""

    def on_epoch_end(self) -> None:
        pass


class Turning(Items):
    epochs = 0

    def on_epoch_end(self) -> None:
        self.epochs += 1


@pytest.fixture(autouse=True)
def twins_end() -> Iterator[None]:
    """End what twins have left."""
    yield
    Twin.clean()


def programme(enqueuer, items=2 * (LENGTH - 1), *, shuffled=False) -> list[int]:
    """Two epochs, a stop, a second run."""
    enqueuer.start(2, 3)
    assert enqueuer.is_running()
    stream = enqueuer.get()
    got = list(islice(stream, items))
    with pytest.raises(RuntimeError):
        enqueuer.start()
    assert (next(stream), next(enqueuer.get())) == (got[0], got[1]) or shuffled  # a second stream goes on where the first is
    assert enqueuer.stop()
    assert not enqueuer.is_running()
    assert list(stream) == []
    enqueuer.start(1, 1)
    assert len(list(islice(enqueuer.get(), items))) == items
    assert enqueuer.stop()
    return got


@pytest.mark.parametrize("kind", [Items, Hooked, Turning])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("processes", [False, True])
def test_what_keeps_its_promises_is_left_alone(kind, shuffle, processes) -> None:
    context = {"use_multiprocessing": True, "context": "fork"} if processes else {}
    got = programme(validated(OrderedEnqueuer, kind(), shuffle=shuffle, **context), shuffled=shuffle)
    assert sorted(got) == sorted([0, 1, 2, 4, 5, 6] * 2)
    assert shuffle or got == [0, 1, 2, 4, 5, 6] * 2


@pytest.mark.parametrize(
    ("name", "guarantee"),
    [
        ("CompletionOrder", "G2"),
        ("OneEpoch", "G5"),
        ("SecondStartReplaces", "G18"),
        ("TakenTwice", "G1"),
        ("TwiceAndNever", "G1"),
    ],
)
def test_a_twin_is_told_while_the_programme_runs(name, guarantee) -> None:
    (twin,) = (twin for twin in TWINS if twin.name == name)
    kind = {"TwiceAndNever": Turning, "CompletionOrder": LastFirst}.get(name, Items)
    enqueuer = validated(twin.factory.ordered, kind())
    try:
        with pytest.raises(BrokenPromise) as caught:
            programme(enqueuer)
        assert caught.value.guarantee == guarantee, caught.value
    finally:
        enqueuer.enqueuer.stop()


def ordered(name: str):
    """Return how a twin is made."""
    (twin,) = (twin for twin in TWINS if twin.name == name)
    return twin.factory.ordered


def test_too_many_items_ahead_are_told() -> None:
    begun = threading.Semaphore(0)

    class Counts(Items):
        def __getitem__(self, index: int) -> int:
            begun.release()
            return index

    enqueuer = validated(ordered("OffByOne"), Counts())
    enqueuer.start(1, 3)
    for _ in range(4):
        assert begun.acquire(timeout=LIMIT)
    with pytest.raises(BrokenPromise, match="G4: 4 items were computed or waiting, 3 are allowed"):
        next(enqueuer.get())
    enqueuer.enqueuer.stop()


def test_a_run_that_goes_on_after_its_end_is_told() -> None:
    class Fails(Items):
        def __getitem__(self, index: int) -> int:
            raise LookupError

    enqueuer = validated(ordered("RunningForEver"), Fails())
    enqueuer.start()
    with pytest.raises(LookupError):
        next(enqueuer.get())
    assert list(enqueuer.get()) == []  # an error might be a handler's; this tells that the run is over
    with pytest.raises(BrokenPromise, match="G19"):
        enqueuer.is_running()
    enqueuer.enqueuer.stop()


def test_a_hook_that_comes_too_early_is_told() -> None:
    called = threading.Event()

    class Calls(Items):
        def on_epoch_end(self) -> None:
            called.set()

    enqueuer = validated(ordered("HookTooEarly"), Calls())
    enqueuer.start(2, 20)
    assert called.wait(LIMIT)
    with pytest.raises(BrokenPromise, match="G7: on_epoch_end"):
        next(enqueuer.get())
    enqueuer.enqueuer.stop()


class Made:
    """An enqueuer that does what a test wants."""

    def __init__(self, sequence, **_: object) -> None:
        self.sequence, self.running = sequence, False

    def start(self, *_: object) -> None:
        self.running = True

    def get(self) -> Iterator[object]:
        return (self.sequence[index] for index in range(len(self.sequence)))

    def stop(self, timeout: float | None = None) -> bool:
        self.running = False
        return True

    def is_running(self) -> bool:
        return self.running


def test_what_comes_after_the_end_is_told() -> None:
    enqueuer = validated(Made, Items())
    enqueuer.start(1, 10)
    stream = enqueuer.get()
    assert next(stream) == 0
    assert enqueuer.stop()
    with pytest.raises(BrokenPromise, match="G16: stop\\(\\) had returned true, and then it gave item 1"):
        next(stream)
    with pytest.raises(BrokenPromise, match="G16: stop\\(\\) had returned true, and item 1 was asked for"):
        enqueuer.is_running()


def test_what_is_seen_in_an_item_is_told_to_the_consumer() -> None:
    enqueuer = validated(Made, Items())
    enqueuer.start(1, 2)
    for index in range(4):
        enqueuer.enqueuer.sequence[index]
    with pytest.raises(BrokenPromise, match="G4: 3 items were computed or waiting, 2 are allowed"):
        next(enqueuer.get())


# who is innocent, and was blamed by an earlier form


class Waits(Items):
    """Its items wait until they may go on."""

    def __init__(self) -> None:
        self.begun, self.gate = threading.Semaphore(0), threading.Event()

    def __getitem__(self, index: int) -> int:
        self.begun.release()
        assert self.gate.wait(LIMIT)
        return index


def test_a_hook_may_change_the_length() -> None:
    class Grows(Items):
        length = 2

        def __len__(self) -> int:
            return self.length

        def __getitem__(self, index: int) -> int:
            return index

        def on_epoch_end(self) -> None:
            self.length = self.length % 4 + 1

    for shuffle in (False, True):
        enqueuer = validated(OrderedEnqueuer, Grows(), shuffle=shuffle)
        enqueuer.start(2, 10)
        got = list(islice(enqueuer.get(), 20))
        assert enqueuer.stop()
        assert shuffle or got[:9] == [0, 1, 0, 1, 2, 0, 1, 2, 3]


def test_what_an_abandoned_run_still_does_is_not_the_next_ones() -> None:
    sequence = Waits()
    enqueuer = validated(OrderedEnqueuer, sequence)
    enqueuer.start(2, 2)
    for _ in range(2):
        assert sequence.begun.acquire(timeout=LIMIT)
    assert not enqueuer.stop(0)
    enqueuer.start(2, 2)  # with what the first has under way there are four items now
    for _ in range(2):
        assert sequence.begun.acquire(timeout=LIMIT)
    sequence.gate.set()
    assert list(islice(enqueuer.get(), 20)) == [index % LENGTH for index in range(20)]
    assert enqueuer.stop()


def test_a_run_that_failed_may_be_followed_without_a_stop() -> None:
    class Fails(Waits):
        fail = True

        def __getitem__(self, index: int) -> int:
            if self.fail and not index:
                raise LookupError
            return super().__getitem__(index)

    sequence = Fails()
    enqueuer = validated(OrderedEnqueuer, sequence)
    enqueuer.start(2, 2)
    with pytest.raises(LookupError):
        next(enqueuer.get())
    sequence.fail = False
    enqueuer.start(2, 2)
    sequence.gate.set()
    assert list(islice(enqueuer.get(), 8)) == [0, 1, 2, 3, 4, 5, 6, 0]
    assert enqueuer.stop()


def test_an_items_own_time_out_is_not_the_end() -> None:
    class Late(Items):
        def __getitem__(self, index: int) -> int:
            raise TimeoutError("the disk")

    enqueuer = validated(OrderedEnqueuer, Late())
    enqueuer.start()
    stream = enqueuer.get(timeout=LIMIT)
    with pytest.raises(TimeoutError, match="the disk"):
        next(stream)
    assert list(stream) == []  # the run is over: nobody is blamed for that
    assert not enqueuer.is_running()
    assert enqueuer.stop()


def test_a_signal_handler_may_stop_or_raise() -> None:
    class Alarm(Exception):
        pass

    def raises(*_: object) -> None:
        raise Alarm

    sequence = Waits()
    enqueuer = validated(OrderedEnqueuer, sequence)
    enqueuer.start(2, 3)
    stream = enqueuer.get()
    before = signal.signal(signal.SIGALRM, raises)
    try:
        with pytest.raises(Alarm):  # which may come before next() is called
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            next(stream)
        assert enqueuer.is_running()
        sequence.gate.set()
        assert list(islice(stream, 8)) == [0, 1, 2, 3, 4, 5, 6, 0]
        sequence.gate.clear()
        signal.signal(signal.SIGALRM, lambda *_: enqueuer.stop(0))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert len(list(stream)) < 4  # what was ready
    finally:
        signal.signal(signal.SIGALRM, before)
        sequence.gate.set()
    assert enqueuer.stop()


@cache
def interruptible(code) -> frozenset[int]:
    """Return at which instructions a signal handler may have come in: behind a call, and where a function begins."""
    instructions = [one for one in dis.get_instructions(code) if one.opname != "CACHE"]
    return frozenset(then.offset for one, then in pairwise(instructions) if one.opname.startswith(("CALL", "RESUME", "JUMP_BACKWARD")))


def raise_nowhere() -> None:
    raise Nowhere


@contextlib.contextmanager
def interrupted_at(number: int, handler: Callable[[], object] = raise_nowhere) -> Iterator[list[int]]:
    """Call a handler at the nth instruction of the wrapper where one may come; yields how many are still to come."""
    left = [number]

    def trace(frame, event, _):
        if not frame.f_code.co_filename.endswith("validated.py"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and left[0] and frame.f_lasti in interruptible(frame.f_code):
            left[0] -= 1
            if not left[0]:
                sys.settrace(None)
                handler()
                sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield left
    finally:
        sys.settrace(before)


class Nowhere(BaseException):
    """An exception out of nowhere, as a signal handler's."""


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_next_may_be_interrupted_anywhere(shuffle) -> None:
    """Nobody is blamed afterwards."""
    interrupted = 0
    for number in itertools.count(1):
        enqueuer = validated(OrderedEnqueuer, range(LENGTH), shuffle=shuffle)
        enqueuer.start(2, 3)
        stream = enqueuer.get()
        assert len(list(islice(stream, 3))) == 3
        with contextlib.suppress(Nowhere), interrupted_at(number) as left:
            next(stream)
        interrupted += not left[0]
        assert len(list(islice(stream, 3 * LENGTH))) == 3 * LENGTH
        assert enqueuer.is_running()
        assert enqueuer.stop()
        assert list(stream) == []
        if left[0]:  # it has not so many
            break
    assert interrupted > 10


def reads(enqueuer) -> None:
    with contextlib.suppress(RuntimeError):
        next(enqueuer.get(timeout=LIMIT), None)


def stops(enqueuer) -> None:
    enqueuer.stop()


def restarts(enqueuer) -> None:
    enqueuer.stop()
    enqueuer.start(2, 3)


def starts(enqueuer) -> None:
    with contextlib.suppress(RuntimeError):
        enqueuer.start(2, 3)


def asks(enqueuer) -> None:
    enqueuer.is_running()


def forks(enqueuer) -> None:
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)
    enqueuer.is_running()


class Slow(Items):
    """Its workers are in items, so that a stop waits for them."""

    def __getitem__(self, index: int) -> int:
        time.sleep(0.0005)
        return index


@pytest.mark.parametrize("handler", [reads, stops, restarts, starts, asks, forks], ids=lambda handler: handler.__name__)
@pytest.mark.parametrize(
    ("first", "shuffle"),
    [(False, False), (True, True), pytest.param(False, True, marks=pytest.mark.deep), pytest.param(True, False, marks=pytest.mark.deep)],
)
def test_a_signal_handler_may_do_anything_anywhere(handler, shuffle, first) -> None:
    """Nobody is blamed, and nothing hangs."""
    for number in itertools.count(1):
        enqueuer = validated(OrderedEnqueuer, Slow(), shuffle=shuffle)
        enqueuer.start(2, 3)
        stream = enqueuer.get()
        if not first:
            next(stream)
        with interrupted_at(number, partial(handler, enqueuer)) as left:
            list(islice(stream, 2))
            enqueuer.is_running()
        over = handler in {stops, restarts}
        assert len(list(islice(stream, 9))) == 9 or over
        assert enqueuer.is_running() or over
        with interrupted_at(number, partial(handler, enqueuer)) as later:
            enqueuer.stop()
            with contextlib.suppress(RuntimeError):
                enqueuer.start(2, 3)
            enqueuer.is_running()
        list(islice(enqueuer.get(), 9))
        enqueuer.is_running()
        assert enqueuer.stop()
        assert list(stream) == []
        assert not enqueuer.is_running()
        if left[0] and later[0]:
            break
    assert number > 20


def test_a_stop_and_a_start_may_be_interrupted_anywhere() -> None:
    for number in itertools.count(1):
        enqueuer = validated(OrderedEnqueuer, range(LENGTH))
        with contextlib.suppress(Nowhere), interrupted_at(number) as left:
            enqueuer.start(2, 3)
            enqueuer.stop()
            enqueuer.is_running()
        enqueuer.stop()
        enqueuer.start(2, 3)
        stream = enqueuer.get()
        assert list(islice(stream, 9)) == [index % LENGTH for index in range(9)]
        assert enqueuer.stop()
        assert list(stream) == []
        assert not enqueuer.is_running()
        if left[0]:
            break
    assert number > 20


def test_stop_and_start_in_several_threads() -> None:
    enqueuer = validated(OrderedEnqueuer, Tiny())
    until = time.monotonic() + 1
    wrong: list[BaseException] = []

    def again(what) -> None:
        while time.monotonic() < until and not wrong:
            try:
                what()
            except BrokenPromise as error:
                wrong.append(error)
            except RuntimeError:
                pass  # a run was on, or none was ever

    def reads() -> None:
        with contextlib.suppress(TimeoutError):
            list(islice(enqueuer.get(timeout=0.01), 50))

    threads = [threading.Thread(target=again, args=(what,)) for what in (enqueuer.start, enqueuer.stop, enqueuer.is_running, reads, reads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert enqueuer.stop()
    assert not wrong, wrong


def test_a_process_that_forked_before_the_start() -> None:
    enqueuer = validated(OrderedEnqueuer, Turning())
    pid = os.fork()
    if not pid:
        try:
            programme(enqueuer)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    programme(enqueuer)


def test_what_is_dropped_ends() -> None:
    enqueuer = validated(OrderedEnqueuer, Waits())
    sequence = enqueuer.sequence
    enqueuer.start()
    assert sequence.begun.acquire(timeout=LIMIT)
    run = weakref.ref(enqueuer.enqueuer)
    del enqueuer
    assert run() is None
    sequence.gate.set()


def test_where_a_run_goes_on_is_known() -> None:
    for shuffle in (False, True):
        enqueuer = validated(OrderedEnqueuer, range(LENGTH), shuffle=shuffle, seed=1)
        with enqueuer as same:
            assert same is enqueuer
            enqueuer.start(2, 3)
            got = list(islice(enqueuer.get(), 10))
            state = enqueuer.state_dict()
            assert enqueuer.stop()
            enqueuer.load_state_dict(state)
            enqueuer.start(2, 3)
            got += list(islice(enqueuer.get(), 11))
        assert sorted(got) == sorted([*range(LENGTH)] * 3)
        assert not enqueuer.is_running()


def test_a_stream_may_be_made_before_the_start_and_closed() -> None:
    enqueuer = validated(OrderedEnqueuer, range(LENGTH))
    stream = enqueuer.get()
    with pytest.raises(RuntimeError):
        next(stream)
    enqueuer.start(1, 2)
    assert next(stream) == 0
    assert stream.send(None) == 1
    stream.close()
    assert list(stream) == []
    with contextlib.closing(enqueuer.get()) as other:
        assert next(other) == 2
    with pytest.raises(LookupError):
        enqueuer.get().throw(LookupError)
    assert enqueuer.is_running()
    assert next(enqueuer.get()) == 3
    assert enqueuer.stop()


def test_a_hook_that_does_nothing_stays_none() -> None:
    enqueuer = validated(OrderedEnqueuer, Hooked())
    enqueuer.start(1, 3 * LENGTH)
    assert wait_for(lambda: enqueuer.statistics().ready == 3 * LENGTH)  # past two ends of epochs
    assert enqueuer.stop()


def test_none_does_not_keep_a_time_out_away_for_ever() -> None:
    class Nothing(Made):
        """Never waits for an item, so that it has no time-out of its own, however slow the machine is."""

        def get(self, *, timeout: float) -> Iterator[tuple[int, None]]:
            return ((index % LENGTH, None) for index in itertools.count())

    enqueuer = validated(Nothing, Items())
    enqueuer.start()
    with pytest.raises(TimeoutError, match="no item but None came within"):
        next(enqueuer.get(timeout=0.05))
    assert enqueuer.stop()


def test_an_error_and_a_timeout_go_through() -> None:
    class Fails(Items):
        gate = threading.Event()

        def __getitem__(self, index: int) -> int:
            self.gate.wait()
            raise LookupError(index)

    enqueuer = validated(OrderedEnqueuer, Fails())
    enqueuer.start()
    stream = enqueuer.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        next(stream)
    Fails.gate.set()
    with pytest.raises(LookupError):
        list(enqueuer.get())
    assert list(enqueuer.get()) == []
    assert enqueuer.stop()


def test_several_consumers_are_not_blamed() -> None:
    enqueuer = validated(OrderedEnqueuer, Items())
    enqueuer.start(2, 4)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(islice(enqueuer.get(), 60))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert enqueuer.stop()
    assert len(got) == 180


class Tiny:
    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> int:
        return index


def test_it_costs_less_than_a_tenth_of_a_millisecond_an_item() -> None:
    """Of processor time, of which a busy machine takes little away, on an idle machine of an ordinary speed."""

    def cost(enqueuer) -> float:
        enqueuer.start(2, 10)
        since = time.process_time()
        assert len(list(islice(enqueuer.get(), 3000))) == 3000
        spent = time.process_time() - since
        assert enqueuer.stop()
        return spent / 3000

    with paced() as machine:
        more = cost(validated(OrderedEnqueuer, Tiny())) - cost(OrderedEnqueuer(Tiny()))
    assert more < 1e-4 * machine.factor


def test_what_is_kept_of_it_is_judged_when_it_is_called() -> None:
    enqueuer = validated(OrderedEnqueuer, range(LENGTH))
    close, load, save = enqueuer.close, enqueuer.load_state_dict, enqueuer.state_dict
    enqueuer.start(1, 2)
    stream = enqueuer.get()
    assert [next(stream), next(stream)] == [0, 1]
    state = save()
    close()
    assert list(stream) == []
    load(state)
    enqueuer.start(1, 2)
    assert next(enqueuer.get()) == 2
    assert enqueuer.stop()


def test_the_sequence_is_the_programs_own() -> None:
    sequence = Items()
    enqueuer = validated(OrderedEnqueuer, sequence)
    enqueuer.start(1, 2)
    assert next(enqueuer.get()) == 0
    assert enqueuer.stop()
    assert enqueuer.sequence is sequence
    assert enqueuer.sequence[1] == 1
    assert not enqueuer.is_running()


def test_an_item_may_fork_and_both_go_on() -> None:
    class Forks(Items):
        def __getitem__(self, index: int) -> int:
            if not index and not (pid := os.fork()):
                return index
            if not index:
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            return index

    enqueuer = validated(OrderedEnqueuer, Forks())
    enqueuer.start(4, 8)
    assert len(list(islice(enqueuer.get(), 20 * LENGTH))) == 20 * LENGTH
    assert enqueuer.stop()


def at_the_end() -> None:
    enqueuer = validated(OrderedEnqueuer, Slow(), use_multiprocessing=True, context="fork")
    enqueuer.start(1, 2)
    wrong: list[object] = []
    threading.excepthook = wrong.append
    some = threading.Semaphore(0)

    def takes() -> None:
        for _ in enqueuer.get():
            some.release()

    thread = threading.Thread(target=takes)
    thread.start()
    wrong += [] if some.acquire(timeout=LIMIT) else ["nothing came"]
    multiprocessing.util._exit_function()  # as it does by itself, before or after it waits for threads
    thread.join(LIMIT)
    sys.exit(len(wrong))


def test_a_process_of_multiprocessing_may_end_meanwhile() -> None:
    process = multiprocessing.get_context("fork").Process(target=at_the_end)
    process.start()
    process.join(2 * LIMIT)
    assert process.exitcode == 0
    process.close()


def test_arguments_may_be_of_any_type_that_the_enqueuer_takes() -> None:
    enqueuer = validated(OrderedEnqueuer, Items())
    enqueuer.start(1, np.uint8(255))
    for timeout in (Decimal(LIMIT), 10**400, np.float32(LIMIT), 0):
        with contextlib.suppress(TimeoutError):
            next(enqueuer.get(timeout=timeout))
    assert enqueuer.stop()
    with pytest.raises(TypeError):
        enqueuer.start(1, "many")
    with pytest.raises(TypeError):
        enqueuer.get(timeout="long")


def test_errors_arrive_as_they_are() -> None:
    @dataclass(frozen=True)
    class Frozen(Exception):
        index: int

    class Fails(Items):
        def __getitem__(self, index: int) -> int:
            raise Frozen(index)

    enqueuer = validated(OrderedEnqueuer, Fails())
    enqueuer.start()
    with pytest.raises(Frozen):
        next(enqueuer.get())
    assert enqueuer.stop()


def test_with_is_judged_as_without() -> None:
    with pytest.raises(BrokenPromise, match="G1"), validated(ordered("TakenTwice"), range(LENGTH), shuffle=True) as enqueuer:
        enqueuer.start(2, 3)
        list(islice(enqueuer.get(), 3 * LENGTH))


def test_a_refused_start_is_no_end_of_judgement() -> None:
    enqueuer = validated(Made, range(LENGTH))
    enqueuer.start(1, 3)
    stream = enqueuer.get()
    assert next(stream) == 0
    enqueuer.enqueuer.start = raise_runtime
    with pytest.raises(RuntimeError):
        enqueuer.start()
    enqueuer.enqueuer.running = False
    with pytest.raises(BrokenPromise, match="G19: is_running\\(\\) is false during a run"):
        enqueuer.is_running()


def raise_runtime(*_: object) -> None:
    raise RuntimeError
