"""The matrix of deaths: how a worker process dies, what it does then, and what is to come of it (G12, G13, G15, G18, G20, G26).

`TABLE` names every cell. Each is run under every start method, `fork` among the ordinary tests, the others among the deep ones.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from deaths import (
    CODE,
    DEADLY,
    LENGTH,
    AfterFork,
    Failure,
    Fate,
    Idle,
    InItem,
    Items,
    LeavesThread,
    Pickled,
    Resent,
    Short,
    SuccessorDies,
    Unready,
    WhileHook,
    WhileStopping,
    WithChild,
    WithoutSuccessor,
    alive,
    until,
)
from pacing import LIMIT, wait_for
from process_items import stops

from enqueuer import OrderedEnqueuer, RunState
from enqueuer.errors import BorderError, WorkerDiedError
from enqueuer.testing.pace import paced

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # a replacement is forked, and parts of this process are threads
]

HOW = ("exception", "exit", "kill", "hang")
WHERE = ("ready", "item", "pickling", "unpickling", "idle", "hook", "stop", "child")
POLICIES = ("raise", "retry")

NOTICED = 0.8
"""Seconds within which a death is noticed: G13 allows one, and what waits for all of that is too slow by a hair."""

TIMEOUT = 0.1
"""Seconds that a hang is watched for."""


class Outcome(Enum):
    ITSELF = "the exception of the item is delivered as it is"
    BORDER = "BorderError names index and type"
    DIED = "WorkerDiedError names pid, index, and code or signal"
    GOES_ON = "the item is computed by a new worker, and the stream goes on in order"
    TIMES_OUT = "next() raises TimeoutError, and stop(timeout) kills the worker"
    STOPS = "the stop is true, nothing is delivered, and nothing computed again"


ITSELF, BORDER, DIED, GOES_ON, TIMES_OUT, STOPS = Outcome

# how, where: outcomes of "raise" and of "retry"
TABLE = {
    ("exception", "ready"): (BORDER, BORDER),  # the sequence can't be unpickled; never retried
    ("exit", "ready"): (DIED, DIED),
    ("kill", "ready"): (DIED, DIED),
    ("hang", "ready"): (TIMES_OUT, TIMES_OUT),
    ("exception", "item"): (ITSELF, ITSELF),  # nobody died
    ("exit", "item"): (DIED, GOES_ON),
    ("kill", "item"): (DIED, GOES_ON),
    ("hang", "item"): (TIMES_OUT, TIMES_OUT),
    ("exception", "pickling"): (BORDER, BORDER),
    ("exit", "pickling"): (DIED, GOES_ON),
    ("kill", "pickling"): (DIED, GOES_ON),
    ("hang", "pickling"): (TIMES_OUT, TIMES_OUT),
    ("exception", "unpickling"): (BORDER, BORDER),
    ("exit", "unpickling"): (DIED, GOES_ON),
    ("kill", "unpickling"): (DIED, GOES_ON),
    ("hang", "unpickling"): (TIMES_OUT, TIMES_OUT),
    ("exception", "idle"): (DIED, GOES_ON),  # by the handler of a signal: there is no item to blame
    ("exit", "idle"): (DIED, GOES_ON),
    ("kill", "idle"): (DIED, GOES_ON),
    ("hang", "idle"): (TIMES_OUT, TIMES_OUT),
    ("exception", "hook"): (DIED, GOES_ON),  # the same; what the hook itself raises is G11
    ("exit", "hook"): (DIED, GOES_ON),
    ("kill", "hook"): (DIED, GOES_ON),
    ("hang", "hook"): (TIMES_OUT, TIMES_OUT),
    ("exception", "stop"): (STOPS, STOPS),
    ("exit", "stop"): (STOPS, STOPS),
    ("kill", "stop"): (STOPS, STOPS),
    ("hang", "stop"): (STOPS, STOPS),  # stop(timeout); stop(None) waits for it for ever, as is promised
    ("exception", "child"): (ITSELF, ITSELF),
    ("exit", "child"): (DIED, GOES_ON),
    ("kill", "child"): (DIED, GOES_ON),
    ("hang", "child"): (TIMES_OUT, TIMES_OUT),
}

UNDER_FORK = {
    ("exception", "ready"): DIED,  # nothing is unpickled; the worker fails by itself, and says so on stderr
}

CELLS = [(*cell, policy, outcome) for cell, outcomes in TABLE.items() for policy, outcome in zip(POLICIES, outcomes, strict=True)]


def name_of(cell: tuple[str, str, str, Outcome]) -> str:
    return "-".join(cell[:3])


@dataclass(frozen=True)
class Place:
    """Where it dies: of what kind the sequence is, with how many workers and how much room, and before which rank the stream ends."""

    kind: type[Items]
    workers: int
    max_queue_size: int
    rank: int


PLACES = {
    "ready": Place(Unready, 1, 2, 0),
    "item": Place(InItem, 2, 3, DEADLY),
    "pickling": Place(Pickled, 2, 3, DEADLY),
    "unpickling": Place(Resent, 1, 2, LENGTH),
    "idle": Place(Idle, 1, 1, 1),
    "hook": Place(WhileHook, 1, 2, LENGTH),
    "stop": Place(WhileStopping, 2, 3, DEADLY),
    "child": Place(WithChild, 2, 3, DEADLY),
}


def test_the_table_is_complete() -> None:
    """Every way to die, in every place, under both policies: 64 cells, and each means something."""
    assert set(TABLE) == set(product(HOW, WHERE))
    assert set(PLACES) == set(WHERE)
    assert {cell[:3] for cell in CELLS} == set(product(HOW, WHERE, POLICIES))
    assert len(CELLS) == 4 * 8 * 2
    assert {outcome for *_, outcome in CELLS} == set(Outcome)
    assert set(UNDER_FORK) <= set(TABLE)
    assert all(GOES_ON not in outcomes[:1] for outcomes in TABLE.values())


# what is there


def own() -> set[int]:
    """Return the processes that are multiprocessing's own."""
    return {resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid} - {None}


