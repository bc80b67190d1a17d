"""What is run besides `pytest` itself: `nox -l` lists it. What is installed, and which Pythons there are, is read from pyproject.toml."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "typing", "lint", "docs"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
OLDEST = PYTHONS[0]

BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    sum(range(10**6))\n"
"""A process that keeps a core busy as long as its parent lives."""

STUTTER = "tests/stutter.py"
"""Stops the tests again and again for a moment, as a machine does that has others to look after."""

MACHINES: dict[str, tuple[list[str], list[list[str]]]] = {
    # how the tests are started, and what runs beside them
    "two busy loops": ([], [["-c", BUSY]] * 2),
    "four busy loops": ([], [["-c", BUSY]] * 4),
    "one core": (["taskset", "-c", "0"], []),
    "what others leave": (["nice", "-n", "19"], [["-c", BUSY]]),
    "a machine that looks away": ([], [[STUTTER]]),
}
"""The machines of `flake`, used one after another: each shows another kind of flake."""

FLAKE_RUNS = 20


def group(name: str) -> list[str]:
    """Return what a dependency group of pyproject.toml asks for."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, on every Python there is; arguments go to pytest."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "auto"]))


@nox.session(python=OLDEST)
def typing(session: nox.Session) -> None:
    """Mypy and pyright, strict, on the package and on tests/typing, without an error."""
    session.install(*group("typing"))
    session.run("mypy")
    session.run("pyright")


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Ruff: its rules, and its format."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(python=OLDEST)
def specs(session: nox.Session) -> None:
    """Check the models of specs/models.toml with TLC, those of the ci tier, and that covers, figures and traces agree with them.

    Beside the models, what else there is to check runs by turns; it is told at the end. Arguments go to `specs/check.py`: `-- --tier deep` goes
    on where it was.
    """
    session.install(".[test]", *group("specs"))
    if session.posargs:
        session.run("python", "specs/check.py", *session.posargs)
        return
    others = [["check.py", "--self-test"], ["traces.py"], ["cover.py", "--check"], ["pictures.py", "--check"]]
    with ThreadPoolExecutor(1) as beside:
        told = [beside.submit(session.run, "python", f"specs/{name}", *options, silent=True) for name, *options in others]
        session.run("python", "specs/check.py")
    for each in told:
        session.log(each.result())


