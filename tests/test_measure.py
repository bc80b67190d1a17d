"""The main job: `python -m enqueuer measure`."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import enum
import importlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from pacing import LIMIT

import enqueuer
from enqueuer import __main__ as command
from enqueuer import _digest, _measure, _report, _sources

PACKAGE = Path(enqueuer.__file__).parent
QUICK = ("--items", "6", "--rounds", "1", "--workers", "1,2")

TARGETS = """
import itertools, multiprocessing, os, signal, sys, threading, time
from enqueuer import item_seed, worker_info

class Squares:
    def __len__(self): return 6
    def __getitem__(self, index): return bytes([index]) * 100

class Failing(Squares):
    def __getitem__(self, index):
        if index == 3: raise ValueError("two\\nlines")
        return index

class FailingInThreads(Squares):
    def __getitem__(self, index):
        if threading.current_thread() is not threading.main_thread() and index == 2: raise ValueError("not here")
        return index

class Leaving(Squares):
    def __getitem__(self, index): raise SystemExit(0)

class WrongInThreads(Squares):
    def __getitem__(self, index): return index + (threading.current_thread() is not threading.main_thread() and index == 4)

class Counting(Squares):
    count = itertools.count()
    def __getitem__(self, index): return next(self.count)

class Locks(Squares):
    def __getitem__(self, index): return threading.Lock()

class Nones(Squares):
    def __getitem__(self, index): return None

class SomeNones(Squares):
    def __getitem__(self, index): return None if index % 2 else index

class Printing(Squares):
    def __getitem__(self, index):
        print("noise")
        return index

class Seeded(Squares):
    def __getitem__(self, index): return item_seed(), worker_info().index

class Hooked(Squares):
    calls = 0
    def on_epoch_end(self): type(self).calls += 1

class NoLength(Squares):
    def __len__(self): raise OSError("gone")

def announce(where):
    main = threading.main_thread().ident
    while sys._current_frames()[main].f_code.co_name != where: pass
    print("stuck", flush=True)

def blocked():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

class Stuck(Squares):
    def __init__(self): signal.signal(signal.SIGUSR1, lambda *_: None)
    def __getitem__(self, index):
        threading.Thread(target=announce, args=("blocked",), daemon=True).start()
        blocked()

class StuckInThreads(Stuck):
    def __getitem__(self, index):
        if index and threading.current_thread() is not threading.main_thread():
            announce("park")
            blocked()
        return index

def away(): return multiprocessing.parent_process() is not None

class WrongInProcesses(Squares):
    def __getitem__(self, index): return index + (away() and index == 4)

class FailingInProcesses(Squares):
    def __getitem__(self, index):
        if away() and index == 2: raise ValueError("not here")
        return index

class DyingInProcesses(Squares):
    def __getitem__(self, index):
        if away() and index == 2: os._exit(3)
        return index

class NotForPickle(Squares):
    def __init__(self): self.lock = threading.Lock()

class NotFromPickle(Squares):
    def __setstate__(self, state): raise ValueError("not there")
    def __getstate__(self): return {1: 2}

class Loud(Squares):
    def __getitem__(self, index):
        os.write(1, b"noise ")
        return index

class Spinning(Squares):
    def __getitem__(self, index):
        before = time.thread_time()
        while time.thread_time() - before < 0.02: pass
        return index

class StuckInProcesses(Stuck):
    def __getitem__(self, index):
        if away():
            print("stuck", flush=True)
            blocked()
        return index

def make(): return [1, 2, 3]
def needs(argument): return argument
def breaks(): raise RuntimeError("no data here")

