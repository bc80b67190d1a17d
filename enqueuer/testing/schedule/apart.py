"""Process mode in a world: the engine as it ships, with worker processes that are threads of the world.

What is explored is the engine's own code: who asks for what, what a death leaves behind, what is asked again, who kills whom. Instead of a pipe
there are two lists, and instead of a process a thread that may die wherever a process may be killed: before it is ready, before and after it
computes, and while it is idle. What it has answered stays readable, as in a pipe.
"""
# mypy: disable-error-code="misc"
# (the engine is final for everybody else)

from __future__ import annotations

import copy
from typing import Final, TypeVar, cast

from ..._border import Kind, pack_error, pack_item
from ..._processes import Processes, Workers, _Died, _Worker
from ..._types import Compute, EndOfStream, Lock, Process, Runtime
from .guard import Discipline, guard
from .world import SimParker, SimThread, World, world

__all__ = ["ENGINE", "SimProcesses", "engine_of"]

T = TypeVar("T")

ENGINE: Final = Discipline(
    {"_compute", "_asked", "_lock", "_process", "_context", "_count", "_ahead", "_state", "_data", "_world"},
    {
        "_workers": {"item", "leave"},  # nobody else changes what is there for this worker
        "_halted": {"open", "item"},  # a flag that is only ever set: who is late starts, or tries, once more
    },
)
"""The fields of the engine."""


class SimProcesses(Processes[T]):  # pyright: ignore[reportGeneralTypeIssues]
    """The engine, whose worker processes are threads of the world."""

    def __init__(self, compute: Compute[T], workers: Workers, lock: Lock, process: Process) -> None:
        super().__init__(compute, workers, lock, process)
        here = world.get()
        assert here is not None
        self._world: Final = here
        guard(self, lock, ENGINE)

    def _start(self, number: int) -> _Worker:
        one = cast("_Worker", SimWorker(self._world, copy.copy(self._compute), number))
        with self._lock:
            self._workers[number] = one
            if self._killed or self._halted:
                one.kill()
        return one


class SimWorker:
    """A worker process: what the engine knows of it, and what it does itself."""

    pid = 0
    short = True  # its items are short, so that it is asked for some ahead

    def __init__(self, here: World, compute: Compute[object], number: int) -> None:
        runtime: Runtime = here.runtime
        self._world: Final = here
        self._compute: Final = compute
        self._number: Final = number
        self._requests: Final[list[tuple[int, int]]] = []
        self._answers: Final[list[tuple[int, bytes]]] = []
        self._asked: Final = cast("SimParker", runtime.parker())
        self._answered: Final = cast("SimParker", runtime.parker())
        self._killed = False
        self._closed = False
        self.gone = False
        self.ready = False
        self.state = 0
        self.begun: list[tuple[int, int]] = []
        self._thread: Final = cast("SimThread", runtime.thread(self._serve, f"process-{number}"))
        self._thread.begin()

    # what the engine does

    def begin(self, places: list[tuple[int, int]]) -> None:
        """Ask for some items."""
        self._world.point("asks")
        self.begun += places
        self._requests.extend(places)
        self._asked.permit = True

    def send(self, data: bytes) -> None:
        """Send what is no request: there is nothing to renew."""

    def answer(self) -> tuple[int, memoryview]:
        """Return the answer to the first of what was begun, or raise."""
        message = self.receive()
        del self.begun[0]
        return message

    def receive(self) -> tuple[int, memoryview]:
        """Return the next answer, or raise."""
        while not self._answers:
            if self.gone:
                raise _Died("was killed")
            self._answered.park()
        kind, data = self._answers.pop(0)
        return kind, memoryview(data)

    def exitcode(self) -> int | None:
        """Return what the system would."""
        return -9 if self.gone else None

    def kill(self) -> None:
        """Kill it: it ends at its next step."""
        self._killed = True
        self._asked.permit = True

    def end(self, patience: float) -> None:
        """Tell it to exit; kill it if that takes too long."""
        self._closed = True
        self._asked.permit = True
        if not patience:
            self.kill()
        self._thread.join(patience or None)
        if self._thread.is_alive():
            self.kill()
            self._thread.join()

    def release(self) -> None:
        """Nothing is left of it."""

    # what it does itself

    def _serve(self) -> None:
        self._run()
        self.gone = True
        self._answered.permit = True

    def _run(self) -> None:
        if self._dies("before it is ready"):
            return
        self._say(Kind.READY, b"")
        while True:
            while not (self._requests or self._killed or self._closed):
                self._asked.park()
            if not self._requests or self._dies("before an item"):
                return
            epoch, index = self._requests.pop(0)
            kind, data = _compute(self._compute, self._number, epoch, index)
            if self._dies("before it answers"):
                return
            self._say(kind, data)

    def _dies(self, when: str) -> bool:
        """Whether it dies here: it was killed, or somebody kills it now."""
        if not self._killed and self._world.deaths and self._world.choose(f"dies {when}"):
            self._world.deaths -= 1
            return True
        return self._killed

    def _say(self, kind: int, data: bytes) -> None:
        self._world.point("answers")
        self._answers.append((kind, data))
        self._answered.permit = True


def _compute(compute: Compute[object], worker: int, epoch: int, index: int) -> tuple[int, bytes]:
    try:
        item = compute.item(worker, epoch, index)
    except EndOfStream:
        return Kind.END, b""
    except Exception as error:
        return Kind.ERROR, pack_error(error)
    return Kind.ITEM, b"".join(pack_item(item))


def engine_of(compute: Compute[T], lock: Lock, process: Process, *, retries: int) -> SimProcesses[T]:
    """Return the engine of a run."""
    return SimProcesses(compute, Workers("fork", retries, 0, seeded=False, resend=False), lock, process)
