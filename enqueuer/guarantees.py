"""The contract as data: what is promised (G), assumed of the caller (A), and not promised (N). Imports nothing of the package.

Code, checks, specs and docs point here by id; ids are never reused. Where this text and the code disagree, the code is wrong.

Words: an *index* is a position in the sequence, an *epoch* one pass over it, a *rank* a position in the run's stream, counted from 0
across epochs. A *run* lasts from `start()` until `stop()`, a failure, or the end of a finite stream. A *worker* computes items, a
*consumer* iterates a *stream*, which is what `get()` returned. A rank is *claimed* when a worker has taken it to compute, *taken* when it
was removed from the run by a `next()` that will return it (or skips it, if `None`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CONTRACT", "Clause"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One line of the contract.

    Attributes:
        id: `G4`, `A1`, `N6`; never reused.
        name: A word or two.
        text: What is promised, assumed, or not promised.
        upstream: What the documentation of Keras or TensorFlow says about it, if anything.
        owed: Which open work will show it, or a part of it; empty if all of it is shown now.
        partly: Whether only a part is owed.
    """

    id: str
    name: str
    text: str
    upstream: str = ""
    owed: str = ""
    partly: bool = False

    @property
    def promised(self) -> bool:
        """Whether it is a promise (a G)."""
        return self.id.startswith("G")


