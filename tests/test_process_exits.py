"""How programs with worker processes end, in whatever way, and what is left of them: nobody (G18, G20, G22)."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
from pacing import LIMIT, at_most, wait_for
from process_helpers import HEAD, METHODS, Script, children, living

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc"),
]

methods = pytest.mark.parametrize("method", METHODS)

ENDS = {
    "ends": "",
    "exits": "sys.exit(0)",
    "raises": "raise LookupError('on purpose')",
    "stops": "assert enqueuer.stop(0) or enqueuer.stop()",  # a slow machine may not reap them in time
    "returns from a with block": "enqueuer.__exit__(LookupError, None, None)",
    "forgets": "del enqueuer",
}


@methods
@pytest.mark.parametrize("how", ENDS)
def test_a_program_ends_at_once_with_large_items_queued_and_a_long_one_under_way(how, method, tmp_path) -> None:
    """G20: whatever its last line is; a worker that is blocked in a write of 3 MB goes, too."""
    body = f"""
        enqueuer = OrderedEnqueuer(Large({{5}}), True, context={method!r})
        enqueuer.start(3, 8)
        begun(enqueuer, 7)
        say("last")
        {ENDS[how]}
    """
    with Script(tmp_path, body) as script:
        script.reads("last")
        with at_most(3):  # under a second; a with block may wait for one
            script.process.wait(LIMIT)
        code, out, err = script.ends()
        assert out == ""
        assert (code == 1 and err.endswith("LookupError: on purpose\n")) if how == "raises" else (code, err) == (0, "")


@methods
def test_a_program_ends_at_once_with_workers_that_wait_for_a_consumer(method, tmp_path) -> None:
    """G20: they have sent all they may, and are idle."""
    body = f"""
        enqueuer = OrderedEnqueuer(Large(), True, context={method!r})
        enqueuer.start(2, 3)
        while enqueuer.statistics().blocked_workers < 2:
            time.sleep(0.001)
        say("last")
    """
    with Script(tmp_path, body) as script:
        script.reads("last")
        script.ends_at_once()


@methods
@pytest.mark.parametrize("first", ["import tempfile; tempfile.TemporaryDirectory().cleanup()", "import weakref; weakref.finalize(sys, len, [])"])
def test_a_program_ends_that_used_finalizers_before_multiprocessing_was_imported(first, method, tmp_path) -> None:
    """Then multiprocessing's exit handler comes first, and would wait for its processes for ever."""
    body = f"""
        assert "multiprocessing" not in sys.modules
        finalizer = {first.split("; ")[1]}
        enqueuer = OrderedEnqueuer(Large({{1}}), True, context={method!r})
        enqueuer.start(2, 8)
        begun(enqueuer, 7)
        say("last")
    """
    with Script(tmp_path, body, head=first.split("; ")[0] + HEAD) as script:
        script.reads("last")
        with at_most(3):
            code, _, err = script.ends()
        assert (code, err) == (0, "")


@methods
def test_a_program_ends_that_ran_threads_before_it_ran_processes(method, tmp_path) -> None:
    body = f"""
        threads = OrderedEnqueuer([1, 2, 3])
        threads.start(2, 2)
        assert next(threads.get()) == 1
        assert "multiprocessing" not in sys.modules
        enqueuer = OrderedEnqueuer(Large({{1}}), True, context={method!r})
        enqueuer.start(2, 8)
        begun(enqueuer, 7)
        say("last")
    """
    with Script(tmp_path, body) as script:
        script.reads("last")
        script.ends_at_once()


