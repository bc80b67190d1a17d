"""Prefetch the items of an indexable sequence with workers: in order, through a bounded window, never hanging.

    with OrderedEnqueuer(sequence, shuffle=True, seed=7) as enqueuer:
        enqueuer.start(workers=4, max_queue_size=10)
        for item in enqueuer.get():
            ...

The map, top-down; arrows between files point down this list only:

    guarantees   the contract as data: what is promised (G), assumed (A), not promised (N)
    errors       what can go wrong
    _types       the shapes of what is plugged in: sequences, computes, runtimes
    _plan        what comes next: spans of ranks, orders, seeds, places to resume at       pure
    _window      one run as a state machine: claim, put, finish, turned, take, stop        pure
    _context     what an item may ask about itself
    _runtime     the seam to threads, locks and the clock
    _border      what crosses between two processes: items, errors, computes, as bytes
    _shared      memory that two processes share, for large items
    _threads     the engine of thread mode
    _processes   the engine of process mode: worker processes, the pipes to them, their deaths
    _run         one run: the window under its lock, the worker loop, the waits, the stop
    _enqueuers   the face
    _digest      whether two items are the same
    _sources     real input that every machine has
    _measure     what pays: one sequence read in several ways
    _report      how a measurement looks
    __main__     the command: python -m enqueuer measure
    testing/     checks of every promise, broken twins, a state machine; nothing above needs it

Importing does nothing. Only the standard library is needed. The folder may be copied into another package as it is.
"""

from ._context import WorkerInfo, item_rng, item_seed, worker_info
from ._enqueuers import GeneratorEnqueuer, OrderedEnqueuer, SequenceEnqueuer, Stream
from ._plan import Place, Plan, Span
from ._run import Statistics
from ._types import Compute, EndOfStream, SequenceLike
from ._window import RunState
from .errors import EnqueuerError, WaitTimeoutError

__version__ = "0.1.0"

__all__ = [
    "Compute",
    "EndOfStream",
    "EnqueuerError",
    "GeneratorEnqueuer",
    "OrderedEnqueuer",
    "Place",
    "Plan",
    "RunState",
    "SequenceEnqueuer",
    "SequenceLike",
    "Span",
    "Statistics",
    "Stream",
    "WaitTimeoutError",
    "WorkerInfo",
    "__version__",
    "item_rng",
    "item_seed",
    "worker_info",
]
