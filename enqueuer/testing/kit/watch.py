"""The process around a check: it hangs, it is gone, it leaves something behind; each is told, and cleaned up."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from ..pace import patiently
from ..subject import Note
from . import judge
from .judge import Answer, Request

__all__ = ["Seen", "watch"]

MARK: Final = "ENQUEUER_KIT_MARK"
"""In the environment of whatever comes of a check."""

SHARED: Final = Path("/dev/shm")  # noqa: S108
"""Where names of shared memory are files."""

MEMORY: Final = "shared memory"
"""What a name of it is told with."""

STOPPING: Final = threading.Event()
"""Set while nobody wants to know any more: whatever is watched is ended."""

MOMENT: Final = 2.0
"""Seconds that what a check has started gets to be gone once its interpreter has ended: twice what the contract says of worker processes."""

ENDING: Final = 0.25
"""The share of its limit that an interpreter gets to end once it has answered, if that is more than a moment."""

SLICES: Final = 4
"""Parts of a limit. The pace of the machine is measured at the end of each, so that one that was slow in between gets its time, too."""

WRITING: Final = 0.5
"""Seconds of silence after which no more stacks are expected: an interpreter that blocks the signal writes none."""

OUTERMOST: Final = b'File "<string>", line 1 in <module>\n'
"""The end of the main thread's stack, which is the last one that is written. It is another one if the interpreter is about to end."""

MOST: Final = 400
"""Notes that are kept, the last."""

TAIL: Final = 4000
"""Characters of the output that are kept."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a request.

    Attributes:
        answer: What was answered, None if nothing was.
        hangs: Whether the time was up.
        exitcode: Of the interpreter; None if it had to be killed.
        output: What was printed, its end: with the stacks of all threads if it hangs.
        left: What stayed.
        notes: What the check has seen, in order.
        seconds: How long it took.
    """

    answer: Answer | None
    hangs: bool
    exitcode: int | None
    output: str
    left: tuple[str, ...]
    notes: tuple[Note, ...]
    seconds: float


def watch(request: Request, limit: float) -> Seen:
    """Have a request answered within `limit` seconds of an idle machine."""
    mark, shared = uuid.uuid4().hex, _shared()
    here, there = os.pipe()
    since = time.monotonic()
    environment = os.environ | {MARK: mark, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path])), "PYTHONFAULTHANDLER": "1"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as notes, open(here, "rb") as answers:  # noqa: PTH123 - a descriptor
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", f"from {judge.__name__} import main; main()", str(there), str(notes.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(there, notes.fileno()),
            start_new_session=True,
        )
        os.close(there)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it stays open: its end tells the interpreter that nobody waits for it
                process.stdin.write(f"{json.dumps(request)}\n".encode())
                process.stdin.flush()
            data, hangs = _read(answers.fileno(), process, limit)
            hangs = hangs or not patiently(_looking(lambda: _ended(process)), max(limit * ENDING, MOMENT))
            if hangs and not STOPPING.is_set():
                _stacks(process, output)
            ended = _ended(process)
            left = () if hangs else _left(mark, shared)
        finally:
            _clean(process, mark)
        output.seek(-min(TAIL, output.seek(0, os.SEEK_END)), os.SEEK_END)
        text = output.read().decode(errors="replace")
        notes.seek(0)
        lines = notes.read().splitlines()[-MOST:]
    return Seen(_answered(data), hangs, process.returncode if ended else None, text, left, tuple(_notes(lines)), time.monotonic() - since)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended. It is not reaped: else the number of its group might be another's when the group is killed."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _answered(data: bytes | bytearray) -> Answer | None:
    """Return an answer that is whole."""
    try:
        return cast("Answer", json.loads(data))
    except ValueError:
        return None


def _notes(lines: list[bytes]) -> Generator[Note]:
    """Yield what is written in whole: the last line may be torn."""
    for line in lines:
        with contextlib.suppress(ValueError):
            when, who, what, of = cast("list[object]", json.loads(line))
            yield float(f"{when}"), f"{who}", f"{what}", f"{of}"


