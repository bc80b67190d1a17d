"""The state machine finds no fault in the package, and finds those of the twins."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from enqueuer.testing.machine import machine_for, register_profiles
from enqueuer.testing.subject import REFERENCE, BrokenPromise
from enqueuer.testing.twins import TWINS, Twin

register_profiles()
PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "dev")
CI: Final = settings.get_profile("ci")
SECONDS: Final = {"dev": 120, "ci": 300, "deep": 1200}

SITUATIONS: Final = {
    "a later epoch",
    "a stream of an earlier run",
    "an end",
    "an error",
    "an order again",
    "RuntimeError without a run",
    "StopIteration without a run",
    "start again",
    "start at a loaded state",
    "start beside stragglers",
    "stop leaves stragglers",
    "stop releases a consumer",
    "TimeoutError",
}
"""What must come up besides the rules themselves."""

FOUND: Final = (
    "TwiceAndNever",
    "CompletionOrder",
    "NoneDelivered",
    "OffByOne",
    "OneEpoch",
    "HookTooEarly",
    "OrderByChance",
    "SameSeedEveryEpoch",
    "ErrorEarly",
    "ErrorsEndTheStream",
    "StopOnce",
    "ConsumersLeftWaiting",
    "TrueFromInside",
    "StreamForgetsItsRun",
    "SecondStartReplaces",
    "RunningForEver",
    "Lingering",
    "LostWakeUp",
    "StateOffByOne",
)
"""The twins that the ci profile must find. Under which promise it is found first depends on what was drawn; that each is refused under
its own is for the checks to show."""


@pytest.mark.concurrency
@pytest.mark.timeout(SECONDS[PROFILE])
def test_the_package_keeps_its_promises_whatever_is_called() -> None:
    run_state_machine_as_test(machine_for(REFERENCE), settings=settings.get_profile(PROFILE))


@pytest.mark.timeout(SECONDS["ci"])
def test_under_the_ci_profile_every_rule_does_its_work_and_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    machine = machine_for(REFERENCE)
    run_state_machine_as_test(machine, settings=CI)
    assert set(threading.enumerate()) <= before
    rules = {rule.function.__name__ for rule in machine.setup_state().rules}
    assert {"start", "stop", "get", "take"} < rules
    assert sorted(name for name in rules | SITUATIONS if not machine.seen[name]) == []


@pytest.fixture(params=[twin for twin in TWINS if twin.name in FOUND], ids=lambda twin: twin.name)
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    yield request.param
    request.param.clean()


def test_the_ci_profile_finds_a_twin(twin: Twin) -> None:
    machine = machine_for(twin.factory)
    with suppress(BrokenPromise, Flaky):  # Flaky: that another run of the same steps went well is no excuse
        run_state_machine_as_test(machine, settings=CI)
    assert machine.broken


def test_every_twin_that_must_be_found_is_there() -> None:
    assert {twin.name for twin in TWINS} >= set(FOUND)