@methods
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_ctrl_c_reaches_a_consumer_that_waits_and_nothing_is_lost(group, method, tmp_path) -> None:
    """G22: also where the terminal gives it to the workers, too."""
    body = f"""
        enqueuer = OrderedEnqueuer(Gated({str(tmp_path)!r}, {{2, 4}}), True, context={method!r})
        enqueuer.start(3, 6)
        interrupts = 0
        def watch():
            while reached({str(tmp_path)!r}) < 2:  # D35: only those that are there survive what the terminal gives them
                time.sleep(0.001)
            begun(enqueuer, 4)
            for seen in range(4):
                while interrupts < seen or enqueuer.statistics().blocked_consumers < 1:
                    time.sleep(0.001)
                say("blocked")
        threading.Thread(target=watch).start()
        got = []
        items = enqueuer.get()
        while len(got) < 150:
            try:
                got.append(next(items)[0])
            except KeyboardInterrupt:
                assert enqueuer.is_running()
                assert len(got) == 2
                interrupts += 1
        assert got == [*range(100), *range(50)], got
        assert enqueuer.stop()
        say("all")
    """
    with Script(tmp_path, body) as script:
        script.reads("blocked")
        for _ in range(3):
            script.reads("blocked", press=partial(os.killpg if group else os.kill, script.process.pid, signal.SIGINT))
        (tmp_path / "open").touch()
        script.reads("all")
        assert script.ends() == (0, "", "")


@methods
def test_sigterm_to_a_whole_job_leaves_the_workers_to_a_program_that_handles_it(method, tmp_path) -> None:
    """G22: a scheduler gives it to every process, and then the program saves what it needs."""
    body = f"""
        import signal
        signal.signal(signal.SIGTERM, lambda *_: say("told"))
        enqueuer = OrderedEnqueuer(Gated({str(tmp_path)!r}, {{2, 4}}), True, context={method!r})
        enqueuer.start(3, 6)
        while reached({str(tmp_path)!r}) < 2:
            time.sleep(0.001)
        begun(enqueuer, 4)
        say("ready")
        while not os.path.exists({str(tmp_path / "open")!r}):
            time.sleep(0.001)
        assert [item[0] for item, _ in zip(enqueuer.get(), range(150))] == [*range(100), *range(50)]
        assert enqueuer.stop()
        say("all")
    """
    with Script(tmp_path, body) as script:
        script.reads("ready")
        os.killpg(script.process.pid, signal.SIGTERM)
        script.reads("told")
        (tmp_path / "open").touch()
        script.reads("all")
        assert script.ends() == (0, "", "")


@methods
def test_ctrl_c_to_the_group_while_workers_come_up_costs_none_of_them(method, tmp_path, request) -> None:
    """G22: whatever they are doing on their way to their first item."""
    if method == "forkserver":  # not strict: the interrupt may come too late
        request.applymarker(pytest.mark.xfail(reason="D35: the fork server gives its children Python's own handler", strict=False))
    body = f"""
        import signal
        signal.signal(signal.SIGINT, lambda *_: None)
        enqueuer = OrderedEnqueuer(Large(length=50), True, context={method!r})
        enqueuer.start(3, 6)
        say("started")
        items = enqueuer.get()
        assert [next(items)[0] for _ in range(50)] == [*range(50)]
        assert enqueuer.stop()
        say("all")
    """
    with Script(tmp_path, body) as script:
        script.reads("started")
        for _ in range(5):
            os.killpg(script.process.pid, signal.SIGINT)
        assert script.ends() == (0, "all\n", "")


@methods
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_ctrl_c_ends_a_program_at_once_with_nobody_left(group, method, tmp_path) -> None:
    body = f"""
        enqueuer = OrderedEnqueuer(Large({{2}}), True, context={method!r})
        enqueuer.start(3, 6)
        items = enqueuer.get()
        next(items), next(items)
        begun(enqueuer, 5)
        say("waiting")
        next(items)
    """
    with Script(tmp_path, body) as script:
        script.reads("waiting")
        for _ in range(5):
            (os.killpg if group else os.kill)(script.process.pid, signal.SIGINT)
            if wait_for(lambda: script.process.poll() is not None, 3):  # CPython misses one that comes just before its last system call (D18)
                break
        code, out, err = script.ends()
        assert code in {-signal.SIGINT, 130}
        assert out == ""
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert err.count("Traceback") == 1


KINDS = ["Large", "Counting", "Matching"]
"""Items that sleep, that hold the GIL in C, and that hold it in an extension module."""


WAYS = ["SIGKILL", "SIGTERM", "SIGHUP", "SIGKILL of the group", "os._exit", "os.abort"]