ready = list(range(10))
empty = []
number = 3
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module of its own with sequences of every kind, found through the current directory."""
    (tmp_path / "measured_targets.py").write_text(TARGETS)
    (tmp_path / "measured_broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("measured_targets", "measured_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield "measured_targets:{}".format
    sys.modules.pop("measured_targets", None)


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = command.main(["measure", *argv])
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    return code, out, err


def children() -> set[str]:
    """Process ids of all children of this process."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def found(
    plain: list[float],
    threads: dict[int, list[float]],
    processes: dict[int, list[float]] | None = None,
    *,
    cpu: float = 0.1,
    items: int = 100,
    cores: int = 4,
    first: float = 0.01,
    size: int = 10**4,
    **job: float,
) -> _measure.Measurement:
    """A measurement with these seconds of each round; processes keep as many cores busy as they are, threads and the plain loop `cpu`."""

    def row(setting: _measure.Setting, seconds: list[float], same: bool | None = True) -> _measure.Row:
        used = setting.workers if setting.mode is _measure.Mode.PROCESSES else cpu
        passes = tuple(_measure.Pass(one, first * one, items, items, one, 0.0, used * one) for one in seconds)
        return _measure.Row(setting, passes, tuple(a / b for a, b in zip(plain, seconds, strict=True)), same, "")

    modes = {_measure.Mode.THREADS: threads, _measure.Mode.PROCESSES: processes or {}}
    rows = [row(_measure.PLAIN, plain)]
    rows += [row(_measure.Setting(mode, number), seconds) for mode, numbers in modes.items() for number, seconds in numbers.items()]
    settings = tuple(one.setting for one in rows[1:])
    method = "fork" if processes else ""
    return _measure.Measurement(_measure.Job([0], settings, **job), items, items, len(plain), size * items, cores, True, method, tuple(rows))


class TestWhatItDelivers:
    def test_json_is_all_that_stands_on_stdout_and_tells_every_setting(self, target, capsys):
        code, out, err = told(capsys, target("Printing"), *QUICK, "--json")
        data = json.loads(out)
        assert code == 0
        assert set(err.split()) == {"noise"}
        assert [(row["mode"], row["workers"]) for row in data["settings"]] == [
            ("plain", 0),
            ("threads", 1),
            ("threads", 2),
            ("processes", 1),
            ("processes", 2),
        ]
        assert all(row["same_items"] is True for row in data["settings"])
        assert (data["items"], data["length"], data["rounds"]) == (6, 6, 1)

    def test_bytes_of_the_items_are_counted(self, target, capsys):
        data = json.loads(told(capsys, target("Squares"), *QUICK, "--json")[1])
        assert data["bytes"] == 600
        for row in data["settings"]:
            assert row["bytes_per_second"] == pytest.approx(100 * row["items_per_second"])

    def test_shares_of_time_are_shares(self, target, capsys):
        data = json.loads(told(capsys, target("Squares"), *QUICK, "--step", "1", "--json")[1])
        assert data["step"] == 0.001
        for row in data["settings"]:
            assert 0 <= row["consumer_waited"] <= 1
            assert row["workers_busy"] is None if row["mode"] == "plain" else 0 <= row["workers_busy"] <= 1
            assert 0 < row["first_item"] < row["seconds"][0]

    def test_a_step_is_taken_for_each_item_in_every_setting(self, target, capsys):
        data = json.loads(told(capsys, target("Squares"), *QUICK, "--step", "2", "--json")[1])
        assert all(min(row["seconds"]) >= 6 * 0.002 for row in data["settings"])

    @pytest.mark.parametrize("name", ["Squares", "make", "ready"])
    def test_a_class_a_function_and_an_object_can_be_named(self, target, capsys, name):
        code, out, _ = told(capsys, target(name), *QUICK)
        assert code == 0
        assert "plain loop" in out
        assert "2 threads" in out

    def test_items_that_are_none_are_skipped_everywhere(self, target, capsys):
        code, out, _ = told(capsys, target("SomeNones"), *QUICK, "--json")
        assert code == 0
        assert [row["same_items"] for row in json.loads(out)["settings"]] == [True] * 5

    def test_items_that_ask_about_themselves_get_the_same_answers_in_the_plain_loop(self, target, capsys):
        code, out, _ = told(capsys, target("Seeded"), *QUICK, "--json")
        assert code == 0
        assert [row["same_items"] for row in json.loads(out)["settings"]] == [True] * 5

    def test_the_hook_is_never_called(self, target, capsys):
        assert told(capsys, target("Hooked"), *QUICK)[0] == 0
        assert sys.modules["measured_targets"].Hooked.calls == 0

    def test_without_limits_it_reads_what_there_is_time_for(self, monkeypatch):
        monkeypatch.setattr(_measure, "BUDGET", 0.2)
        done = []
        result = _measure.measure(
            _measure.Job(range(10**9), (_measure.Setting(_measure.Mode.THREADS, 1),)), lambda number, total, what: done.append((number, total, what))
        )
        assert 0 < result.items <= _measure.MOST_ITEMS
        assert result.length == 10**9
        assert [number for number, _, _ in done] == list(range(2 + 2 * result.rounds))
        assert done[-1][1] == len(done)
        assert done[0] == (0, 12, "plain loop, checking")

    @pytest.mark.parametrize("name", ["FailingInThreads", "FailingInProcesses", "DyingInProcesses", "Squares"])
    def test_no_thread_and_no_process_is_left(self, target, capsys, name):
        before = threading.active_count(), children()
        told(capsys, target(name), *QUICK)
        assert (threading.active_count(), children()) == before


