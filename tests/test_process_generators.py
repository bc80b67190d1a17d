"""Generators in worker processes: each worker iterates a copy of its own, and they take turns (G2, G4, G5, G9, G21)."""

import os
import random
from functools import partial
from itertools import islice
from pathlib import Path

import process_items as work
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pacing import LIMIT, wait_for
from process_helpers import METHODS

from enqueuer import GeneratorEnqueuer, RunState
from enqueuer._plan import Plan
from enqueuer._window import NOTHING, Turn, Window
from enqueuer.errors import StartError, WorkerDiedError

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.usefixtures("no_processes"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

methods = pytest.mark.parametrize("method", METHODS)


def generator(made, **options):
    return GeneratorEnqueuer(made, True, **({"context": "fork"} | options))


def in_turns(lengths):
    """Return what comes of workers that take turns: an oracle that shares no code with the package."""
    return [(worker, number) for number in range(max(lengths)) for worker, length in enumerate(lengths) if number < length]


LENGTHS = [[3, 3, 3], [1, 5, 2], [0, 4], [4, 0], [0, 0, 0], [0, 0, 7], [7, 0, 0], [1], [0], [2, 1, 0, 6]]


@methods
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.deep), 10])
def test_workers_take_turns_until_none_has_more(size, lengths, method) -> None:
    """G2, G5, G21: rank r is for worker r modulo their number; who has no more is skipped."""
    with generator(partial(work.counts, lengths), context=method) as enqueuer:
        enqueuer.start(len(lengths), size)
        items = enqueuer.get(timeout=LIMIT)
        assert list(items) == in_turns(lengths)
        assert list(items) == []
        assert not enqueuer.is_running()
        assert enqueuer.statistics().state is RunState.ENDED
        assert enqueuer.stop(LIMIT)


@methods
def test_items_that_are_none_are_skipped(method) -> None:
    """G3: they are no holes, and not the end."""
    with generator(partial(work.counts_with_none, [5, 2, 4]), context=method) as enqueuer:
        enqueuer.start(3, 2)
        assert list(enqueuer.get(timeout=LIMIT)) == [item for item in in_turns([5, 2, 4]) if item[1] % 2 == 0]


def test_the_stream_is_the_same_each_time() -> None:
    for _ in range(4):
        with generator(partial(work.counts, [9, 2, 30])) as enqueuer:
            enqueuer.start(3, 5)
            assert list(enqueuer.get(timeout=LIMIT)) == in_turns([9, 2, 30])


@methods
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_generator_can_share_its_items_out(workers, method) -> None:
    """As documented: each worker leaves to the others what is theirs, so that each item comes once, and in order."""
    with generator(partial(work.shares, 20), context=method) as enqueuer:
        enqueuer.start(workers, 4)
        assert list(enqueuer.get(timeout=LIMIT)) == [*range(20)]


@methods
@pytest.mark.parametrize("seed", [0, 7, -1])
def test_the_global_random_states_begin_at_the_seed_and_the_number_of_the_worker(seed, method) -> None:
    """G9: as documented in Keras; equal in each run, and different in each worker."""
    import numpy as np

    with generator(work.seeds, random_seed=seed, context=method) as enqueuer:
        runs = []
        for _ in range(2):
            enqueuer.start(3, 3)
            runs.append(list(enqueuer.get(timeout=LIMIT)))
    assert runs[0] == runs[1]
    for worker, plain, numpys in runs[0]:
        if seed >= 0:  # of a number below 0, `random` takes the absolute value, so that two workers could be alike
            assert plain == random.Random(seed + worker).random()
            assert numpys == np.random.RandomState(seed + worker).random_sample()
    assert len({plain for _, plain, _ in runs[0]}) == 3


def test_without_a_seed_no_two_workers_are_alike() -> None:
    with generator(work.seeds) as enqueuer:
        enqueuer.start(4, 4)
        got = list(enqueuer.get(timeout=LIMIT))
    assert len({plain for _, plain, _ in got}) == len({numpys for _, _, numpys in got}) == 4


def test_a_generator_object_is_copied_by_a_fork() -> None:
    """Each worker has all its items, as in Keras; the host's own does not move."""
    own = (number for number in range(3))
    with generator(own) as enqueuer:
        enqueuer.start(2, 2)
        assert list(enqueuer.get(timeout=LIMIT)) == [0, 0, 1, 1, 2, 2]
    assert list(own) == [0, 1, 2]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_generator_object_cant_be_copied_otherwise_and_the_error_says_what_to_do(method) -> None:
    """G12, G18."""
    own = (number for number in range(3))
    enqueuer = generator(own, context=method)
    with pytest.raises(StartError, match="give the function that makes it"):
        enqueuer.start(2, 2)
    assert not enqueuer.is_running()
    assert enqueuer.stop()
    assert list(own) == [0, 1, 2]


