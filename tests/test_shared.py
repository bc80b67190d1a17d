"""Memory that worker processes share with this one: what arrives in it, how long it stays, and what is left of it (G6, G13, G20, G28)."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import types
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pacing import LIMIT, wait_for
from process_helpers import HEAD, METHODS, Script, descriptors

from enqueuer import OrderedEnqueuer, _processes, _shared
from enqueuer._border import LARGE, MANY, pack_item, unpack_item, unpack_sizes
from enqueuer._runtime import REAL, identity
from enqueuer._shared import Desk, Stock, give

N = 100_000
"""Bytes of an item that is shared."""


def shared() -> list[str]:
    """Return the mappings of shared memory that this process has."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:enqueuer" in line]


def inode(array: np.ndarray) -> str | None:
    """Return which file of theirs an array is in; None if it was copied."""
    address = array.__array_interface__["data"][0]
    for line in shared():
        span, _, _, _, number, *_ = line.split()
        first, last = span.split("-")
        if int(first, 16) <= address < int(last, 16):
            return number
    return None


def is_shared(array: np.ndarray) -> bool:
    """Whether the memory of an array is such a mapping: it was not copied."""
    return inode(array) is not None


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No memory stays mapped once what was taken is dropped."""
    if shared():
        gc.collect()  # what was dropped in a reference cycle
    before = len(shared())
    yield
    if len(shared()) > before:
        gc.collect()
    assert len(shared()) <= before


def full(number: int, size: int = N) -> np.ndarray:
    return np.full(size, number % 251, np.uint8)


class Arrays:
    """Item i is an array of i."""

    def __init__(self, length: int, size: int = N) -> None:
        self.length = length
        self.size = size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> object:
        return full(index, self.size)


class With(Arrays):
    """The same, with something that items need."""

    def __init__(self, length, given) -> None:
        super().__init__(length)
        self.given = given


class Only(With):
    """Items that another function makes."""

    def __getitem__(self, index):
        return self.given(index)


def started(sequence, workers=2, queue=4, context="fork", **options):
    enqueuer = OrderedEnqueuer(sequence, use_multiprocessing=True, context=context, **options)
    enqueuer.start(workers, queue)
    return enqueuer


# what arrives


@dataclass
class Pair:
    name: str
    values: np.ndarray
    more: bytes


def a_pair(index):
    return Pair(str(index), full(index), bytes([index]) * N)


def fixed(index):
    array = full(index)
    array.flags.writeable = False
    return {"fixed": array, "free": full(index + 1).reshape(10, -1), "turned": np.asfortranarray(full(index).reshape(10, -1))}


def medium(index):
    return [full(index + more, LARGE // 2) for more in range(9)], "ä" * N


@pytest.mark.parametrize("context", METHODS)
@pytest.mark.parametrize("make", [a_pair, fixed, medium], ids=lambda make: make.__name__)
def test_items_of_any_shape_arrive_equal(make, context) -> None:
    with started(Only(12, make), context=context) as enqueuer:
        stream = enqueuer.get()
        for index in range(36):
            made, came = make(index % 12), next(stream)
            assert pickle.dumps(made, 5) == pickle.dumps(came, 5)  # values, order of axes, writability
        if make is fixed:
            assert is_shared(came["fixed"])
            assert is_shared(came["free"])
        del came


@pytest.mark.parametrize("context", METHODS)
def test_an_array_is_the_memory_that_the_worker_has_written(context) -> None:
    with started(Arrays(10), context=context) as enqueuer:
        stream = enqueuer.get()
        for _ in range(10):
            next(stream)  # from the first ones it is seen that items are large
        assert all(is_shared(next(stream)) for _ in range(20))


def test_items_grow_and_shrink() -> None:
    sizes = [N, 1, 10 * N, LARGE - 1, LARGE, 3 * N, 50 * N, 5, N]
    with started(Only(len(sizes), lambda index: full(index, sizes[index]))) as enqueuer:
        stream = enqueuer.get()
        for number in range(20 * len(sizes)):
            index = number % len(sizes)
            assert np.array_equal(next(stream), full(index, sizes[index]))


def test_small_items_need_no_memory() -> None:
    with started(Arrays(10, LARGE // 2)) as enqueuer:
        stream = enqueuer.get()
        for _ in range(50):
            next(stream)
        assert shared() == []


# how long it stays


def keeps_itself(array):
    return array


def keeps_a_part(array):
    return array[10:-10:3]


def keeps_a_view(array):
    return memoryview(array)[5:]


def keeps_a_cycle(array):
    cycle = [array]
    cycle.append(cycle)
    return array.reshape(2, -1)


@pytest.mark.parametrize("keep", [keeps_itself, keeps_a_part, keeps_a_view, keeps_a_cycle], ids=lambda keep: keep.__name__)
def test_what_is_kept_stays_while_others_come_after_stop_after_a_restart_and_after_a_drop(keep) -> None:
    enqueuer = started(Arrays(30))
    kept = []
    for _ in range(2):
        stream = enqueuer.get()
        for number in range(40):
            array = next(stream)
            if number % 5 == 0:
                kept.append((number % 30, keep(array)))
            del array
        enqueuer.stop()
        assert all((np.asarray(each) == number).all() for number, each in kept)
        enqueuer.start(2, 4)
    del stream, enqueuer
    gc.collect()
    assert all((np.asarray(each) == number).all() for number, each in kept)


def test_memory_is_used_again_once_nothing_refers_to_it() -> None:
    with started(Arrays(10), queue=4) as enqueuer:
        stream = enqueuer.get()
        for _ in range(100):
            next(stream)
        assert 1 <= len(shared()) <= 4 + 2  # the queue, the one that was taken, and the one that takes its place


def test_a_kept_array_keeps_its_own_memory_only() -> None:
    with started(Arrays(10), queue=8) as enqueuer:
        stream = enqueuer.get()
        for _ in range(30):
            kept = next(stream)
    assert is_shared(kept)
    assert len(shared()) == 1
    assert (kept == 29 % 10).all()
    del kept
    assert shared() == []


def test_who_keeps_everything_gets_copies_when_there_is_no_more_memory(monkeypatch) -> None:
    monkeypatch.setattr(_shared, "MOST", 5)
    with started(Arrays(40)) as enqueuer:
        stream = enqueuer.get()
        kept = [next(stream) for _ in range(40)]
        assert len(shared()) <= 5
    assert all((array == number).all() for number, array in enumerate(kept))


def test_nothing_is_left_after_stop() -> None:
    before = descriptors()
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        for _ in range(30):
            next(stream)
        assert shared()
    assert shared() == []
    assert descriptors() == before


# forks of this process


def fork(function):
    """Call a function in a fork; return what waits for what it returns."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            theirs.sendall(pickle.dumps(function()))
        finally:
            os._exit(0)
    theirs.close()

    def wait() -> object:
        with ours, ours.makefile("rb") as answer:
            data = answer.read()
        os.waitpid(pid, 0)
        return pickle.loads(data)

    return wait


