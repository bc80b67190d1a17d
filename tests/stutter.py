"""Have a machine that looks away: stop all that came of a process, again and again, for some hundredths of a second.

    python tests/stutter.py PID

Whatever rests on "this takes a moment" breaks here; see `nox -s flake`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress

import psutil


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # it resumes what it has stopped
    root = psutil.Process(int(sys.argv[1]))
    while root.is_running():
        time.sleep(random.uniform(0.02, 0.2))
        stopped: list[psutil.Process] = []
        try:
            for process in root.children(recursive=True):
                if process.pid != os.getpid():
                    with suppress(psutil.Error):
                        process.suspend()
                        stopped.append(process)
            time.sleep(random.uniform(0.02, 0.2))
        finally:
            for process in stopped:
                with suppress(psutil.Error):
                    process.resume()


if __name__ == "__main__":
    with suppress(psutil.NoSuchProcess, KeyboardInterrupt):
        main()
