"""The conformance kit: a verdict for each check, whatever the subject does."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from pacing import LIMIT, PACE, wait_for
from process_helpers import living

from enqueuer import __main__ as command
from enqueuer.testing.checks import CAPABILITIES, CHECKS, Check
from enqueuer.testing.kit import Adapter, Report, Result, Verdict, run, watch
from enqueuer.testing.kit.adapter import OWN, AdapterError, load, short
from enqueuer.testing.kit.html import page
from enqueuer.testing.kit.judge import Request
from enqueuer.testing.subject import PROCESSES, REFERENCE, Factory
from enqueuer.testing.twins import TWINS, Twin

pytest_plugins = ["pytester"]

running = sys.modules["enqueuer.testing.kit.run"]
kit_command = importlib.import_module("enqueuer.testing.kit.command")

SHORT = ("items_come_in_rank_order_whatever_their_timing",)
"""A check that takes a moment."""


def only(report: Report) -> Result:
    (result,) = report.results
    return result


# the reference, and the twins


@pytest.mark.parametrize("target", ["threads", "fork"])
def test_this_package_keeps_what_is_checked(target) -> None:
    report = run(target, only=("G2", "G13"))
    assert [result.verdict for result in report.results if result.verdict is not Verdict.INAPPLICABLE] == [Verdict.KEPT] * report.counts["kept"]
    assert report.counts["kept"] == (1 if target == "threads" else 4)
    assert report.exit_code == 0


@pytest.mark.deep
@pytest.mark.timeout(600 * PACE)
@pytest.mark.parametrize("target", OWN)
def test_this_package_keeps_everything(target) -> None:
    report = run(target)
    assert not report.bad
    assert len(report.results) == report.declared == len(CHECKS)
    promised = {check.guarantee for check in CHECKS if check.applies(OWN[target])}
    assert {result.guarantee for result in report.results if result.verdict is Verdict.KEPT} == promised


def refused(twin: Twin, check: str = "") -> bool:
    report = run(f"twin:{twin.name}", only=(check or twin.breaks,))
    return any(result.guarantee == twin.breaks and result.verdict in {Verdict.BROKEN, Verdict.HANGS} for result in report.results)


QUICK = {"CompletionOrder": SHORT[0], "LeavesAProcess": "no_process_is_left"}
"""Twins, and the one check of their promise that they are put to."""


@pytest.mark.parametrize("twin", [twin for twin in TWINS if twin.name in QUICK], ids=lambda twin: twin.name)
def test_a_twin_is_refused_with_its_own_id(twin) -> None:
    assert refused(twin, QUICK[twin.name])


@pytest.mark.deep
@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: f"{twin.breaks}-{twin.name}")
def test_every_twin_is_refused_with_its_own_id(twin) -> None:
    assert refused(twin)


# what checks say that they need


class Poor:
    """A subject that can do what is asked of every one, and what a check has said that it needs."""

    def __init__(self, inner, needs) -> None:
        self._inner = inner
        self._needs = needs
        self.is_running = inner.is_running
        self._started = False

    def _uses(self, capability) -> None:
        assert capability in self._needs, f"the check uses {capability}, and does not say so"

    def start(self, *arguments, **more) -> None:
        if self._started and not self._inner.is_running():
            self._uses("restart")
        self._inner.start(*arguments, **more)
        self._started = True

    def get(self, **more) -> Iterator[object]:
        if more:
            self._uses("timeout")
        return self._inner.get(**more)

    def stop(self, *arguments, **more) -> bool:
        if arguments or more:
            self._uses("deadline")
        return self._inner.stop(*arguments, **more)

    def __getattr__(self, name):
        self._uses("shuffle" if name == "seed" else "resume")
        return getattr(self._inner, name)


def poor(factory: Factory, needs: frozenset[str]) -> Factory:
    def lacks(capability) -> None:
        assert capability in needs, f"the check uses {capability}, and does not say so"

    def ordered(sequence, **more):
        if more.get("shuffle"):
            lacks("shuffle")
        if hasattr(sequence, "on_epoch_end") and type(sequence).__name__ not in {"Inherited", "Remote"}:
            lacks("hook")
        return Poor(factory.ordered(sequence, **more), needs)

    def generator(thing, **more):
        lacks("generator")
        return Poor(factory.generator(thing, **more), needs)

    def apart(sequence, **more):
        if more.get("on_worker_death") == "retry":
            lacks("retry")
        if type(sequence).__name__ in {"_Changing", "_Spoilt"}:
            lacks("hook")
        return Poor(factory.apart(sequence, **more), needs)

    def item_seed():
        lacks("item seeds")
        return factory.item_seed()

    return replace(factory, ordered=ordered, generator=generator, item_seed=item_seed, apart=apart if factory.apart is not None else None)


def slow(check: Check) -> tuple[pytest.MarkDecorator, ...]:
    """Return the marks of a check that starts processes: its declaration is looked at with the deep tests."""
    return (pytest.mark.deep,) if "processes" in check.needs else ()


@pytest.mark.parametrize("check", [pytest.param(check, marks=slow(check), id=check.name) for check in CHECKS])
def test_a_check_uses_only_what_it_says_that_it_needs(check: Check) -> None:
    factory = PROCESSES["fork"] if "processes" in check.needs else REFERENCE
    check.run(poor(factory, check.needs))


NEEDS = [
    (check, need)
    for check in CHECKS
    for need in sorted(check.needs - {"processes", "consumers"})  # which a subject can't refuse
    if (check.name, need) != ("check_at_the_deadline_processes_are_killed", "deadline")  # without it nothing ends its items
]


@pytest.mark.parametrize(("check", "need"), [pytest.param(*pair, marks=slow(pair[0]), id=f"{pair[1]}-{pair[0].name}") for pair in NEEDS])
def test_a_check_needs_what_it_says(check: Check, need: str) -> None:
    factory = PROCESSES["fork"] if "processes" in check.needs else REFERENCE
    with pytest.raises(AssertionError, match=rf"uses {need}|does not say so|went wrong"):
        check.run(poor(factory, check.needs - {need}))


def test_a_check_has_a_level_and_says_what_it_does() -> None:
    assert {check.level for check in CHECKS} == {"required", "optional", "stochastic"}
    assert {check.guarantee for check in CHECKS if check.level == "stochastic"} == {"G8", "G9"}
    for check in CHECKS:
        assert (check.level == "required") == (not check.needs), check.name
        assert check.why.startswith(f"{check.guarantee}: "), check.name


def test_every_need_is_a_capability() -> None:
    assert {need for check in CHECKS for need in check.needs} == set(CAPABILITIES)


# adapters


SUBJECT = """
import os, signal, sys, threading, time
from dataclasses import replace
from enqueuer import OrderedEnqueuer, GeneratorEnqueuer
from enqueuer.testing.kit import Adapter
from enqueuer.testing.subject import REFERENCE