def left() -> dict[str, list[object]]:
    """Return what a run could leave behind: processes, threads, descriptors."""
    kept = own()
    descriptors = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            descriptors.append(f"{link.name} {link.readlink()}")
        except FileNotFoundError:
            continue  # the one that listed the directory
    return {
        "processes": sorted(child.pid for child in psutil.Process().children(recursive=True) if child.pid not in kept),
        "threads": sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("pytest")),
        "descriptors": sorted(descriptors),
    }


SHARED = Path("/dev/shm")


def names() -> set[str]:
    return {file.name for file in SHARED.iterdir()} if SHARED.is_dir() else set()


def forgotten(before: set[str]) -> set[str]:
    """Return the names of shared memory that have come since then and that no other process uses: there may be other programs."""
    new = names() - before
    for process in psutil.process_iter() if new else ():
        if process.pid == os.getpid():
            continue
        try:
            new -= {Path(used.path).name for used in process.memory_maps(grouped=True) if used.path.startswith(str(SHARED))}
        except (psutil.Error, OSError):
            continue
    return new & names()


@pytest.fixture(scope="module", params=["fork", pytest.param("forkserver", marks=pytest.mark.deep), pytest.param("spawn", marks=pytest.mark.deep)])
def method(request) -> str:
    """Return a start method; what multiprocessing keeps for it is there before anything is counted."""
    if request.param != "fork":
        resource_tracker.ensure_running()
    if request.param == "forkserver":
        forkserver.ensure_running()
    return request.param


