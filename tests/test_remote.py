"""Sequences that live in the test's process: what the checks of process mode stand on."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest
from pacing import LIMIT, wait_for

from enqueuer import OrderedEnqueuer, item_seed
from enqueuer.testing.remote import Do, asking, remote, remote_generator, remote_seed
from enqueuer.testing.subject import Hooked, Numbers


def started(sequence, **options):
    enqueuer = OrderedEnqueuer(sequence, use_multiprocessing=True, context="fork", **options)
    enqueuer.start(2, 4)
    return enqueuer


def test_items_are_computed_here_and_asked_for_there() -> None:
    sequence = Numbers(3, lambda index: (index, os.getpid(), asking(), threading.current_thread().name))
    with started(remote(sequence)) as enqueuer:
        items = enqueuer.get(timeout=LIMIT)
        found = [next(items) for _ in range(3)]
    assert [item[0] for item in found] == [0, 1, 2]
    assert {item[1] for item in found} == {os.getpid()}
    assert os.getpid() not in {item[2] for item in found}
    assert sequence.computed


def test_a_call_that_is_an_item_is_made_by_the_worker() -> None:
    with started(remote(Numbers(2, lambda index: Do(os.getpid)))) as enqueuer:
        assert next(enqueuer.get(timeout=LIMIT)) != os.getpid()
    assert remote(Numbers(1, lambda index: Do(os.getpid)))[0] == os.getpid()  # which here is this process


def test_an_item_has_the_seed_of_the_one_that_asks() -> None:
    with (
        started(remote(Numbers(2, lambda index: remote_seed())), seed=3) as enqueuer,
        OrderedEnqueuer(Numbers(2, lambda _: item_seed()), seed=3) as threads,
    ):
        threads.start()
        assert next(enqueuer.get(timeout=LIMIT)) == next(threads.get(timeout=LIMIT))


def test_errors_are_raised_there_as_themselves() -> None:
    def item(index):
        raise LookupError("here", index)

    with started(remote(Numbers(2, item))) as enqueuer, pytest.raises(LookupError) as raised:
        next(enqueuer.get(timeout=LIMIT))
    assert raised.value.args == ("here", 0)


def test_hooks_and_lengths_are_those_of_the_sequence() -> None:
    called = []
    assert not hasattr(remote(Numbers(3)), "on_epoch_end")
    hooked = remote(Hooked(3, lambda: called.append(os.getpid())))
    assert len(hooked) == 3
    hooked.on_epoch_end()
    assert called == [os.getpid()]


def test_a_generator_gives_what_it_gave() -> None:
    assert list(remote_generator(lambda: iter(range(4)))()) == [0, 1, 2, 3]
    own = iter(range(4))
    assert remote_generator(own) is own


def test_the_host_closes_when_nothing_is_served_and_keeps_nothing_alive() -> None:
    before = set(threading.enumerate())
    sequence = Numbers(3)
    gone = weakref.ref(sequence)
    served = remote(sequence)
    assert set(threading.enumerate()) - before
    del sequence, served
    gc.collect()
    assert gone() is None
    assert wait_for(lambda: not set(threading.enumerate()) - before)