DEATHS = [
    pytest.param(how, kind, marks=() if kind == "Large" or how in {"SIGKILL", "os._exit"} else pytest.mark.deep) for how in WAYS for kind in KINDS
]
"""To a worker each is the same: its parent is gone. So every change sees each way once, and each kind of item with two of them."""


@methods
@pytest.mark.parametrize(("how", "kind"), DEATHS)
def test_nobody_outlives_a_parent_that_dies(how, kind, method, tmp_path) -> None:
    """G20: each of several workers, also while its item lets no Python code run there."""
    body = f"""
        import faulthandler, resource, signal
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
        enqueuer = OrderedEnqueuer({kind}({{2, 3, 4}}), True, context={method!r})
        enqueuer.start(4, 8)
        begun(enqueuer, 5)
        say("all there")
        {how + {"os._exit": "(3)", "os.abort": "()"}.get(how, "") if how.startswith("os.") else "threading.Event().wait()"}
    """
    with Script(tmp_path, body) as script:
        script.reads("all there")
        if how.endswith("group"):
            os.killpg(script.process.pid, signal.SIGKILL)
        elif not how.startswith("os."):
            script.process.send_signal(signal.Signals[how])
        script.process.wait(LIMIT)
        assert script.gone() == []


@methods
def test_nobody_outlives_a_parent_that_dies_while_they_come_up(method, tmp_path) -> None:
    """G20: wherever they are on their way."""
    body = f"""
        enqueuer = OrderedEnqueuer(Large({{0, 1, 2, 3}}), True, context={method!r})
        say("before")
        enqueuer.start(4, 8)
        threading.Event().wait()
    """
    for step in range(5):
        with Script(tmp_path, body) as script:
            script.reads("before")
            seen = step and step + {"fork": 0, "spawn": 1, "forkserver": 2}[method]  # besides the processes of multiprocessing
            assert wait_for(lambda script=script, seen=seen: len(script.left()) >= seen)
            script.process.kill()
            script.process.wait(LIMIT)
            assert script.gone(LIMIT) == []  # who was not bound to it yet has to come up first, which takes as long as a busy machine likes


def test_a_worker_that_is_not_up_yet_ends_with_its_parent(tmp_path) -> None:
    """G20: not only when it comes up, which takes its time on a busy machine; here it never does."""
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 3600\n")  # which outlasts every test
    slow.chmod(0o755)
    body = f"""
        from multiprocessing import resource_tracker, set_executable
        resource_tracker.ensure_running()
        set_executable({str(slow)!r})
        enqueuer = OrderedEnqueuer(Large(), True, context="spawn")
        enqueuer.start(2, 4)
        say("started")
        threading.Event().wait()
    """
    with Script(tmp_path, body) as script:
        script.reads("started")
        assert len(script.left()) >= 2
        script.process.kill()
        script.process.wait(LIMIT)
        assert script.gone() == []


