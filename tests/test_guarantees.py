"""The contract is kept, and every line of it is tied to the code, to a check that can fail, and to a page."""

import ast
import re
import time
from contextlib import contextmanager, nullcontext
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from enqueuer.guarantees import CONTRACT, Clause
from enqueuer.testing.checks import CHECKS, Check, lifecycle
from enqueuer.testing.pace import Pace
from enqueuer.testing.page import page
from enqueuer.testing.subject import PROCESSES, REFERENCE, BrokenPromise
from enqueuer.testing.twins import TWINS, Twin

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "enqueuer"
TESTS = ROOT / "tests"

by_id = pytest.mark.parametrize("clause", CONTRACT, ids=lambda clause: clause.id)


@pytest.mark.concurrency
@pytest.mark.parametrize("check", [check for check in CHECKS if check.applies(REFERENCE)], ids=lambda check: check.name)
def test_thread_mode_keeps_the_promise(check: Check) -> None:
    check.run(REFERENCE)


@pytest.fixture(scope="module")
def own_helpers() -> None:
    """Start what multiprocessing keeps for good, before anything is counted."""
    resource_tracker.ensure_running()
    forkserver.ensure_running()


@pytest.mark.usefixtures("own_helpers")
@pytest.mark.concurrency
@pytest.mark.parametrize("method", ["fork", *(pytest.param(method, marks=pytest.mark.deep) for method in ("forkserver", "spawn"))])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_process_mode_keeps_the_promise(check: Check, method: str) -> None:
    check.run(PROCESSES[method])


def test_a_check_that_does_not_apply_to_thread_mode_is_one_of_processes() -> None:
    assert {check for check in CHECKS if not check.applies(REFERENCE)} == {check for check in CHECKS if "processes" in check.needs}
    assert all(check.applies(factory) for check in CHECKS for factory in PROCESSES.values())


def refuses(check: Check, twin: Twin) -> bool:
    try:
        check.run(twin.factory)
    except BrokenPromise as broken:
        return broken.guarantee == twin.breaks and twin.seen in broken.what
    finally:
        twin.clean()
    return False


@pytest.mark.parametrize("guarantee", sorted({twin.breaks for twin in TWINS}, key=lambda guarantee: int(guarantee[1:])))
def test_a_promise_has_checks_that_each_refuse_a_twin_and_twins_that_a_check_refuses(guarantee: str) -> None:
    checks = [check for check in CHECKS if check.guarantee == guarantee]
    twins = [twin for twin in TWINS if twin.breaks == guarantee]
    pairs = {(check.name, twin.name): refuses(check, twin) for check in checks for twin in twins if check.applies(twin.factory)}
    seen, told = ({pair[side] for pair, refused in pairs.items() if refused} for side in (0, 1))
    assert [check.name for check in checks if check.name not in seen] == [], "refuse no twin"
    assert [twin.name for twin in twins if twin.name not in told] == [], "are refused by no check"


@by_id
def test_a_promise_is_marked_in_the_code_where_it_is_kept(clause: Clause) -> None:
    if clause.promised and (clause.partly or not clause.owed):
        mark = re.compile(rf"# {clause.id}\b")
        assert any(mark.search(path.read_text()) for path in PACKAGE.glob("_*.py")), f"no line of the package says # {clause.id}"


@by_id
def test_a_promise_has_a_check_and_a_twin_unless_it_is_owed(clause: Clause) -> None:
    if clause.promised:
        shown = clause.partly or not clause.owed
        assert shown == any(check.guarantee == clause.id for check in CHECKS)
        assert shown == any(twin.breaks == clause.id for twin in TWINS)


@by_id
def test_an_assumption_or_a_non_promise_has_a_text_and_a_test_unless_it_is_owed(clause: Clause) -> None:
    assert clause.text.endswith(".")
    if not clause.promised:
        names = [
            node.name
            for path in TESTS.glob("test_*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef) and node.name.startswith(f"test_{clause.id}_")
        ]
        assert bool(names) != bool(clause.owed)


def test_ids_are_unique_and_complete() -> None:
    ids = [clause.id for clause in CONTRACT]
    assert ids == [f"{kind}{number}" for kind, count in (("G", 28), ("A", 6), ("N", 6)) for number in range(1, count + 1)]


def test_every_id_that_is_named_anywhere_exists() -> None:
    ids = {clause.id for clause in CONTRACT}
    for path in (*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"\b[GAN]\d{1,2}\b", path.read_text()))
        assert named <= ids, f"{path.relative_to(ROOT)} names {sorted(named - ids)}"


def test_every_decision_that_is_named_anywhere_exists() -> None:
    decisions = (ROOT / "docs" / "decisions.md").read_text()
    ids = re.findall(r"^## (D\d+)\.", decisions, re.MULTILINE)
    assert ids == [f"D{number}" for number in range(1, len(ids) + 1)]
    for path in (*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"\bD\d{1,2}\b", path.read_text()))
        assert named <= set(ids), f"{path.relative_to(ROOT)} names {sorted(named - set(ids))}"


def test_the_page_of_the_contract_is_made_from_the_data() -> None:
    assert (ROOT / "docs" / "guarantees.md").read_text() == page(), "run: python -m enqueuer.testing.page > docs/guarantees.md"


@pytest.mark.parametrize(("times", "kept"), [(1.9, False), (2.1, True)])
def test_a_promised_time_is_judged_at_the_pace_of_the_machine(times, kept, monkeypatch) -> None:
    """G15: `stop(0)` may take half a second of an idle machine. Here the machine is as many times slower as the stop takes seconds, and more."""

    @contextmanager
    def witnessed():
        machine, begun = Pace(), time.monotonic()
        yield machine
        machine.factor = times * (time.monotonic() - begun)

    monkeypatch.setattr(lifecycle, "paced", witnessed)
    with nullcontext() if kept else pytest.raises(BrokenPromise, match=r"G15: stop\(0\) took"):
        lifecycle.check_stop_with_a_timeout_keeps_it(REFERENCE)
