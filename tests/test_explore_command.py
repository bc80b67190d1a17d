"""`python -m enqueuer explore`: what it says of scenarios, twins and single schedules; lanes as text; and the fixture for tests of others."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pacing import LIMIT, at_most, wait_for

import enqueuer
from enqueuer import __main__ as command
from enqueuer.testing.schedule import command as exploring
from enqueuer.testing.schedule.chance import Chance
from enqueuer.testing.schedule.exhaustive import Rising
from enqueuer.testing.schedule.explore import Report, Scenario, explore
from enqueuer.testing.schedule.lanes import BOX, PLAIN, lanes, marks_for
from enqueuer.testing.schedule.scenarios import SCENES
from enqueuer.testing.schedule.world import CheckerError, World
from enqueuer.testing.terminal import show
from enqueuer.testing.twins import TWINS

pytest_plugins = ["pytester"]

PACKAGE = Path(enqueuer.__file__).parent
TWIN = {twin.name: twin for twin in TWINS}

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True, scope="module")
def nothing_old_is_collected() -> Iterator[None]:
    """Each exploration begins with a collection, which is quick if what pytest has is left out."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """Call the command with a width of 80, or another; return code, output and errors."""

    def call(*argv: str, width: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        try:
            code = command.main(["explore", *argv])
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def lost(scene: str, twin: str) -> tuple[Scenario, Report]:
    scenario = SCENES[scene].of(TWIN[twin].factory)
    return scenario, explore(scenario, Rising())


def text(scenario: Scenario, report: Report, width: int = 80) -> str:
    return "\n".join(line for line, _ in lanes(scenario, report, width=width))


def rows(told: str) -> dict[int, str]:
    """Return the rows of lanes by their numbers, without the marks of threads."""
    found: dict[int, list[str]] = {}
    number = 0
    for line in told.partition("---\n")[2].partition("\n\n")[0].splitlines():
        if line.startswith("     ---"):
            found[number] = [*found.get(number, []), line.strip(" -")]
            continue
        number = int(line[:5]) if line[:5].strip() else number
        found.setdefault(number, []).append(" ".join(word for word in line[5:].split() if word not in {"|", ":", "*", "[", "#"}))
    return {number: " ".join(lines) for number, lines in found.items()}


LOST = """\
     main                     boot                     worker-0
     ------------------------ ------------------------ ------------------------
  3  [ start:                 |
     [ 1 worker, queue of 1   |
     | starts boot            |
  7  |                        * starts worker-0        |
  9  |                        |                        [ _work:
     |                        |                        [ claim -> none
     |                        |                        | parks for work
 10  * parks for the workers  |                        :
 13  |                        [ _boot:                 :
     |                        [ unpark main            :
     |                        | ends                   :
 14  * wakes up (since 10)                             :
 16  [ start:                                          |
     [ unpark worker-0                                 |
     [ start the window                                |
 17  [ take:                                           |
     [ take -> none                                    |
     | parks for an item                               |
 18  :                                                 * wakes up (since 9)
 19  :                                                 [ _wait:
     :                                                 [ claim -> turn of epoch
     :                                                 [   0
 20  |                                                 [ _turn:
     |                                                 [ turned: no end
     |                                                 [ unpark main
     |                                                 [ claim -> rank 0
 21  |                                                 [ _put:
     |                                                 [ put rank 0
     |                                                 [ claim -> none
     |                                                 | parks for work
 22  * wakes up (since 17)                             :
 23  [ take:                                           :
     [ take -> rank 0                                  :
 24  [ take:                                           :
     [ take -> none                                    :
     | parks for an item                               :

deadlock: these threads wait for ever
"""


class TestLanes:
    def test_a_lost_wake_up_is_told_step_by_step(self):
        told = text(*lost("plain-w1", "LostWakeUp"))
        assert told.partition("\n\n")[2].startswith(LOST)
        end = " ".join(told.partition("wait for ever\n")[2].split())
        assert "main: since step 24 is parked and waits for an item; nobody has woken it" in end
        assert "worker-0: since step 21 is parked and waits for something to claim; it was last woken in step 16" in end
        assert "broken: G21, progress: If every item's computation ends" in end
        assert "in the end: 1 rank claimed, 1 taken, ready to take: none; max_queue_size=1" in end

    def test_a_hook_that_comes_too_early_is_told_with_the_switch_that_shows_it(self):
        scenario, report = lost("hook", "HookTooEarly")
        told = text(scenario, report)
        assert told.count("switch: ") == report.switches
        steps = " ".join(rows(told).values())
        before, _, after = steps.partition("switch: worker-1 could go on, and main does")
        assert before.endswith("claim -> rank 1 ")
        assert "claim -> turn of epoch 1" in after
        assert "turn failed: BrokenPromise" in after
        assert "broken promise: the hook ran while an item was computed\nbroken: G7, epoch hook: " in told

    def test_the_same_report_is_told_in_the_same_way(self):
        scenario, report = lost("plain-w1", "OffByOne")
        assert text(scenario, report) == text(scenario, report)

    def test_a_thread_that_comes_late_has_the_column_of_one_that_has_ended(self):
        told = text(*lost("restart", "StreamForgetsItsRun"))
        heads = [line for line in told.splitlines() if line.endswith("--") and "(2)" in line]
        assert [re.findall(r"[a-z-]+\d? \(2\)", head) for head in heads] == [["boot (2)"], ["worker-0 (2)"]]
        assert "start of run 2:" in told

    @pytest.mark.parametrize("width", [100, 80, 60, 40])
    @pytest.mark.parametrize(("scene", "twin"), [("stop", "ConsumersLeftWaiting"), ("plain-w1", "OffByOne")])
    def test_no_line_is_wider_than_asked(self, scene, twin, width):
        told = text(*lost(scene, twin), width)
        assert max(map(len, told.splitlines())) <= width
        assert told.isascii()

    def test_where_columns_would_be_narrow_each_row_begins_with_its_thread(self):
        told = text(*lost("stop", "ConsumersLeftWaiting"), 60)
        assert "\n 30  main: [take: take -> none]; parks for an item\n" in told
        assert "\n 32  stopper: [stop: unpark worker-0; stop the window]\n" in told
        assert "main: since step 30 is parked and waits for an item;\n    nobody has woken it" in told

    @pytest.mark.parametrize("name", sorted(SCENES))
    def test_every_scenario_has_lanes_and_looking_on_changes_nothing(self, name):
        scenario = SCENES[name].of()
        told = text(scenario, explore(scenario, Chance(1, seed=3)), 100)
        assert "kept: this schedule breaks no promise" in told

    def test_free_choices_are_called_so(self):
        scenario = SCENES["timeout"].of()
        for seed in range(20):
            report = explore(scenario, Chance(1, seed))
            if any(step.how == "timeout" for step in report.taken):
                break
        told = text(scenario, report)
        assert "--- free choice: the timeout of main fires ---" in told
        assert "times out (since " in " ".join(rows(told).values())

    def test_code_without_an_enqueuer_is_told_by_its_functions_and_lines(self):
        def body(world: World) -> None:
            lock, parker = world.runtime.lock(), world.runtime.parker()

            def waits() -> None:
                with lock:
                    pass
                parker.park()

            waiter = world.spawn("waiter", waits)
            with lock:
                world.point("looks")
            waiter.join()

        scenario = Scenario(name="own", says="", body=body)
        steps = " ".join(rows(text(scenario, explore(scenario, Rising()))).values())
        line = body.__code__.co_firstlineno
        assert f"body, line {line + 9}" in steps
        assert f"waits, line {line + 4}" in steps
        assert f"parks (line {line + 6})" in steps

    def test_who_waits_for_the_lock_is_marked(self):
        def body(world: World) -> None:
            lock = world.runtime.lock()

            def goes() -> None:
                with lock:
                    world.point("within")

            other = world.spawn("other", goes)
            with lock:
                world.point("looks")
                world.choose("which", 3)
            other.join()
            raise LookupError("found")

        scenario = Scenario(name="own", says="", body=body)
        told = text(scenario, explore(scenario, Chance(30, 1)))
        report = explore(scenario, Chance(1, next(seed for seed in range(50) if "#" in text(scenario, explore(scenario, Chance(1, seed))))))
        told = text(scenario, report)
        assert re.search(r"waits for the lock of (main|other)", " ".join(told.split()))
        assert "gets the lock (since " in told
        assert "error: main raised LookupError('found')" in told

    def test_of_a_long_one_the_middle_is_left_out(self):
        def body(world: World) -> None:
            count = 0
            while count < 1000:
                count += 1
                world.point(f"point {count}")

        scenario = Scenario(name="own", says="", body=body)
        told = text(scenario, explore(scenario, Chance(1)))
        assert "--- 701 rows are left out ---" in told
        assert "\n  149  * point 149\n" in told
        assert "\n  852  * point 852\n" in told
        assert "point 500" not in told

    def test_a_scenario_that_does_otherwise_when_it_is_looked_at_is_refused(self):
        once: list[int] = []

        def body(world: World) -> None:
            world.point("first")
            if not once:
                once.append(1)
                world.point("second")

        scenario = Scenario(name="own", says="", body=body)
        with pytest.raises(CheckerError, match="own does not do the same"):
            lanes(scenario, explore(scenario, Chance(1)))

    def test_marks_are_drawn_where_they_can_be_written(self):
        assert marks_for(io.TextIOWrapper(io.BytesIO(), "ascii")) is PLAIN
        assert marks_for(io.TextIOWrapper(io.BytesIO(), "utf-8")) is BOX
        scenario, report = lost("plain-w1", "OffByOne")
        drawn = "\n".join(line for line, _ in lanes(scenario, report, marks=BOX))
        assert f"{BOX.holds} claim {BOX.to} rank 0" in drawn
        assert max(map(len, drawn.splitlines())) <= 80

    @pytest.mark.parametrize("rich", [True, False])
    def test_colours_come_from_rich_alone_and_only_on_a_terminal(self, monkeypatch, rich):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        if not rich:
            monkeypatch.setitem(sys.modules, "rich.console", None)
        terminal, file = Terminal(), io.StringIO()
        for where in (terminal, file):
            show([("a [bold]line", "bold red"), ("", "")], where)
        assert file.getvalue() == "a [bold]line\n\n"
        assert ("\x1b[" in terminal.getvalue()) == rich
        assert re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()) == file.getvalue()


class TestScenarios:
    def test_what_was_exhausted_is_said_with_numbers(self, told):
        code, out, err = told("plain-w1", "plain-q1")
        assert code == 0
        assert re.search(r"^plain-w1 +exhausted +\d+ +\d+ +\d+ +\d", out, re.MULTILINE)
        assert "2 of 2 exhausted: every interleaving within the bounds" in out
        assert [line.partition(":")[0] for line in err.splitlines()] == ["plain-w1", "plain-q1"]

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            (["--bound", "0"], "--bound 0 left out"),
            (["--random", "5", "--seed", "3"], "--random tries some"),
            (["--pct", "5"], "--pct tries some"),
            (["--limit", "0.05"], "--limit 0.05 was over"),
        ],
    )
    def test_what_was_not_exhausted_is_said_and_why(self, told, options, why):
        code, out, _ = told("plain", *options)
        assert code == 0
        said = " ".join(out.split())
        assert re.search("^plain +not exhausted ", out, re.MULTILINE)
        assert "Not exhausted: plain." in said
        assert why in said

    def test_without_names_all_of_a_tier_are_explored_and_share_the_time(self, told):
        code, out, err = told("--limit", "0.2", "--json")
        assert code == 0
        found = json.loads(out)
        assert [each["scenario"] for each in found["scenarios"]] == [scene.name for scene in SCENES.values() if scene.tier == "ci"]
        assert all(each["verdict"] in {"exhausted", "not exhausted"} for each in found["scenarios"])
        assert len(err.splitlines()) == len(found["scenarios"])

    def test_a_broken_one_is_shown_and_the_code_is_1(self, told, monkeypatch):
        broken = SCENES["plain-w1"].of(TWIN["LostWakeUp"].factory)
        monkeypatch.setattr(type(SCENES["plain-w1"]), "of", lambda scene: broken)
        code, out, _ = told("plain-w1")
        assert code == 1
        assert "BROKEN: plain-w1." in out
        assert "deadlock: these threads wait for ever" in out
        assert "again: python -m enqueuer explore --replay plain-w1@0\n" in out

    def test_narrow_terminals_get_a_block_for_each(self, told):
        _, out, _ = told("plain-w1", width=50)
        assert max(map(len, out.splitlines())) <= 50
        assert re.search(r"^plain-w1: exhausted\n  \d+ runs, ", out)

    def test_progress_is_one_line_on_a_terminal(self):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        out, err = io.StringIO(), Terminal()
        assert exploring.run(exploring.Asked(scenarios=("plain-w1",)), "explore", out, err) == 0
        assert "\n" not in err.getvalue()
        first, *others = err.getvalue().removeprefix("\r\x1b[K").split("\r\x1b[K")
        assert first.startswith("1/1 plain-w1: 0 runs, 0 states, ")
        assert others[-1] == ""

    def test_scenarios_and_twins_are_listed(self, told):
        code, out, _ = told("--list")
        assert code == 0
        assert "  hook (ci): Two epochs, with a hook in between.\n" in out
        assert "  LostWakeUp (G21): " in out
        data = json.loads(told("--list", "--json")[1])
        assert [each["name"] for each in data["scenarios"]] == list(SCENES)
        assert {each["name"] for each in data["twins"]} == {twin.name for twin in TWINS if not twin.factory.method}


class TestTwins:
    def test_a_twin_is_found_in_whatever_scenario_needs_the_fewest_switches(self, told):
        code, out, _ = told("plain-w1", "restart", "--twin", "StreamForgetsItsRun")
        assert code == 0
        said = " ".join(out.split())
        assert said.startswith("StreamForgetsItsRun: A stream looks for the run at every `next()`")
        assert re.search(r"broken promise: a stream of the first run delivered \d+ broken: G16, ", said)
        assert "found with 0 switches, in 1 run of restart, after " in said

    def test_the_id_replays_it(self, told):
        _, out, _ = told("hook", "--twin", "HookTooEarly")
        assert "found with 1 switch, and not with fewer, in " in out
        again = shlex.split(out.splitlines()[-1].removeprefix("again: "))
        assert again[:4] == ["python", "-m", "enqueuer", "explore"]
        code, replayed, _ = told(*again[4:])
        assert code == 0
        lanes_of = "Time goes down" + out.partition("Time goes down")[2].partition("\nfound with")[0]
        assert lanes_of in replayed

    def test_a_schedule_that_is_fine_is_shown_too(self, told):
        code, out, _ = told("--replay", "plain-w1@3.1")
        assert code == 0
        assert "switch: " in out
        assert out.count("kept: this schedule breaks no promise") == 1

    def test_the_schedule_of_a_twin_that_shows_nothing_has_the_code_1(self, told):
        assert told("--twin", "HookTooEarly", "--replay", "plain-w1@0")[0] == 1

    def test_a_twin_that_shows_as_another_promise_is_said_to(self, told):
        _, out, _ = told("plain-w1", "--twin", "TakenTwice")
        assert "the twin breaks G24, which shows here as G21" in " ".join(out.split())

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ([], "which are all interleavings there: try other scenarios"),
            (["--bound", "1"], "not all interleavings were tried: --bound 1 left out"),
            (["--limit", "0.02"], "not all interleavings were tried: --limit 0.02 was over"),
            (["--random", "3"], "not all interleavings were tried: --random tries some"),
        ],
    )
    def test_one_that_is_not_found_has_the_code_1_and_a_sentence(self, told, options, why):
        code, out, _ = told("plain-w1", "--twin", "HookTooEarly", *options)
        assert code == 1
        assert out.startswith("HookTooEarly was not found in ")
        assert why in " ".join(out.split())

    def test_json_is_all_that_stands_on_stdout(self, told):
        code, out, _ = told("plain-w1", "--twin", "LostWakeUp", "--json")
        found = json.loads(out)
        assert code == 0
        assert found["twin"] == "LostWakeUp"
        assert [(each["verdict"], each["id"], each["failure"]["guarantee"]) for each in found["scenarios"]] == [("broken", "plain-w1@0", "G21")]
        assert json.loads(told("--twin", "LostWakeUp", "--replay", "plain-w1@0", "--json")[1])["scenarios"][0]["switches"] == 0


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (["plan-q1"], "there is no scenario 'plan-q1': is it plain-q1"),
            (["xyzzy"], "there is no scenario 'xyzzy': there are plain-w1, plain-q1, "),
            (["--twin", "lostwakeup"], "there is no twin 'lostwakeup': is it LostWakeUp"),
            (["--twin", "NeverKills"], "twin NeverKills is of worker processes, and exploring is of threads"),
            (["--replay", "hook"], "an id is written as scenario@choices"),
            (["--replay", "xyzzy@0"], "there is no scenario 'xyzzy'"),
            (["--replay", "hook@1-2"], "'1-2' are no choices: they are written as 3.1-17.2"),
            (["--replay", "hook@0.9"], "choice 0 is to be option 9, and there are "),
            (["--replay", "hook@999.1"], "they are of other code, or of another scenario"),
            (["hook", "--replay", "hook@0"], "names its scenario itself: leave out hook"),
            (["--replay", "hook@0", "--bound", "1"], "is one execution: leave out --bound"),
            (["--bound", "1", "--random", "2"], "--bound and --random are different ways to search: choose one"),
            (["--seed", "1"], "--seed 1 is for choices by chance: add --random RUNS or --pct RUNS"),
            (["--bound", "-1"], "must be at least 0, not -1"),
            (["--random", "0"], "must be at least 1, not 0"),
            (["--limit", "0"], "must be more than 0 seconds, not 0"),
            (["--limit", "soon"], "'soon' is not a number of seconds"),
            (["--tier", "none"], "invalid choice: 'none'"),
        ],
    )
    def test_it_is_one_line_and_the_code_is_2(self, told, argv, said):
        code, out, err = told(*argv)
        assert (code, out) == (2, "")
        assert said in err
        assert err.startswith("python -m enqueuer explore: ")
        assert err.count("\n") == 1

    def test_a_scenario_that_cannot_be_explored_has_the_code_1(self, told, monkeypatch):
        scenario = Scenario(name="odd", says="", body=lambda world: world.runtime.boot(world.me))
        monkeypatch.setattr(exploring, "explore", lambda *_, **__: (_ for _ in ()).throw(CheckerError(f"no {scenario.name}")))
        code, out, err = told("hook")
        assert (code, out) == (1, "")
        assert err == "python -m enqueuer explore: hook could not be explored: no odd\n"

    def test_a_copy_without_the_folder_says_so(self, tmp_path):
        shutil.copytree(PACKAGE, tmp_path / "renamed", ignore=shutil.ignore_patterns("testing", "__pycache__"))
        argv = [sys.executable, "-m", "renamed", "explore", "hook"]
        done = subprocess.run(argv, cwd=tmp_path, env=environment() | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr == "python -m renamed: explore needs the folder 'testing', which this copy of the package does not have: use a complete one\n"
        )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "COLUMNS": "80"}


class TestInterrupts:
    @pytest.mark.parametrize(("argv", "done"), [(["plain-w1", "restart"], "; 1 of 2 scenarios were done"), (["restart", "--twin", "StopOnce"], "")])
    def test_it_ends_promptly_and_says_how_far_it_came(self, tmp_path, argv, done):
        """The twin is one whose fault this scenario does not show soon, so that the search is still on."""
        program = [sys.executable, "-m", "enqueuer", "explore", *argv]
        with subprocess.Popen(program, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                if "--twin" not in argv:
                    assert process.stderr is not None
                    assert process.stderr.readline().startswith("plain-w1: exhausted")
                assert wait_for(lambda: len([*Path(f"/proc/{process.pid}/task").iterdir()]) >= 4)  # until it explores
                with at_most(10):
                    process.send_signal(signal.SIGINT)
                    out, err = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
        assert process.returncode == 130
        assert re.fullmatch(rf"python -m enqueuer explore: interrupted in restart, after [\d,]+ runs and [\d,]+ states{done}\n", err)
        assert ("exhausted" in out) == (done != "")


OWN_TESTS = """
from enqueuer.testing.schedule.explore import Scenario

def parks(world):
    world.spawn("other", world.runtime.parker().park).join()

def passes(world):
    lock = world.runtime.lock()
    def other():
        with lock:
            pass
    thread = world.spawn("other", other)
    with lock:
        world.point("looks")
    thread.join()

FINE = Scenario(name="fine", says="", body=passes)

def test_broken(explored):
    explored(Scenario(name="own", says="", body=parks))

def test_fine(explored):
    assert explored(FINE).verdict == "exhausted"

def test_some(explored):
    explored(FINE, runs=1)

def test_enough(explored):
    assert explored(FINE, exhausted=False, runs=1).verdict == "not exhausted"
"""


def test_the_fixture_fails_a_test_with_lanes_or_because_something_was_left_out(pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    pytester.makeconftest('pytest_plugins = ["enqueuer.testing.schedule.fixture"]')
    pytester.makepyfile(OWN_TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["own: deadlock: *", "*main*other*", "deadlock: these threads wait for ever", "again: replay(scenario, '0')"])
    result.stdout.fnmatch_lines(["fine: not exhausted, 1 runs, *: give it more time or a smaller scenario, or pass exhausted=False *"])
    assert "fixture.py" not in result.stdout.str()