class Other(OrderedEnqueuer):
    pass

"""


FOR_EVER = "threading.Event().wait()"
"""As long as the kit may wait on the slowest machine. The kit kills it."""


@pytest.fixture
def subject(tmp_path) -> Callable[..., str]:
    """Write an adapter, and return how it is named."""

    def write(text: str) -> str:
        (tmp_path / "subject.py").write_text(SUBJECT + textwrap.dedent(text))
        return f"{tmp_path / 'subject.py'}:adapter"

    return write


HURRY = 60
"""So many times sooner a subject hangs that is said to hang anyway."""


@pytest.fixture
def hurried(monkeypatch) -> Callable[[str], None]:
    """Return what takes patience away: with a "check" of the subject, with the "end" of its interpreter, or with what it leaves "behind".

    Only for what takes for ever. Whatever is to come at all, as the calibration and what an adapter says of itself, has all the time of the kit.
    """

    def hurry(what: str) -> None:
        if what == "check":
            patient = running.watch

            def hasty(request: Request, limit: float) -> watch.Seen:
                return patient(request, limit / HURRY if request["check"] and request["target"] != "threads" else limit)

            monkeypatch.setattr(running, "watch", hasty)
        elif what == "end":
            monkeypatch.setattr(watch, "ENDING", 0.0)
        if what in {"end", "behind"}:  # an interpreter that is to end has its share of the limit, which is more than a moment
            monkeypatch.setattr(watch, "MOMENT", 0.5)

    return hurry


def made(body: str) -> str:
    """Return a subject whose enqueuer has a method of its own."""
    methods = textwrap.indent(textwrap.dedent(body), "    ")
    return f"class Other(OrderedEnqueuer):\n{methods}\nadapter = replace(REFERENCE, name='other', ordered=Other)\n"


def test_an_adapter_may_be_an_adapter_a_factory_or_what_returns_one(subject) -> None:
    for text in (
        "adapter = Adapter(factory=replace(REFERENCE, name='mine'))",
        "adapter = replace(REFERENCE, name='mine')",
        "def adapter():\n    return replace(REFERENCE, name='mine')",
    ):
        report = run(subject(text), only=SHORT)
        assert (report.subject, only(report).verdict, report.exit_code) == ("mine", Verdict.KEPT, 0)


def test_a_subject_that_is_slow_by_itself_gets_the_time_that_it_says(subject, hurried) -> None:
    hurried("check")
    slow = """
        class Slow(OrderedEnqueuer):
            def start(self, *arguments):
                threading.Event().wait({seconds})
                super().start(*arguments)
        adapter = replace(REFERENCE, name="slow", ordered=Slow, limit={limit})
    """
    hung = run(subject(slow.format(limit=10.0, seconds="")), only=SHORT)
    assert only(hung).verdict is Verdict.HANGS
    usual = max(running.AT_ALL[0], running.AT_ALL[1] * hung.calibration)  # what a whole check gets where nothing is said
    said = 100 * hung.limit
    kept = run(subject(slow.format(limit=said, seconds=1.5 * usual / HURRY)), only=SHORT)
    assert only(kept).verdict is Verdict.KEPT
    assert kept.limit == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adapter = 3", "an Adapter or a Factory is wanted"),
        ("other = 3", "has no adapter"),
        ("raise LookupError('at import')", "LookupError: at import"),
        ("sys.exit('leaving')", "SystemExit: leaving"),
        ("print('last words', flush=True); os._exit(3)", "exit code 3"),
        ("adapter = Adapter(factory=REFERENCE, lacks={'wings': 'a penguin'})", "'wings', which is no capability"),
        ("adapter = Adapter(factory=REFERENCE, deviations={'no-such': 'none'})", "'no-such', which is neither"),
        ("adapter = Adapter(factory=REFERENCE, adds={'no-such': 'none'})", "adds 'no-such', which is neither"),
        ("adapter = Adapter(factory=OrderedEnqueuer)", "the factory of an adapter is a Factory"),
        ("adapter = Adapter(factory=REFERENCE, lacks=['resume'])", "lacks is a mapping of names to reasons"),
        ("adapter = Adapter(factory=REFERENCE, lacks=None)", "lacks is a mapping of names to reasons"),
        ("adapter = Adapter(factory=REFERENCE, deviations={'G2': ''})", "none of them empty"),
        ("adapter = Adapter(factory=REFERENCE, deviations={'G2': object()})", "none of them empty"),
        ("adapter = Adapter(factory=REFERENCE, adds={'stop_with_timeout': 'all'})", "did you mean stop_with_a_timeout_keeps_it"),
        ("raise KeyboardInterrupt", "loading it raised KeyboardInterrupt"),
        ("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})", "loading it raised Mute, which can't say what it is"),
        (FOR_EVER, "did not end"),
    ],
    ids=range(17),
)
def test_what_is_no_adapter_is_told(subject, monkeypatch, text, said) -> None:
    running._calibration()
    if text == FOR_EVER:
        monkeypatch.setattr(running, "AT_ALL", (0.5, 0.0))
    with pytest.raises(AdapterError, match=said):
        run(subject(text), only=SHORT)


@pytest.mark.parametrize("target", ["nothing", "nowhere.at_all:adapter", "nowhere.py:adapter", "twin:Nobody", ":x", "x:", "a/b.sh:x", ".a:x"])
def test_what_names_no_adapter_is_told(target) -> None:
    with pytest.raises(AdapterError):
        run(target, only=SHORT)
    with pytest.raises((AdapterError, ImportError)):
        load(target)


def test_what_is_no_check_is_told() -> None:
    with pytest.raises(AdapterError, match="'no-such'"):
        run("threads", only=("no-such",))


# verdicts


def test_a_broken_promise_is_told_with_what_was_seen(subject) -> None:
    body = "def get(self, **more):\n    stream = super().get()\n    return reversed([next(stream) for _ in range(6)])"
    report = run(subject(made(body)), only=SHORT)
    result = only(report)
    assert (result.verdict, result.guarantee, report.exit_code) == (Verdict.BROKEN, "G2", 1)
    assert "came as [1, 0, 3, 2, 1, 0]" in result.what
    assert "check_items_come_in_rank_order" in result.stacks


@pytest.mark.parametrize(
    ("body", "verdict", "said", "hurry"),
    [
        ("def start(self, *_):\n    raise LookupError('no start')", Verdict.BROKEN, "stopped by LookupError: no start", ""),
        ("def start(self, *_):\n    os._exit(7)", Verdict.BROKEN, "exit code 7", ""),
        ("def start(self, *_):\n    os.kill(os.getpid(), signal.SIGKILL)", Verdict.BROKEN, "killed by SIGKILL", ""),
        (f"def start(self, *_):\n    {FOR_EVER}", Verdict.HANGS, "the check did not end within", "check"),
        (
            f"def start(self, *_):\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); {FOR_EVER}",
            Verdict.HANGS,
            "the check did not end within",
            "check",
        ),
        ("def stop(self, *_):\n    return True", Verdict.KEPT, "", ""),
        (
            "def start(self, *_):\n    super().start(*_); threading.Thread(target=threading.Event().wait).start()",
            Verdict.HANGS,
            "the interpreter did not end",
            "end",
        ),
        (f"def start(self, *_):\n    super().start(*_); os.fork() or {FOR_EVER}", Verdict.BROKEN, "there was still process", "behind"),
        ("def start(self, *_):\n    super().start(*_); print('x' * 10**7)", Verdict.KEPT, "", ""),
    ],
    ids=["raises", "exits", "kills", "hangs", "hangs, deaf", "ignores stop", "thread stays", "process stays", "prints"],
)
def test_whatever_a_subject_does_there_is_a_verdict(subject, hurried, body, verdict, said, hurry) -> None:
    hurried(hurry)
    result = only(run(subject(made(body)), only=SHORT))
    assert (result.verdict, said in result.what) == (verdict, True), result


def test_a_hang_is_told_with_the_stacks_of_all_threads(subject, tmp_path, monkeypatch) -> None:
    """Its time is up as soon as it hangs, however long it takes the machine to come there."""
    there = tmp_path / "there"
    body = f"def start(self, *_):\n    self.waits_for_ever()\n\ndef waits_for_ever(self):\n    open({str(there)!r}, 'w').close(); {FOR_EVER}"
    running._calibration()
    patiently = watch.patiently

    def until_it_hangs(comes: Callable[[float], bool], seconds: float) -> bool:
        if there.exists():  # the stacks are waited for as ever
            return patiently(comes, seconds)
        while not comes(0.1):
            if there.exists():
                return False
        return True

    monkeypatch.setattr(watch, "SLICES", 1)
    monkeypatch.setattr(watch, "patiently", until_it_hangs)
    result = only(run(subject(made(body)), only=SHORT))
    assert result.verdict is Verdict.HANGS
    assert "waits_for_ever" in result.stacks
    assert watch.OUTERMOST.decode() in result.stacks


def test_shared_memory_that_stays_is_told_unless_somebody_uses_it(subject, hurried, tmp_path, monkeypatch) -> None:
    hurried("behind")
    path = tmp_path / "shared" / "left"  # where no other test's subject is blamed for it
    path.parent.mkdir()
    monkeypatch.setattr(watch, "SHARED", path.parent)
    monkeypatch.setattr(watch, "MOMENT", 0.2)
    body = f"def start(self, *_):\n    super().start(*_)\n    open({str(path)!r}, 'w').close()"
    result = only(run(subject(made(body)), only=SHORT))
    assert (result.verdict, result.guarantee) == (Verdict.BROKEN, "G20")
    assert result.left == (f"shared memory {path.name}",)
    assert watch._unused({path.name}) == {path.name}
    with path.open():
        assert watch._unused({path.name}) == set()


def test_shared_memory_that_is_about_to_go_is_nobodys_left_over(tmp_path, monkeypatch) -> None:
    """Another program's is used by nobody any more, and then it is gone."""
    path = tmp_path / "going"
    path.touch()
    unused = watch._unused

    def once(names: set[str]) -> set[str]:
        found = unused(names)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(watch, "SHARED", tmp_path)
    monkeypatch.setattr(watch, "_unused", once)
    assert watch._left("no check's mark", set()) == ()