class TestProcesses:
    @pytest.mark.parametrize(("mode", "modes"), [("threads", {"plain", "threads"}), ("processes", {"plain", "processes"})])
    def test_one_mode_can_be_measured_alone(self, target, capsys, mode, modes):
        data = json.loads(told(capsys, target("Squares"), *QUICK, "--mode", mode, "--json")[1])
        assert {row["mode"] for row in data["settings"]} == modes
        assert (data["start_method"] is None) == (mode == "threads")

    def test_without_numbers_there_are_no_more_processes_than_cores(self, target, capsys, monkeypatch):
        for cores, processes in ((1, [1]), (2, [1, 2]), (64, [1, 2, 4])):
            monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
            data = json.loads(told(capsys, target("Squares"), "--items", "1", "--rounds", "1", "--json")[1])
            assert [row["workers"] for row in data["settings"] if row["mode"] == "processes"] == processes
            assert [row["workers"] for row in data["settings"] if row["mode"] == "threads"] == [1, 2, 4]

    @pytest.mark.parametrize("context", multiprocessing.get_all_start_methods())
    def test_every_start_method_gives_the_same_items_and_its_noise_is_no_result(self, target, tmp_path, context):
        argv = [sys.executable, "-m", "enqueuer", "measure", target("Loud"), *QUICK, "--context", context, "--json"]
        done = subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        data = json.loads(done.stdout)
        assert set(done.stderr.split()) == {"noise"}
        assert done.returncode == 0
        assert data["start_method"] == context
        assert [row["same_items"] for row in data["settings"]] == [True] * 5

    @pytest.mark.parametrize("context", multiprocessing.get_all_start_methods())
    def test_processor_time_counts_worker_processes_where_the_system_tells(self, target, tmp_path, context):
        argv = [sys.executable, "-m", "enqueuer", "measure", target("Spinning"), *QUICK, "--context", context, "--mode", "processes", "--json"]
        done = subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
        rows = [row for row in json.loads(done.stdout)["settings"] if row["mode"] == "processes"]
        for row in rows:
            used = row["cores_used"]
            assert used is None if context == "forkserver" else used * row["seconds"][0] >= 6 * 0.02

    def test_a_sequence_that_cannot_be_unpickled_there_is_one_line(self, target, tmp_path):
        argv = [sys.executable, "-m", "enqueuer", "measure", target("NotFromPickle"), *QUICK, "--context", "spawn"]
        done = subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "with 1 process, a worker process could not unpickle what it is to compute with: ValueError: not there" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_items_that_differ_there_are_told(self, target, capsys):
        code, out, _ = told(capsys, target("WrongInProcesses"), *QUICK)
        assert code == 1
        assert "2 processes delivered other items than the plain loop, first at item 4: does an item need more" in " ".join(out.split())
        assert re.search(r"2 threads .* yes$", out, re.MULTILINE)

    def test_the_host_s_choice_of_a_start_method_stays_open(self, target, tmp_path):
        code = (
            f"import multiprocessing, enqueuer.__main__ as m; m.main(['measure', {target('Squares')!r}, '--items', '1', '--rounds', '1', '--json'])"
        )
        code += "; print(multiprocessing.get_start_method(allow_none=True))"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "None"


