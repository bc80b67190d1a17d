"""Process mode in a world: the engine as it ships, with worker processes that are threads of the world.

What is explored is the engine's own code: who asks for what, what a death leaves behind, what is asked again, who kills whom. Instead of a pipe
there are two lists, and instead of a process a thread that may die wherever a process may be killed: before it is ready, before and after it
computes, and while it is idle. What it has answered stays readable, as in a pipe.
"""
# mypy: disable-error-code="misc"
# (the engine is final for everybody else)

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from ..._border import Kind, pack_error, pack_item
from ..._processes import Processes, Workers, _Died, _Worker
from ..._shared import Slot, Stock
from ..._types import Compute, EndOfStream, Lock, Process, Runtime
from ..subject import promise
from .guard import Discipline, guard
from .world import SimParker, SimThread, World, world

__all__ = ["ENGINE", "Kept", "SimProcesses", "engine_of"]

T = TypeVar("T")

ENGINE: Final = Discipline(
    {"_compute", "_asked", "_lock", "_process", "_context", "_count", "_ahead", "_state", "_data", "_stock", "_large", "_shares", "_world"},
    {
        "_workers": {"item", "leave"},  # nobody else changes what is there for this worker
        "_halted": {"open", "item"},  # a flag that is only ever set: who is late starts, or tries, once more
    },
)
"""The fields of the engine."""


class SimProcesses(Processes[T]):  # pyright: ignore[reportGeneralTypeIssues]
    """The engine, whose worker processes are threads of the world."""

    def __init__(self, compute: Compute[T], workers: Workers, lock: Lock, process: Process, *, large: bool = False) -> None:
        super().__init__(compute, workers, lock, process)
        here = world.get()
        assert here is not None
        self._world: Final = here
        self._shares: Final = large
        guard(self, lock, ENGINE)

    def _make_stock(self) -> Stock | None:
        return cast("Stock", SimStock())

    def _ask(self, one: _Worker, places: list[tuple[int, int]]) -> None:
        """Every worker has had a large item: as it is known when its thread asks for the next."""
        if self._shares and not self._large:
            self._share()
        super()._ask(one, places)

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
        self._requests: Final[list[tuple[int, int, SimSlot | None]]] = []
        self._answers: Final[list[tuple[int, bytes]]] = []
        self._asked: Final = cast("SimParker", runtime.parker())
        self._answered: Final = cast("SimParker", runtime.parker())
        self._killed = False
        self._closed = False
        self.gone = False
        self.ready = False
        self.state = 0
        self.begun: list[tuple[int, int]] = []
        self.slots: list[Slot | None] = []
        self._thread: Final = cast("SimThread", runtime.thread(self._serve, f"process-{number}"))
        self._thread.begin()

    # what the engine does

    def begin(self, places: list[tuple[int, int]], slots: list[Slot | None]) -> None:
        """Ask for some items."""
        self._world.point("asks")
        self.begun += places
        self.slots += slots
        self._requests.extend((*place, cast("SimSlot | None", slot)) for place, slot in zip(places, slots, strict=True))
        self._asked.permit = True

    def forget(self) -> None:
        """Tell it of slots that there are no more: there are none."""

    def send(self, *parts: bytes | memoryview) -> None:
        """Send what is no request: there is nothing to renew."""

    def answer(self) -> tuple[int, memoryview, Slot | None]:
        """Return the answer to the first of what was begun, and the slot that went with it, or raise."""
        kind, message = self.receive()
        del self.begun[0]
        return kind, message, self.slots.pop(0)

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
            epoch, index, slot = self._requests.pop(0)
            kind, data = _compute(self._compute, self._number, epoch, index, slot)
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


def _compute(compute: Compute[object], worker: int, epoch: int, index: int, slot: SimSlot | None) -> tuple[int, bytes]:
    try:
        item = compute.item(worker, epoch, index)
    except EndOfStream:
        return Kind.END, b""
    except Exception as error:
        return Kind.ERROR, pack_error(error)
    head, parts = pack_item(item)
    if slot is None:
        return Kind.ITEM, b"".join((head, *parts))
    slot.write(item)
    return Kind.SHARED, head


class SimStock:
    """Memory that is shared with the worker processes of a world."""

    def __init__(self) -> None:
        self._slots: Final[list[SimSlot]] = []
        self._free: Final[list[SimSlot]] = []
        self._lent: Final[list[SimSlot]] = []

    def take(self) -> SimSlot:
        """Return a slot to give to a worker."""
        if self._free:
            return self._free.pop()
        for slot in self._lent:
            if slot.kept is None:
                self._lent.remove(slot)
                return slot
        self._slots.append(SimSlot(self, len(self._slots)))
        return self._slots[-1]

    def vacate(self, slot: SimSlot) -> None:
        """Take back a slot that nothing was written to."""
        self._free.append(slot)

    def views(self, slot: SimSlot, sizes: Sequence[int]) -> list[memoryview]:
        """Return what is in a slot. It is kept from now on."""
        del sizes
        slot.kept = _here[slot.number] = Kept(slot)
        return [memoryview(pickle.dumps(slot.kept))]

    def lend(self, slot: SimSlot) -> None:
        """Have a slot come back when its item is dropped."""
        self._lent.append(slot)

    def close(self) -> None:
        """Let go of it."""

    def lost(self) -> int:
        """Return how many slots have not come back."""
        there = [*self._free, *self._lent]
        return sum(there.count(slot) != 1 for slot in self._slots)


class SimSlot:
    """A piece of memory, and who keeps what is in it."""

    def __init__(self, stock: SimStock, number: int) -> None:
        self.stock: Final = stock
        self.number: Final = number
        self.content: object = None
        self.kept: Kept | None = None

    def write(self, item: object) -> None:
        """Be written to, by a worker process."""
        promise(self.kept is None, "G6", f"while {self.content} is kept, {item} was written in its place")
        self.content = item


_here: Final[dict[int, Kept]] = {}
"""What is unpickled next, by the number of its slot."""


def _arrive(number: int) -> Kept:
    return _here.pop(number)


class Kept:
    """A large item: the memory that it is in. Its pickle is for the process that has the memory."""

    def __init__(self, slot: SimSlot) -> None:
        self._slot: Final = slot

    def __reduce__(self) -> tuple[Callable[[int], Kept], tuple[int]]:
        return _arrive, (self._slot.number,)

    @property
    def lost(self) -> int:
        """How many slots of the run have not come back."""
        return self._slot.stock.lost()

    def read(self) -> object:
        """Return what is there now."""
        return self._slot.content

    def drop(self) -> None:
        """Keep it no longer."""
        self._slot.kept = None


def engine_of(compute: Compute[T], lock: Lock, process: Process, *, retries: int, large: bool = False) -> SimProcesses[T]:
    """Return the engine of a run."""
    return SimProcesses(compute, Workers("fork", retries, 0, seeded=False, resend=False), lock, process, large=large)