def in_a_fork(function) -> object:
    """Return what a function returns in a fork."""
    return fork(function)()


@pytest.mark.parametrize("when", ["while it runs", "after stop"])
def test_a_fork_and_its_parent_have_arrays_of_their_own(when) -> None:
    enqueuer = started(Arrays(10))
    stream = enqueuer.get()
    array = [next(stream) for number in range(30)][-1]
    number = 29
    if when == "after stop":
        enqueuer.stop()
    assert is_shared(array)
    array[:10] = 77
    go, went = os.pipe(), os.pipe()

    def child():
        seen = array.tolist()
        array[:] = 99
        os.write(went[1], b"x")
        os.read(go[0], 1)  # the parent has written, and taken many more
        return seen == [77] * 10 + [number % 10] * (N - 10), bool((array == 99).all())

    wait = fork(child)
    os.read(went[0], 1)
    assert (array[:10] == 77).all()
    assert (array[10:] == number % 10).all()
    array[:] = 55
    for _ in range(60 if when == "while it runs" else 0):
        number += 1
        assert (next(stream) == number % 10).all()
    os.write(go[1], b"x")
    assert wait() == (True, True)
    assert (array == 55).all()
    for end in (*go, *went):
        os.close(end)
    enqueuer.stop()


def test_slots_that_a_fork_has_seen_are_not_used_again() -> None:
    with started(Arrays(10), queue=2) as enqueuer:
        stream = enqueuer.get()
        for _ in range(20):
            kept = next(stream)
        seen = inode(kept)
        assert seen is not None
        in_a_fork(lambda: None)
        del kept
        for number in range(20, 60):
            array = next(stream)
            assert (array == number % 10).all()
            if number > 25:
                assert inode(array) not in {None, seen}
        assert len(shared()) <= 4


