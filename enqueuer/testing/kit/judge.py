"""One check, in an interpreter of its own; `watch` starts it, and is told the answer through a descriptor.

    python -c 'from enqueuer.testing.kit.judge import main; main()' ANSWER NOTES

ANSWER and NOTES are descriptors; the request is read from the input, as JSON.

Whatever the subject prints, raises, leaves or kills, it does here.
"""

from __future__ import annotations

import _thread
import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import traceback
from functools import partial
from multiprocessing import resource_tracker
from typing import Final, TypedDict

from ..checks import CHECKS
from ..subject import NOTES, BrokenPromise, Note
from .adapter import BY_NAME, Adapter, AdapterError, limited, load, short

__all__ = ["Answer", "Request"]


STOPPED: Final = "the check was stopped by"
"""What an error is told with that is no verdict."""


class Request(TypedDict):
    """What is to be done: a check, or with an empty name, to say what there is."""

    target: str
    check: str
    limit: float


class Answer(TypedDict, total=False):
    """What came of it."""

    subject: str  # its name
    limit: float  # seconds after which something that should come at once hangs, if the adapter says them
    inapplicable: dict[str, str]  # check -> why
    expected: dict[str, str]  # check -> why
    unusable: str  # why there is no adapter
    kept: bool
    guarantee: str
    what: str
    trace: str


def main() -> None:
    """Do what is asked for."""
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    descriptor, notes = map(int, sys.argv[1:3])
    os.set_inheritable(descriptor, False)
    os.set_inheritable(notes, False)
    NOTES.keep = partial(_note, os.getpid(), notes)
    request: Request = json.loads(sys.stdin.readline())
    _thread.start_new_thread(_end_with, (sys.stdin.fileno(),))
    answer = json.dumps(_answer(request))
    with os.fdopen(descriptor, "w") as out:
        out.write(answer)


def _end_with(descriptor: int) -> None:
    """Wait for the end of whoever asks, and end then, with all that the check has started in its session."""
    os.read(descriptor, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _note(pid: int, descriptor: int, note: Note) -> None:
    """Write it at once: a hang must not keep it."""
    if os.getpid() == pid:
        when, who, what, of = note
        os.write(descriptor, f"{json.dumps((when, who, what, of[:60]))}\n".encode())


def _answer(request: Request) -> Answer:
    try:
        adapter = load(request["target"])
    except AdapterError as error:
        return {"unusable": f"{error}"}
    except BaseException as error:
        return {"unusable": f"{request['target']}: loading it raised {_said(error)}", "trace": traceback.format_exc()}
    if not request["check"]:
        return {
            "subject": adapter.factory.name,
            "limit": limited(adapter, 0.0).limit,
            "inapplicable": {short(check): why for check in CHECKS if (why := adapter.inapplicable(check))},
            "expected": {short(check): why for check in CHECKS if (why := adapter.expected(check))},
        }
    return _judged(adapter, request)


def _judged(adapter: Adapter, request: Request) -> Answer:
    check = BY_NAME[request["check"]]
    if adapter.factory.method:
        _helpers(adapter.factory.method)
    try:
        check.run(limited(adapter, request["limit"]))
    except BrokenPromise as broken:
        return {"kept": False, "guarantee": broken.guarantee, "what": broken.what, "trace": traceback.format_exc()}
    except BaseException as error:
        return {"kept": False, "guarantee": check.guarantee, "what": f"{STOPPED} {_said(error)}", "trace": traceback.format_exc()}
    return {"kept": True}


def _said(error: BaseException) -> str:
    """Return the type of an error, and what it says if it can."""
    try:
        return f"{type(error).__name__}: {error}" if f"{error}" else type(error).__name__
    except Exception:
        return f"{type(error).__name__}, which can't say what it is"


def _helpers(method: str) -> None:
    """Start what multiprocessing keeps for good, before anything is counted."""
    resource_tracker.ensure_running()
    if method == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
        multiprocessing.set_start_method(None, force=True)  # which that has chosen: G25 is about what a subject does