CONTRACT: Final = (
    Clause(
        "G1",
        "complete",
        (
            "Each index of an epoch's order is computed exactly once in that epoch and delivered exactly once (skipped if `None`). "
            'With `on_worker_death="retry"` an item whose worker died is computed again, never delivered twice.'
        ),
        upstream='"guarantees that the network will only train once on each sample per epoch"',
    ),
    Clause(
        "G2",
        "ordered",
        "Items are delivered in rank order, whatever the workers' number, kind and timing.",
        upstream="name and tests of `OrderedEnqueuer`",
    ),
    Clause(
        "G3",
        "none-skipped",
        "An item that is `None` is not delivered; it neither stalls nor reorders the others.",
        upstream='"Skip the data if it is `None`"',
    ),
    Clause(
        "G4",
        "bounded",
        (
            "A rank is claimed only if it is less than the next rank to take + `max_queue_size`: items being computed and items "
            "waiting together never exceed it."
        ),
        upstream='"when full, workers could block on `put()`"',
    ),
    Clause(
        "G5",
        "endless",
        (
            "The stream of a sequence has no end: after the last rank of an epoch comes the first of the next. The stream of a "
            "finite generator ends after its last item."
        ),
        upstream='"should be an infinite stream of datas"; "can be finite"',
    ),
    Clause(
        "G6",
        "faithful",
        (
            "An item arrives as it was computed: in thread mode the same object; in process mode an equal one, arrays with the same "
            "dtype, shape, values and writability. Nothing that was delivered is ever written to by the enqueuer, and it stays "
            "valid after stop."
        ),
    ),
    Clause(
        "G7",
        "epoch hook",
        (
            "`on_epoch_end()` is called exactly once between two epochs, in this process, after every item of the ended one was "
            "taken and before any item of the next is computed. What it changes, the length included, is what the next epoch sees, "
            "in process mode too. A sequence without the hook pays no barrier (its length is read once a run): the next epoch's "
            "items are prefetched across the boundary."
        ),
        upstream='"Method called at the end of every epoch"',
    ),
    Clause(
        "G8",
        "shuffled",
        (
            "With `shuffle=True` each epoch's order is a permutation that depends on `(seed, epoch, length)` alone: not on workers, "
            "mode, timing, machine or Python version. Without a seed the constructor draws one, once, from Python's global random "
            "state; it can be read back, is kept for later runs, and travels in the state of G27."
        ),
        upstream='"whether to shuffle the data at the beginning of each epoch"',
    ),
    Clause(
        "G9",
        "seeded",
        (
            "Randomness is per item: inside `__getitem__` the item's own generator depends on `(seed, epoch, index)` alone, in "
            "every mode. Worker processes never start from one and the same global random state (`random`, and numpy's where it is "
            "imported)."
        ),
        upstream="`random_seed` of `GeneratorEnqueuer`",
    ),
    Clause(
        "G10",
        "error in rank",
        (
            "An exception raised by an item reaches a consumer at that item's rank, after every earlier item: original type and "
            "arguments, and the worker's traceback, whatever the type (`SystemExit`, `KeyboardInterrupt`, `queue.Empty`, …; "
            "`StopIteration` as the `RuntimeError` that a generator makes of it). The first failing rank wins; exactly one stream "
            "raises, the others end; the run is over when it is delivered, and `statistics()` keeps the error. A group keeps its members; "
            "one that can't cross the border between two processes is replaced by an error that names it. What an error came from "
            "(`__cause__`, `__context__`, notes) crosses it as far as pickle can."
        ),
    ),
    Clause(
        "G11",
        "error in hook",
        (
            "An exception in `on_epoch_end()`, `__len__()` or the generator reaches a consumer where that epoch or item would have "
            "begun. A sequence of length 0 is such an error: a clear one, at `start()` or at the epoch that finds it."
        ),
    ),
    Clause(
        "G12",
        "error at the border",
        ("An item or exception that can't cross the process border reaches the consumer as an error that names index and type. Nothing hangs."),
    ),
    Clause(
        "G13",
        "worker death",
        (
            "A worker process that dies (signal, `os._exit`, out of memory) is noticed within 1 s while it has an item, else when "
            'it is next given one, also when it left children of its own behind. `on_worker_death="raise"` (default) ends the run '
            'at that rank with the pid, the exit code or signal, and the index; `"retry"` computes the item on a new worker, at '
            "most `max_retries` (3) times an item, and the stream goes on in order. A worker that dies before it is ready is not "
            "retried."
        ),
    ),
    Clause(
        "G14",
        "stop",
        (
            "`stop()` may be called at any time, from any thread, any number of times, before `start()` too. It releases every "
            "blocked worker and consumer; their streams end. It returns true when all workers have exited. Called from the run's "
            "own threads (an item, the hook, the generator) it requests the stop and returns false without waiting."
        ),
        upstream='"Stops running threads and wait for them to exit, if necessary"',
    ),
    Clause(
        "G15",
        "stop timeout",
        (
            "`stop(None)` lets running items end. `stop(timeout)` returns within `timeout` + 0.5 s, provided that user code "
            "releases the GIL: true if everything has exited. At the deadline worker processes that still compute are killed and "
            "reaped. A thread stuck in an item or hook is abandoned, and false says so."
        ),
        upstream='"maximum time to wait on `thread.join()`"',
    ),
    Clause(
        "G16",
        "quiet after stop",
        (
            "Once `stop()` has returned true, nothing of that run calls the sequence any more; once it has returned at all, no "
            "stream of that run delivers anything. A straggler of an earlier run can never touch the state of a later one."
        ),
    ),
    Clause(
        "G17",
        "restart",
        (
            "`start()` after a run begins a fresh one at epoch 0, rank 0 (or at the loaded state): nothing is left over. After a "
            "failed or ended run it first does what `stop(0)` does."
        ),
    ),
    Clause(
        "G18",
        "one run",
        (
            "`start()` while running raises and leaves the run untouched. A `start()` that fails (pickling, limits, Ctrl-C, a "
            "daemonic process) raises a clear error and leaves nothing running."
        ),
    ),
    Clause(
        "G19",
        "is_running",
        (
            "False before `start()`, true from its return until the run ends (stop, failure delivered, a stream of a finite "
            "generator ended), false from then on."
        ),
    ),
    Clause(
        "G20",
        "no leaks",
        (
            "Once `stop()` has returned true: no thread, process, file descriptor or shared-memory name of the run is left "
            "(multiprocessing's own resource tracker and fork server may be). After a failure or an end the idle workers leave at "
            "once, the others as their items end. The same when neither the enqueuer nor a stream is reachable any more, when the "
            "interpreter exits without `stop()` (at once, with a 60 s item under way too), and when the parent, or the whole "
            "process group, is killed by SIGKILL."
        ),
    ),
    Clause(
        "G21",
        "progress",
        (
            "If every item's computation ends, the consumer keeps taking and some item ahead is not `None`, every `next()` returns: "
            "no deadlock, no lost wake-up."
        ),
    ),
    Clause(
        "G22",
        "interrupt",
        (
            "`KeyboardInterrupt` reaches a consumer that is blocked in `next()` at once, loses nothing, and leaves the enqueuer and "
            "the stream working."
        ),
    ),
    Clause(
        "G23",
        "bad input",
        (
            "Wrong arguments (`workers` or `max_queue_size` below 1 included) raise `ValueError` or `TypeError` at the call that "
            "got them; nothing was started or changed."
        ),
    ),
    Clause(
        "G24",
        "many consumers",
        ("Several streams of one run may be iterated at once from several threads: each item goes to exactly one, ranks rise in each."),
    ),
    Clause(
        "G25",
        "independent",
        (
            "Enqueuers in one process do not influence each other, and nest. Neither importing nor running changes the host's start "
            "method, signal handlers, warning filters or anything global (an unseeded constructor takes one number from `random`)."
        ),
    ),
    Clause(
        "G26",
        "timely",
        (
            "`get(timeout=s)`: `next()` raises `TimeoutError`, naming rank, index (none for a hook or generator) and the worker's "
            "state, when the next item takes longer than `s`; the run goes on and the next `next()` waits for the same item."
        ),
    ),
    Clause(
        "G27",
        "resumable",
        (
            "`state_dict()` is a small JSON-able value (seed, epoch, position, rank, length) that names the lowest rank not yet "
            "taken; it works during and after a run. Loaded into an enqueuer of the same sequence, it serves the next `start()`: "
            "the stream goes on exactly there, in a later epoch too, whatever the workers and mode. Hooks are not replayed (A5). "
            "Loading during a run raises."
        ),
    ),
    Clause(
        "G28",
        "fork-safe",
        (
            "In a process forked by the host an inherited run is over: its methods raise a clear error at once, its finalizers do "
            "nothing, the parent's run is untouched; a new enqueuer works."
        ),
    ),
    Clause(
        "A1",
        "threads call the sequence",
        "The sequence's `__getitem__` may be called from several threads at once (thread mode).",
    ),
    Clause(
        "A2",
        "picklable",
        "In process mode with `spawn` or `forkserver` the sequence is picklable; with `fork` only one with a hook must be.",
    ),
    Clause(
        "A3",
        "nobody else calls the hook",
        "Only the enqueuer calls `on_epoch_end()` during a run.",
    ),
    Clause(
        "A4",
        "equal items",
        "Equal `(sequence, index)` gives an equal item where G27 is relied on.",
    ),
    Clause(
        "A5",
        "hooks are not replayed",
        "The caller restores what the hook changed.",
    ),
    Clause(
        "A6",
        "no foreign locks at a fork",
        "With fork, no other thread holds a lock that items need (CPython warns from 3.12 on).",
    ),
    Clause(
        "N1",
        "order of computation",
        "The order in which items are *computed*.",
    ),
    Clause(
        "N2",
        "who computes",
        "Which worker computes which item.",
    ),
    Clause(
        "N3",
        "fairness",
        "Fairness among several consumers.",
    ),
    Clause(
        "N4",
        "read-ahead is dropped",
        "That items computed ahead are ever taken: `stop()` discards up to `max_queue_size` of them.",
    ),
    Clause(
        "N5",
        "a stuck thread stays",
        ("That a thread stuck in user code ends: it is abandoned (daemon), may still touch the sequence, and `stop(timeout)` says so."),
    ),
    Clause(
        "N6",
        "an interrupted hand-over",
        "That an interrupt in the very middle of a hand-over (not while blocked) keeps that one item.",
    ),
)