# what worker processes do


class ForksAndWrites(Arrays):
    """Each item leaves a child behind that goes on as if it were the worker."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if os.fork() == 0:
            item[:] = 255  # and comes back
        else:
            os.wait()
        return item


class ClosesAll(Arrays):
    """Item 8 closes the files of the slots, and opens others in their place."""

    mine: ClassVar[set[str]] = set()

    def __getitem__(self, index):
        if index == 8:
            for name, of in descriptors().items():
                if "memfd:enqueuer" in of:
                    null = os.open("/dev/null", os.O_RDWR)
                    os.dup2(null, int(name))
                    os.close(null)
                    self.mine.add(name)
        assert all(descriptors()[name] == "/dev/null" for name in self.mine)
        return full(index, N * (1 + index))


class DiesOnce(With):
    """Item 5 dies, once."""

    def __getitem__(self, index):
        if index == 5:
            try:
                os.close(os.open(os.path.join(self.given, "died"), os.O_CREAT | os.O_EXCL))  # noqa: PTH118
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return full(index)


def test_a_child_that_an_item_forks_writes_nothing() -> None:
    with started(ForksAndWrites(10)) as enqueuer:
        stream = enqueuer.get()
        for number in range(24):
            assert (next(stream) == number % 10).all()


def test_an_item_that_closes_the_files_harms_no_other_file() -> None:
    with started(ClosesAll(10), workers=1) as enqueuer:
        stream = enqueuer.get()
        for number in range(40):
            assert np.array_equal(next(stream), full(number % 10, N * (1 + number % 10)))


def test_what_a_dead_worker_had_is_used_by_others(tmp_path) -> None:
    with started(DiesOnce(10, str(tmp_path)), on_worker_death="retry") as enqueuer:
        stream = enqueuer.get()
        for number in range(80):
            assert (next(stream) == number % 10).all()
        assert len(shared()) <= 8


def refuse(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_when_memory_runs_out_the_error_names_sizes(monkeypatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with started(Arrays(20)) as enqueuer:
        stream = enqueuer.get()
        with pytest.raises(
            MemoryError, match=r"^an item needs 1\d\d,\d{3} bytes of shared memory, which can't be had \(No space left on device\); [\d,]+ are free"
        ):
            for _ in range(20):
                next(stream)


@pytest.mark.parametrize("hidden", [(os, "memfd_create"), (os, "posix_fallocate"), (socket, "SCM_RIGHTS")], ids=lambda hidden: hidden[1])
def test_without_shared_memory_everything_goes_through_the_pipe(monkeypatch, hidden) -> None:
    monkeypatch.delattr(*hidden)
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        for number in range(30):
            array = next(stream)
            assert (array == number % 10).all()
            array[:] = 1
        assert shared() == []


@pytest.mark.parametrize(
    "change", [{"_is_gil_enabled": lambda: False}, {"implementation": types.SimpleNamespace(name="other")}], ids=["threads", "other"]
)
def test_where_references_are_not_counted_memory_is_not_shared(monkeypatch, change) -> None:
    for name, value in change.items():
        monkeypatch.setattr(sys, name, value, raising=False)
    assert not _processes._can_share()


def test_when_too_many_files_are_open_items_go_through_the_pipe(monkeypatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse)
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        for number in range(30):
            assert (next(stream) == number % 10).all()
        assert shared() == []


def test_what_can_not_be_mapped_is_copied(monkeypatch) -> None:
    monkeypatch.setattr(_shared, "_mapped", refuse)
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        for number in range(30):
            array = next(stream)
            assert (array == number % 10).all()
            array[:] = 255
        assert shared() == []


def test_few_files_may_be_open_in_a_worker() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def make(index):
        if index == 3 and resource.getrlimit(resource.RLIMIT_NOFILE) == limits:
            most = 1 + max(map(int, descriptors()))
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        return full(index)

    with started(Only(10, make), workers=1, queue=6) as enqueuer:
        stream = enqueuer.get()
        for number in range(40):
            assert (next(stream) == number % 10).all()


# tensors


class FakeTensor:
    """What of a tensor of torch is used."""

    def __init__(self, array, *, requires_grad=False) -> None:
        self.array = array
        self.requires_grad = requires_grad

    def numpy(self):
        if self.array.dtype == np.float16:
            raise TypeError("another device")
        return self.array

    def __reduce__(self):
        return FakeTensor, (self.array.copy(),)


def test_a_tensor_is_shared_as_its_array(monkeypatch) -> None:
    torch = types.ModuleType("torch")
    torch.Tensor = FakeTensor
    torch.from_numpy = FakeTensor
    monkeypatch.setitem(sys.modules, "torch", torch)
    with started(Only(10, lambda index: FakeTensor(full(index)))) as enqueuer:
        stream = enqueuer.get()
        for number in range(30):
            tensor = next(stream)
            assert type(tensor) is FakeTensor
            assert (tensor.array == number % 10).all()
        assert is_shared(tensor.array)
        del tensor
    for odd in (FakeTensor(np.ones(N, np.float16)), FakeTensor(np.ones(N), requires_grad=True)):
        head, parts = pack_item(odd)
        assert type(unpack_item(memoryview(head), [memoryview(part) for part in parts])) is FakeTensor


# without processes


def test_parts_cross_as_they_are() -> None:
    item = {"a": full(3), "b": [full(4, LARGE), full(5, LARGE - 1)], "c": bytes(N)}
    head, parts = pack_item(item)
    assert [len(part) for part in parts[1:]] == [N, LARGE]
    assert unpack_sizes(memoryview(head)) == tuple(map(len, parts))
    for again in (unpack_item(memoryview(head), [memoryview(part) for part in parts]), unpack_item(memoryview(b"".join((head, *parts))))):
        assert pickle.dumps(again, 5) == pickle.dumps(item, 5)


def test_an_item_of_very_many_parts_crosses() -> None:
    item = [full(index, LARGE) for index in range(MANY + 10)]
    head, parts = pack_item(item)
    assert len(parts) == 1 + MANY
    assert pickle.dumps(unpack_item(memoryview(b"".join((head, *parts)))), 5) == pickle.dumps(item, 5)


class Between:
    """A stock and a desk in one process."""

    def __init__(self) -> None:
        self.process = REAL.process()
        self.stock = Stock(self.process)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = here.detach()
        self.private: set[int] = set()
        self.theirs = there.detach()
        self.desk = Desk(self.theirs, identity(self.theirs), self.private)

    def sends(self, slot, *parts) -> list[memoryview]:
        views = [memoryview(part) for part in parts]
        assert self.desk.place(slot.number, views)
        came = self.stock.views(slot, [view.nbytes for view in views])
        self.stock.lend(slot)
        return came

    def close(self) -> None:
        self.stock.close()
        self.desk.forget(list(self.desk._files))
        os.close(self.theirs)
        os.close(self.channel)
        assert not self.private


@pytest.fixture
def between():
    both = Between()
    yield both
    both.close()


def test_a_slot_is_given_away_when_its_last_view_is_gone(between) -> None:
    slot = between.stock.take()
    give(between.channel, slot)
    view = between.sends(slot, b"abc" * 1000, b"", bytes(1000))[0][1:]
    assert bytes(view[:2]) == b"bc"
    assert slot.leased()
    other = between.stock.take()
    assert other is not slot
    view.release()
    del view
    assert not slot.leased()
    assert between.stock.take() is slot
    between.stock.vacate(slot)
    between.stock.vacate(other)
    assert between.stock.take() is other
    between.stock.vacate(other)


def test_pages_that_were_written_here_are_dropped_and_others_stay(between) -> None:
    size = 4 * mmap.PAGESIZE
    slot = between.stock.take()
    give(between.channel, slot)
    for number in range(1, 9):
        view = between.sends(slot, bytes([number]) * size)[0]
        assert bytes(view) == bytes([number]) * size
        if number % 2:
            view[mmap.PAGESIZE + 5] = 0  # a page of our own
        del view
        assert between.stock.take() is slot
    between.stock.vacate(slot)


@pytest.mark.parametrize("told", [b"", b"\x21" * 80])
def test_where_the_system_does_not_tell_of_pages_all_are_dropped(between, monkeypatch, told) -> None:
    monkeypatch.setattr(os, "pread", lambda *_: told[:8])
    test_pages_that_were_written_here_are_dropped_and_others_stay(between)


def test_parts_begin_at_cache_lines(between) -> None:
    slot = between.stock.take()
    give(between.channel, slot)
    sent = [b"x" * 999, b"y" * 1001, b"z" * 900]
    parts = between.sends(slot, *sent)
    assert [bytes(part) for part in parts] == sent
    addresses = [np.frombuffer(part, np.uint8).__array_interface__["data"][0] for part in parts]
    assert [address % _shared.LINE for address in addresses] == [0, 0, 0]


def test_what_has_grown_is_mapped_again_and_what_was_there_before_stays(between) -> None:
    slot = between.stock.take()
    give(between.channel, slot)
    assert len(between.sends(slot, bytes(10))[0]) == 10
    assert between.stock.take() is slot
    large = between.sends(slot, b"x" * 10 * mmap.PAGESIZE)[0]
    assert bytes(large) == b"x" * 10 * mmap.PAGESIZE
    del large
    assert between.stock.take() is slot
    between.stock.vacate(slot)


def test_a_slot_that_a_fork_may_have_is_closed_when_its_last_view_is_gone(between) -> None:
    slot = between.stock.take()
    give(between.channel, slot)
    (view,) = between.sends(slot, b"abc" * 1000)
    view[:1] = b"x"
    assert os.pread(slot.fd, 3, 0) == b"abc"
    assert in_a_fork(view[:3].tobytes) == b"xbc"
    assert not slot.closed
    del view
    other = between.stock.take()
    assert other is not slot
    assert slot.closed
    between.stock.vacate(other)


def test_a_fork_has_none_of_the_memory_that_is_free(between) -> None:
    slots = [between.stock.take() for _ in range(3)]
    for slot in slots:
        give(between.channel, slot)
        between.sends(slot, bytes(N))
    (view,) = between.sends(between.stock.take(), b"abc" * N)
    del slot, slots
    between.stock.vacate(between.stock.take())
    between.desk.forget(list(between.desk._files))
    mapped = len(shared())
    theirs = in_a_fork(lambda: (len(shared()), bytes(view), [of for of in descriptors().values() if "memfd:enqueuer" in of]))
    assert theirs == (1, b"abc" * N, [])
    assert mapped > 1


def test_a_program_that_ends_without_stop_leaves_nothing(tmp_path) -> None:
    with Script(
        tmp_path,
        """
        enqueuer = OrderedEnqueuer(Large((15,)), use_multiprocessing=True)
        enqueuer.start(2, 4)
        stream = enqueuer.get()
        kept = [next(stream) for _ in range(10)]
        """,
    ) as script:
        script.ends_at_once()


@pytest.mark.parametrize("method", METHODS)
def test_small_items_load_nothing_that_shares_memory(method, tmp_path) -> None:
    """A start is no slower for what it has no use for."""
    with Script(
        tmp_path,
        """
        enqueuer = OrderedEnqueuer(Loaded(), use_multiprocessing=True, context=METHOD)
        with enqueuer:
            enqueuer.start(2, 4)
            stream = enqueuer.get()
            say([next(stream) for _ in range(4)], Loaded()[0])
        """.replace("METHOD", repr(method)),
        head=f"""{HEAD}
