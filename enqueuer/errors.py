"""What can go wrong, classed by whose move it is. Imports nothing.

Every class inherits `EnqueuerError` and the builtin that a caller would catch anyway. What an *item* raised is not here: it is delivered
as itself (G10), with a note that names rank, index, epoch and worker.
"""

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "BorderError",
    "EmptySequenceError",
    "EnqueuerError",
    "ForkedError",
    "NotStartedError",
    "ReentryError",
    "RunningError",
    "StartError",
    "StateMismatchError",
    "WaitTimeoutError",
    "WorkerDiedError",
]


class EnqueuerError(Exception):
    """Root of every error that the enqueuer itself makes."""


class ArgumentTypeError(EnqueuerError, TypeError):
    """An argument of the wrong type. Nothing was started or changed (G23)."""


class ArgumentValueError(EnqueuerError, ValueError):
    """An argument out of its range. Nothing was started or changed (G23)."""


class NotStartedError(EnqueuerError, RuntimeError):
    """`next()` on a stream of an enqueuer that was never started. The stream works once `start()` was called."""


class RunningError(EnqueuerError, RuntimeError):
    """Asked for what only works between two runs (`start()`, `load_state_dict()`). The run goes on untouched (G18)."""


class ReentryError(EnqueuerError, RuntimeError):
    """`next()` or `start()` from a finalizer or signal handler that interrupted the enqueuer's own critical section. Nothing was done."""


class StartError(EnqueuerError, RuntimeError):
    """`start()` could not get its workers going. Nothing is left running; the enqueuer is as it was before (G18)."""


class ForkedError(EnqueuerError, RuntimeError):
    """The run belongs to another process, of which this one is a fork (G28). A new enqueuer works."""


class EmptySequenceError(EnqueuerError, ValueError):
    """The sequence has no item in the epoch that would have begun (G11). The run is over."""


class StateMismatchError(EnqueuerError, ValueError):
    """The loaded position does not exist in this sequence (G27). The run is over."""


class WaitTimeoutError(EnqueuerError, TimeoutError):
    """The next item took longer than `get(timeout=...)` allows (G26). The run goes on; the next `next()` waits for the same item."""


class BorderError(EnqueuerError, RuntimeError):
    """An item, an exception or a sequence can't cross the border between two processes (G12). The run is over."""


class WorkerDiedError(EnqueuerError, RuntimeError):
    """A worker process died (G13). The run is over.

    Attributes:
        pid: Its process id.
        exitcode: Its exit code; minus the signal if one killed it; None if that can't be known.
        index: Index of the item that it had, or was to have.
        epoch: Epoch of that item.
        retries: How often that item was computed again before.
    """

    def __init__(self, message: str, *, pid: int = 0, exitcode: int | None = None, index: int = 0, epoch: int = 0, retries: int = 0) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode
        self.index = index
        self.epoch = epoch
        self.retries = retries