@nox.session(python=OLDEST)
def docs(session: nox.Session) -> None:
    """Every code block, command, link and name in README, docs and docstrings."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", "tests/test_docs.py", *session.posargs)


@nox.session(python=OLDEST)
def coverage(session: nox.Session) -> None:
    """Lines and branches of the package without testing/; the limit and the exclusions are in pyproject.toml."""
    session.install(".[test]", *group("coverage"))
    session.run("coverage", "erase")
    # the state machine is several times as slow under a tracer, and reaches no line that the other tests do not
    leave_out = ["-m", "not interrupts and not deep", "--ignore", "tests/test_machine.py"]
    death = "tests/test_guarantees.py::test_process_mode_keeps_the_promise[check_a_death_ends_the_run_with_an_error_that_tells_it-fork]"
    # what coverage puts in the place of os._exit() can't be pickled, and it imports multiprocessing before a program does
    leave_out += ["--ignore", "tests/test_process_exits.py", "--deselect", death]
    session.run("coverage", "run", "-m", "pytest", *leave_out, *(session.posargs or ["-n", "auto"]))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python=OLDEST)
def flake(session: nox.Session) -> None:
    """Run the concurrency tests again and again, on each of `MACHINES` in turn. One failure fails it.

    What was run is kept in `.nox/flake.json` and not run again until a file changes. Arguments: how many runs to make this time, and the name of
    the only machine for them, as in `-- 5 "one core"`.
    """
    session.install(".[test]")
    report = Path(".nox", "flake.json")
    state = {"commit": _commit(), "files": _fingerprint(), "runs": 0, "failed": 0}
    if report.is_file():
        kept = json.loads(report.read_text())
        if kept["files"] == state["files"] and not kept["failed"]:
            state["runs"] = kept["runs"]
    until = min(FLAKE_RUNS, state["runs"] + int(session.posargs[0])) if session.posargs else FLAKE_RUNS
    names = session.posargs[1:] or [*MACHINES]
    while state["runs"] < until:
        name = names[state["runs"] % len(names)]
        session.log(f"on a machine with {name}" if "loop" in name else f"on {name}")
        start, beside = MACHINES[name]
        python = str(Path(session.bin, "python"))
        load = [subprocess.Popen([python, *command, str(os.getpid())]) for command in beside]
        try:
            session.run(*start, python, "-m", "pytest", "-m", "concurrency and not deep", "-q", "-x", "-n", "auto", external=True)
        except KeyboardInterrupt:
            raise
        except BaseException:
            state["failed"] += 1
            raise
        else:
            state["runs"] += 1
        finally:
            report.write_text(json.dumps(state, indent=1) + "\n")
            for process in load:
                process.terminate()
                process.wait()
    session.log(f"{state['runs']} of {FLAKE_RUNS} runs without a failure")


@nox.session(python=OLDEST)
def explore(session: nox.Session) -> None:
    """Every interleaving of all scenarios, those too that are too large for every change: most of an hour. A name explores only that one."""
    session.install(".[test]")
    session.run("python", "-m", "enqueuer", "explore", *(session.posargs or ["--tier", "deep"]))


@nox.session(python=OLDEST)
def mutate(session: nox.Session) -> None:
    """Kill the mutants of the monitor, and write the table of them in tests/mutation; a few hours in all.

    What is known is kept in `.nox/mutate.json` until the monitor changes. Arguments go to `tests/mutation/run.py`: `-- --minutes 20` goes on
    where it was, `-- --again` tries to kill what has survived so far.
    """
    session.install(".[test]")
    session.run("python", "tests/mutation/run.py", *session.posargs)


@nox.session(python=OLDEST)
def bench(session: nox.Session) -> None:
    """This project beside its peers, each in an environment of its own (3 GB, made once); by hand, on a machine that does nothing else.

    Arguments go to `tests/benchmarks/peers.py`: `-- --only 'process*'`. `hand_over.py` and `processes.py` beside it compare other shapes.
    """
    session.install(".", *group("bench"))
    session.run("python", "tests/benchmarks/peers.py", *session.posargs)


@nox.session(python=OLDEST)
def peers(session: nox.Session) -> None:
    """What the well-known peers keep and break, by the conformance kit, and docs/peers.md of it; by hand, some minutes for each.

    It goes on where it was. Arguments go to `tests/peers/matrix.py`: `-- --only 'tfk*'`.
    """
    session.install(".")
    session.run("python", "tests/peers/matrix.py", *session.posargs)


@nox.session(python=OLDEST)
def soak(session: nox.Session) -> None:
    """Ten minutes of items of any size, killed workers, restarts and held views: nothing is wrong, nothing is left, memory stays."""
    session.install(".[test]")
    session.run("python", "tests/benchmarks/soak.py", *session.posargs)


@nox.session(python=PYTHONS)
def deep(session: nox.Session) -> None:
    """The state machine with more and longer examples, about ten minutes for each Python; what was run is kept in `.nox/deep-*.json`."""
    arguments = session.posargs or ["tests/test_machine.py", "-k", "whatever_is_called"]
    _once(session, "deep", *arguments, env={"HYPOTHESIS_PROFILE": "deep"})


@nox.session(python=PYTHONS)
def processes(session: nox.Session) -> None:
    """What is marked `deep`: process mode on every start method, a few minutes for each Python; what was run is kept in `.nox/processes-*.json`."""
    _once(session, "processes", "-m", "deep", *(session.posargs or ["-n", "auto"]))


def _once(session: nox.Session, name: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run pytest, unless it has passed and no file has changed since."""
    session.install(".[test]")
    report = Path(".nox", f"{name}-{session.python}.json")
    state = {"commit": _commit(), "files": _fingerprint(), "arguments": arguments}
    if report.is_file() and json.loads(report.read_text()).items() >= {"files": state["files"], "arguments": [*arguments]}.items():
        session.skip("passed already, and no file has changed since")
    session.run("python", "-m", "pytest", *arguments, env=env)
    report.write_text(json.dumps(state, indent=1) + "\n")


def _commit() -> str:
    """Return the commit that is checked out; nothing where there is no git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _fingerprint() -> str:
    """Return a hash of every file that the tests read."""
    digest = hashlib.sha256()
    for folder in ("enqueuer", "tests"):
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(f"{path}\0".encode() + path.read_bytes())
    for path in (Path("pyproject.toml"), *sorted(Path("specs", "cover").glob("*.json"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    nox.main()