class Loaded:
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return "enqueuer._shared" in sys.modules
""",
    ) as script:
        assert script.ends() == (0, "[False, False, False, False] False\n", "")


@pytest.mark.parametrize("size", [LARGE, 10 * LARGE, 2_000_000])
def test_what_comes_through_the_pipe_is_aligned_and_its_own(monkeypatch, size) -> None:
    """Arrays of some types, and some libraries, want that; a message may have only one part, or many."""
    monkeypatch.setattr(os, "memfd_create", refuse)
    for make in (partial(full, size=size), partial(two, size=size)):
        with started(Only(100, make), queue=2) as enqueuer:
            for number, item in zip(range(6), enqueuer.get(), strict=False):
                for array in item if isinstance(item, tuple) else (item,):
                    assert array.__array_interface__["data"][0] % 16 == 0
                    assert (array == number).all()
                    array[:] = 7


def two(index, size):
    return full(index, size), full(index, size)


def heap(pid: int) -> int:
    """Return how many bytes a process has in memory that are no file's."""
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(size) << 10 for name, size, *_ in lines if name == "Pss_Anon:")


@pytest.mark.skipif(_shared._trim is None, reason="another C library")
def test_a_worker_keeps_the_memory_of_one_item_besides_what_is_shared() -> None:
    """Not of those, too, that it has sent in the beginning: the heap would keep them. In a second run malloc behaves otherwise."""
    size = 8 << 20
    for _ in range(2):
        with started(Arrays(100, 8), workers=1, queue=2) as enqueuer:
            pid = take_pid(enqueuer)
            before = heap(pid)
        with started(Arrays(100, size), workers=1, queue=2) as enqueuer:
            pid = take_pid(enqueuer)
            stream = enqueuer.get()
            for _ in range(20):
                next(stream)
            assert wait_for(lambda enqueuer=enqueuer: enqueuer.statistics().ready == 2)
            assert wait_for(lambda pid=pid, before=before: heap(pid) - before < 1.5 * size, 2)  # the last is ready here before all is free there