class TestTheDefaultInput:
    def test_items_are_histograms_of_the_code_in_files_in_the_order_of_names(self):
        files = _sources.SourceFiles(limit=5)
        names = [path.name for path in files.files]
        assert names == sorted(names)
        assert len(files) == 5
        item = files[0]
        assert item.shape == (256,)
        assert item.dtype == numpy.int64
        assert item[ord("(")] > 0
        assert item[ord("\n")] >= 0
        assert (item == files[0]).all()

    def test_comments_and_layout_do_not_count(self, tmp_path):
        files = _sources.SourceFiles(limit=1)
        path = tmp_path / "x.py"
        path.write_text("if a:  # ~~~\n    b\n")
        object.__setattr__(files, "files", (path,))
        assert {chr(byte): int(count) for byte, count in enumerate(files[0]) if count} == {"i": 1, "f": 1, "a": 1, ":": 1, "b": 1}

    def test_without_a_target_it_is_measured(self, capsys):
        code, out, _ = told(capsys, "--items", "3", "--rounds", "1", "--workers", "2")
        assert code == 0
        assert command.EXAMPLE in out

    def test_without_numpy_the_extra_is_named(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "numpy", None)
        code, out, err = told(capsys)
        assert (code, out) == (2, "")
        assert "pip install 'enqueuer[measure]'" in err
        assert err.count("\n") == 1

    def test_without_numpy_other_input_is_measured(self, target, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "numpy", None)
        assert told(capsys, target("Squares"), *QUICK)[0] == 0