def test_what_is_lacking_and_what_is_expected_is_told_with_its_reason(subject) -> None:
    name = "stop_with_a_timeout_keeps_it"
    lacks = only(run(subject("adapter = Adapter(factory=REFERENCE, lacks={'deadline': 'it ends at once'})"), only=(name,)))
    assert (lacks.verdict, lacks.what) == (Verdict.INAPPLICABLE, "it lacks stop(timeout): it ends at once")
    for place in (name, "G15"):
        adds = only(run(subject(f"adapter = Adapter(factory=REFERENCE, adds={{{place!r}: 'it has no stop()'}})"), only=(name,)))
        assert (adds.verdict, adds.what) == (Verdict.INAPPLICABLE, "the adapter would be judged: it has no stop()")
    passes = run(subject("adapter = Adapter(factory=REFERENCE, deviations={'G2': 'as documented'})"), only=SHORT)
    assert (only(passes).verdict, passes.exit_code) == (Verdict.UNEXPECTED, 1)
    text = "class Other(OrderedEnqueuer):\n    start = None\nadapter = Adapter(factory=replace(REFERENCE, ordered=Other), deviations={NAME!r: 'no'})"
    fails = run(subject(text.replace("NAME!r", repr(SHORT[0]))), only=SHORT)
    assert (only(fails).verdict, only(fails).reason, fails.exit_code) == (Verdict.EXPECTED, "no", 0)