class Case:
    """One cell, being run."""

    def __init__(self, method: str, how: str, where: str, policy: str, folder: Path, *, times: int = 1, max_retries: int = 3) -> None:
        self.method, self.how, self.where, self.policy = method, how, where, policy
        self.place = PLACES[where]
        self.before, self.names = left(), names()
        self.fate = Fate(folder, how, times)
        self.sequence = self.place.kind(self.fate)
        self.enqueuer = OrderedEnqueuer(self.sequence, use_multiprocessing=True, context=method, on_worker_death=policy, max_retries=max_retries)
        self.items = self.enqueuer.get(timeout=LIMIT)
        self.other = self.enqueuer.get(timeout=LIMIT)
        if where == "stop":
            for number in range(times):
                os.mkfifo(folder / f"go-{number}")

    def start(self) -> None:
        self.enqueuer.start(self.place.workers, self.place.max_queue_size)

    def take_what_comes_before(self) -> None:
        """Take every item before the death; leave the worker where it is to die."""
        for rank in range(self.place.rank):
            if self.where == "idle":
                until(lambda: self.enqueuer.statistics().blocked_workers == 1, "an idle worker")
                self.sequence.die_there(int((self.fate.folder / "computed-0").read_text().split()[-1]))
            stream = self.other if rank == 0 else self.items  # both are bound to the run
            assert next(stream)[0] == rank % LENGTH

    def computed(self, index: int) -> int:
        file = self.fate.folder / f"computed-{index}"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def error(self) -> BaseException:
        """Return what ends the stream; see that everything else has ended, too (G10, G19)."""
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is for the caller to say
            next(self.items)
        assert self.enqueuer.statistics().error is caught.value
        assert not self.enqueuer.is_running()
        assert list(self.items) == list(self.other) == list(self.enqueuer.get()) == []
        return caught.value

    def stop(self, timeout: float | None = LIMIT) -> None:
        """Stop, truly and in time; with a short timeout, within half a second more."""
        if timeout is None or timeout >= LIMIT:
            assert self.enqueuer.stop(timeout)
        else:
            stops(self.enqueuer, timeout)
        self.bury()
        assert left() == self.before
        until(lambda: not forgotten(self.names), "no name of shared memory is left", 5)  # others may just be making theirs

    def bury(self) -> None:
        """End the children that the deadly item has left, if it has."""
        if self.where == "child":
            for child in self.sequence.children():
                if alive(child):
                    os.kill(child, signal.SIGKILL)
                until(lambda child=child: not alive(child), "the end of a child")

    def see_that_it_is_not_damaged(self) -> None:
        """G17: a fresh run, in order, of two epochs and one item."""
        self.start()
        items = self.enqueuer.get(timeout=LIMIT)
        assert [next(items)[0] for _ in range(2 * LENGTH + 1)] == [*range(LENGTH), *range(LENGTH), 0]
        assert self.enqueuer.is_running()
        assert self.enqueuer.statistics().error is None
        self.stop()


@pytest.fixture
def make(method, tmp_path, monkeypatch) -> Iterator[object]:
    """Return what makes a case; whatever becomes of it, nothing is left of it."""
    cases, traps = [], []

    def made(how: str, where: str, policy: str, **options: int) -> Case:
        case = Case(method, how, where, policy, tmp_path, **options)
        if where == "ready" and method == "fork":
            traps.append(AfterFork(case.fate))
            if how == "exception":
                monkeypatch.setattr(random, "seed", traps[-1].seed)
        cases.append(case)
        return case

    before = left()
    yield made
    for case in cases:
        case.enqueuer.stop(0)
        case.bury()
    traps.clear()
    for child in psutil.Process().children(recursive=True):
        if child.pid not in {*own(), *before["processes"]}:
            child.kill()


