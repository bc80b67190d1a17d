"""Worker processes, used by a host and by items that care for nothing but themselves."""

import ctypes
import gc
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import process_items as work
import psutil
import pytest
from pacing import LIMIT, at_most, wait_for
from process_helpers import METHODS, children, descriptors, living
from process_items import ERRORS, Hooked, Items, stops

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer, RunState
from enqueuer._border import HEADER, Kind
from enqueuer._processes import _Incoming
from enqueuer.errors import BorderError, StartError, WorkerDiedError
from enqueuer.testing.pace import paced

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.usefixtures("no_processes"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # the host forks, and so does a replacement; both have threads
]

methods = pytest.mark.parametrize("method", METHODS)


def processes(items, **options):
    return OrderedEnqueuer(items, True, **({"context": "fork"} | options))


def taken(enqueuer, count, timeout=LIMIT):
    items = enqueuer.get(timeout=timeout)
    return [next(items) for _ in range(count)]


def kill_those_in(folder):
    """Kill the processes that files in a folder are named after."""
    for file in folder.iterdir():
        if file.name.isdigit():
            os.kill(int(file.name), signal.SIGKILL)


# the host forks


def in_a_child(*claims) -> int:
    """Fork; return the exit code of the child: 0 if each claim holds there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for claim in claims:
                claim()
            status = 0
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def raises_forked(call):
    with pytest.raises(RuntimeError, match="fork"):
        call()


def test_in_a_child_of_the_host_the_run_is_over_and_the_parents_goes_on() -> None:
    """G28: every method says so at once, and a new enqueuer works."""
    with processes(Items(9)) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get()
        assert next(items) == 0

        def own():
            with processes(Items(3)) as inner:
                inner.start(2, 2)
                assert taken(inner, 4) == [0, 1, 2, 0]

        calls = [
            lambda: next(items),
            lambda: next(enqueuer.get()),
            enqueuer.stop,
            partial(enqueuer.stop, 0),
            enqueuer.start,
            enqueuer.is_running,
            enqueuer.statistics,
            enqueuer.state_dict,
            lambda: enqueuer.seed,
        ]
        assert in_a_child(*(partial(raises_forked, call) for call in calls), own) == 0
        assert [next(items) for _ in range(20)] == [(1 + rank) % 9 for rank in range(20)]


def test_a_child_of_the_host_has_none_of_the_runs_ends_of_pipes_to_workers() -> None:
    """G28: or it would keep workers waiting that the parent has left."""
    before = set(descriptors().values())
    with processes(Items(9)) as enqueuer:
        enqueuer.start(3, 4)
        taken(enqueuer, 1)
        assert len({of for of in descriptors().values() if of.startswith("socket")} - before) == 3 + 3  # and channels

        def none_there():
            assert not {of for of in descriptors().values() if of.startswith("socket")} - before

        assert in_a_child(none_there) == 0


def test_a_child_that_outlives_the_run_keeps_no_worker_alive(tmp_path) -> None:
    """G20, G28."""
    enqueuer = processes(Items(9))
    before = children()
    enqueuer.start(3, 4)
    taken(enqueuer, 1)
    workers = children() - before
    child = os.fork()
    if child == 0:
        work.waits_for(tmp_path / "open", 0)
        os._exit(0)
    assert enqueuer.stop(LIMIT)
    assert not any(living(pid) for pid in workers)
    (tmp_path / "open").touch()
    os.waitpid(child, 0)


HOST_THAT_FORKS = """
import os, sys
sys.path.insert(0, {folder!r})
from process_items import Items
from enqueuer import OrderedEnqueuer
enqueuer = OrderedEnqueuer(Items(9), True, context="fork")
enqueuer.start(2, 4)
items = enqueuer.get()
assert next(items) == 0
child = os.fork()
if child == 0:
    {end}
else:
    assert os.waitpid(child, 0)[1] == 0
    assert [next(items) for _ in range(12)] == [(1 + rank) % 9 for rank in range(12)]
    assert enqueuer.stop()
