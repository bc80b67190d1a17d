"""What may kill a mutant. Run in a folder that holds the package with the mutant in it, and the tests: `killers.py NAME ARGUMENTS`, in JSON.

The last line that is printed is the answer in JSON: `killed`, `by` (a cover, a scene or a test), `guarantee` and `what` was seen.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Final

STUCK: Final = 20.0
"""Seconds without a scheduling point after which the explorer calls a thread stuck."""

AGAIN: Final = 2
"""How often a test that has failed is tried again; once more is enough."""

LONGEST: Final = 20
"""Seconds that a test may take."""

ANYWHERE: Final = 60.0
"""Seconds for each scenario with an interrupt at any line."""

HUNG: Final = f"it had not ended after {LONGEST} s"


def passed(what: str = "") -> dict[str, object]:
    return {"killed": False, "by": "", "guarantee": "", "what": what}


def killed(by: str, what: str, guarantee: str = "") -> dict[str, object]:
    what = re.sub(r",? line \d+", "", " ".join(what.split()))  # of a file that was made anew
    return {"killed": True, "by": by, "guarantee": guarantee or named(what), "what": what[:200]}


def named(text: str) -> str:
    """Return the first clause of the contract that a text names."""
    found = re.search(r"\b[GNA]\d{1,2}\b", text.replace("_", " "))
    return found.group() if found else ""


def cover(first: str) -> dict[str, object]:
    """Replay the paths of the window's model."""
    sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / "tests")]
    from test_window_cover import COVERS, STARTS, Window, replay

    for name in sorted(COVERS, key=lambda name: name != first):
        for start in STARTS.values():
            try:
                replay(Window, name, start)
            except Exception as error:
                return killed(name, str(error))
    return passed()


def explore(first: str, scenes: list[str], each: float, total: float) -> dict[str, object]:
    """Explore scenarios; any verdict but that nothing was found kills."""
    sys.path.insert(0, str(Path.cwd()))
    from enqueuer.testing.schedule import scenarios, world
    from enqueuer.testing.schedule.explore import explore as explored

    world.PATIENCE = STUCK
    end = time.monotonic() + total
    said = []
    for name in sorted(scenes, key=lambda name: name != first):
        left = end - time.monotonic()
        if left <= 0:
            said.append(f"{name}: not tried")
            continue
        try:
            report = explored(scenarios.SCENES[name].of(), seconds=min(each, left))
        except Exception as error:
            return killed(name, f"{type(error).__name__}: {error}")
        if report.failure is not None:
            return killed(name, f"{report.failure}", report.failure.guarantee)
        if report.verdict != "exhausted":
            said.append(f"{name}: {report.verdict}")
    return passed(", ".join(said))


def anywhere(first: str) -> dict[str, object]:
    """Explore what an interrupt at any line does."""
    sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / "tests")]
    from mutation.anywhere import scenarios

    from enqueuer.testing.schedule import world
    from enqueuer.testing.schedule.explore import explore as explored

    world.PATIENCE = STUCK
    for scenario in sorted(scenarios(), key=lambda scenario: scenario.name != first):
        try:
            report = explored(scenario, seconds=ANYWHERE)
        except Exception as error:
            return killed(scenario.name, f"{type(error).__name__}: {error}")
        if report.failure is not None:
            return killed(scenario.name, f"{report.failure}", report.failure.guarantee)
    return passed()


def reach(names: list[str], runs: int) -> dict[str, object]:
    """Return, for each scene, the functions that it comes to, how long so many executions take, and whether these are all."""
    sys.path.insert(0, str(Path.cwd()))
    from enqueuer.testing.schedule import scenarios
    from enqueuer.testing.schedule.explore import explore as explored

    found: dict[str, object] = {}
    for name in names:
        functions: set[str] = set()

        def note(frame: FrameType, event: str, _: object, functions: set[str] = functions) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename.endswith(("_run.py", "_window.py")):
                functions.add(code.co_qualname.replace("<locals>.", ""))

        threading.setprofile(note)
        try:
            report = explored(scenarios.SCENES[name].of(), runs=runs)
        finally:
            threading.setprofile(None)
        found[name] = {"functions": sorted(functions), "seconds": round(report.seconds, 2), "all": report.verdict == "exhausted"}
    return found


def scenes() -> dict[str, object]:
    """Return the names of the scenes of the ci tier."""
    sys.path.insert(0, str(Path.cwd()))
    from enqueuer.testing.schedule.scenarios import SCENES

    return {"scenes": [scene.name for scene in SCENES.values() if scene.tier == "ci"]}


def tests(first: str, arguments: list[str]) -> dict[str, object]:
    """Run pytest up to the first test that fails, and fails again: some fail once in a while on a busy machine."""
    once: list[str] = []
    answer = passed()
    for chosen in ([first], arguments) if first else (arguments,):
        answer = _tests(chosen)
        while answer["killed"] and "::" in str(answer["by"]):
            by = str(answer["by"])
            if HUNG in str(answer["what"]) or any(_tests([by])["killed"] for _ in range(AGAIN)):
                return answer
            once.append(by)
            answer = _tests([*chosen, *(f"--deselect={name}" for name in once)])
        if answer["killed"]:
            return answer
    return answer | {"what": f"once only: {', '.join(once)}" if once else ""}


def _tests(chosen: list[str]) -> dict[str, object]:
    options = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=line", f"--timeout={LONGEST}"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *chosen], capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode in {0, 5} or (len(chosen) == 1 and done.returncode == 4):  # 4: there is no such test any more
        return passed()
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", text, re.MULTILINE)
    if failed:
        return killed(failed[1], failed[2] or "it failed", named(failed[1]) or named(failed[2] or ""))
    hung = re.findall(r'File "\S*/(tests/test_\w+\.py)", line \d+,? in (test_\w+)', text)
    if hung:
        return killed("::".join(hung[-1]), HUNG, named(hung[-1][1]))
    return killed("pytest", f"exit code {done.returncode}: {text[-150:]}")


KILLERS: Final[dict[str, Callable[..., dict[str, object]]]] = {
    "cover": cover,
    "anywhere": anywhere,
    "explore": explore,
    "tests": tests,
    "reach": reach,
    "scenes": scenes,
}


def main(arguments: Iterable[str]) -> None:
    name, given = arguments
    try:
        answer = KILLERS[name](**json.loads(given))
    except Exception as error:  # the mutant can't even be imported
        answer = killed("import", f"{type(error).__name__}: {error}")
    print(json.dumps(answer), flush=True)
    os._exit(0)  # whatever threads the mutant has left


if __name__ == "__main__":
    main(sys.argv[1:])