def _looking(condition: Callable[[], object]) -> Callable[[float], bool]:
    """Return what waits for something that can only be looked at; once nobody wants to know any more it has not come."""

    def comes(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not condition():
            if STOPPING.is_set() or time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    return comes


def _read(fd: int, process: subprocess.Popen[bytes], limit: float) -> tuple[bytes, bool]:
    """Return the answer, and whether the time was up. Children of the subject may hold the other end open: who is dead has said all."""
    data, poll = bytearray(), select.poll()
    poll.register(fd, select.POLLIN)

    def comes(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not STOPPING.is_set():
            if poll.poll(50):
                chunk = os.read(fd, 1 << 16)
                data.extend(chunk)
                if not chunk or _answered(data) is not None:
                    return True
            elif _ended(process) and not poll.poll(0):
                return True
        return STOPPING.is_set()

    came = any(patiently(comes, limit / SLICES) for _ in range(SLICES))
    return bytes(data), not came or STOPPING.is_set()


def _stacks(process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    """Have the interpreter write the stacks of its threads to its output, and wait for the last. faulthandler says nothing when it is done."""
    sizes = [os.fstat(output.fileno()).st_size]

    def written() -> bool:
        return OUTERMOST in os.pread(output.fileno(), 1 << 20, sizes[0])

    def grows() -> bool:
        sizes.append(os.fstat(output.fileno()).st_size)
        return sizes[-1] > sizes[-2] or written() or _ended(process)

    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGUSR1)  # process.send_signal() might reap it
        while not written() and not _ended(process) and patiently(_looking(grows), WRITING):
            pass


def _shared() -> set[tuple[str, int]]:
    """Return the names of shared memory, with when each was written."""
    found: set[tuple[str, int]] = set()
    for path in SHARED.iterdir() if SHARED.is_dir() else ():
        with contextlib.suppress(OSError):  # gone meanwhile
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def _marked(mark: str) -> dict[int, str]:
    """Return the processes that came of a check: pid -> command."""
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes() and (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def _left(mark: str, shared: set[tuple[str, int]]) -> tuple[str, ...]:
    """Return what stays when the interpreter has ended."""
    patiently(_looking(lambda: not _marked(mark)), MOMENT)
    there = _marked(mark)
    fresh = _shared() - shared - _told
    names = {name for name, _ in fresh}

    def used() -> bool:
        """Strike out those that somebody uses or that are gone: another program's are unused for the moment between its last use and their end."""
        names.intersection_update(_unused(names))
        return not names

    patiently(_looking(used), MOMENT)
    _told.update(each for each in fresh if each[0] in names)
    return (*(f"process {pid} ({command[:80]})" for pid, command in there.items()), *(f"{MEMORY} {name}" for name in sorted(names)))


_told: Final[set[tuple[str, int]]] = set()
"""Names of shared memory that were told, each once: of several checks at a time, one may be blamed for another's."""


def _unused(names: set[str]) -> set[str]:
    """Return those that no process has mapped or open: the others may be anybody's."""
    files: dict[int, str] = {}
    for name in names:
        with contextlib.suppress(OSError):  # gone meanwhile
            files[(SHARED / name).stat().st_ino] = name
    for folder in Path("/proc").glob("[0-9]*") if files else ():
        for number in _uses(folder):
            files.pop(number, None)
    return set(files.values())


def _uses(folder: Path) -> Generator[int]:
    """Yield which files of shared memory a process has mapped and open, by number: that of a semaphore is mapped under another name."""
    with contextlib.suppress(OSError):
        for line in (folder / "maps").read_text().splitlines():
            *_, number, path = line.split(maxsplit=5) if line.count("/") else ("", "0", "")
            if path.startswith(f"{SHARED}/"):
                yield int(number)
    with contextlib.suppress(OSError):
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(link.readlink()).startswith(f"{SHARED}/"):
                    yield link.stat().st_ino


def _clean(process: subprocess.Popen[bytes], mark: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    patiently(lambda seconds: _killed(mark, seconds), MOMENT)


def _killed(mark: str, seconds: float) -> bool:
    """Kill what came of a check, and again what that has started meanwhile; return whether nothing is left."""
    until = time.monotonic() + seconds
    while there := _marked(mark):
        for pid in there:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True