"""


@pytest.mark.parametrize("end", ["sys.exit(0)", "pass", "del enqueuer, items", "import multiprocessing; multiprocessing.active_children()"])
def test_a_child_of_the_host_ends_without_a_word(end) -> None:
    """G28: its finalizers do nothing; multiprocessing's has nothing to wait for."""
    text = HOST_THAT_FORKS.format(folder=str(Path(__file__).parent), end=end)
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    done = subprocess.run([sys.executable, *options, "-c", text], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_host_whose_threads_fork_all_the_time_disturbs_nothing() -> None:
    """G28: nor do they keep what a run has closed."""
    over = threading.Event()

    def fork_and_wait():
        while not over.is_set():
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    threads = [threading.Thread(target=fork_and_wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            with processes(Items(20)) as enqueuer:
                enqueuer.start(2, 4)
                assert taken(enqueuer, 30) == [*range(20), *range(10)]
    finally:
        over.set()
        for thread in threads:
            thread.join()


# items that do as they please


@methods
@pytest.mark.parametrize("item", [work.forks_and_returns, work.forks_and_raises, work.runs_a_program, work.holds_the_gil])
def test_what_an_item_does_with_processes_is_its_own_affair(item, method) -> None:
    """G1, G2: a child that comes back from the item delivers nothing."""
    with processes(Items(6, item), context=method) as enqueuer:
        enqueuer.start(2, 3)
        assert taken(enqueuer, 8) == [0, 1, 2, 3, 4, 5, 0, 1]
        assert enqueuer.stop(LIMIT)


@methods
@pytest.mark.parametrize("item", [work.forks_for_long, work.leaves_a_program])
@pytest.mark.parametrize("timeout", [0, None])
def test_processes_that_items_leave_behind_hold_up_neither_the_items_nor_the_stop(timeout, item, method, tmp_path) -> None:
    """G14, G15, G20: the workers go, and what their items have started stays, if it likes."""
    enqueuer = processes(Items(4, partial(item, tmp_path)), context=method)
    try:
        enqueuer.start(2, 4)
        assert taken(enqueuer, 4) == [0, 1, 2, 3]
        assert wait_for(lambda: enqueuer.statistics().blocked_workers == 2)
        if timeout is None:
            assert enqueuer.stop()  # which waits for nobody that an item has left: they live until they are killed
        else:
            stops(enqueuer, timeout)
        assert all(living(file.name) for file in tmp_path.iterdir())
    finally:
        kill_those_in(tmp_path)


@methods
def test_a_death_is_noticed_though_a_child_of_the_item_lives_on(method, tmp_path) -> None:
    """G13: within a second, with room to spare."""
    enqueuer = processes(Items(4, partial(work.forks_for_long_and_dies, tmp_path)), context=method)
    try:
        with paced() as machine:  # it is there before the death: its own start would hide some of the time
            enqueuer.start(1, 1)
            assert wait_for(lambda: list(tmp_path.iterdir()))
            before = time.monotonic()
            with pytest.raises(WorkerDiedError, match="index 0") as caught:
                taken(enqueuer, 1)
            noticed = time.monotonic() - before
        assert noticed < 0.9 * machine.factor
        assert caught.value.exitcode == 5
        assert enqueuer.stop(LIMIT)
    finally:
        kill_those_in(tmp_path)


@methods
@pytest.mark.parametrize("item", [work.closes_everything, work.closes_everything_and_opens_others])
def test_an_item_that_closes_every_descriptor_is_an_error_and_no_hang(item, method, capfd) -> None:
    with processes(Items(4, item), context=method) as enqueuer:
        enqueuer.start(1, 2)
        with pytest.raises(WorkerDiedError, match="index 2"):
            taken(enqueuer, 3)
        assert enqueuer.stop(LIMIT)


@methods
def test_an_item_that_changes_directory_changes_its_workers_only(method, tmp_path) -> None:
    here = Path.cwd()
    with processes(Items(4, partial(work.changes_directory, tmp_path)), context=method) as enqueuer:
        enqueuer.start(2, 2)
        assert taken(enqueuer, 4) == [0, 1, 2, 3]
    assert Path.cwd() == here


@pytest.mark.parametrize(("outer", "inner"), [(True, False), (True, True), (False, True)], ids=["threads in", "processes in", "in threads"])
def test_enqueuers_nest(outer, inner) -> None:
    """G25."""
    with OrderedEnqueuer(Items(4, partial(work.nested, inner, LIMIT)), outer, context="fork") as enqueuer:
        enqueuer.start(2, 2)
        for index, inside in enumerate(taken(enqueuer, 4)):
            assert inside == [(index, rank) for rank in (0, 1, 2, 3, 4, 0)]


def test_generator_enqueuers_nest() -> None:
    with processes(Items(4, partial(work.nested_generator, LIMIT))) as enqueuer:
        enqueuer.start(2, 2)
        assert [sorted(inside) for inside in taken(enqueuer, 4)] == [sorted([*range(index)] * 2) for index in range(4)]


def test_inner_runs_that_items_leave_running_end_with_their_worker() -> None:
    """G20: whether it is told to leave, or killed."""
    for timeout in (None, 0):
        before = children()
        enqueuer = processes(Items(4, partial(work.nested_and_left, LIMIT)))
        enqueuer.start(2, 2)
        assert taken(enqueuer, 4) == [0, 1, 2, 3]
        workers = children() - before
        inner = set().union(*map(children, workers))
        assert len(inner) >= 4
        if timeout is None:
            assert enqueuer.stop()
        else:
            stops(enqueuer, timeout)
        assert wait_for(lambda inner=inner: not any(map(living, inner)), 2)


# what arrives


@methods
def test_many_large_items_arrive_and_stay_valid(method) -> None:
    """G6: more than any pipe holds, each in memory of its own, writable."""
    size = 2 << 20
    with processes(Items(12, partial(work.array, size)), context=method) as enqueuer:
        enqueuer.start(3, 6)
        got = taken(enqueuer, 24)
    for rank, item in enumerate(got):
        assert item.shape == (size,)
        assert item.dtype == np.uint8
        assert (item == rank % 12).all()
        item[:] = 255
    assert all((item == 255).all() for item in got)


@pytest.mark.parametrize("writable", [True, pytest.param(False, marks=pytest.mark.deep)], ids=["writable", "read-only"])  # see test_border.py, too
@pytest.mark.parametrize("index", range(len(work.ARRAYS)), ids=list(work.ARRAYS))
def test_an_array_arrives_as_it_was(index, writable) -> None:
    """G6: dtype, shape, values and writability."""
    made = work.some_array(writable, index)
    with processes([made]) as enqueuer:
        enqueuer.start()
        (came,) = taken(enqueuer, 1)
    assert came.dtype == made.dtype
    assert came.shape == made.shape
    assert (came == made).all()
    assert came.flags.writeable == made.flags.writeable


@methods
@pytest.mark.parametrize("name", ERRORS)
def test_what_an_item_raises_arrives_at_its_rank(name, method) -> None:
    """G10, G12: itself if it can cross the border, else an error that says what it was; with the traceback of the worker."""
    with processes(Items(4, partial(work.raises, name)), context=method) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            next(items)
        assert type(caught.value) is ERRORS[name][1] or (ERRORS[name][1] is RuntimeError and isinstance(caught.value, BorderError))
        assert list(items) == []
        assert not enqueuer.is_running()
        assert enqueuer.statistics().error is caught.value
        if name == "stop":
            assert "rank 2 (epoch 0, index 2" in str(caught.value)
        else:
            assert any("rank 2 (epoch 0, index 2" in note for note in caught.value.__notes__)
        told = caught.value.__cause__ if name != "stop" else caught.value.__cause__ and caught.value.__cause__.__cause__
        assert "in raises" in str(told)
        if isinstance(caught.value, BorderError):
            assert any(kind.__name__ in str(caught.value) for kind in (work.Unpicklable, work.UnpicklableThere))


class Holding:
    """Holds some data, which its hook changes, and says how much memory its process has of its own."""

    def __init__(self, size) -> None:
        self.data = np.ones(size, np.uint8)
        self.epoch = 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index) -> tuple[int, int, int]:
        return self.epoch, int(self.data[-1]), psutil.Process().memory_full_info().uss

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.data += 1


@pytest.mark.deep
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_has_the_sequence_once_also_after_a_hook(method) -> None:
    """The worker drops the bytes that have arrived, and the version before."""
    uses = {}
    for size in (1, 64 << 20):
        with processes(Holding(size), context=method) as enqueuer:
            enqueuer.start(1, 1)
            items = taken(enqueuer, 6)
        assert [item[:2] for item in items] == [(epoch, epoch + 1) for epoch in range(3) for _ in range(2)]
        uses[size] = [use for _, _, use in items]
    for small, large in zip(*uses.values(), strict=True):
        assert large - small < 1.25 * (64 << 20)


def test_a_long_message_costs_what_its_length_does() -> None:
    """A hook that leaves 128 MiB to send took half a minute, as each part of it that came was joined to all that had come before."""

    def cost(size, read):
        here, there = socket.socketpair()
        with here, there:
            sender = threading.Thread(target=there.sendall, args=(HEADER.pack(size, Kind.STATE) + bytes(size),))
            sender.start()
            begun = time.thread_time()
            read(here, size)
            used = time.thread_time() - begun
            sender.join()
        return used

    def once(pipe, size):
        view = memoryview(bytearray(HEADER.size + size))
        while view:
            view = view[pipe.recv_into(view) :]

    def message(pipe, size):
        kind, data = _Incoming(pipe.fileno()).receive(lambda: None, EOFError)
        assert (kind, len(data)) == (Kind.STATE, size)

    size = 32 << 20
    least = min(cost(size, once) for _ in range(3))
    assert min(cost(size, message) for _ in range(3)) < 8 * least


LIBRARY = """
import sys
from enqueuer import OrderedEnqueuer

class Batch:
    def __init__(self, index):
        self.index = index

class Data:
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return Batch(index)

with OrderedEnqueuer(Data(), True, context=sys.argv[1]) as enqueuer:
    enqueuer.start(2)
    print([item.index for _, item in zip(range(4), enqueuer.get())])
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_start_in_the_midst_of_an_import_says_what_to_do(method, tmp_path) -> None:
    """G18: it hung. What a worker process needs of that module it can't have before the import has ended, which waits for the worker."""
    (tmp_path / "library.py").write_text(LIBRARY)
    (tmp_path / "main.py").write_text('if __name__ == "__main__":\n    import library\n')
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "error", str(tmp_path / "main.py"), method]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert "StartError: start() was called while the module 'library' is still being imported" in done.stderr


def test_what_an_item_forks_ends_at_sigterm_though_its_worker_does_not() -> None:
    with processes(Items(2, work.terminates_a_child)) as enqueuer:
        enqueuer.start(1, 1)
        assert taken(enqueuer, 2) == [-signal.SIGTERM] * 2


def test_the_arguments_and_attributes_of_an_exception_arrive_too() -> None:
    with processes(Items(4, partial(work.raises, "two arguments"))) as enqueuer:
        enqueuer.start()
        with pytest.raises(work.TwoArguments) as caught:
            taken(enqueuer, 3)
        assert (caught.value.args, caught.value.right) == ((1,), 2)


@methods
@pytest.mark.parametrize("item", [work.unpicklable, work.cant_be_unpickled])
def test_an_item_that_cant_cross_the_border_is_an_error_that_names_it(item, method) -> None:
    """G12."""
    with processes(Items(4, item), context=method) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(BorderError, match=r"_thread\.lock|CantBeUnpickledHere") as caught:
            next(items)
        assert "index 2" in str(caught.value) + "".join(caught.value.__notes__)


# lifecycle


@methods
def test_a_dropped_enqueuer_ends_its_processes(method) -> None:
    """G20: without stop(), while they wait for room."""
    before = children(), descriptors()

    def forget():
        enqueuer = processes(Items(9), context=method)
        enqueuer.start(3, 4)
        taken(enqueuer, 3)
        assert wait_for(lambda: enqueuer.statistics().blocked_workers == 3)

    forget()
    gc.collect()
    assert wait_for(lambda: (children(), descriptors()) == before, 5)


@methods
def test_a_run_that_failed_can_be_started_again(method, tmp_path) -> None:
    """G17: after a death, an error, a stop in the middle of an item."""
    enqueuer = processes(Items(9, partial(work.dies_at, {3})), context=method)
    for _ in range(2):
        enqueuer.start(2, 2)
        with pytest.raises(WorkerDiedError):
            taken(enqueuer, 9)
    enqueuer.sequence.item = partial(work.sleeps_at, {3})
    enqueuer.start(2, 2)
    assert taken(enqueuer, 3) == [0, 1, 2]
    stops(enqueuer, 0.1)
    enqueuer.sequence.item = int
    enqueuer.start(2, 2)
    assert taken(enqueuer, 12) == [*range(9), 0, 1, 2]
    assert enqueuer.stop()


@methods
def test_stop_with_a_timeout_kills_what_computes(method, tmp_path) -> None:
    """G15: unlike threads, so it is always true."""
    for timeout in (0, 0.2):
        folder = tmp_path / str(timeout)
        folder.mkdir()
        enqueuer = processes(Items(9, partial(work.says_and_sleeps, folder)), context=method)
        enqueuer.start(3, 3)
        assert wait_for(lambda folder=folder: len(list(folder.iterdir())) == 3)
        assert stops(enqueuer, timeout) >= timeout


@methods
def test_the_state_goes_from_threads_to_processes_and_back(method) -> None:
    """G8, G27: the order is the seed's, whatever the mode, and goes on exactly where it stood."""
    expected = []
    with OrderedEnqueuer(Items(20), shuffle=True, seed=5) as threads:
        threads.start(3, 4)
        expected = taken(threads, 90)
    got, state = [], None
    for step in range(6):
        mode = bool(step % 2)
        with OrderedEnqueuer(Items(20), mode, shuffle=True, seed=5, context=method) as enqueuer:
            if state is not None:
                enqueuer.load_state_dict(json.loads(json.dumps(state)))
            enqueuer.start(1 + step % 3, 4)
            got += taken(enqueuer, 15)
            state = enqueuer.state_dict()
    assert got == expected


@methods
def test_the_hook_reaches_the_workers(method) -> None:
    """G7."""
    with processes(Hooked(5), context=method) as enqueuer:
        enqueuer.start(3, 4)
        assert taken(enqueuer, 20) == [(epoch, index) for epoch in range(4) for index in range(5)]


@methods
def test_each_item_goes_to_one_of_many_consumers(method) -> None:
    """G24."""
    with processes(Items(200), context=method) as enqueuer:
        enqueuer.start(2, 8)
        got = [[] for _ in range(4)]

        def consume(mine):
            items = enqueuer.get(timeout=LIMIT)
            for _ in range(100):
                mine.append(next(items))

        threads = [threading.Thread(target=consume, args=(mine,)) for mine in got]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        assert sorted(item for mine in got for item in mine) == sorted([*range(200)] * 2)
        for mine in got:
            assert sum(second < first for first, second in pairwise(mine)) <= 2  # ranks rise; items begin again with an epoch


@methods
def test_an_item_knows_its_worker(method) -> None:
    with processes(Items(12, work.where), context=method) as enqueuer:
        enqueuer.start(3, 6)
        got = taken(enqueuer, 24)
    pids = {}
    for rank, (worker, workers, epoch, index, pid) in enumerate(got):
        assert workers == 3
        assert (epoch, index) == divmod(rank, 12)
        assert pids.setdefault(worker, pid) == pid != os.getpid()


@methods
def test_no_two_workers_start_from_one_random_state(method, tmp_path) -> None:
    """G9: of `random` and of numpy; and the item's seed is the same as everywhere."""
    host = random.getstate()
    with processes(Items(16, partial(work.draws_with_others, tmp_path, 4)), context=method, seed=1) as enqueuer:
        enqueuer.start(4, 8)
        got = taken(enqueuer, 16)
    with OrderedEnqueuer(Items(16, work.draws), seed=1) as threads:
        threads.start()
        assert [item[3] for item in taken(threads, 16)] == [item[3] for item in got]
        random.setstate(host)
    assert len({item[0] for item in got}) == 4
    assert len({item[1] for item in got}) == 16
    assert len({item[2] for item in got}) == 16


UNSOWN = """
import os, sys
import numpy
from enqueuer import OrderedEnqueuer

class Draws:
    def __len__(self):
        return 32
    def __getitem__(self, index):
        there = "numpy.random" in sys.modules
        return os.getpid(), there, numpy.random.random()

there = "numpy.random" in sys.modules
with OrderedEnqueuer(Draws(), use_multiprocessing=True, context="fork") as enqueuer:
    enqueuer.start(2, 4)
    stream = enqueuer.get()
    got = [next(stream) for _ in range(32)]
first = {}
for pid, was_there, _ in got:
    first.setdefault(pid, was_there)
assert set(first.values()) == {there}, (there, first)
assert len({drawn for *_, drawn in got}) == 32
"""


def test_a_worker_does_not_import_what_nobody_asked_for() -> None:
    """G9: numpy imports its random states when they are asked for, some 10 ms; whoever does so in a worker has fresh ones."""
    subprocess.run([sys.executable, "-c", UNSOWN], check=True, timeout=LIMIT)


@methods
def test_a_worker_that_replaces_another_starts_from_another_random_state(method, tmp_path) -> None:
    """G9, G13: or the item that is computed again would be random in the same way."""
    with processes(Items(3, partial(work.draws_or_dies, tmp_path)), context=method, on_worker_death="retry", seed=1) as enqueuer:
        enqueuer.start(1, 1)
        got = taken(enqueuer, 3)
    assert repr(got[1][1:3]) != (tmp_path / "drawn").read_text()
    assert len({item[1] for item in got}) == 3


# context


def test_a_context_is_a_name_or_an_object() -> None:
    """G23, and G25: the host's own choice stays open."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    for context in (multiprocessing.get_context("fork"), "fork"):
        with processes(Items(3), context=context) as enqueuer:
            enqueuer.start(1, 1)
            assert taken(enqueuer, 3) == [0, 1, 2]
    for context, kind in [("frok", ValueError), ("", ValueError), (5, TypeError), (object(), TypeError), (b"fork", TypeError)]:
        with pytest.raises(kind):
            processes(Items(3), context=context)
    assert multiprocessing.get_start_method(allow_none=True) == chosen


@pytest.mark.parametrize("method", [None, "fork", "spawn", pytest.param("forkserver", marks=pytest.mark.deep)])
def test_the_hosts_choice_is_asked_at_each_start_and_left_open(method) -> None:
    """G25: also where multiprocessing would make it, when it tells a child of another method; and if starts meet."""
    text = f"""
        import multiprocessing
        import threading
        from enqueuer import OrderedEnqueuer
        def run():
            enqueuer = OrderedEnqueuer(range(3), True, context={method!r})
            enqueuer.start(2)
            assert next(enqueuer.get()) == 0
            enqueuer.stop()
        if __name__ == "__main__":
            run()
            assert multiprocessing.get_start_method(allow_none=True) is None
            threads = [threading.Thread(target=run) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert multiprocessing.get_start_method(allow_none=True) is None
            enqueuer = OrderedEnqueuer(range(3), True)
            multiprocessing.set_start_method("fork")
            enqueuer.start()
            assert next(enqueuer.get()) == 0
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# what the system refuses


@methods
def test_a_daemonic_process_is_told_that_it_may_have_no_workers(method) -> None:
    """G18: a worker of multiprocessing.Pool is one."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        name, text = pool.apply_async(work.in_a_pool, (method,)).get(LIMIT)
        pool.close()
        pool.join()
    assert name == "StartError"
    assert "daemonic" in text or method == "forkserver"  # which multiprocessing can't use in a child of its starter, and says so otherwise


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.deep)])
def test_a_start_that_gets_no_descriptors_leaves_none(method) -> None:
    """G18, G20: wherever on its way it is refused one. (multiprocessing's fork server itself does not survive that.)"""
    enqueuer = processes(Items(9), context=method)
    enqueuer.start(2, 4)
    taken(enqueuer, 1)
    enqueuer.stop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before, outcomes = descriptors(), []
    kids = children()
    top = max(map(int, before)) + 1
    if hard != resource.RLIM_INFINITY and hard < top + 40:
        pytest.skip(f"of {hard} files that may be open, {top} are: there is no room to try in")
    while outcomes[-3:] != ["started"] * 3:
        spare = len(outcomes)
        assert spare < 40
        fillers = [os.dup(0) for _ in range(top - len(before))]  # no holes below
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + spare, hard))
        try:
            enqueuer.start(2, 4)
            outcomes.append("started")
        except StartError as error:
            outcomes.append("refused" if "open files" in str(error) else repr(error))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                os.close(filler)
        assert outcomes[-1] == "started" or not enqueuer.is_running()
        assert enqueuer.stop(LIMIT)
        assert wait_for(lambda: children() <= kids, 5)
        if descriptors().keys() - before.keys():
            gc.collect()
        left = {name: of for name, of in descriptors().items() if name not in before}
        if method == "fork":  # nobody else will; and no other test is to be blamed
            for name in left:
                os.close(int(name))
        assert not left, (spare, outcomes[-1])
    assert outcomes[0] == "refused"
    assert set(outcomes) == {"refused", "started"}


@methods
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one that strikes in a weak reference's callback (D7)
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with another thread"])
def test_ctrl_c_during_start_leaves_no_process_and_no_descriptor(others, method) -> None:
    """G18, G20: wherever it strikes; another thread of the host takes the signal where this one has it blocked."""
    over, armed = threading.Event(), [False]
    threads = [threading.Thread(target=over.wait) for _ in range(others)]

    def strike(*_):
        if armed[0]:
            armed[0] = False
            raise KeyboardInterrupt

    for thread in threads:
        thread.start()
    enqueuer = processes(Items(9), context=method)
    enqueuer.start(2, 4)
    taken(enqueuer, 1)
    enqueuer.stop()
    before, kids, hits, pid = descriptors(), children(), 0, os.getpid()
    previous = signal.signal(signal.SIGINT, strike)
    killer = subprocess.Popen(
        [sys.executable, "-c", f"import os, random, time\nwhile os.getppid() == {pid}: time.sleep(random.random() * 0.01); os.kill({pid}, 2)"]
    )
    try:
        deadline = time.monotonic() + 2 * LIMIT
        while hits < 25:  # each at another place
            assert time.monotonic() < deadline, f"{hits} interrupts only"
            try:
                armed[0] = True
                enqueuer.start(2, 4)
            except KeyboardInterrupt:
                hits += 1
                assert not enqueuer.is_running()
            armed[0] = False
            assert enqueuer.stop(LIMIT)
    finally:
        armed[0] = False
        killer.kill()
        killer.wait()
        killer.__exit__(None, None, None)
        signal.signal(signal.SIGINT, previous)
        over.set()
        for thread in threads:
            thread.join()
    gc.collect()
    wait_for(lambda: children() <= kids and descriptors().keys() <= before.keys(), 3)
    left = children() - kids, {name: of for name, of in descriptors().items() if name not in before}
    for kid in left[0]:  # so that other tests are not blamed
        os.waitpid(kid, os.WNOHANG)
    for name in left[1]:
        os.close(int(name))
    assert left == (set(), {}), f"processes and descriptors after {hits} interrupts"


HOST_THAT_REAPS = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {folder!r})
from functools import partial
from process_items import Items, dies_at
from enqueuer import OrderedEnqueuer
from enqueuer.errors import WorkerDiedError
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, {handler})
def count():
    return len(os.listdir("/proc/self/fd"))