def test_a_report_that_lacks_results_is_no_success() -> None:
    result = Result(check=SHORT[0], guarantee="G2", verdict=Verdict.KEPT)
    report = Report(subject="", target="threads", results=(result,), declared=2, limit=1.0, calibration=0.1, seconds=1.0)
    assert report.exit_code == 1
    assert replace(report, declared=1).exit_code == 0


# the command


def told(capsys, *argv) -> tuple[int, str, str]:
    try:
        code = command.main(["check", *argv])
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


def test_the_command_prints_a_table_that_fits(capsys, monkeypatch) -> None:
    reports: dict[str, Report] = {}

    def once(target: str, **more: object) -> Report:
        """Judge the first time only: what is looked at is how it is printed."""
        reports[target] = reports.get(target) or run(target, **more)
        return reports[target]

    monkeypatch.setattr(kit_command, "run", once)
    for columns in (40, 80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, err = told(capsys, "threads", "twin:CompletionOrder", "--only", "G2", "--only", "G13")
        assert code == 1
        assert all(len(line) <= columns for line in out.splitlines())
        assert "BROKEN" in out
        assert "items 0 to 3, of which 0 is ready last" in " ".join(out.split())
        assert "it lacks worker processes" in " ".join(out.split())
        assert err.startswith("threads: 1 kept, 3 not applicable")


def test_the_command_writes_json(capsys) -> None:
    code, out, _ = told(capsys, "threads", "--only", SHORT[0], "--json")
    (report,) = json.loads(out)
    assert code == report["exit_code"] == 0
    assert report["counts"]["kept"] == 1
    result = report["results"][0]
    assert (result["verdict"], result["watches"], result["level"]) == ("kept", "G2", "required")


@pytest.mark.parametrize("columns", [40, 120])
def test_the_command_lists_what_each_check_does(capsys, monkeypatch, columns) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = told(capsys, "--list")
    assert (code, err) == (0, "")
    assert all(len(line) <= columns for line in out.splitlines())
    text = " ".join(out.split())
    assert all(f"{check.guarantee} {short(check).replace('_', ' ')} " in text for check in CHECKS)
    assert "(required)" in text
    assert "(stochastic; needs item seeds, shuffle)" in text


def test_the_page_has_the_table_and_a_timeline_of_what_was_seen(capsys, tmp_path) -> None:
    file = tmp_path / "report.html"
    code, _, _ = told(capsys, "threads", "twin:CompletionOrder", "--only", "G2", "--html", str(file))
    assert code == 1
    text = file.read_text()
    ElementTree.fromstring(text.partition("\n")[2].replace('<meta charset="utf-8">', "").replace(VIEWPORT, ""))
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<svg") == 1
    assert "items 0 to 3, of which 0 is ready last, came as [" in text
    assert "--only items_come_in_rank_order" in text
    assert len(re.findall("<circle", text)) == 6


VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def test_what_a_subject_says_can_not_break_the_page() -> None:
    notes = ((0.0, "<i>", "begins", "<"),)
    result = Result(check=SHORT[0], guarantee="G2", verdict=Verdict.HANGS, what="<script>", stacks="</pre>&", output="<b>", notes=notes)
    text = page([Report(subject="<a>", target="a&b", results=(result,), declared=1, limit=1.0, calibration=0.1, seconds=1.0)])
    for wrong in ("<script>", "</pre>&", "<b>", "<i>", "a&b"):
        assert wrong not in text


def test_wrong_usage_is_told_in_a_line(capsys) -> None:
    for argv, said in ((["nothing"], "names no adapter"), (["threads", "--only", "no-such"], "'no-such'"), (["--jobs", "0"], "at least 1")):
        code, out, err = told(capsys, *argv)
        assert (code, out, said in err) == (2, "", True)


def test_the_kit_needs_neither_pytest_nor_hypothesis() -> None:
    text = "import sys; sys.modules['pytest'] = sys.modules['hypothesis'] = None; import enqueuer.testing.kit.command, enqueuer.testing.kit.judge"
    subprocess.run([sys.executable, "-c", text], check=True, timeout=LIMIT)


def test_the_adapter_of_the_page_gets_its_verdicts(tmp_path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "conformance.md").read_text()
    (tmp_path / "mine.py").write_text(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0])
    report = run(f"{tmp_path / 'mine.py'}:adapter", only=("G3", "G5"))
    assert [result.verdict for result in report.results] == [Verdict.EXPECTED, Verdict.INAPPLICABLE, Verdict.KEPT, Verdict.INAPPLICABLE]
    assert "there is no such class" in report.results[1].what