class TestTheCheck:
    def test_items_that_differ_are_told_and_the_code_is_1(self, target, capsys):
        code, out, _ = told(capsys, target("WrongInThreads"), *QUICK)
        assert code == 1
        assert "1 thread delivered other items than the plain loop, first at item 4" in " ".join(out.split())
        assert "Read it in a plain loop" in out

    def test_random_items_are_not_blamed_on_threads(self, target, capsys):
        code, out, _ = told(capsys, target("Counting"), *QUICK)
        assert code == 0
        assert out.count("Two readings in the plain loop differ") == 1

    def test_items_that_cannot_be_compared_are_told(self, target, capsys):
        code, out, _ = told(capsys, target("Locks"), *QUICK, "--mode", "threads")
        assert code == 0
        assert "Items of type 'lock' can't be compared" in out
        assert [row["same_items"] for row in json.loads(told(capsys, target("Locks"), *QUICK, "--mode", "threads", "--json")[1])["settings"]] == [
            True,
            None,
            None,
        ]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Pair:
    left: object
    right: object = None


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Tensor:
    """As torch's and TensorFlow's are."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __array__(self) -> object:
        return numpy.asarray(self.value)

    def __reduce__(self) -> str:
        raise TypeError("not for pickle")


def different() -> list[object]:
    """Items of which no two are the same; new ones at each call."""
    numbers = numpy.arange(6)
    plain = [None, 0, False, 1, 1.0, "1", b"1", bytearray(b"1"), 1j, float("nan")]
    containers = [(), [], {}, set(), [[], []], [[[]]], (1, 2), (2, 1), [1, 2], {"a": 1, "b": 2}, {"a": 2, "b": 1}, {1, 2}, frozenset({1, 2})]
    shaped = [numbers, numbers.reshape(2, 3), numbers.reshape(2, 3).T, numbers.astype(float), numpy.zeros((0, 3)), numpy.float32(1)]
    typed = [numpy.array(["a", "bc"]), numpy.array(["a", None], dtype=object), numpy.array(["2024-01-01"], dtype="datetime64[D]")]
    records = [numpy.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), Tensor([1, 2]), Tensor([1, 3]), Tensor(["x", None])]
    objects = [Pair(1), Pair(2), Pair(1, numpy.ones(3)), Pair(1, numpy.zeros(3)), Slots(1), Slots(2), Colour.RED, Colour.BLUE]
    others = [Colour, int, len, datetime.date(2024, 1, 1), datetime.date(2024, 1, 2), Path("a"), re.compile("a"), re.compile("b")]
    return [*plain, *containers, *shaped, *typed, *records, *objects, *others]


class TestTheDigest:
    def test_equal_items_have_equal_digests(self):
        assert [_digest.fingerprint(item) for item in different()] == [_digest.fingerprint(item) for item in different()]

    def test_different_items_have_different_digests(self):
        assert len({_digest.fingerprint(item).digest for item in different()}) == len(different())

    def test_sharing_makes_no_difference(self):
        shared, other = [str(numbers) for numbers in ([1, 2], [1, 2])]
        assert shared is not other
        assert _digest.fingerprint([Pair(shared), Pair(shared)]) == _digest.fingerprint([Pair(shared), Pair(other)])

    def test_order_in_dicts_and_sets_makes_no_difference(self):
        assert _digest.fingerprint({"a": 1, "b": 2}) == _digest.fingerprint({"b": 2, "a": 1})
        assert _digest.fingerprint({8, 0}) == _digest.fingerprint({0, 8})

    def test_an_item_may_contain_itself(self):
        def loop() -> list[object]:
            items: list[object] = [1]
            items.append(items)
            return items

        assert _digest.fingerprint(loop()) == _digest.fingerprint(loop())

    def test_buffers_are_counted_at_any_depth(self):
        item = {"x": (numpy.zeros((2, 3)), b"abc"), "y": [Pair(bytearray(5))]}
        assert _digest.fingerprint(item).nbytes == 48 + 3 + 5

    @pytest.mark.parametrize("item", [threading.Lock(), (one for one in ()), sys], ids=["lock", "generator", "module"])
    def test_what_cannot_be_compared_raises_one_error(self, item):
        with pytest.raises(_digest.OpaqueError, match="can't be compared"):
            _digest.fingerprint([item])


class TestTheAdvice:
    def test_the_fewest_workers_within_a_tenth_of_the_best(self):
        advice = found([1, 1, 1], {1: [1, 1, 1], 2: [0.5, 0.5, 0.51], 4: [0.48, 0.48, 0.49]}).advice
        assert (advice.setting.workers, advice.pays) == (2, True)
        assert advice.reason.startswith("Use 2 threads: 2.00 times as fast as a plain loop (1.96 to 2.00 in 3 rounds).")
        assert "More workers do not gain" in advice.reason

    def test_more_workers_are_suggested_while_the_consumer_waits(self):
        assert "--workers 8" in found([1.0], {2: [0.5], 4: [0.25]}).advice.reason

    def test_one_round_is_called_a_hint(self):
        assert "a hint" in found([1.0], {2: [0.5], 4: [0.25]}).advice.reason

    def test_a_gain_that_was_not_there_in_every_round_is_noise(self):
        advice = found([1, 1, 1], {2: [0.5, 0.5, 1.1]}).advice
        assert not advice.pays
        assert advice.reason.startswith("Too noisy to say")

    def test_processor_bound_items_are_said_to_hold_the_gil(self):
        advice = found([1, 1], {1: [1, 1], 2: [1.02, 0.98]}, cpu=1.0).advice
        assert (advice.setting, advice.pays) == (_measure.PLAIN, False)
        assert "nothing gains 10 %" in advice.reason
        assert "hold the GIL" in advice.reason

    @pytest.mark.parametrize(
        ("keywords", "why"),
        [
            ({"cpu": 0.1}, "something that they share"),
            ({"cpu": 1.9}, "contend"),
            ({"cpu": 1.0, "cores": 1}, "there is one core"),
            ({"cpu": 1.0, "items": 10**6}, "less than it costs to hand it over"),
            ({"cpu": 1.0}, "--step"),
            ({"cpu": 1.0, "items": 3}, "Too little was read"),
        ],
    )
    def test_why_nothing_pays_is_what_was_measured(self, keywords, why):
        assert why in found([1, 1], {2: [1, 1]}, **keywords).advice.reason

    def test_processes_are_advised_where_only_they_gain(self):
        advice = found([1, 1], {2: [1, 1]}, {1: [1.1, 1.1], 2: [0.6, 0.6]}, cpu=1.0, cores=2).advice
        assert (str(advice.setting), advice.pays) == ("2 processes", True)
        assert "there are no more cores" in advice.reason
        assert "--workers" not in advice.reason
        assert advice.reason.endswith("The best of the threads, 2 threads, was 1.00 times as fast.")

    def test_threads_are_advised_where_processes_gain_no_tenth_on_top(self):
        advice = found([1, 1], {1: [1, 1], 2: [0.52, 0.52]}, {2: [0.5, 0.5]}).advice
        assert str(advice.setting) == "2 threads"
        assert "The best of the processes, 2 processes, was 2.00 times as fast." in advice.reason

    def test_more_processes_are_suggested_while_there_are_cores(self):
        assert "--workers 4" in found([1.0], {2: [1.0]}, {1: [1.0], 2: [0.5]}, cpu=1.0, cores=8).advice.reason

    def test_a_slow_start_of_processes_is_told(self):
        assert "Until the first item of 1 process, 40% of its time was over" in found([1], {2: [1]}, {1: [1]}, cpu=1.0, first=0.4).advice.reason
        assert "was over" not in found([1], {2: [1]}, {1: [1]}, cpu=1.0).advice.reason

    def test_why_processes_do_not_pay_is_what_was_measured(self):
        reason = found([1, 1], {2: [1, 1]}, {2: [1, 1]}, cpu=1.0, size=10**6).advice.reason
        assert "they hold the GIL. Processes lost what they gained by starting and by sending the items (1 MB each)." in reason
        assert "Processes" not in found([1, 1], {2: [1, 1]}, {2: [1, 1]}, cpu=1.0, cores=1).advice.reason

    def test_processor_time_that_is_not_known_is_not_argued_with(self):
        one = found([1, 1], {}, {2: [1, 1]}, cpu=1.0)
        unknown = dataclasses.replace(one.rows[1], passes=tuple(dataclasses.replace(each, cpu=None) for each in one.rows[1].passes))
        assert unknown.cores is None
        assert dataclasses.replace(one, rows=(one.rows[0], unknown)).advice.setting == _measure.PLAIN

    def test_a_gil_that_is_off_is_not_blamed(self):
        assert "GIL" not in dataclasses.replace(found([1], {2: [1]}, cpu=1.0), gil=False).advice.reason

    def test_settings_with_other_items_are_never_advised(self):
        one = found([1, 1], {2: [0.5, 0.5]})
        rows = (one.rows[0], dataclasses.replace(one.rows[1], same=False))
        assert dataclasses.replace(one, rows=rows).advice.setting == _measure.PLAIN


class TestTheLook:
    @pytest.mark.parametrize("rich", [True, False])
    @pytest.mark.parametrize("width", [40, 60, 80, 200])
    def test_no_line_is_wider_than_the_terminal_and_every_setting_is_told_in_full(self, monkeypatch, width, rich):
        monkeypatch.setenv("COLUMNS", str(width))
        if not rich:
            for name in ("rich", "rich.console", "rich.text"):
                monkeypatch.setitem(sys.modules, name, None)
        file = io.StringIO()
        _report.show(
            found([12.5, 12.5], {1: [12.2, 12.9], 2: [6.3, 6.2], 64: [6.0, 6.1]}, {8: [7, 7]}, items=1234, step=0.01), "package.module:sequence", file
        )
        text = file.getvalue()
        assert max(map(len, text.splitlines())) <= width
        assert ("---" in text) == (width >= 80)  # a table where it fits
        for part in (
            "plain loop",
            "> 2 threads",
            "64 threads",
            "8 processes",
            "processes by fork",
            "2.00 (1.98-2.02)",
            "2 threads",
            "1,234 items",
            "2 rounds",
            "step of 10 ms",
            "Use 2 threads",
        ):
            assert part in " ".join(text.split()), part

    def test_rich_and_plain_text_say_the_same(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        one = found([1.0], {2: [0.5]})
        styled, plain = io.StringIO(), io.StringIO()
        _report.show(one, "m:[bold]s", styled)
        monkeypatch.setitem(sys.modules, "rich.console", None)
        _report.show(one, "m:[bold]s", plain)
        assert styled.getvalue() == plain.getvalue()

    def test_progress_is_one_line_on_a_terminal_and_wiped_at_the_end(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setenv("COLUMNS", "30")
        file = Terminal()
        progress = _report.Progress(file)
        progress(5, 10, "2 threads, round 1 of 2")
        progress.end()
        first, wiped = file.getvalue().removeprefix("\r\x1b[K").split("\r\x1b[K")
        assert first.startswith("[##########..........] 6/10")
        assert len(first) < 30
        assert wiped == ""

    def test_there_is_no_progress_where_there_is_no_terminal(self, target, capsys):
        assert told(capsys, target("Squares"), *QUICK)[2] == ""

    @pytest.mark.parametrize(("value", "text"), [(0.5, "0.5"), (1.234, "1.2"), (12.34, "12"), (1234.5, "1,234"), (3464969.0, "3.46 M")])
    def test_numbers_are_short(self, value, text):
        assert _report._number(value) == text

    @pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12 ms"), (5e-6, "5 us")])
    def test_times_are_short(self, seconds, text):
        assert _report._duration(seconds) == text


class TestBadInput:
    @pytest.mark.parametrize(
        ("code", "asked", "said"),
        [
            (2, "measured_targets", "write package.module:sequence"),
            (2, ":x", "write package.module:sequence"),
            (2, "no_such_module_at_all:x", "no module 'no_such_module_at_all'"),
            (2, "os.no_such:x", "no module 'os.no_such'"),
            (2, ".relative:x", "no module '.relative'"),
            (2, "measured_targets:nothing", "no attribute 'nothing': it has"),
            (2, "measured_targets:number", "'int', which has no __len__()"),
            (1, "measured_broken:x", "No module named 'no_such_module_at_all'"),
            (1, "measured_targets:empty", "its length is 0"),
            (1, "measured_targets:NoLength", "len() raised OSError: gone"),
            (1, "measured_targets:needs", "missing 1 required positional argument"),
            (1, "measured_targets:breaks", "RuntimeError: no data here"),
            (1, "measured_targets:Nones", "are None"),
            (1, "measured_targets:Failing", "item 3 raised ValueError: two lines (measured_targets.py, line 11, in __getitem__): repair it, or"),
            (
                1,
                "measured_targets:FailingInThreads",
                "item 2 raised ValueError: not here (measured_targets.py, line 16, in __getitem__) with 1 thread,",
            ),
            (
                1,
                "measured_targets:FailingInProcesses",
                "item 2 raised ValueError: not here (measured_targets.py, line 83, in __getitem__) with 1 process,",
            ),
            (1, "measured_targets:Locks", "with 1 process, item 0 of epoch 0 is of type _thread.lock, and can't be pickled"),
            (1, "measured_targets:Locks", "measure threads alone with --mode threads"),
            (1, "measured_targets:DyingInProcesses", "exited with code 3 while it had index 2 of epoch 0: repair it, or measure threads alone"),
            (1, "measured_targets:Leaving", "item 0 raised SystemExit: 0"),
        ],
    )
    @pytest.mark.usefixtures("target")
    def test_one_line_says_what_stood_against_it(self, capsys, code, asked, said):
        returned, out, err = told(capsys, asked, *QUICK)
        assert (returned, out) == (code, "")
        assert said in err
        assert err.startswith("python -m enqueuer: ")
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        ("name", "context", "said"),
        [
            ("NotForPickle", "spawn", "started by 'spawn' need a sequence that can be pickled, and pickling it raised TypeError: cannot pickle"),
            ("NotForPickle", "forkserver", "try --context fork, or measure threads alone with --mode threads"),
        ],
    )
    def test_what_cannot_be_sent_to_a_worker_process_is_one_line(self, target, capsys, name, context, said):
        code, out, err = told(capsys, target(name), *QUICK, "--context", context)
        assert (code, out) == (1, "")
        assert said in err
        assert err.count("\n") == 1

    def test_a_fork_needs_no_pickle(self, target, capsys):
        assert told(capsys, target("NotForPickle"), *QUICK, "--context", "fork")[0] == 0

    @pytest.mark.parametrize(
        "options",
        [
            ["--mode", "fibres"],
            ["--context", "thread"],
            ["--workers", "0"],
            ["--workers", "1,x"],
            ["--items", "-1"],
            ["--rounds", "a"],
            ["--step", "-1"],
            ["--step", "x"],
            ["--step", "inf"],
            ["--what"],
        ],
    )
    def test_wrong_options_are_said_in_one_line(self, capsys, options):
        code, out, err = told(capsys, *options)
        assert (code, out) == (2, "")
        assert options[0] in err
        assert err.count("\n") == 1

    def test_a_command_is_asked_for(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            command.main([])
        assert "COMMAND" in capsys.readouterr().err

    def test_help_names_every_option(self, capsys):
        code, out, _ = told(capsys, "--help")
        assert code == 0
        for option in ("--mode", "--workers", "--context", "--max-queue-size", "--items", "--rounds", "--step", "--json", "package.module:sequence"):
            assert option in out

    def test_threads_that_the_system_refuses_are_one_line(self, target, capsys, monkeypatch):
        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        code, out, err = told(capsys, target("Squares"), *QUICK)
        assert (code, out) == (1, "")
        assert re.search("could not start 1 worker.*: can't start new thread", err)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PYTHONPATH")} | {"PYTHONPATH": str(PACKAGE.parent)}


class TestAsAProcess:
    @pytest.mark.parametrize("name", ["Stuck", "StuckInThreads", "StuckInProcesses"])
    def test_an_interrupt_ends_it_at_once_even_in_an_item_that_never_ends(self, target, tmp_path, name):
        process = subprocess.Popen(
            [sys.executable, "-m", "enqueuer", "measure", target(name), *QUICK, "--max-queue-size", "1"],  # item 1 is begun when item 0 was taken
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment(),
        )
        with process:
            assert process.stderr is not None
            assert process.stderr.readline() == "stuck\n"
            process.send_signal(signal.SIGINT)
            try:
                for _ in range(6):
                    try:
                        out, err = process.communicate(timeout=LIMIT / 6)
                        break
                    except subprocess.TimeoutExpired:  # a signal between CPython's last look for one and its wait is not seen until the next
                        process.send_signal(signal.SIGUSR1)
                else:
                    pytest.fail("it hangs")
            finally:
                process.kill()
        assert process.returncode == 130
        assert out == ""
        assert err.replace("stuck\n", "") == "python -m enqueuer: interrupted\n"

    def test_a_copy_in_another_package_measures_without_the_original(self, tmp_path):
        copy = tmp_path / "host" / "_vendor" / "renamed"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("testing", "__pycache__"))
        (tmp_path / "seq.py").write_text("import sys\nsys.modules['enqueuer'] = None\nitems = [1, 2, 3]\n")
        env = environment() | {"PYTHONPATH": str(tmp_path)}
        argv = [sys.executable, "-m", "host._vendor.renamed", "measure"]
        done = subprocess.run([*argv, "seq:items", *QUICK, "--json"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["items"] == 3
        done = subprocess.run([*argv, "nothing"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.stderr.startswith("python -m host._vendor.renamed: ")

    def test_importing_the_command_loads_neither_numpy_nor_rich_nor_the_checks(self):
        code = "import sys, enqueuer.__main__; print([name for name in sys.modules if name in ('numpy', 'rich', 'enqueuer.testing')])"
        done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
        assert ast.literal_eval(done.stdout) == []
