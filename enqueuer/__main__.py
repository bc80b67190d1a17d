"""The commands: `python -m enqueuer measure`, `explore` and `check`. Arguments, exit codes and one-line errors; what the commands do is elsewhere.

Exit codes of `measure`: 0 done; 1 the sequence failed, not all settings delivered the same items, or nobody read the result; 2 wrong usage;
130 interrupted. Of `explore`: 0 nothing is broken, or the twin was found; 1 something is broken, or the twin was not found; 2 and 130 the same.
Of `check`: 0 nothing is broken; 1 something is broken or hangs, an expected failure has passed, or not all checks ran; 2 and 130 the same.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Final, NoReturn, cast

from ._measure import Job, Mode, ReadingError, Setting, measure, shortly
from ._report import Progress, as_json, show
from ._types import SequenceLike
from .errors import EnqueuerError

__all__ = ["main"]

PROGRAM: Final = f"python -m {__package__}"
EXAMPLE: Final = "the standard library's source files, tokenised"
MOST_NAMES: Final = 8
MOST_STEP: Final = 60_000
WORKERS: Final = (1, 2, 4)
"""What is tried when nobody says how many; of processes, no more than there are cores."""


class TargetError(EnqueuerError, ValueError):
    """The target that was given is no sequence."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one line."""
        self.exit(2, f"{self.prog}: {message} (try --help)\n")


