"""How fast this project is beside its peers: each row in turn by all who have it, several rounds, and the ratios.

    nox -s bench                                     all rows, five rounds; environments are made at the first time, each a virtual one
    nox -s bench -- --only 'process 1 MiB' --rounds 3
    nox -s bench -- --growth                         how cost grows, by `growth.py`
    nox -s bench -- --page                           the page in docs, by `page.py`

A round reads a row once with everybody, beginning with another one each time: a machine that slows down slows all of them down. What counts is
the ratio within a round, told as the median with the lowest and the highest. The load is noted before each round. A row that lacks a peer of its
line is not judged, and the exit code is 3 then; 1 if a row was not reached.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import selectors
import statistics
import subprocess
import sys
import time
import venv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
KEPT: Final = ROOT / ".nox" / "peers"
LIMIT: Final = 120.0
"""Seconds that a reading may take; whoever takes longer is told to have hung."""

PACKAGES: Final = {
    "tfk": ("numpy<2", "tensorflow-cpu==2.15.1", "keras==2.15.0"),
    "k3": ("keras==3.15.1", "jax", "numpy"),
    "torch": ("torch==2.13.0", "torchdata==0.11.0", "numpy"),
    "grain": ("grain==0.2.18", "numpy"),
    "spdl": ("spdl==0.8.0", "numpy"),
}
OWN: Final = frozenset({"ours", "whole", "queue", "limit"})
"""Who needs nothing but this project's environment."""

HOMES: Final = {"nodes": "torch"}
"""Who lives in another one's environment."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is read, by whom, and what is to come of it.

    Attributes:
        name: Short.
        what: What `readers.py` gets.
        peers: Who is compared.
        faster: Peer, or several joined by a comma of which the best counts -> how many times as fast as it this project has to be.
        ideal: Microseconds an item of a machine that loses nothing; 0: not known.
        share: How much of that is to be reached.
        most: At most so many items in memory, of which it may grow by one; 0: it is not about memory.
    """

    name: str
    what: dict[str, Any]
    peers: tuple[str, ...]
    faster: dict[str, float]
    ideal: float = 0.0
    share: float = 0.0
    most: float = 0.0


def _row(mode: str, item: str, items: int, kind: str = "stream", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "mode": mode, "item": item, "items": items, "workers": 2, "queue": 10} | more


THREADED: Final = ("tfk", "k3", "nodes", "grain", "spdl")
ALL: Final = ("tfk", "k3", "torch", "nodes", "grain", "spdl")
EACH: Final = ",".join(ALL)
MIB: Final = 1 << 20

ROWS: Final = (
    Row("thread tiny", _row("thread", "tiny", 20_000), ("queue", *THREADED), {"tfk,k3,grain": 5.0, "queue": 1 / 1.3}),
    Row("thread tiny, 8 workers, queue 2", _row("thread", "tiny", 3000, workers=8, queue=2), THREADED, {",".join(THREADED): 1.0}),
    Row("process tiny", _row("process", "tiny", 10_000), ALL, {EACH: 2.0}),
    Row("process 1 MiB", _row("process", str(MIB), 300), ALL, {EACH: 5.0}),
    Row("process 1 MiB, torch has tensors", _row("process", str(MIB), 300, theirs="tensor"), ("torch",), {"torch": 1.0}),
    Row("process 16 MiB", _row("process", str(16 * MIB), 60), ("limit", *ALL), {EACH: 2.0, "limit": 1 / 1.5}),
    Row("process 5 ms of CPU", _row("process", "cpu5", 200), ("torch", "grain"), {}, ideal=2500.0, share=0.96),
    Row("process 2 ms, consumer busy 2 ms", _row("process", "cpu2", 300, busy=2.0), ("torch",), {"torch": 1.0}, ideal=2000.0, share=0.9),
    Row("epochs of 10, thread, hook", _row("thread", "tiny", 60, "epochs", epoch=10, hook=True), ("tfk", "k3"), {"tfk": 10.0}),
    Row("epochs of 10, process, hook", _row("process", "tiny", 60, "epochs", epoch=10, hook=True), ("tfk", "torch"), {"tfk": 10.0, "torch": 1.0}),
    Row("epochs of 10, process", _row("process", "tiny", 60, "epochs", epoch=10), ("torch", "grain"), {"torch,grain": 1.0}),
    Row("epochs of 10, thread, no hook", _row("thread", "tiny", 20_000, "epochs", epoch=10), ("whole",), {"whole": 0.95}),
    Row("epochs of 10, process, no hook", _row("process", "tiny", 20_000, "epochs", epoch=10), ("whole",), {"whole": 0.95}),
    Row("start, thread", _row("thread", "tiny", 1, "start"), THREADED, {",".join(THREADED): 1.0}),
    Row("start, process", _row("process", "tiny", 1, "start"), ALL, {EACH: 1.0}),
    Row("stop, thread", _row("thread", "tiny", 1, "stop", fill=0.2), ("tfk", "k3", "grain", "spdl"), {"tfk,k3,grain,spdl": 1.0}),
    Row("stop, process", _row("process", "tiny", 1, "stop", fill=0.2), ALL, {EACH: 1.0}),
    Row("memory, 16 MiB", _row("process", str(16 * MIB), 300, "memory", each=1), (), {}, most=14.0),
    Row("memory, 1 MiB, 10,000 items", _row("process", str(MIB), 10_000, "memory", each=100), (), {}, most=math.inf),
)