PAGE = (Path(__file__).parents[1] / "docs" / "conformance.md").read_text()


@pytest.fixture
def mine(tmp_path) -> Path:
    """The adapter of the page, in a folder of its own."""
    file = tmp_path / "mine.py"
    file.write_text(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0])
    return file


def test_the_page_names_what_may_be_lacking_and_says_what_its_example_breaks(mine) -> None:
    (told,) = re.findall(r"^What may be lacking: (.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert re.findall(r'"([\w ]+)"', told) == sorted(CAPABILITIES)
    report = run(f"{mine}:adapter", only=("an_error_says_where_it_was_raised",))
    assert (only(report).verdict, only(report).guarantee) == (Verdict.BROKEN, "G10")
    assert "does not say at which rank" in only(report).what


def test_it_runs_in_a_foreign_repository_on_the_installed_package(tmp_path, mine) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "enqueuer", "check", "mine.py:adapter", "--only", "G5", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=4 * LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["counts"]["kept"] == report["counts"]["not applicable"] == 1


def test_a_test_suite_may_have_a_test_for_each_check(pytester, subject, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    target = subject("""
        class Other(OrderedEnqueuer):
            stop = lambda self, timeout=None: super().stop(timeout) or True
        other = replace(REFERENCE, ordered=Other)
        adapter = Adapter(factory=other, lacks={"resume": "not offered"}, deviations={"stop_with_a_timeout_keeps_it": "as documented"})
    """)
    pytester.makepyfile(f"""
        from enqueuer.testing.kit.fixture import each_check

        @each_check({target!r})
        def test_it_keeps(promise):
            promise()
    """)
    names = ("in_rank_order", "state_was_saved", "with_a_timeout_keeps", "from_the_runs_own")
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA", "-k", " or ".join(names))
    outcome.assert_outcomes(passed=1, skipped=1, xfailed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*BrokenPromise: G14: stop() from the run's own threads returned *"])


def test_names_of_checks_are_unique() -> None:
    assert len({short(check) for check in CHECKS}) == len(CHECKS)
    assert isinstance(load("threads"), Adapter)


def test_what_is_known_is_told_though_another_adapter_or_the_page_can_not_be_had(capsys, tmp_path) -> None:
    code, out, err = told(capsys, "threads", "nowhere.py:x", "--only", "G2")
    assert (code, "kept" in out, "there is no file nowhere.py" in err) == (2, True, True)
    code, out, err = told(capsys, "threads", "--only", "G2", "--html", str(tmp_path / "no" / "page.html"))
    assert (code, "kept" in out, "could not be written" in err) == (1, True, True)


def test_where_a_factory_failed_is_told(capsys, subject) -> None:
    target = subject("def broken(*_, **__):\n    raise LookupError('not today')\nadapter = replace(REFERENCE, ordered=broken)")
    code, out, _ = told(capsys, target, "--only", SHORT[0])
    assert code == 1
    assert "LookupError: not today" in out
    assert "in broken" in out


def test_a_file_is_not_taken_for_a_module_of_its_name(tmp_path) -> None:
    (tmp_path / "queue.py").write_text("adapter = 1\n")
    (tmp_path / "a.b.py").write_text("adapter = 1\n")
    with pytest.raises(AdapterError, match="there is another module 'queue' already"):
        run(f"{tmp_path / 'queue.py'}:adapter", only=SHORT)
    with pytest.raises(AdapterError, match="rename it"):
        run(f"{tmp_path / 'a.b.py'}:adapter", only=SHORT)


def test_a_check_may_be_named_as_it_is_shown() -> None:
    for name in ("g2", "items come in rank order whatever their timing", "check_items_come_in_rank_order_whatever_their_timing"):
        assert [check.guarantee for check in running._chosen((name,))] == ["G2"]
    with pytest.raises(AdapterError, match="did you mean items_come_in_rank_order"):
        run("threads", only=("items come in rank order",))


def test_garbage_in_all_descriptors_is_no_answer(subject) -> None:
    body = """
        def start(self, *_):
            for fd in range(3, 40):
                try:
                    os.write(fd, b"garbage")
                except OSError:
                    pass
    """
    result = only(run(subject(made(body)), only=SHORT))
    assert result.verdict is not Verdict.KEPT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_ends_the_command_ends_its_checks(number, tmp_path) -> None:
    (tmp_path / "stuck.py").write_text(SUBJECT + made(f"def start(self, *_):\n    open(f'stuck-{{os.getpid()}}', 'w').close(); {FOR_EVER}"))
    command = [sys.executable, "-m", "enqueuer", "check", "stuck.py:adapter", "--jobs", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert wait_for(lambda: len([*tmp_path.glob("stuck-*")]) == 2)
        judges = psutil.Process(process.pid).children()  # and perhaps a witness of the machine's pace
        assert {judge.pid for judge in judges} >= {int(file.name.removeprefix("stuck-")) for file in tmp_path.glob("stuck-*")}
        process.send_signal(number)
        process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert wait_for(lambda: not any(living(judge.pid) for judge in judges))  # their parent may reap them late


def test_a_semaphore_that_is_used_is_nobodys_left_over(multiprocessings_own) -> None:
    """Its memory is mapped under another name than its own."""
    semaphore = multiprocessing.get_context("spawn").Semaphore(1)
    name = "sem." + semaphore._semlock.name.removeprefix("/")
    assert (watch.SHARED / name).exists()
    assert not watch._unused({name})
    del semaphore