def full_text(error: BaseException) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def see_how_it_died(case: Case, error: BaseException, code: int, number: int = 0) -> None:
    index = case.place.rank % LENGTH
    pid, _ = case.fate.note(number)
    assert isinstance(error, WorkerDiedError)
    assert (error.pid, error.exitcode, error.index, error.epoch) == (pid, code, index, case.place.rank // LENGTH)
    text = str(error)
    assert f"process {pid} " in text
    assert f"index {index} " in text
    assert (f"code {code}" if code >= 0 else signal.Signals(-code).name) in text


CODES = {"exception": 1, "exit": CODE, "kill": -signal.SIGKILL}


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_a_worker_that_dies(cell, make, method) -> None:
    how, where, policy, outcome = cell
    if method == "fork":
        outcome = UNDER_FORK.get((how, where), outcome)
    case = make(how, where, policy, times=2 if where == "stop" else 1)
    match outcome:
        case Outcome.STOPS:
            see_the_stop(case)
        case Outcome.TIMES_OUT:
            see_the_timeout(case)
        case Outcome.GOES_ON:
            see_the_retry(case)
        case _:
            see_the_error(case, outcome)
    case.see_that_it_is_not_damaged()


def see_the_error(case: Case, outcome: Outcome) -> None:
    with paced() as machine:
        case.start()
        case.take_what_comes_before()
        asked = time.monotonic()
        error = case.error()
        noticed = time.monotonic() - max(asked, case.fate.note()[1])
    if case.where == "child":
        assert all(map(alive, case.sequence.children()))
        assert len(case.sequence.children()) == 2
    assert noticed < NOTICED * machine.factor, f"noticed after {noticed:.3f} s, at a pace of {machine.factor:.2f}"
    rank = case.place.rank
    if outcome is DIED:
        see_how_it_died(case, error, CODES[case.how])
        assert error.retries == 0
    else:
        text = full_text(error)
        assert f"rank {rank} " in text
        assert f"index {rank % LENGTH}" in text
        if outcome is ITSELF:
            assert (type(error), error.args) == (Failure, ("on purpose", 0))
            assert "compute" in str(error.__cause__)  # the worker's traceback
        else:
            assert type(error) is BorderError
            assert ("deaths.Grim" if case.where == "pickling" else "Failure") in text
    if case.where not in {"unpickling", "hook", "idle"}:
        assert case.computed(rank) == (0 if case.where == "ready" else 1)
    case.stop()


def see_the_timeout(case: Case) -> None:
    case.start()
    case.take_what_comes_before()
    pid, _ = case.fate.note()
    with pytest.raises(TimeoutError, match=f"rank {case.place.rank}") as caught:
        next(case.enqueuer.get(timeout=TIMEOUT))
    assert f"index {case.place.rank % LENGTH} " in str(caught.value)
    assert case.enqueuer.is_running()
    assert case.enqueuer.statistics().error is None
    assert alive(pid)
    case.stop(TIMEOUT)
    assert not alive(pid)
    assert list(case.items) == list(case.other) == []


def see_the_retry(case: Case) -> None:
    rank = case.place.rank
    with paced() as machine:
        case.start()
        case.take_what_comes_before()
        asked = time.monotonic()
        index, pid = next(case.items)
        noticed = time.monotonic() - max(asked, case.fate.note()[1])
    dead, _ = case.fate.note()
    assert not alive(dead)
    assert pid != dead
    assert index == rank % LENGTH
    if case.method == "fork":  # elsewhere this is mostly the time that a new worker takes
        assert noticed < NOTICED * machine.factor, f"noticed after {noticed:.3f} s, at a pace of {machine.factor:.2f}"
    rest = [next(case.items)[0] for _ in range(rank + 1, 3 * LENGTH)]
    assert rest == [rank % LENGTH for rank in range(rank + 1, 3 * LENGTH)]
    assert not [file for file in case.fate.folder.glob("note-*") if file.name != "note-0"]
    assert case.enqueuer.is_running()
    assert case.enqueuer.statistics().error is None
    case.stop()


def see_the_stop(case: Case) -> None:
    if case.how == "hang":
        case.start()
        case.take_what_comes_before()
        until((case.fate.folder / "begun-0").exists, "the deadly item")
        (case.fate.folder / "death-1").touch()  # once is enough
        case.stop(TIMEOUT)
        assert list(case.items) == list(case.other) == []
        return
    for number, timeout in enumerate((None, LIMIT)):
        case.start()
        case.items, case.other = case.enqueuer.get(timeout=LIMIT), case.enqueuer.get(timeout=LIMIT)
        case.take_what_comes_before()
        until((case.fate.folder / f"begun-{number}").exists, "the deadly item")
        stopped = []
        thread = threading.Thread(target=lambda stopped=stopped, timeout=timeout: stopped.append(case.enqueuer.stop(timeout)))
        thread.start()
        until(lambda: not case.enqueuer.is_running(), "the stop")
        assert thread.is_alive()
        (case.fate.folder / f"go-{number}").write_text("go")
        thread.join(LIMIT)
        assert stopped == [True]
        assert list(case.items) == list(case.other) == []
        assert case.enqueuer.statistics().state is RunState.STOPPED
        assert case.computed(DEADLY) == number + 1
        case.stop()


def test_an_item_that_always_kills_its_worker_ends_the_run_in_the_end(make) -> None:
    """G13: it is computed again `max_retries` times; each time by another process."""
    case = make("kill", "item", "retry", times=3, max_retries=2)
    case.start()
    case.take_what_comes_before()
    error = case.error()
    see_how_it_died(case, error, -signal.SIGKILL, number=2)
    assert error.retries == 2
    assert "2 of at most 2 retries" in str(error)
    assert case.computed(DEADLY) == 3
    assert len({case.fate.note(number)[0] for number in range(3)}) == 3
    case.stop()
    case.see_that_it_is_not_damaged()


def test_as_many_deaths_as_there_are_retries_are_survived(make) -> None:
    """G13: in order, and nothing twice."""
    case = make("exit", "item", "retry", times=3, max_retries=3)
    case.start()
    case.take_what_comes_before()
    assert next(case.items)[0] == DEADLY
    rest = [next(case.items)[0] for _ in range(DEADLY + 1, 3 * LENGTH)]
    assert rest == [rank % LENGTH for rank in range(DEADLY + 1, 3 * LENGTH)]
    assert case.computed(DEADLY) >= 6  # three died; it may be computed ahead once more
    case.stop()


def test_what_a_worker_was_asked_for_ahead_is_asked_for_again_in_order(make) -> None:
    """G1, G2: a new worker is asked for the items that the dead one still had, besides the one that is blamed."""
    case = make("kill", "item", "retry", times=2)
    case.sequence.__class__, case.place = Short, replace(case.place, workers=1, max_queue_size=24)
    length = len(case.sequence)
    case.start()
    assert [next(case.items)[0] for _ in range(4 * length)] == 4 * [*range(length)]
    assert case.fate.note(1)
    case.stop()


def without_successor(case: Case, how: str, folder: Path) -> tuple[Fate, object]:
    """Let each new worker die before it is ready. Returns how, and what must be kept for that."""
    case.place = replace(case.place, workers=1)  # another one might still be on its way
    (folder / "later").mkdir()
    fate = Fate(folder / "later", how, times=9)
    case.sequence.__class__, case.sequence.successor = WithoutSuccessor, fate
    return fate, SuccessorDies(case.fate, fate) if case.method == "fork" else None


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_new_worker_that_dies_before_it_is_ready_is_not_replaced(how, make, tmp_path) -> None:
    """G13: what keeps one from beginning will keep the next from it, too."""
    case = make("exit", "item", "retry")
    fate, trap = without_successor(case, how, tmp_path)
    case.start()
    case.take_what_comes_before()
    error = case.error()
    pid, _ = fate.note()
    assert isinstance(error, WorkerDiedError)
    assert (error.pid, error.exitcode, error.index, error.retries) == (pid, CODES[how], DEADLY, 1)
    assert "before it was ready" in str(error)
    assert case.computed(DEADLY) == 1
    assert [file.name for file in fate.folder.glob("note-*")] == ["note-0"]
    case.stop()
    del trap


def test_a_stop_that_comes_while_a_new_worker_is_started_does_not_wait_for_it(make, tmp_path, monkeypatch) -> None:
    """G14: stop(None) waits for items, not for a worker that is to become ready."""
    case = make("exit", "item", "retry")
    _, trap = without_successor(case, "hang", tmp_path)
    stopped = []
    stopper = threading.Thread(target=lambda: stopped.append(case.enqueuer.stop()))
    start = BaseProcess.start

    def starting(process):
        if (tmp_path / "note-0").exists() and not stopper.ident:
            stopper.start()
            until(lambda: case.enqueuer._run._terms.compute._halted, "the stop")
        start(process)

    monkeypatch.setattr(BaseProcess, "start", starting)
    case.start()
    until(lambda: stopper.ident, "the death of the first worker")
    try:
        assert wait_for(lambda: not stopper.is_alive(), 2)
    finally:
        case.enqueuer.stop(0)
        stopper.join(LIMIT)
    assert stopped == [True]
    del trap


def test_a_worker_that_can_not_exit_is_killed_at_the_deadline(make) -> None:
    """G15: nothing here is stuck in a thread of this process, so that stop(timeout) is true."""
    case = make("exit", "item", "raise")
    case.sequence.__class__ = LeavesThread
    case.start()
    until(lambda: case.enqueuer.statistics().blocked_workers == 2, "idle workers")
    case.stop(0)


PIPELINE = """
import os, signal
from pathlib import Path
from deaths import Fate, Idle
from enqueuer import OrderedEnqueuer
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sequence = Idle(Fate(Path({folder!r}), "kill"))
enqueuer = OrderedEnqueuer(sequence, use_multiprocessing=True, context={method!r}, on_worker_death="retry")
if __name__ == "__main__":
    enqueuer.start(1, 1)
    while not enqueuer.statistics().blocked_workers: pass
    sequence.die_there(int(Path({folder!r}, "computed-0").read_text()))
    items = enqueuer.get()
    print([next(items)[0] for _ in range(4)], enqueuer.stop())
"""


def test_a_death_does_not_end_a_program_that_has_sigpipe_at_its_default(method, tmp_path) -> None:
    """G13, G25: as programs have that stand in pipelines; the worker is noticed when it is sent something."""
    program = tmp_path / "program.py"
    program.write_text(PIPELINE.format(folder=str(tmp_path), method=method))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=LIMIT, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "[0, 1, 2, 3] True\n"), done.stderr
