"""What other prefetchers promise and break with worker processes, a test for each: see docs/differences.md.

Those of threads are in test_keras.py.
"""

import gc
import os
import signal
import threading
from functools import partial

import numpy as np
import process_items as work
import pytest
from pacing import LIMIT, wait_for
from process_helpers import METHODS, Script, children, descriptors, living
from process_items import Items

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer
from enqueuer.errors import BorderError, WorkerDiedError

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.usefixtures("no_processes"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

methods = pytest.mark.parametrize("method", METHODS)


def processes(items, **options):
    return OrderedEnqueuer(items, True, **({"context": "fork"} | options))


def taken(enqueuer, count):
    items = enqueuer.get(timeout=LIMIT)
    return [next(items) for _ in range(count)]


class BrokenHook(Items):
    def on_epoch_end(self):
        raise ZeroDivisionError("hook")


class BrokenLength(Items):
    def __len__(self):
        raise LookupError("length")


class UnpicklableAfterTheHook(Items):
    def on_epoch_end(self):
        self.item = threading.Lock()


class Changing(Items):
    """The hook changes how many items there are, and what they are."""

    def __init__(self, length, step):
        super().__init__(length)
        self.step = step
        self.epoch = 0

    def on_epoch_end(self):
        self.length += self.step
        self.epoch += 1

    def __getitem__(self, index):
        return self.epoch, range(self.length)[index]


@methods
@pytest.mark.parametrize(
    ("broken", "kind", "count"),
    [(BrokenHook, ZeroDivisionError, 4), (BrokenLength, LookupError, 0), (UnpicklableAfterTheHook, BorderError, 4)],
    ids=["hook", "length", "pickle"],
)
def test_an_error_outside_of_getitem_does_not_hang(broken, kind, count, method) -> None:
    """tf-keras hangs, and is_running() stays true."""
    with processes(broken(4), context=method) as enqueuer:
        enqueuer.start(2, 10)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items) for _ in range(count)] == [*range(count)]
        with pytest.raises(kind):
            next(items)
        assert not enqueuer.is_running()


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_bad_workers_do_not_hang(workers) -> None:
    """tf-keras hangs."""
    with processes(Items(4)) as enqueuer:
        with pytest.raises((ValueError, TypeError)):
            enqueuer.start(workers)
        assert not enqueuer.is_running()
        enqueuer.start(1)
        assert taken(enqueuer, 4) == [0, 1, 2, 3]


@methods
def test_an_unpicklable_sequence_does_not_hang(method) -> None:
    """tf-keras hangs. With fork it need not be picklable (A2)."""
    lock = threading.Lock()

    def item(index):
        with lock:
            return index

    with processes(Items(4, item), context=method) as enqueuer:
        if method == "fork":
            enqueuer.start(4)
            assert taken(enqueuer, 4) == [0, 1, 2, 3]
        else:
            with pytest.raises(RuntimeError, match="pickle"):
                enqueuer.start(4)
            assert not enqueuer.is_running()


@methods
def test_none_items_do_not_hang_the_epoch(method) -> None:
    """Keras 3 hangs."""
    with processes(Items(4, {0: 0, 1: None, 2: 2, 3: None}.get), context=method) as enqueuer:
        enqueuer.start(2, 2)
        assert taken(enqueuer, 6) == [0, 2] * 3