enqueuer = OrderedEnqueuer(Items(9, partial(dies_at, {{5}})), True, context="fork")
slowest = 0
for step in range(4):
    enqueuer.start(2, 4)
    items = enqueuer.get()
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    try:
        next(items)
    except WorkerDiedError as error:
        assert "index 5" in str(error), error
    else:
        assert False
    since = time.monotonic()
    assert enqueuer.stop()
    slowest = max(slowest, time.monotonic() - since)
    if not step:
        before = count()
assert not multiprocessing.active_children(), multiprocessing.active_children()
assert count() == before, (before, count())
print(slowest)
"""


@pytest.mark.parametrize("handler", ["reap", "signal.SIG_IGN"])
def test_a_host_that_reaps_every_child_itself_hangs_and_leaks_nothing(handler) -> None:
    """G13, G20: the exit code can't be known then, and nothing else is lost."""
    text = HOST_THAT_REAPS.format(folder=str(Path(__file__).parent), handler=handler)
    with paced() as machine:
        done = subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) < machine.factor


# systems that can do less


@pytest.mark.parametrize("policy", ["raise", "retry"])
def test_deaths_are_noticed_where_there_is_no_pidfd(policy, monkeypatch, tmp_path) -> None:
    """G13: within a second, and also when a child of the item has the pipe open."""
    monkeypatch.delattr(os, "pidfd_open")
    enqueuer = processes(Items(4, partial(work.forks_for_long_and_dies, tmp_path)), on_worker_death=policy, max_retries=2)
    try:
        with paced() as machine:  # it is there before the death: its own start would hide some of the time
            enqueuer.start(1, 1)
            assert wait_for(lambda: list(tmp_path.iterdir()))
            before = time.monotonic()
            with pytest.raises(WorkerDiedError) as caught:
                taken(enqueuer, 1)
            noticed = time.monotonic() - before
        assert caught.value.retries == (2 if policy == "retry" else 0)
        assert noticed < 1.5 * (3 if policy == "retry" else 1) * machine.factor
        assert enqueuer.stop(LIMIT)
    finally:
        kill_those_in(tmp_path)


