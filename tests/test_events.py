"""The event record: it says what happened, in that order, and comes back from its lines; a log that was tampered with is not replayed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pacing import LIMIT

import enqueuer
from enqueuer import GeneratorEnqueuer, OrderedEnqueuer
from enqueuer.testing.events import Call, Event, Misfit, Recorder, from_lines, replay, to_lines
from enqueuer.testing.subject import Gate, Hooked, Numbers

VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False)
CALLS = st.builds(Call, st.text(), st.lists(VALUES, max_size=3).map(tuple), VALUES | st.lists(VALUES, max_size=3).map(tuple))
EVENTS = st.builds(
    Event,
    st.integers(0),
    st.text(),
    st.text(),
    st.lists(VALUES, max_size=3).map(tuple),
    st.lists(CALLS, max_size=3).map(tuple),
    VALUES,
    st.floats(0, 1e9),
)


def recorded(sequence, takes=9, *, workers=2, size=3, runs=1):
    recorder = Recorder()
    subject = OrderedEnqueuer(sequence, runtime=recorder.runtime)
    for _ in range(runs):
        subject.start(workers, size)
        stream = subject.get()
        for _ in range(takes):
            next(stream)
        assert subject.stop()
    return recorder.events


def of(events, what, who=None):
    return [event for event in events if event.what == what and who in {None, event.who}]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENTS, max_size=3))
def test_a_log_comes_back_from_its_lines(events):
    text = to_lines(events)
    assert from_lines(text) == events
    assert [json.loads(line)[0] for line in text.split("\n")[:-1]] == [event.run for event in events]


def test_a_run_is_told_from_its_start_to_the_end_of_its_threads():
    events = recorded(Hooked(4, lambda: None))
    first, last = events[0], [event for event in events if event.what != "ring"][-1]  # it is dropped after that
    assert (first.what, first.args) == ("start", (2, 3, True, False, False, None, 0, 0, 0))
    assert (last.what, last.args, last.got) == ("stop returns", (None,), True)
    assert {event.who for event in events} == {"boot", "worker-0", "worker-1", threading.current_thread().name}
    assert {event.run for event in events} == {1}
    assert [event.clock for event in events] == sorted(event.clock for event in events)
    for worker in ("worker-0", "worker-1"):
        assert [event.what for event in events if event.who == worker][-1] == "exits"


def test_what_is_put_was_claimed_and_what_is_taken_was_put():
    events = recorded(Numbers(3), 7)
    claimed = [call.result for event in events for call in event.calls if call.name == "claim" and isinstance(call.result, int)]
    put = [call.args[0] for event in events for call in event.calls if call.name == "put"]
    taken = [call.result for event in events for call in event.calls if call.name == "take" and call.result != "nothing"]
    assert taken == [*range(7)]
    assert sorted(put) == [*range(len(put))] == sorted(claimed)
    order = [
        (call.name, call.result if call.name == "take" else call.args[0]) for event in events for call in event.calls if call.name in {"put", "take"}
    ]
    for rank in taken:
        assert order.index(("put", rank)) < order.index(("take", rank))


def test_an_item_is_delivered_as_it_is_and_none_is_none():
    recorder = Recorder()
    things = [object(), None, object()]
    with OrderedEnqueuer(things, runtime=recorder.runtime) as subject:
        subject.start()
        stream = subject.get()
        assert next(stream) is things[0]
        assert next(stream) is things[2]
    puts = {call.args for event in recorder.events for call in event.calls if call.name == "put"}
    assert {(0, "item"), (1, None), (2, "item")} <= puts
    replay(recorder.events)


def test_an_error_is_told_by_its_name():
    def item(index):
        raise LookupError(index)

    recorder = Recorder()
    subject = OrderedEnqueuer(Numbers(3, item), runtime=recorder.runtime)
    subject.start()
    with pytest.raises(LookupError):
        next(subject.get())
    subject.stop()
    (finish,) = [call for event in of(recorder.events, "_finish") for call in event.calls if call.name == "finish"]
    assert finish.args == (0, "LookupError")
    raising = next(event for event in of(recorder.events, "take") if event.call("conclude"))
    assert raising.got == raising.call("conclude").result == "LookupError"
    replay(recorder.events)


def test_runs_are_counted_and_a_straggler_tells_of_its_own():
    gate = Gate()
    recorder = Recorder()
    subject = OrderedEnqueuer(Numbers(9, gate.item), runtime=recorder.runtime)
    subject.start(1, 1)
    assert gate.wait_arrived(1)
    assert not subject.stop(0)
    subject.start(1, 1)
    gate.open()
    assert next(subject.get()) == 0
    assert subject.stop()
    events = recorder.events
    assert [event.run for event in events if event.what == "start" and event.args] == [1, 2]
    late = next(i for i, event in enumerate(events) if event.run == 1 and event.what == "_put")
    assert late > next(i for i, event in enumerate(events) if event.run == 2)
    assert of(events, "stop returns")[0].got is False
    replay(events)


def test_a_start_that_is_refused_is_no_run():
    recorder = Recorder()
    with OrderedEnqueuer([1], runtime=recorder.runtime) as subject:
        subject.start()
        with pytest.raises(RuntimeError, match="while a run is on"):
            subject.start()
        next(subject.get())
    assert {event.run for event in recorder.events} == {1}
    replay(recorder.events)


def test_timeouts_are_told():
    recorder = Recorder()
    gate = Gate()
    with OrderedEnqueuer(Numbers(3, gate.item), runtime=recorder.runtime) as subject:
        subject.start()
        with pytest.raises(TimeoutError):
            next(subject.get(timeout=0.01))
        gate.open()
    assert of(recorder.events, "take")[-1].got == "after WaitTimeoutError"


def test_a_dropped_enqueuer_rings():
    recorder = Recorder()
    subject = OrderedEnqueuer([1], runtime=recorder.runtime)
    subject.start(1, 1)
    threads = [thread for thread in threading.enumerate() if thread.name == "enqueuer-worker-0"]
    del subject
    for thread in threads:
        thread.join(LIMIT)
    assert of(recorder.events, "ring")
    assert of(recorder.events, "_leave", "worker-0")
    replay(recorder.events)


def test_a_generator_and_worker_processes_are_recorded_too():
    for options in ({}, {"use_multiprocessing": True, "context": "fork"}):
        recorder = Recorder()
        with GeneratorEnqueuer(lambda: iter(range(5)), runtime=recorder.runtime, **options) as subject:
            subject.start(2, 4)
            assert sorted(set(subject.get())) == [0, 1, 2, 3, 4]
        assert of(recorder.events, "_finish")
        replay(recorder.events)


class Deadly:
    """A sequence with a hook, one of whose items kills its worker process the first time."""

    def __init__(self, folder):
        self.folder = folder
        self.epochs = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2 and not (self.folder / "dead").exists():
            (self.folder / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    def on_epoch_end(self):
        self.epochs += 1


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    recorder = Recorder()
    options = {"use_multiprocessing": True, "context": "fork", "on_worker_death": "retry", "max_retries": 5}
    with OrderedEnqueuer(Deadly(tmp_path_factory.mktemp("deaths")), runtime=recorder.runtime, **options) as subject:
        subject.start(2, 3)
        stream = subject.get()
        assert [next(stream) for _ in range(6)] == [0, 1, 2, 3, 0, 1]
    replay(recorder.events)
    return recorder.events


def test_worker_processes_are_told_from_their_start_to_their_end(deaths):
    assert deaths[0].args == (2, 3, True, False, False, None, 0, 0, 0, 5)
    assert [event.args for event in of(deaths, "_start", "boot")] == [(0,), (1,)]
    assert len(of(deaths, "halt")) == 1
    for worker in ("worker-0", "worker-1"):
        own = [event for event in deaths if event.who == worker]
        end = max(i for i, event in enumerate(own) if event.what == "_bury")
        assert [event.what for event in own[end + 1 :]][-1] == "exits"
        assert "_leave" in [event.what for event in own[end + 1 :]]
        assert {event.what for event in own[end + 1 :]} <= {"_leave", "_bury", "exits"}


def test_a_death_and_what_becomes_of_its_item_is_told(deaths):
    (death,) = [event for event in deaths if event.got == "died"]
    assert death.call("exitcode").result == -signal.SIGKILL
    own = [event for event in deaths if event.who == death.who]
    after = own[own.index(death) + 1 :]
    assert [event.what for event in after[:6]] == ["_bury", "_bury", "_start", "receive", "_await", "begin"]
    assert after[3].got == "ready"
    assert after[5].args[:2] == death.args == (0, 2)


def test_each_answer_is_to_what_was_asked_for_in_that_order(deaths):
    for worker in ("worker-0", "worker-1"):
        asked: list[tuple[int, int]] = []
        for event in (event for event in deaths if event.who == worker):
            if event.what == "begin":
                asked += zip(event.args[::2], event.args[1::2], strict=True)
            elif event.what == "receive" and event.got == "item":
                assert event.args == asked.pop(0)
            elif event.got == "died":
                asked.clear()
        assert not asked or max(asked)[0] == 1  # of the epoch that was not read to its end


def test_the_state_is_told_to_be_sent_once_for_each_epoch(deaths):
    for worker in ("worker-0", "worker-1"):
        own = [event for event in deaths if event.who == worker and event.what in {"send", "begin"}]
        second = [i for i, event in enumerate(own) if event.what == "begin" and event.args[0] == 1]
        assert [i for i, event in enumerate(own) if event.what == "send"] == [i - 1 for i in second[:1]]


def test_an_item_that_stops_its_run_inside_of_another_lock_is_told():
    recorder = Recorder()
    subject = GeneratorEnqueuer(lambda: (subject.stop() for _ in range(3)), runtime=recorder.runtime)
    subject.start()
    assert list(subject.get()) == []
    subject.stop()
    assert of(recorder.events, "stop", "worker-0")


@pytest.mark.parametrize("options", ["", ", use_multiprocessing=True, context='fork'"])
def test_without_a_recorder_nothing_is_imported_and_nothing_is_wrapped(options):
    code = (
        f"import sys, enqueuer; e = enqueuer.OrderedEnqueuer([1, 2]{options}); e.start(); next(e.get()); run = e._run; engine = run._terms.compute; "
        "kinds = [run, run._window, e._lock, engine, *getattr(engine, '_workers', {}).values()]; "
        "print('enqueuer.testing' in sys.modules, *(type(each).__name__ for each in kinds)); e.stop()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(enqueuer.__file__).parent.parent, timeout=LIMIT, check=True
    )
    assert done.stdout.split() == ["False", "Run", "Window", "_OwnedLock", *(["Processes", "_Worker"] if options else ["Threads"])]


# replay

CHANGES = {"claim", "put", "finish", "turned", "take", "conclude", "stop", "start"}


def matters(event):
    """Whether the event has changed the window, by what it says."""
    return any(call.name in CHANGES and call.result != "nothing" and (call.name != "claim" or call.result is not None) for call in event.calls)


def refused(events):
    with pytest.raises(Misfit) as caught:
        replay(events)
    return caught.value


@pytest.fixture(scope="module")
def log():
    return recorded(Hooked(4, lambda: None, lambda index: None if index == 2 else index), 9, runs=2)


def test_a_real_log_is_replayed(log):
    replay(log)


def test_a_changed_rank_is_refused(log):
    for i, event in enumerate(log):
        for n, call in enumerate(event.calls):
            calls = [*event.calls]
            if call.name in {"claim", "take"} and isinstance(call.result, int):
                calls[n] = replace(call, result=call.result + 1)
            elif call.name == "put":
                calls[n] = replace(call, args=(call.args[0] + 1, call.args[1]))
            else:
                continue
            assert refused([*log[:i], replace(event, calls=tuple(calls)), *log[i + 1 :]]).number == i + 1


def test_an_event_of_another_worker_is_refused(log):
    i, event = next((i, event) for i, event in enumerate(log) if event.what == "_put")
    other = {"worker-0": "worker-1", "worker-1": "worker-0"}[event.who]
    assert refused([*log[:i], replace(event, who=other), *log[i + 1 :]]).event.who == other


def test_a_dropped_event_is_refused_at_a_later_one(log):
    end = max(i for i, event in enumerate(log) if event.what == "take" and event.run == 2)
    dropped = [i for i, event in enumerate(log[: end - 4]) if matters(event) and event.what not in {"stop", "_leave"} and event.call("stop") is None]
    running = [i for i in dropped if any(later.run == log[i].run and later.call("take") for later in log[i + 1 : end])]
    seen = sum(1 for i in running if _is_refused([*log[:i], *log[i + 1 :]]))
    assert seen >= len(running) - 6  # the last ones of a run that nobody asks for
    assert len(running) > 20


def _is_refused(events):
    try:
        replay(events)
    except Misfit:
        return True
    return False


def test_swapped_events_are_refused_where_one_needs_the_other(log):
    takes = [i for i, event in enumerate(log) if event.what == "take" and isinstance(event.calls[-1].result, int)]
    puts = {call.args[0]: i for i, event in enumerate(log) if event.run == 1 for call in event.calls if call.name == "put"}
    for i in takes:
        rank = log[i].calls[-1].result
        if log[i].run == 1:
            swapped = [*log]
            swapped[i], swapped[puts[rank]] = log[puts[rank]], log[i]
            assert refused(swapped).number <= i + 1