@methods
def test_an_iterator_that_can_be_pickled_is_copied_by_every_start_method(method) -> None:
    """Each worker has all its items; the host's own does not move."""
    own = iter([0, 1, 2])
    with generator(own, context=method) as enqueuer:
        enqueuer.start(2, 2)
        assert list(enqueuer.get(timeout=LIMIT)) == [0, 0, 1, 1, 2, 2]
    assert list(own) == [0, 1, 2]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_open_file_is_refused_since_workers_would_tear_its_lines(method) -> None:
    """G23."""
    with open(__file__) as file:  # noqa: PTH123
        with pytest.raises(TypeError, match="Give a function that opens it"):
            generator(file, context=method)
        assert file.readline()


@methods
def test_other_iterables_are_iterated_by_each_worker(method) -> None:
    with generator(range(3), context=method) as enqueuer:
        for _ in range(2):
            enqueuer.start(2, 2)
            assert list(enqueuer.get(timeout=LIMIT)) == [0, 0, 1, 1, 2, 2]


def test_an_item_of_a_generator_cant_be_computed_again() -> None:
    """G13, G23."""
    with pytest.raises(ValueError, match="generator"):
        generator(work.endless, on_worker_death="retry")


@methods
@pytest.mark.parametrize("size", [1, 10])
def test_an_error_in_one_worker_ends_the_stream_at_its_rank(size, method) -> None:
    """G10: after every earlier item of all the others."""
    with generator(partial(work.fails_in, 1, 4), context=method) as enqueuer:
        enqueuer.start(3, size)
        items, got = enqueuer.get(timeout=LIMIT), []
        with pytest.raises(LookupError, match="4") as caught:
            for item in items:
                got.append(item)  # noqa: PERF402 - what came before the error counts
        assert got == [*in_turns([4, 4, 4]), (0, 4)]
        assert any("worker 1" in note for note in caught.value.__notes__)
        assert list(items) == []
        assert enqueuer.stop(LIMIT)


@methods
@pytest.mark.parametrize("size", [1, 10])
def test_the_death_of_one_worker_ends_the_stream_at_its_rank(size, method) -> None:
    """G13: what it had computed before it died is still delivered."""
    with generator(partial(work.dies_in, 1, 4), context=method) as enqueuer:
        enqueuer.start(3, size)
        items, got = enqueuer.get(timeout=LIMIT), []
        with pytest.raises(WorkerDiedError, match="code 9") as caught:
            for item in items:
                got.append(item)  # noqa: PERF402
        assert got == [*in_turns([4, 4, 4]), (0, 4)]
        assert caught.value.exitcode == 9
        assert enqueuer.stop(LIMIT)


