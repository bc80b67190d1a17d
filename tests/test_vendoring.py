"""The folder works as a copy inside another package, under another name, without `testing/`, and never looks for `enqueuer`.

Each test runs in an interpreter of its own that sees neither the installed package nor the repository; a module named `enqueuer` that
raises when it is imported stands first on its path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pacing import LIMIT

import enqueuer

TRAP = "raise AssertionError('the copy imported a module named enqueuer')\n"

RUN = """
import json, sys, traceback
from host import reading
from host._vendor.enqueuer import __version__

try:
    list(reading.squares([1, 2, "three", 4]))
except TypeError as error:
    failed = "".join(traceback.format_exception(error))

print(json.dumps({
    "version": __version__,
    "items": [item for _, item in zip(range(5), reading.squares([1, 2, 3]))],
    "failed": failed,
    "modules": sorted(name for name in sys.modules if "enqueuer" in name),
}))
"""

READING = """
from ._vendor.enqueuer import OrderedEnqueuer

class Squares:
    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return self.numbers[index] ** 2

def squares(numbers):
    with OrderedEnqueuer(Squares(numbers)) as prefetching:
        prefetching.start(workers=2, max_queue_size=3)
        yield from prefetching.get()

tiny = Squares(list(range(50)))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a package `host` that has a copy of the folder."""
    shutil.copytree(
        Path(enqueuer.__file__).parent, tmp_path / "host" / "_vendor" / "enqueuer", ignore=shutil.ignore_patterns("testing", "__pycache__")
    )
    (tmp_path / "host" / "__init__.py").touch()
    (tmp_path / "host" / "_vendor" / "__init__.py").touch()
    (tmp_path / "host" / "reading.py").write_text(READING)
    (tmp_path / "enqueuer.py").write_text(TRAP)
    return tmp_path


def python(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an interpreter in the directory: without site-packages, without the user's settings, naming what it imports on stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    command = [sys.executable, "-S", "-s", "-B", "-X", "importtime", "-W", "error", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)


def imported(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the names of the modules that the interpreter imported."""
    return [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]


def test_a_renamed_copy_runs_and_delivers_what_fails(directory):
    done = python(directory, "-c", RUN)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["version"] == enqueuer.__version__
    assert said["items"] == [1, 4, 9, 1, 4]
    assert "host/reading.py" in said["failed"].replace(os.sep, "/")
    assert "enqueuer: raised by item at rank 2 (epoch 0, index 2, worker" in said["failed"]
    assert {name.rpartition(".enqueuer")[0] for name in said["modules"]} == {"host._vendor"}
    assert not [name for name in imported(done) if name.partition(".")[0] in {"enqueuer", "numpy"}]


def test_the_command_of_a_renamed_copy_measures_the_host_s_own_sequence(directory):
    done = python(directory, "-m", "host._vendor.enqueuer", "measure", "host.reading:tiny", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)
    assert "host._vendor.enqueuer._measure" in imported(done)
    assert not [name for name in imported(done) if name.partition(".")[0] == "enqueuer"]


def test_the_trap_works(directory):
    done = python(directory, "-c", "import enqueuer")
    assert done.returncode == 1
    assert "the copy imported a module named enqueuer" in done.stderr
