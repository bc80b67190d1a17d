"""What can go wrong, classed by whose move it is. Imports nothing.

Every class inherits `EnqueuerError` and the builtin that a caller would catch anyway. What an *item* raised is not here: it is delivered
as itself (G10), with a note that names rank, index, epoch and worker.
"""

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "EmptySequenceError",
    "EnqueuerError",
    "ForkedError",
    "NotStartedError",
    "ReentryError",
    "RunningError",
    "StartError",
    "StateMismatchError",
    "WaitTimeoutError",
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