class Asked:
    """A process that reads what it is told to, in its environment."""

    def __init__(self, name: str) -> None:
        home = HOMES.get(name, name)
        python = sys.executable if name in OWN else str(KEPT / home / "bin" / "python")
        environment = os.environ | {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        if name in OWN:
            environment["PYTHONPATH"] = str(ROOT)
        command = [python, str(HERE / "readers.py"), name]
        self.name = name
        self._log = (KEPT / f"{name}.log").open("w")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment, start_new_session=True
        )
        self._ready = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._ready.register(self._process.stdout, selectors.EVENT_READ)
        self.read()

    def read(self) -> dict[str, Any]:
        """Return an answer."""
        assert self._process.stdout is not None
        if not self._ready.select(LIMIT):
            return {"error": f"no answer within {LIMIT:g} s"}
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": f"it ended; see {self._log.name}"}

    def ask(self, what: dict[str, Any]) -> dict[str, Any]:
        """Have it read a row."""
        assert self._process.stdin is not None
        try:
            print(json.dumps(what), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return {"error": f"it ended; see {self._log.name}"}
        return self.read()

    def end(self) -> None:
        """End it, with what it has started."""
        try:
            os.killpg(self._process.pid, 9)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._log.close()


@dataclass
class Result:
    """What came of a row.

    Attributes:
        row: Its name.
        loads: The load before each round.
        us: Who -> microseconds in each round, None where it failed; of memory, items.
        grown: By how many items memory grew, in each round.
        errors: Who -> why.
    """

    row: str
    loads: list[float] = field(default_factory=list)
    us: dict[str, list[float | None]] = field(default_factory=dict)
    grown: list[float] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def ratios(self, peers: str) -> list[float]:
        """Return how many times as fast as the best of some peers this project was, round by round."""
        found: list[float] = []
        for number, mine in enumerate(self.us["ours"]):
            theirs = [value for name in peers.split(",") if (value := self.us.get(name, [None] * (number + 1))[number])]
            if mine and theirs:
                found.append(min(theirs) / mine)
        return found


def build() -> None:
    """Make the environments that lack; each is whole, or is made again."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for name, packages in PACKAGES.items():
        done = KEPT / name / "whole.json"
        if done.is_file() and json.loads(done.read_text()) == list(packages):
            continue
        print(f"making the environment of {name}: {', '.join(packages)}", flush=True)
        venv.create(KEPT / name, clear=True, with_pip=True)
        subprocess.run([str(KEPT / name / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)
        done.write_text(json.dumps(packages))


def run(row: Row, rounds: int) -> Result:
    """Read a row with everybody."""
    result = Result(row.name)
    asked: dict[str, Asked] = {}
    names = ["ours", *row.peers]
    try:
        for name in names:
            asked[name] = Asked(name)
        for number in range(rounds):
            result.loads.append(os.getloadavg()[0])
            for name in names[number % len(names) :] + names[: number % len(names)]:
                what = dict(row.what)
                theirs = what.pop("theirs", what["item"])
                told = asked[name].ask(what if name == "ours" else what | {"item": theirs})
                result.us.setdefault(name, []).append(told.get("us"))
                if "grown" in told:
                    result.grown.append(told["grown"])
                if "error" in told:
                    result.errors[name] = told["error"]
    finally:
        for each in asked.values():
            each.end()
    return result


def judged(row: Row, result: Result) -> tuple[str, list[str]]:
    """Return "reached", "missed" or "not judged", and why."""
    lacks = [name for name in ("ours", *row.peers) if not all(result.us.get(name, [None]))]
    said: list[str] = []
    missed = False
    for peers, least in row.faster.items():
        ratios = result.ratios(peers)
        if ratios:
            middle = statistics.median(ratios)
            missed |= middle < least
            said.append(f"{middle:.2f} x {peers} ({min(ratios):.2f} to {max(ratios):.2f}, at least {least:.2f})")
    mine = [value for value in result.us.get("ours", []) if value]
    if row.most and mine:
        missed |= max(mine) > row.most or max(result.grown) > 1
        limit = "" if row.most == math.inf else f" (at most {row.most:g})"
        said.append(f"at most {max(mine):.1f} items in memory{limit}; grown by {max(result.grown):.2f} (at most 1)")
    if row.ideal and mine:
        share = row.ideal / statistics.median(mine)
        missed |= share < row.share
        said.append(f"{share:.0%} of ideal (at least {row.share:.0%})")
    return "not judged" if lacks else "missed" if missed else "reached", said + [f"{name}: {result.errors.get(name, 'failed')}" for name in lacks]


def main() -> int:
    """Print a line for each row; keep everything in JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of rows")
    parser.add_argument("--growth", action="store_true", help="how cost grows with workers, queue, items and epochs instead")
    parser.add_argument("--page", action="store_true", help="write docs/performance.* from what was measured instead")
    options = parser.parse_args()
    if options.page:
        import page

        page.write()
        return 0
    build()
    if options.growth:
        import growth

        growth.measure(options.rounds)
        return 0
    verdicts: list[str] = []
    kept: list[dict[str, Any]] = []
    for row in ROWS:
        if not any(fnmatch.fnmatch(row.name, pattern) for pattern in options.only):
            continue
        since = time.monotonic()
        result = run(row, options.rounds)
        verdict, said = judged(row, result)
        verdicts.append(verdict)
        kept.append(asdict(result) | {"verdict": verdict, "said": said})
        (KEPT / "result.json").write_text(json.dumps(kept, indent=1) + "\n")
        print(f"{row.name}: {verdict}   (load {max(result.loads):.2f}, {time.monotonic() - since:.0f} s)")
        for name, values in result.us.items():
            good = [value for value in values if value]
            unit = "items" if row.most else "µs"
            print(f"    {name:6} {statistics.median(good):12,.1f} {unit}" if good else f"    {name:6} -")
        for line in said:
            print(f"    {line}", flush=True)
    return 3 if "not judged" in verdicts else 1 if "missed" in verdicts else 0


if __name__ == "__main__":
    raise SystemExit(main())
