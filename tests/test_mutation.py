"""Mutants of the monitor: the table that `nox -s mutate` has written is of today's code, each has its verdict, and killers kill and can fail to."""

import json
import tomllib
from functools import cache

import pytest
from mutation.mutants import Mutant, mutants, unchanged
from mutation.run import ARGUED, TABLE, Copy
from pacing import LIMIT

ROWS = json.loads(TABLE.read_text())

QUICK = {
    "_window.py:Window.claimable:compare#1": ("cover", {}),
    "_run.py:Run._wake_takers:wake#1": ("explore", {"scenes": ["plain-w1"], "each": LIMIT, "total": LIMIT}),
    "_run.py:Run._put:unlock#1": ("explore", {"scenes": ["plain-w1"], "each": LIMIT, "total": LIMIT}),
}


HUNG = f"its limit of {2 * LIMIT:g} s"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("mutant"))


@cache
def made() -> dict[str, Mutant]:
    found = mutants()
    by_key = {mutant.key: mutant for mutant in found}
    assert len(by_key) == len(found)
    return by_key


def test_the_table_is_of_the_mutants_of_this_code() -> None:
    assert {row["key"]: row["change"] for row in ROWS} == {key: mutant.change for key, mutant in made().items()}, (
        "_window.py or _run.py has changed: run nox -s mutate"
    )


def test_each_mutant_is_killed_or_argued_to_be_equivalent() -> None:
    assert [row["key"] for row in ROWS if row["verdict"] not in {"killed", "equivalent"} or not row["what"]] == []


def test_what_is_argued_is_of_mutants_that_nothing_kills() -> None:
    argued = tomllib.loads(ARGUED.read_text())["equivalent"]
    assert {row["key"]: row["what"] for row in ROWS if row["verdict"] == "equivalent"} == argued


@pytest.mark.parametrize("key", QUICK)
def test_a_mutant_is_killed(copy, key) -> None:
    killer, arguments = QUICK[key]
    answer = copy.kill(made()[key], killer, {"first": "", **arguments}, 2 * LIMIT)
    assert answer["killed"]
    assert answer["by"] not in {"import", "exit", HUNG}, answer


@pytest.mark.parametrize(("file", "killer"), [("_window.py", "cover"), ("_run.py", "explore")])
def test_the_code_as_it_is_is_not_killed(copy, file, killer) -> None:
    arguments = {"scenes": ["plain-w1"], "each": LIMIT, "total": LIMIT} if killer == "explore" else {}
    answer = copy.kill(unchanged(file), killer, {"first": "", **arguments}, 2 * LIMIT)
    assert not answer["killed"], answer
    assert not answer["what"], answer
