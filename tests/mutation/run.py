"""Kill the mutants of the monitor; write down by what each was killed, and which have survived.

    python tests/mutation/run.py                   go on where the last call has stopped, to the end
    python tests/mutation/run.py --minutes 20      stop after about so long
    python tests/mutation/run.py --only '*:wake#*' these only
    python tests/mutation/run.py --again           try once more to kill those that have survived: there are new scenes or tests
    python tests/mutation/run.py --table           write the table only

What may kill them comes in rounds, the cheapest first; all mutants that are left go through one round before the next begins. What is known
is kept in `.nox/mutate.json`, until the code changes; then what has killed a mutant before is tried first. Before a round begins, the code as
it is must survive it. The table is in this folder.
Exit codes: 0 nothing survives without an argument, 1 something does, 2 the code itself is killed, 3 not all was tried.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutation.mutants import FILES, KINDS, PACKAGE, Mutant, mutants, unchanged

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
KEPT: Final = ROOT / ".nox" / "mutate.json"
TABLE: Final = HERE / "table.json"
PAGE: Final = HERE / "table.md"
ARGUED: Final = HERE / "equivalent.toml"

THREADS: Final = [f"tests/test_{name}.py" for name in ("run_life", "run_takes", "streams", "stop", "start", "generators", "interrupts")]
BY_FORK: Final = "process_mode and fork and not forkserver"

RUNS: Final = 400
"""Executions of a scene from which it is known what it reaches."""


@dataclass(frozen=True, slots=True)
class Round:
    """What all mutants that are left go through.

    Attributes:
        name: Short.
        killer: See `killers.py`.
        arguments: What it gets.
        limit: Seconds after which it is killed, and the mutant with it.
        file: Whose mutants it is for; "": all.
        kind: Which kind it is for; "": all.
    """

    name: str
    killer: str
    arguments: dict[str, Any]
    limit: float
    file: str = ""
    kind: str = ""


ROUNDS: Final = (
    Round("cover", "cover", {}, 60, "_window.py"),
    Round("explorer, briefly", "explore", {"each": 0.5, "total": 6}, 90),
    Round("window", "tests", {"arguments": ["tests/test_window.py"]}, 120, "_window.py"),
    Round("interrupts", "anywhere", {}, 300, kind="swap"),
    Round("threads", "tests", {"arguments": THREADS}, 300),
    Round("checks", "tests", {"arguments": ["tests/test_guarantees.py", "-k", "thread_mode"]}, 300),
    Round("explorer", "explore", {"each": 60, "total": 180}, 300),
    Round("checks by fork", "tests", {"arguments": ["tests/test_guarantees.py", "-k", BY_FORK]}, 400),
    Round(
        "the rest",
        "tests",
        {"arguments": [f"tests/test_{name}.py" for name in ("processes", "process_generators", "deaths", "subclasses", "events", "machine")]},
        600,
    ),
)


@dataclass(slots=True)
class Book:
    """What is known of each mutant, and of scenes.

    Attributes:
        code: Hash of the files that are mutated.
        known: Key -> what has killed it (`round`, `by`, `guarantee`, `what`) or, under `passed`, the rounds that have not.
        reached: Scene -> its functions, and how long it takes.
        hints: Key -> what has killed it when the code was another.
    """

    code: str
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    reached: dict[str, Any] = field(default_factory=dict)
    hints: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def read() -> Book:
        """Return what is kept, without what other code was."""
        code = hashlib.sha256(b"\0".join((PACKAGE / file).read_bytes() for file in FILES)).hexdigest()
        if KEPT.is_file():
            kept = json.loads(KEPT.read_text())
            if kept["code"] == code:
                return Book(code, kept["known"], kept["reached"], kept["hints"])
        rows = json.loads(TABLE.read_text()) if TABLE.is_file() else []
        return Book(code, hints={row["key"]: row for row in rows if row["verdict"] == "killed"})

    def write(self) -> None:
        """Keep it."""
        KEPT.parent.mkdir(exist_ok=True)
        what = {"commit": _commit(), "code": self.code, "known": self.known, "reached": self.reached, "hints": self.hints}
        made = KEPT.with_suffix(".new")
        made.write_text(json.dumps(what, indent=1) + "\n")
        made.replace(KEPT)

    def left(self, all_: list[Mutant]) -> list[tuple[Round, Mutant]]:
        """Return what is still to be tried, in order. A mutant that was killed before, by a later round, has that tried first."""
        first = [
            (round_, mutant)
            for round_ in ROUNDS
            for mutant in all_
            if self.hints.get(mutant.key, {}).get("round") == round_.name and self.is_open(round_, mutant)
        ]
        return first + [(round_, mutant) for round_ in ROUNDS for mutant in all_ if self.is_open(round_, mutant)]

    def is_open(self, round_: Round, mutant: Mutant) -> bool:
        """Whether a round is for a mutant and was not tried."""
        known = self.known.get(mutant.key, {})
        return (
            round_.file in {"", mutant.file} and round_.kind in {"", mutant.kind} and "by" not in known and round_.name not in known.get("passed", [])
        )


class Copy:
    """A copy of what there is, in which files are replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        without = shutil.ignore_patterns("__pycache__", "benchmarks", "*.pyc")
        for name in ("enqueuer", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=without)
        shutil.copytree(ROOT / "specs" / "cover", folder / "specs" / "cover")
        shutil.copy(ROOT / "pyproject.toml", folder)

    def kill(self, mutant: Mutant, killer: str, arguments: dict[str, Any], limit: float) -> dict[str, Any]:
        """Let a killer try a mutant; return its answer."""
        self.put(mutant)
        command = [sys.executable, str(HERE / "killers.py"), killer, json.dumps(arguments)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"PYTHONDONTWRITEBYTECODE": "1"}
        environment["COLUMNS"] = "250"  # pytest cuts what it says
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                return {"killed": True, "by": f"its limit of {limit:g} s", "guarantee": "", "what": "it had not ended"}
            finally:
                _end(process)
            out.seek(0)
            lines = out.read().decode(errors="replace").splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, ValueError):
            return {"killed": True, "by": "exit", "guarantee": "", "what": f"exit code {process.returncode}: {' '.join(lines)[-150:]}"}

    def put(self, mutant: Mutant) -> None:
        """Have this mutant there, and no other."""
        for file in FILES:
            text = mutant.make() if file == mutant.file else (PACKAGE / file).read_text()
            (self.folder / "enqueuer" / file).write_text(text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return ""
    return done.stdout.strip()


def scenes_for(mutant: Mutant, reached: dict[str, Any]) -> list[str]:
    """Return the scenes that come to what was mutated, the cheapest first."""
    found = [name for name, what in reached.items() if mutant.function in what["functions"]]
    return sorted(found, key=lambda name: (not reached[name]["all"], reached[name]["seconds"]))


def tried(copy: Copy, book: Book, round_: Round, mutant: Mutant) -> dict[str, Any]:
    """Let a round try a mutant."""
    hint = book.hints.get(mutant.key, {})
    useful = hint.get("round") == round_.name and (round_.killer != "tests" or "::" in hint["by"])
    arguments = {**round_.arguments, "first": hint["by"] if useful else ""}
    if round_.killer == "explore":
        arguments["scenes"] = scenes_for(mutant, book.reached)
        if not arguments["scenes"]:
            return {"killed": False, "what": "no scene comes here"}
    return copy.kill(mutant, round_.killer, arguments, round_.limit)


def survives(copy: Copy, book: Book, round_: Round) -> bool:
    """Whether the code as it is survives a round, so that what kills a mutant there is the mutation."""
    mutant = unchanged(round_.file or FILES[-1])
    known = book.known.setdefault(mutant.key, {"passed": []})
    if round_.name not in known["passed"]:
        arguments = {**round_.arguments, "first": ""}
        if round_.killer == "explore":
            arguments["scenes"] = list(book.reached)
        answer = copy.kill(mutant, round_.killer, arguments, round_.limit)
        if answer["killed"]:
            print(f"the code as it is does not survive: {round_.name}: {answer}")
            return False
        known["passed"].append(round_.name)
        book.write()
    return True


# the table


def rows(book: Book, all_: list[Mutant]) -> list[dict[str, Any]]:
    """Return the table."""
    argued = tomllib.loads(ARGUED.read_text())["equivalent"] if ARGUED.is_file() else {}
    made: list[dict[str, Any]] = []
    for mutant in all_:
        known = book.known.get(mutant.key, {})
        row: dict[str, Any] = {"key": mutant.key, "change": mutant.change}
        if "by" in known:
            row |= {"verdict": "killed", "round": known["round"], "by": known["by"], "guarantee": known["guarantee"], "what": known["what"]}
        elif mutant.key in argued:
            row |= {"verdict": "equivalent", "what": argued[mutant.key]}
        elif any(book.is_open(round_, mutant) for round_ in ROUNDS):
            row |= {"verdict": "not tried", "what": f"it survives: {', '.join(known.get('passed', [])) or 'nothing'}"}
        else:
            row |= {"verdict": "survived", "what": ""}
        made.append(row)
    return made


def write_table(book: Book, all_: list[Mutant]) -> list[dict[str, Any]]:
    """Write it, for tests and for readers."""
    made = rows(book, all_)
    TABLE.write_text("[\n" + ",\n".join(json.dumps(row) for row in made) + "\n]\n")
    lines = ["# Mutants of the monitor", "", "Made by `nox -s mutate`, see `run.py`. Arguments for the equivalent ones are in `equivalent.toml`.", ""]
    verdicts = Counter(f"killed: {row['round']}" if row["verdict"] == "killed" else row["verdict"] for row in made)
    lines += ["| verdict | mutants |", "|---|---|", *(f"| {verdict} | {count} |" for verdict, count in sorted(verdicts.items())), ""]
    for file in FILES:
        for kind, says in KINDS.items():
            chosen = [row for row in made if row["key"].startswith(f"{file}:") and f":{kind}#" in row["key"]]
            if chosen:
                lines += [f"## `{file}`: {says}", "", "| mutant | change | verdict | by | clause |", "|---|---|---|---|---|"]
                lines += [_line(row) for row in chosen] + [""]
    PAGE.write_text("\n".join(lines))
    return made


def _line(row: dict[str, Any]) -> str:
    key = row["key"].partition(":")[2]
    verdict = {"killed": f"killed: {row.get('round')}", "survived": "SURVIVED"}.get(row["verdict"], row["verdict"])
    cells = (f"`{key}`", f"`{row['change']}`", verdict, row.get("by") or row["what"], row.get("guarantee", ""))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, help="stop after about so long")
    parser.add_argument("--only", default="*", help="a pattern of keys")
    parser.add_argument("--rounds", type=int, default=len(ROUNDS), help="so many of the rounds")
    parser.add_argument("--again", action="store_true", help="try again what has survived")
    parser.add_argument("--table", action="store_true", help="write the table only")
    given = parser.parse_args()
    end = None if given.minutes is None else time.monotonic() + given.minutes * 60
    book, all_ = Book.read(), mutants()
    if given.table:
        write_table(book, all_)
        return 0
    if given.again:
        book.known = {key: known for key, known in book.known.items() if "by" in known}
        book.reached = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        for file in FILES:  # what is there to kill may have changed
            book.known.pop(unchanged(file).key, None)
        if not book.reached:
            names = copy.kill(unchanged("_run.py"), "scenes", {}, 60)["scenes"]
            book.reached = copy.kill(unchanged("_run.py"), "reach", {"names": names, "runs": RUNS}, 600)
            book.write()
        chosen = [mutant for mutant in all_ if fnmatch.fnmatch(mutant.key, given.only)]
        chosen.sort(key=lambda mutant: list(KINDS).index(mutant.kind))
        names = [round_.name for round_ in ROUNDS][: given.rounds]
        for round_, mutant in book.left(chosen):
            if round_.name not in names or not book.is_open(round_, mutant):
                continue
            if end is not None and time.monotonic() > end:
                break
            if not survives(copy, book, round_):
                return 2
            since = time.monotonic()
            answer = tried(copy, book, round_, mutant)
            known = book.known.setdefault(mutant.key, {"passed": []})
            if answer["killed"]:
                known |= {"round": round_.name, "by": answer["by"], "guarantee": answer["guarantee"], "what": answer["what"]}
            else:
                known["passed"].append(round_.name)
            book.write()
            told = f"killed by {answer['by']}: {answer['what'][:80]}" if answer["killed"] else f"survives {answer.get('what', '')[:80]}"
            print(f"{time.strftime('%H:%M:%S')} {time.monotonic() - since:5.1f} s  {round_.name}: {mutant.key}: {told}", flush=True)
    made = write_table(book, all_)
    verdicts = Counter(row["verdict"] for row in made)
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())))
    return 1 if verdicts["survived"] else 3 if verdicts["not tried"] else 0


if __name__ == "__main__":
    sys.exit(main())