class KillsItself(Items):
    def __getitem__(self, index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Exits(Items):
    def __getitem__(self, index):
        if index == 2:
            os._exit(0)
        return index


@methods
@pytest.mark.parametrize("kind", [KillsItself, Exits])
def test_a_worker_that_dies_hangs_nothing_and_takes_no_finished_item_along(kind, method) -> None:
    """Keras hangs; torch delivers one of three items that were finished."""
    with processes(kind(6), context=method) as enqueuer:
        enqueuer.start(2, 6)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(WorkerDiedError, match="index 2"):
            next(items)
        assert not enqueuer.is_running()


@methods
@pytest.mark.parametrize("name", ["two arguments", "exit", "generator exit", "empty", "interrupt"])
def test_no_kind_of_exception_hangs_or_is_lost(name, method) -> None:
    """One with a two-argument __init__ hangs tf-keras and Keras 3, SystemExit hangs torch too, queue.Empty loses an item."""
    with processes(Items(4, partial(work.raises, name)), context=method) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(work.ERRORS[name][1]) as caught:
            next(items)
        assert enqueuer.statistics().error is caught.value


@methods
@pytest.mark.parametrize("item", [work.unpicklable, work.cant_be_unpickled], ids=["pickled", "unpickled"])
def test_an_item_that_cant_be_pickled_or_unpickled_does_not_hang(item, method) -> None:
    """The first hangs torch, the second tf-keras and Keras 3."""
    with processes(Items(4, item), context=method) as enqueuer:
        enqueuer.start(2, 4)
        with pytest.raises(BorderError):
            taken(enqueuer, 3)


@methods
def test_stop_releases_a_consumer_that_waits_for_a_long_item_without_delivering_it(method, tmp_path) -> None:
    """Others let it wait for the item, 19.5 of 20 s, and deliver it then."""
    got = []
    enqueuer = processes(Items(4, partial(work.says_and_sleeps, tmp_path)), context=method)
    enqueuer.start(1, 1)
    consumer = threading.Thread(target=lambda: got.extend(enqueuer.get()))
    consumer.start()
    assert wait_for(lambda: list(tmp_path.iterdir()) and enqueuer.statistics().blocked_consumers)
    work.stops(enqueuer, 0, then=lambda: consumer.join(LIMIT))
    assert got == []


@methods
def test_stop_with_a_timeout_keeps_to_it_and_no_worker_runs_on(method, tmp_path) -> None:
    """tf-keras returns and lets the worker run on; Keras 3 and torch wait."""
    before = children()
    enqueuer = processes(Items(4, partial(work.says_and_sleeps, tmp_path)), context=method)
    enqueuer.start(2, 2)
    assert wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = children() - before
    assert work.stops(enqueuer, 0.2) >= 0.2
    assert not any(map(living, workers))


@methods
def test_stop_within_the_loop_ends_it(method) -> None:
    """Keras 3 throws a ValueError into the consumer."""
    enqueuer = processes(Items(4), context=method)
    enqueuer.start(2, 4)
    got = []
    for item in enqueuer.get():
        got.append(item)
        if len(got) == 6:
            assert enqueuer.stop()
    assert got == [0, 1, 2, 3, 0, 1]


@methods
def test_a_second_start_is_refused_and_leaks_nothing(method) -> None:
    """tf-keras leaks the first run."""
    with processes(Items(4), context=method) as enqueuer:
        enqueuer.start(2, 4)
        with pytest.raises(RuntimeError, match="call stop"):
            enqueuer.start(2, 4)
        assert taken(enqueuer, 4) == [0, 1, 2, 3]


@methods
def test_after_a_restart_old_streams_steal_nothing_and_old_items_do_not_come(method) -> None:
    """In tf-keras an old stream steals from the new run; in Keras 3 old items come first."""
    with processes(Items(50), context=method) as enqueuer:
        enqueuer.start(2, 10)
        old = enqueuer.get()
        assert [next(old) for _ in range(5)] == [0, 1, 2, 3, 4]
        enqueuer.stop()
        enqueuer.start(2, 10)
        assert list(old) == []
        assert taken(enqueuer, 60) == [*range(50), *range(10)]


@methods
def test_an_enqueuer_that_is_dropped_without_stop_leaks_neither_processes_nor_descriptors(method) -> None:
    """Keras leaks both."""
    before = children(), set(descriptors())
    for _ in range(3):
        enqueuer = processes(Items(4), context=method)
        enqueuer.start(2, 4)
        taken(enqueuer, 2)
    enqueuer = None
    gc.collect()
    assert wait_for(lambda: (children(), set(descriptors())) == before, 5)


@methods
@pytest.mark.parametrize("step", [-1, 1])
def test_what_the_hook_changes_reaches_the_workers_the_length_included(step, method) -> None:
    """tf-keras ignores the length, or raises IndexError; torch's persistent workers never learn of anything."""
    with processes(Changing(4, step), context=method) as enqueuer:
        enqueuer.start(3, 10)
        items = enqueuer.get(timeout=LIMIT)
        for epoch in range(3):
            length = 4 + epoch * step
            assert [next(items) for _ in range(length)] == [(epoch, index) for index in range(length)]


@methods
def test_an_empty_sequence_neither_hangs_nor_loops_for_ever(method) -> None:
    """tf-keras loops, Keras 3 hangs."""
    with processes([], context=method) as enqueuer:
        enqueuer.start()
        with pytest.raises(ValueError, match="nothing to deliver"):
            taken(enqueuer, 1)


@methods
def test_the_item_generator_gives_sixteen_different_values_in_sixteen_items(method, tmp_path) -> None:
    """`np.random` in four forked workers gives six with Keras. Here the global state differs, too, in each worker."""
    with processes(Items(16, partial(work.draws_with_others, tmp_path, 4)), context=method) as enqueuer:
        enqueuer.start(4, 8)
        got = taken(enqueuer, 16)
    assert len({pid for pid, *_ in got}) == 4
    assert len({value for _, _, value, _ in got}) == 16
    assert len({seed for *_, seed in got}) == 16


@methods
def test_workers_of_a_generator_can_share_it_out_without_duplicates(method) -> None:
    """In tf-keras several processes deliver duplicates, and no worker knows its number."""
    with GeneratorEnqueuer(partial(work.shares, 10), True, context=method) as enqueuer:
        enqueuer.start(3, 4)
        assert list(enqueuer.get(timeout=LIMIT)) == [*range(10)]


@methods
@pytest.mark.parametrize("sign", ["SIGKILL", "SIGINT"])
def test_nobody_is_left_when_the_parent_ends_with_large_items_queued(sign, method, tmp_path) -> None:
    """torch leaves four orphans of four; Keras and others hang, with a worker blocked in write."""
    body = f"""
        enqueuer = OrderedEnqueuer(Large(), True, context={method!r})
        enqueuer.start(4, 10)
        begun(enqueuer, 10)
        say("full")
        threading.Event().wait()
    """
    with Script(tmp_path, body) as script:
        script.reads("full")
        for _ in range(5):
            os.killpg(script.process.pid, signal.SIGINT) if sign == "SIGINT" else script.process.kill()
            if wait_for(lambda: script.process.poll() is not None, 3):
                break
        script.process.wait(LIMIT)
        assert script.gone() == []


@methods
def test_the_interpreter_exits_at_once_with_large_items_queued(method, tmp_path) -> None:
    """Keras, grain and spdl hang."""
    body = f"""
        enqueuer = OrderedEnqueuer(Large(), True, context={method!r})
        enqueuer.start(4, 10)
        begun(enqueuer, 10)
        say("full")
    """
    with Script(tmp_path, body) as script:
        script.reads("full")
        script.ends_at_once()


@methods
def test_the_read_ahead_is_what_was_asked_for(method, tmp_path) -> None:
    """Keras takes one more, torch rounds to the workers, others take a multiple."""
    with processes(Items(50, partial(work.says, tmp_path)), context=method) as enqueuer:
        enqueuer.start(3, 7)
        assert wait_for(lambda: enqueuer.statistics().blocked_workers == 3)
        assert sorted(int(file.name) for file in tmp_path.iterdir()) == [*range(7)]
        assert enqueuer.statistics().ready == 7


@methods
def test_large_items_stay_what_they_were(method) -> None:
    """Nothing that was delivered is written to again, whoever else is at it."""
    with processes(Items(8, partial(work.array, 3 << 20)), context=method) as enqueuer:
        enqueuer.start(2, 4)
        got = taken(enqueuer, 16)
    assert all(np.all(item == rank % 8) for rank, item in enumerate(got))