def take_pid(enqueuer) -> int:
    """Return the pid of its only worker process."""
    next(enqueuer.get())
    (one,) = enqueuer._run._terms.compute._workers.values()
    return one.pid


# what a review has found


class Zero(bytearray):
    """As in the documentation of pickle: made of a buffer, or of what that is a view of."""

    def __reduce_ex__(self, protocol):
        return type(self)._made, (pickle.PickleBuffer(self),)

    @classmethod
    def _made(cls, thing):
        with memoryview(thing) as view:
            return cls(view.obj)


def test_what_a_buffer_is_a_view_of_is_no_larger_than_it() -> None:
    with started(Only(8, lambda index: (full(index), Zero(bytes([index]) * N)))) as enqueuer:
        stream = enqueuer.get()
        for number in range(40):
            _, came = next(stream)
            assert type(came) is Zero
            assert came == bytes([number % 8]) * N


def test_small_parts_do_not_keep_large_ones() -> None:
    with started(Only(8, lambda index: {"x": full(index, 20 * LARGE), "y": full(index, LARGE)})) as enqueuer:
        stream = enqueuer.get()
        kept = [next(stream)["y"] for _ in range(40)]
    assert shared() == []
    assert all((array == number % 8).all() for number, array in enumerate(kept))


def files() -> int:
    return sum("memfd:enqueuer" in of for of in descriptors().values())