def test_items_come_and_stop_kills_where_there_is_no_pidfd(monkeypatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with processes(Items(9)) as enqueuer:
        enqueuer.start(2, 4)
        assert taken(enqueuer, 12) == [*range(9), 0, 1, 2]
    enqueuer = processes(Items(9, work.sleeps))
    enqueuer.start(2, 4)
    with at_most(1.5):
        assert enqueuer.stop(0.1) or enqueuer.stop()


@pytest.mark.parametrize("method", ["fork"])
def test_orphans_end_where_there_is_no_sigio(method) -> None:
    """G20: a thread watches, unless the item holds the GIL."""
    text = """
        import fcntl, sys, threading
        del fcntl.F_SETOWN
        sys.path.insert(0, sys.argv[1])
        from process_items import Items, sleeps
        from enqueuer import OrderedEnqueuer
        enqueuer = OrderedEnqueuer(Items(9, sleeps), True, context="fork")
        enqueuer.start(3, 4)
        print("started", flush=True)
        threading.Event().wait()
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(text), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout.readline() == "started\n"
            workers: set[int] = set()  # they are children of the thread that started them, until that is gone
            assert wait_for(lambda: workers.update(children(host.pid)) or len(workers) == 3)
        finally:
            host.kill()
        assert wait_for(lambda: not any(map(living, workers)), 2)


def test_a_worker_that_an_item_stops_by_a_signal_is_killed_by_a_stop() -> None:
    """G15: a stopped process does not answer."""
    before = children()
    enqueuer = processes(Items(9))
    enqueuer.start(2, 2)
    taken(enqueuer, 3)
    assert wait_for(lambda: enqueuer.statistics().blocked_workers == 2)
    for pid in children() - before:
        os.kill(pid, signal.SIGSTOP)
    stops(enqueuer, 0.2)


def test_a_timeout_says_who_computes_and_the_item_still_comes(tmp_path) -> None:
    """G26."""
    with processes(Items(9, partial(work.waits_for_at, tmp_path / "open", {2}))) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get(timeout=0.05)
        assert taken(enqueuer, 2) == [0, 1]
        assert wait_for(lambda: enqueuer.statistics().claimed > 2)
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"rank 2 \(index 2 of epoch 0\) is being computed by worker"):
                next(items)
        (tmp_path / "open").touch()
        assert taken(enqueuer, 4) == [2, 3, 4, 5]


@pytest.mark.interrupts
def test_an_exception_thrown_into_a_worker_thread_is_delivered_and_leaves_nothing() -> None:
    """G10, G20: the fault is not an item's, and its process goes all the same."""
    enqueuer = processes(Items(5))
    enqueuer.start(1, 3)
    assert wait_for(lambda: enqueuer.statistics().blocked_workers == 1)
    (worker,) = (thread for thread in threading.enumerate() if thread.name == "enqueuer-worker-0")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(MemoryError))
    with pytest.raises(MemoryError):
        taken(enqueuer, 10)
    assert enqueuer.stop(LIMIT)
    assert enqueuer.statistics().state is RunState.FAILED


def test_what_can_be_started_is_a_generator_too() -> None:
    """The fixtures of this file watch both kinds."""
    with GeneratorEnqueuer(partial(work.counts, [2, 2]), True, context="fork") as enqueuer:
        enqueuer.start(2, 2)
        assert list(enqueuer.get(timeout=LIMIT)) == [(0, 0), (1, 0), (0, 1), (1, 1)]
