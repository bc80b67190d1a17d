"""Scripts that use worker processes, and what is left of them; see the tests named test_process*."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import pytest
from pacing import LIMIT, at_most, wait_for

ALL_METHODS: Final = ("fork", "spawn", "forkserver")

METHODS: Final = [pytest.param(method, marks=() if method == "fork" else pytest.mark.deep) for method in ALL_METHODS]
"""For `parametrize`."""

HEAD: Final = """
import os, sys, threading, time
from enqueuer import GeneratorEnqueuer, OrderedEnqueuer, RunState, _processes

_processes.SHORT = 0.0  # D30: the worker of a short item may claim others behind a slow one, and how many are ready is waited for below

class Large:
    def __init__(self, slow=(), length=100):
        self.slow = slow
        self.length = length
    def __len__(self):
        return self.length
    def __getitem__(self, index):
        if index in self.slow:
            self.wait()
        return index, bytes(3_000_000)
    def wait(self):
        time.sleep(3600)  # which outlasts every test

class Counting(Large):
    def wait(self):
        sum(range(10**10))  # without a moment in which Python could do anything else

class Matching(Large):
    def wait(self):
        import re
        re.match("(a*)*b", "a" * 40)

class Gated(Large):
    def __init__(self, folder, slow):
        super().__init__(slow)
        self.folder = folder
    def wait(self):
        open(os.path.join(self.folder, f"reached-{os.getpid()}"), "w").close()
        while not os.path.exists(os.path.join(self.folder, "open")):
            time.sleep(0.01)

def say(*words):
    print(*words, flush=True)

def reached(folder):
    return sum(name.startswith("reached-") for name in os.listdir(folder))

def begun(enqueuer, ready):
    while enqueuer.statistics().ready < ready:
        time.sleep(0.001)

"""


def living(pid: int | str) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid: int | None = None) -> set[int]:
    """Return the processes, zombies included, that this one (or another) has started, by all its threads."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except OSError:
            continue
    return found


def descriptors() -> dict[str, str]:
    """Return what is open here."""
    found: dict[str, str] = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[link.name] = str(link.readlink())
        except OSError:
            continue
    return found


class Script:
    """A program that runs on its own, in a process group of its own; each process that comes of it can be told by its environment."""

    def __init__(self, folder: Path, body: str, *, head: str = HEAD, guard: bool = True) -> None:
        lines = textwrap.dedent(body).strip()
        text = head + ("def main():\n" + textwrap.indent(lines, "    ") + '\n\nif __name__ == "__main__":\n    main()\n' if guard else lines)
        path = folder / "script.py"
        path.write_text(text)
        self._open([sys.executable, "-W", "error", str(path)])

    @classmethod
    def typed(cls, text: str) -> Self:
        """Return one that is given to `python -c`."""
        script = cls.__new__(cls)
        script._open([sys.executable, "-W", "error", "-c", textwrap.dedent(text)])
        return script

    def _open(self, command: list[str]) -> None:
        self.mark = f"ENQUEUER_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        environment = os.environ | {name: value, "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()

    def reads(self, line: str, press: Callable[[], object] | None = None) -> None:
        """Wait for a line; `press` again every 3 s meanwhile: CPython misses a signal that comes just before its last system call (D18)."""
        done = threading.Event()

        def again() -> None:
            while not done.wait(3.0):
                press()

        thread = threading.Thread(target=again)
        try:
            if press is not None:
                press()
                thread.start()
            read = self.process.stdout.readline()
        finally:
            done.set()
            if press is not None:
                thread.join()
        assert read == line + "\n", read + self.process.stderr.read()

    def ends(self, limit: float = LIMIT) -> tuple[int, str, str]:
        """Wait for the end of the program, not of whatever has its outputs; return the exit code, what was printed, and the errors."""
        self.process.wait(limit)
        assert self.gone() == []
        out, err = self.process.communicate(timeout=limit)
        return self.process.returncode, out, err

    def ends_at_once(self) -> None:
        """Wait for the end, which must come soon, well, and without a word."""
        with at_most(3):
            assert self.ends() == (0, "", "")

    def left(self) -> list[int]:
        """Return the processes of this program that live, itself apart."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if (
                    folder.name.isdigit()
                    and int(folder.name) != self.process.pid
                    and self.mark.encode() in (folder / "environ").read_bytes()
                    and living(folder.name)
                ):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def gone(self, limit: float = 2.0) -> list[int]:
        """Wait until no process of the program is left, itself apart; return those that are. Twice what the contract says, for busy machines."""
        wait_for(lambda: not self.left(), limit)
        return self.left()