@methods
def test_a_child_of_the_host_that_lives_on_keeps_no_worker_alive_when_the_host_dies(method, tmp_path) -> None:
    """G20, G28."""
    body = f"""
        enqueuer = OrderedEnqueuer(Large({{2}}), True, context={method!r})
        enqueuer.start(3, 8)
        begun(enqueuer, 7)
        child = os.fork()
        if child == 0:
            threading.Event().wait()
            os._exit(0)
        say(child)
        threading.Event().wait()
    """
    with Script(tmp_path, "import warnings\nwarnings.simplefilter('ignore')\n" + textwrap.dedent(body)) as script:
        child = int(script.process.stdout.readline())
        # the others are the fork server, which has children, and the resource tracker, which both wait for the host's child to end
        workers = [pid for pid in script.left() if not children(pid) and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        workers.remove(child)
        assert len(workers) == 3
        script.process.kill()
        script.process.wait(LIMIT)
        assert wait_for(lambda: not any(map(living, workers)), 2)


def test_the_parents_of_nested_runs_are_parents(tmp_path) -> None:
    """G20: when the host dies, its workers die, and theirs."""
    body = f"""
        class Inner:
            def __len__(self):
                return 4
            def __getitem__(self, index):
                threading.Event().wait()
        class Outer:
            def __len__(self):
                return 4
            def __getitem__(self, index):
                inner = OrderedEnqueuer(Inner(), True, context="fork")
                inner.start(2, 2)
                open(os.path.join({str(tmp_path)!r}, str(index)), "w").close()
                return next(inner.get())
        enqueuer = OrderedEnqueuer(Outer(), True, context="fork")
        enqueuer.start(2, 2)
        while not (os.path.exists({str(tmp_path / "0")!r}) and os.path.exists({str(tmp_path / "1")!r})):
            time.sleep(0.001)
        say("all there")
        threading.Event().wait()
    """
    with Script(tmp_path, body) as script:
        script.reads("all there")
        assert len(script.left()) >= 6
        script.process.kill()
        script.process.wait(LIMIT)
        assert script.gone() == []


@pytest.mark.deep
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_main_guard_is_told_how_to_cure_it(method, tmp_path) -> None:
    """G18: no hang and no storm of processes that each start some."""
    body = f"""
enqueuer = OrderedEnqueuer(Large(), True, context={method!r})
with open({str(tmp_path / "starts")!r}, "a") as file:
    file.write("x")
enqueuer.start(3, 6)
next(enqueuer.get())
"""
    with Script(tmp_path, body, guard=False) as script:
        code, _, err = script.ends()
        assert code == 1
        assert '__name__ == "__main__"' in err or "__name__ == '__main__'" in err
        assert re.search(r"^enqueuer\.errors\.\w+: .*__main__", err.rpartition("Traceback (most recent call last)")[2], re.MULTILINE | re.DOTALL)
        assert len((tmp_path / "starts").read_text()) <= 8


TYPED = """
from enqueuer import OrderedEnqueuer
class Sequence:
    def __len__(self):
        return 3
    def __getitem__(self, index):
        return index
enqueuer = OrderedEnqueuer(Sequence(), True, context={method!r})
enqueuer.start(2, 2)
print(next(enqueuer.get()))
"""


@methods
@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_a_class_typed_at_a_prompt_works_forked_and_is_told_the_cure_elsewhere(how, method) -> None:
    """G12, G18."""
    text = TYPED.format(method=method)
    if how == "-c":
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=LIMIT, check=False)
    else:
        done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, timeout=LIMIT, check=False)
    if method == "fork":
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    else:
        assert done.returncode == 1
        told = done.stderr.rpartition("Traceback (most recent call last)")[2]
        assert "Sequence" in told or how == "stdin"  # whose worker can't even find its main module
        assert re.search("module|import|fork", told.partition("Error: ")[2])  # what to do, after the name of the error


@methods
def test_a_parent_that_stops_at_once_leaves_no_noise(method, tmp_path) -> None:
    """A worker that comes up for a run that is over has nothing to say."""
    body = f"""
        for _ in range({15 if method == "fork" else 4}):
            enqueuer = OrderedEnqueuer(Large(), True, context={method!r})
            enqueuer.start(3, 6)
            assert enqueuer.stop()
        say("last")
    """
    with Script(tmp_path, body) as script:
        assert script.ends(2 * LIMIT) == (0, "last\n", "")


@methods
def test_what_was_buffered_is_printed_once(method, tmp_path) -> None:
    """By whoever wrote it: a worker inherits no unwritten text, and what items print is not lost."""
    body = f"""
        class Printing(Large):
            def __getitem__(self, index):
                print(f"item {{index}}")
                return index
        sys.stdout.write("before ")
        sys.stderr.write("before ")
        enqueuer = OrderedEnqueuer(Printing(length=9) if {method == "fork"} else Large(length=9), True, context={method!r})
        enqueuer.start(2, 4)
        items = enqueuer.get()
        for _ in range(4):
            next(items)
        sys.stdout.write("after ")
        assert enqueuer.stop()
    """
    with Script(tmp_path, body) as script:
        code, out, err = script.ends()
        assert (code, err) == (0, "before ")
        assert out.count("before ") == out.count("after ") == 1
        if method == "fork":
            assert [out.count(f"item {index}") for index in range(4)] == [1] * 4  # two workers may write between a text and its line's end