def test_memory_that_was_much_once_becomes_less() -> None:
    sizes = [N] * 600
    sizes[20] = 60 * N
    with started(Only(600, lambda index: full(index, sizes[index])), queue=8) as enqueuer:
        stream = enqueuer.get()
        kept = [next(stream) for _ in range(60)]
        assert files() > 30
        del kept
        for _ in range(500):
            next(stream)
        assert files() <= 8 + 4
        assert max(os.fstat(int(name)).st_size for name, of in descriptors().items() if "memfd:enqueuer" in of) < 10 * N


def test_kept_arrays_have_no_descriptors() -> None:
    before = len(descriptors())
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        kept = [next(stream) for _ in range(40)]
    assert sum(map(is_shared, kept)) > 10
    assert len(descriptors()) == before


class LimitsItself(With):
    """Item 5 sets a limit of its process."""

    def __getitem__(self, index):
        if index == 5:
            resource.setrlimit(self.given, (N // 2 if self.given == resource.RLIMIT_FSIZE else 1 << 28, resource.RLIM_INFINITY))
        return super().__getitem__(index)


@pytest.mark.parametrize("limit", [resource.RLIMIT_FSIZE, resource.RLIMIT_AS])
def test_where_a_worker_may_not_have_the_memory_items_go_through_the_pipe(limit) -> None:
    with started(LimitsItself(10, limit)) as enqueuer:
        stream = enqueuer.get()
        for number in range(40):
            assert (next(stream) == number % 10).all()


class Replaces(Arrays):
    """Item 0 puts a socket of its own in the place of each that it finds."""

    def __getitem__(self, index):
        if index == 0:
            for name, of in descriptors().items():
                if of.startswith("socket:") and socket.socket(fileno=os.dup(int(name))).type == socket.SOCK_SEQPACKET:
                    ours, self.theirs = socket.socketpair()
                    os.dup2(ours.fileno(), int(name))
        return super().__getitem__(index)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_item_that_takes_the_channel_away_gets_the_pipe() -> None:
    with started(Replaces(10), workers=1) as enqueuer:
        stream = enqueuer.get()
        for number in range(40):
            assert (next(stream) == number % 10).all()


class StartsPrograms(With):
    """Each item tells what a program has open that is started without Python's knowledge."""

    def __getitem__(self, index):
        path = self.given / str(os.getpid())
        os.system(f"ls -l /proc/self/fd > {path}")
        return super().__getitem__(index), path.read_text()


def test_programs_that_items_start_have_no_slots(tmp_path) -> None:
    with started(StartsPrograms(10, tmp_path)) as enqueuer:
        stream = enqueuer.get()
        assert not any("memfd:enqueuer" in next(stream)[1] for _ in range(30))


def test_a_fork_that_takes_its_time_has_arrays_of_its_own() -> None:
    """Between the first and the last that is done before a fork, other threads take items."""
    waits = []
    os.register_at_fork(before=lambda: [wait() for wait in waits])
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        kept = [next(stream) for _ in range(20)]
        waits.append(lambda: kept.extend([next(stream) for _ in range(20)]))

        def child():
            for array in kept:
                array[:] = 255

        in_a_fork(child)
        waits.clear()
        for number in range(40, 80):
            assert (next(stream) == number % 10).all()
        assert all((array == number % 10).all() for number, array in enumerate(kept))


def test_nobody_waits_for_who_forks() -> None:
    """The host's own hook waits for a lock, which a thread holds that waits for an item."""
    lock = threading.Lock()
    forking = threading.Event()
    hooks = [lambda: (forking.set(), lock.acquire())]
    os.register_at_fork(before=lambda: [hook() for hook in hooks], after_in_parent=lambda: [lock.release() for _ in hooks])
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        for _ in range(20):
            next(stream)
        with lock:
            child = threading.Thread(target=in_a_fork, args=(lambda: None,))
            child.start()
            assert forking.wait(LIMIT)
            kept = [next(stream) for _ in range(30)]
        child.join(LIMIT)
        assert not child.is_alive()
        hooks.clear()
    assert all((array == (20 + number) % 10).all() for number, array in enumerate(kept))


def test_nothing_is_given_away_while_somebody_forks() -> None:
    """What the fork has was taken after the first that is done before it, and dropped before the last that is done after it."""
    kept, when = [], {"before": lambda: None, "after": lambda: None}
    os.register_at_fork(before=lambda: when["before"](), after_in_parent=lambda: when["after"]())  # noqa: PLW0108 - they change
    with started(Arrays(200), workers=1, queue=2) as enqueuer:
        stream = enqueuer.get()
        for _ in range(10):
            next(stream)
        go, went = os.pipe()
        when["before"] = lambda: kept.append(next(stream))
        when["after"] = lambda: (kept.clear(), [next(stream) for _ in range(60)], os.write(went, b"x"))
        seen = in_a_fork(lambda: (os.read(go, 1), kept[0].tolist())[1])
        when.update(before=lambda: None, after=lambda: None)
        os.close(go)
        os.close(went)
    assert seen == [10] * N


def test_a_slot_that_can_not_be_mapped_comes_back(monkeypatch) -> None:
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        with monkeypatch.context() as patch:
            patch.setattr(_shared, "_mapped", refuse)
            for number in range(100):
                assert (next(stream) == number % 10).all()
            assert files() <= 4 + 2
        assert any([is_shared(next(stream)) for _ in range(20)])  # noqa: C419 - all of them are to be dropped


def test_a_host_that_locks_an_array_gets_the_next_item_all_the_same() -> None:
    lock = ctypes.CDLL(None).mlock
    with started(Arrays(10)) as enqueuer:
        stream = enqueuer.get()
        for number in range(60):
            array = next(stream)
            assert (array == number % 10).all()
            if number % 7 == 0:
                lock(ctypes.c_void_p(array.__array_interface__["data"][0]), ctypes.c_size_t(array.nbytes))
            array[:] = 255


class LeavesAChild(With):
    """Item 30 leaves a child behind, which says what it has mapped of slots."""

    def __getitem__(self, index):
        if index == 30 and os.fork() == 0:
            self.given.write_text(str(len(shared())))
            os._exit(0)
        return super().__getitem__(index)


def test_what_an_item_leaves_behind_has_no_slots(tmp_path) -> None:
    path = tmp_path / "mapped"
    with started(LeavesAChild(40, path), workers=1) as enqueuer:
        stream = enqueuer.get()
        for _ in range(36):
            next(stream)
        assert wait_for(lambda: path.is_file() and path.read_text())
    assert path.read_text() == "0"


class Hooked(Arrays):
    """After the hook the sequence is large, and its worker process slow to read."""

    state = b""
    pid = 0

    def __getitem__(self, index):
        return os.getpid(), len(self.state)

    def on_epoch_end(self) -> None:
        self.state = bytes(4_000_000)
        os.kill(self.pid, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (self.pid, signal.SIGCONT)).start()


def test_the_hosts_default_timeout_of_sockets_cuts_no_message(monkeypatch) -> None:
    """G21, G25."""
    sequence = Hooked(4)
    socket.setdefaulttimeout(0.02)
    try:
        with started(sequence, workers=1, queue=2) as enqueuer:
            stream = enqueuer.get(timeout=LIMIT)
            for number in range(8):
                sequence.pid, size = next(stream)
                assert size == (4_000_000 if number > 3 else 0)
    finally:
        socket.setdefaulttimeout(None)