def test_the_others_wait_for_the_one_that_is_slow(tmp_path) -> None:
    """G2, G4: they compute ahead as far as the queue allows, and no further."""
    with generator(partial(work.stalls, tmp_path / "open", 1)) as enqueuer:
        enqueuer.start(3, 7)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items) for _ in range(4)] == [(0, 0), (1, 0), (2, 0), (0, 1)]
        assert wait_for(lambda: enqueuer.statistics().ready == 4)  # ranks 5, 6, 8, 9 of 4 to 10; 4 and 7 are the slow one's, 10 too
        assert enqueuer.statistics().rank == 4
        assert enqueuer.statistics().claimed <= 11
        (tmp_path / "open").touch()
        assert [next(items) for _ in range(5)] == [(1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]


def test_a_timeout_names_the_rank_and_the_worker_and_the_item_still_comes(tmp_path) -> None:
    """G26."""
    with generator(partial(work.stalls, tmp_path / "open", 1)) as enqueuer:
        enqueuer.start(2, 2)
        assert list(islice(enqueuer.get(timeout=LIMIT), 3)) == [(0, 0), (1, 0), (0, 1)]
        assert wait_for(lambda: enqueuer.statistics().claimed == 5)  # rank 3 is the slow one's, and it has it
        items = enqueuer.get(timeout=0.05)
        for _ in range(2):
            with pytest.raises(TimeoutError, match="rank 3 is being computed by worker 1"):
                next(items)
        (tmp_path / "open").touch()
        assert list(islice(enqueuer.get(timeout=LIMIT), 2)) == [(1, 1), (0, 2)]


@methods
def test_a_callable_begins_anew_at_each_start(method) -> None:
    """G17: in the middle, and after its end."""
    with generator(partial(work.counts, [3, 2]), context=method) as enqueuer:
        for count in (2, 5, 9):
            enqueuer.start(2, 3)
            assert list(islice(enqueuer.get(timeout=LIMIT), count)) == in_turns([3, 2])[:count]
            assert enqueuer.stop(LIMIT)


def test_stop_ends_an_endless_generator_at_once(tmp_path) -> None:
    """G15: also one that is stuck."""
    with generator(work.endless) as enqueuer:
        enqueuer.start(3, 8)
        assert list(islice(enqueuer.get(timeout=LIMIT), 6)) == [0, 0, 0, 1, 1, 1]
        assert enqueuer.stop()
    enqueuer = generator(partial(work.stalls, tmp_path / "never", 1))
    enqueuer.start(2, 8)
    items = enqueuer.get(timeout=LIMIT)
    assert next(items) == (0, 0)
    work.stops(enqueuer, 0.1)
    assert list(items) == []


def test_a_thousand_items_through_the_smallest_and_a_large_queue() -> None:
    for size in (1, 500):
        with generator(partial(work.counts, [500, 500])) as enqueuer:
            enqueuer.start(2, size)
            assert list(enqueuer.get(timeout=LIMIT)) == in_turns([500, 500])


def test_a_generator_is_closed_by_nobody_but_its_process() -> None:
    """What it leaves in files is there once stop() has returned, if its process could end by itself."""
    names = sorted(path.name for path in Path(__file__).parent.glob("*.py"))
    with generator(partial(iter, names)) as enqueuer:
        enqueuer.start(1, 3)
        assert list(enqueuer.get(timeout=LIMIT)) == names


# the window against a model


class Pretended:
    """The parent's side of workers that take turns, with a schedule in place of processes; checks at each step what must always hold."""

    def __init__(self, lengths, size) -> None:
        self.lengths = lengths
        self.size = size
        self.window = Window(Plan(rotating=True, epochs=1), size, len(lengths))
        self.window.start()
        self.given = [0] * len(lengths)  # how far each iterator is
        self.under_way = {}  # worker -> ranks, the first of which it computes
        self.got = []
        self.taken = 0

    def open(self):
        turn = self.window.claim(0)
        assert isinstance(turn, Turn)
        self.window.turned(Plan(rotating=True, epochs=1).span(turn.epoch, turn.rank, None))

    def claim(self, worker):
        """Also ahead of what it computes, as a worker with short items does."""
        rank = self.window.claim(worker)
        if rank is None:
            return False
        assert isinstance(rank, int)
        assert rank % len(self.lengths) == worker
        assert rank < self.window.rank + self.size  # G4
        self.under_way.setdefault(worker, []).append(rank)
        assert len(self.window.under_way) + len(self.window.ready) <= self.size  # G4
        return True

    def end(self, worker):
        ranks = self.under_way.get(worker)
        if not ranks:
            return False
        rank = ranks.pop(0)
        number = self.given[worker]
        if number >= self.lengths[worker]:
            self.window.finish(rank, None)
        else:
            self.given[worker] += 1
            self.window.put(rank, (worker, number))
        return True

    def take(self):
        item = self.window.take()
        if item is NOTHING:
            return False
        self.taken += 1
        if item is not None:
            self.got.append(item)
        return True

    def act(self, action):
        workers = len(self.lengths)
        kind, worker = divmod(action % (3 * workers), workers)
        return self.claim(worker) if kind == 0 else self.end(worker) if kind == 1 else self.take()

    def run_out(self):
        """Let everything happen that still can."""
        while any(self.act(action) for action in range(3 * len(self.lengths))):
            pass


schedules = st.lists(st.integers(0, 59), max_size=200)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(1, 6), schedules)
@example([0, 3], 1, [])
@example([3, 0], 1, [])
@example([0, 0, 2], 2, [0, 1, 2])
def test_whatever_the_schedule_the_window_delivers_what_workers_in_turns_would(lengths, size, schedule) -> None:
    """G1, G2, G4, G5, G21: no schedule loses or repeats an item, changes the order, or stalls."""
    run = Pretended(lengths, size)
    run.open()
    for action in schedule:
        run.act(action)
        assert run.got == in_turns(lengths)[: len(run.got)]
        assert not run.window.drained() or len(run.got) == len(in_turns(lengths))
    run.run_out()
    assert run.got == in_turns(lengths)
    assert run.window.drained()
    assert run.window.conclude() is None
    assert run.window.state is RunState.ENDED


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(1, 6), schedules, st.data())
def test_whatever_the_schedule_an_error_comes_after_all_that_was_before_it(lengths, size, schedule, data) -> None:
    """G10: in one worker, at one of its items or where it would have ended."""
    bad = data.draw(st.integers(0, len(lengths) - 1))
    at = data.draw(st.integers(0, lengths[bad]))
    error = LookupError("on purpose")

    class Failing(Pretended):
        def end(self, worker):
            ranks = self.under_way.get(worker)
            if worker == bad and ranks and self.given[worker] == at:
                self.given[worker] += 1
                self.window.finish(ranks.pop(0), error)
                return True
            if worker == bad and ranks and self.given[worker] > at:
                self.window.finish(ranks.pop(0), None)  # a generator that has raised has ended
                return True
            return super().end(worker)

        def claim(self, worker):
            return not (self.window.last and self.window.next_of(worker) >= self.window.end) and super().claim(worker)

    run = Failing(lengths, size)
    run.open()
    expected = [(worker, number) for worker, number in in_turns(lengths) if (number, worker) < (at, bad)]
    for action in schedule:
        run.act(action)
        assert run.got == expected[: len(run.got)]
    run.run_out()
    assert run.got == expected
    assert run.window.drained()
    assert run.window.conclude() is error
    assert run.window.state is RunState.FAILED