class _Arguments(argparse.Namespace):
    target: str | None
    workers: tuple[int, ...] | None
    mode: str
    context: str | None
    max_queue_size: int
    items: int | None
    rounds: int | None
    step: float
    json: bool
    targets: list[str]
    only: list[str]
    jobs: int
    html: str
    scenarios: list[str]
    twin: str
    replay: str
    list: bool
    tier: str
    bound: int | None
    random: int | None
    pct: int | None
    seed: int
    limit: float | None
    command: Callable[[_Arguments], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: The arguments, without the program's name; None: those of the process.

    Raises:
        SystemExit: For wrong usage and for `--help`.
    """
    if None in (sys.stdout, sys.stderr):  # the shell has closed them: there is nobody to tell
        return 1
    arguments = _parser().parse_args(argv, _Arguments())
    try:
        code = arguments.command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has seen enough, and Python is not to try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{PROGRAM}: the result could not be written: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except EnqueuerError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2 if isinstance(error, TargetError) else 1
    return code


def _parser() -> _Parser:
    parser = _Parser(PROGRAM, description="Prefetch the items of a sequence with workers.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = commands.add_parser(
        "measure",
        help="read a sequence with several numbers of workers and say what pays",
        description="Read a sequence in a plain loop and with several numbers of worker threads and worker processes, check that all deliver "
        "the same items in the same order, and say what pays.",
        epilog="Takes about half a minute, unless --items or slow items make it longer. A worker is busy while it computes an "
        "item, or waits for a core or the GIL to do so. MB/s counts what is in buffers (bytes, arrays).",
    )
    command.add_argument(
        "target",
        nargs="?",
        metavar="package.module:sequence",
        help=f"a sequence, or a class or function that returns one when called without arguments; without it: {EXAMPLE}",
    )
    counts = ",".join(map(str, WORKERS))
    command.add_argument(
        "--mode", choices=("both", "threads", "processes"), default="both", help="which workers to try: threads, processes, or both (default)"
    )
    command.add_argument(
        "--workers", type=_counts, metavar=counts, help=f"numbers of workers to try (default: {counts}; of processes no more than cores)"
    )
    command.add_argument(
        "--context", choices=("fork", "forkserver", "spawn"), help="how worker processes are started (default: as this Python does by itself)"
    )
    command.add_argument("--max-queue-size", type=_count, default=10, metavar="N", help="most items computed ahead (default: 10)")
    command.add_argument("--items", type=_count, metavar="N", help="read the first N items (default: as many as there is time for)")
    command.add_argument("--rounds", type=_count, metavar="N", help="time every setting N times (default: up to 5)")
    command.add_argument(
        "--step",
        type=_milliseconds,
        default=0.0,
        metavar="MS",
        help="milliseconds that the consumer works on each item, on another device (default: 0)",
    )
    command.add_argument("--json", action="store_true", help="write JSON to stdout, and nothing else")
    command.set_defaults(command=_measure)
    _add_explore(
        commands.add_parser(
            "explore",
            help="run the enqueuer under every interleaving of its threads, in small scenarios",
            description="Run scenarios of the real code under a scheduler that decides which thread goes on, and try every interleaving. "
            "Say which scenarios were exhausted; show the schedule that breaks a promise, as a column for each thread, and the id that replays it.",
            epilog="Without arguments: all scenarios of the tier ci. With --twin: until the broken twin is found, with the fewest switches first.",
        )
    )
    _add_check(
        commands.add_parser(
            "check",
            help="say which promises an enqueuer keeps, by a verdict for each check",
            description="Judge an enqueuer: each check of the contract runs in an interpreter of its own, so that whatever hangs, dies or stays "
            "behind is a verdict, too. Without arguments: this package, in threads and with worker processes of every start method.",
            epilog="An adapter is an object of enqueuer.testing.kit.Adapter, or a factory, or a callable that returns one.",
        )
    )
    return parser


def _add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "targets", nargs="*", metavar="module:adapter", help="whom to judge; file.py:adapter, threads, fork, forkserver, spawn, twin:NAME, too"
    )
    command.add_argument("--only", action="append", default=[], metavar="G13", help="only this guarantee or check; may be given again")
    command.add_argument("--list", action="store_true", help="say what each check does, its level and what it needs")
    command.add_argument("--jobs", type=_count, default=2, metavar="N", help="checks that run side by side (default: 2)")
    command.add_argument("--json", action="store_true", help="write JSON to stdout, and nothing else")
    command.add_argument("--html", default="", metavar="FILE", help="write the report as a page, with a timeline for each broken promise")
    command.set_defaults(command=_check)


def _add_explore(command: argparse.ArgumentParser) -> None:
    command.add_argument("scenarios", nargs="*", metavar="scenario", help="what to explore (default: all of the tier)")
    command.add_argument("--list", action="store_true", help="say which scenarios and twins there are")
    command.add_argument("--twin", default="", metavar="NAME", help="explore this broken twin, whose fault is to be found")
    command.add_argument("--replay", default="", metavar="ID", help="run the one schedule that this id names, and show it")
    command.add_argument("--tier", choices=("ci", "deep"), default="ci", help="which scenarios to explore; deep: the large ones, too (default: ci)")
    command.add_argument("--bound", type=_natural, metavar="N", help="at most N switches away from a thread that could go on (default: any number)")
    command.add_argument("--random", type=_count, metavar="RUNS", help="choose by chance, RUNS times a scenario")
    command.add_argument("--pct", type=_count, metavar="RUNS", help="choose by random priorities that change, RUNS times a scenario")
    command.add_argument("--seed", type=_natural, default=0, metavar="N", help="of --random and --pct (default: 0)")
    command.add_argument("--limit", type=_seconds, metavar="SECONDS", help="give up after so many seconds, shared by the scenarios (default: never)")
    command.add_argument("--json", action="store_true", help="write JSON to stdout, and nothing else")
    command.set_defaults(command=_explore)


@contextmanager
def _complete(command: str) -> Generator[None]:
    """Say what it means if the folder 'testing' is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not f"{error.name}".startswith(f"{__package__}.testing"):
            raise
        raise EnqueuerError(f"{command} needs the folder 'testing', which this copy of the package does not have: use a complete one") from error


def _check(arguments: _Arguments) -> int:
    with _complete("check"):
        from .testing.kit.command import Asked, answer, listed
    if arguments.list:
        listed(sys.stdout)
        return 0
    asked = Asked(targets=tuple(arguments.targets), only=tuple(arguments.only), jobs=arguments.jobs, as_json=arguments.json, html=arguments.html)
    return answer(asked, f"{PROGRAM} check", sys.stdout, sys.stderr)


def _explore(arguments: _Arguments) -> int:
    with _complete("explore"):
        from .testing.schedule.command import Asked, run
    asked = Asked(
        scenarios=tuple(arguments.scenarios),
        twin=arguments.twin,
        id=arguments.replay,
        listed=arguments.list,
        tier=arguments.tier,
        bound=arguments.bound,
        chance=arguments.random,
        pct=arguments.pct,
        seed=arguments.seed,
        limit=arguments.limit,
        as_json=arguments.json,
    )
    return run(asked, f"{PROGRAM} explore", sys.stdout, sys.stderr)


def _measure(arguments: _Arguments) -> int:
    name = EXAMPLE if arguments.target is None else arguments.target
    progress = Progress(sys.stderr)
    try:
        with _aside():
            sequence = _example() if arguments.target is None else _load(arguments.target)
            job = Job(sequence, _settings(arguments), arguments.max_queue_size, arguments.items, arguments.rounds, arguments.step, arguments.context)
            found = measure(job, progress)
    except ReadingError as error:
        raise ReadingError(f"{name}: {error}") from error
    finally:
        progress.end()
    if arguments.json:
        print(as_json(found, name))
    else:
        show(found, name, sys.stdout)
    return 1 if any(row.same is False for row in found.rows) else 0


@contextmanager
def _aside() -> Generator[None]:
    """Let go to stderr whatever the sequence prints, in worker processes, too: it is no part of the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _settings(arguments: _Arguments) -> tuple[Setting, ...]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    settings: list[Setting] = []
    if arguments.mode != Mode.PROCESSES.value:
        settings += [Setting(Mode.THREADS, workers) for workers in arguments.workers or WORKERS]
    if arguments.mode != Mode.THREADS.value:
        settings += [Setting(Mode.PROCESSES, workers) for workers in arguments.workers or WORKERS if arguments.workers or workers <= cores]
    return tuple(settings)


def _example() -> SequenceLike[object]:
    from ._sources import SourceFiles

    try:
        return SourceFiles()
    except ImportError as error:
        package = "numpy" if "." in PROGRAM else f"'{PROGRAM.split()[-1]}[measure]'"  # a copy inside of another package has no extras
        raise TargetError(
            f"measure without a target needs numpy, which can't be imported ({shortly(error)}): pip install {package}, or name a sequence of your own"
        ) from error


def _load(target: str) -> SequenceLike[object]:
    """Return the sequence that is meant by `package.module:sequence`."""
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise TargetError(f"{target!r} names no sequence: write package.module:sequence")
    if os.getcwd() not in sys.path and "" not in sys.path:  # noqa: PTH109 - as `python -m` does
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit, GeneratorExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if isinstance(error, (ValueError, TypeError)) and module_name.startswith("."):
            missing = module_name
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            raise TargetError(f"{target}: there is no module {missing!r}: call from the folder that it is in, or install it") from error
        raise ReadingError(f"importing {module_name!r} raised {shortly(error)}") from error
    where = f"module {module_name!r}"
    for name in path.split("."):
        try:
            found, where = getattr(found, name), f"{name!r}"
        except AttributeError:
            raise TargetError(f"{target}: {where} has no attribute {name!r}: {_public(found)}") from None
        except Exception as error:
            raise ReadingError(f"reading {name!r} raised {shortly(error)}") from error
    if isinstance(found, type) or (callable(found) and not isinstance(found, SequenceLike)):
        try:
            found = found()
        except (Exception, SystemExit, GeneratorExit) as error:
            raise ReadingError(f"calling it without arguments raised {shortly(error)}: name a callable that works so") from error
    if not isinstance(found, SequenceLike):
        lacking = next(method for method in ("__len__", "__getitem__") if not hasattr(found, method))
        what = f"no sequence, but of type {type(found).__name__!r}, which has no {lacking}()"
        raise TargetError(f"{target}: {what}: name one that has, or a callable that returns one")
    return cast("SequenceLike[object]", found)


def _public(found: object) -> str:
    """What a user may have meant."""
    names = [
        name for name, value in getattr(found, "__dict__", {}).items() if name[0] != "_" and (callable(value) or isinstance(value, SequenceLike))
    ]
    return f"it has {', '.join(names[:MOST_NAMES])}{', ...' if len(names) > MOST_NAMES else ''}" if names else "nor anything else to measure"


def _count(text: str, least: int = 1) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
    return number


def _natural(text: str) -> int:
    return _count(text, 0)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, not {text}")
    return number


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted({_count(part) for part in text.split(",")}))


def _milliseconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds") from None
    if not 0 <= number <= MOST_STEP:
        raise argparse.ArgumentTypeError(f"must be from 0 to {MOST_STEP} milliseconds, not {text}")
    return number / 1000


if __name__ == "__main__":
    sys.exit(main())
