"""What `python -m enqueuer explore` does: scenarios, one after another, and what came of them; a broken twin; one schedule again.

Exit codes: 0 nothing is broken, or the twin was found; 1 something is broken, or the twin was not found; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import difflib
import json
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import FrameType, TracebackType
from typing import Final, TextIO, TypeVar

from ..terminal import Line, OneLine, show, width, wrap
from ..twins import TWINS, Twin
from .chance import Chance
from .exhaustive import Exhaustive, Rising
from .explore import Report, Scenario, explore, replay
from .lanes import lanes, marks_for
from .pct import PCT
from .replay import read
from .scenarios import SCENES, Scene
from .world import CheckerError, Point, Scheduler, World

__all__ = ["Asked", "UsageError", "run"]

T_ = TypeVar("T_")

CLOSEST: Final = 3
"""Names that are suggested, at most."""


class UsageError(ValueError):
    """What was asked for is not there, or does not go together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of the command.

    Attributes:
        scenarios: Names; none: all of the tier.
        twin: Name of the broken twin, "": the enqueuer as it is.
        id: Of a schedule to replay, "" if none is.
        listed: Whether to say what there is, and no more.
        tier: "ci", or "deep", which has those of ci, too.
        bound: Most switches away from a thread that could go on, None: any number.
        chance: How many executions by chance, None: all there are.
        pct: How many by priorities.
        seed: Of both.
        limit: Seconds for all scenarios together.
        as_json: Whether the result is for programs.
    """

    scenarios: tuple[str, ...] = ()
    twin: str = ""
    id: str = ""
    listed: bool = False
    tier: str = "ci"
    bound: int | None = None
    chance: int | None = None
    pct: int | None = None
    seed: int = 0
    limit: float | None = None
    as_json: bool = False


def run(asked: Asked, program: str, out: TextIO, err: TextIO) -> int:
    """Do what was asked; the result goes to `out`, progress and errors to `err`. Return the exit code."""
    job = _Job(asked, program, out, err)
    try:
        if asked.listed:
            return job.lists()
        if asked.id:
            return job.replays()
        return job.finds() if asked.twin else job.explores()
    except UsageError as error:
        err.write(f"{program}: {error}\n")
        return 2
    except CheckerError as error:
        job.progress.end()
        err.write(f"{program}: {job.current} could not be explored: {error}\n")
        return 1
    except KeyboardInterrupt:
        return job.interrupted()


class _Progress(OneLine):
    """How far an exploration is."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._since = 0.0
        self._what = ""
        self._before = self.runs = self.states = 0

    def begin(self, what: str, runs: int = 0) -> None:
        """Another scenario, of which so many executions were made before."""
        self._what, self._since = what, time.monotonic()
        self._before = self.runs = runs
        self.tell(runs, 0)

    def tell(self, runs: int, states: int) -> None:
        """Say how far it is, if it is some time since that was said."""
        self.runs, self.states = runs, states
        if self.due():
            rate = (runs - self._before) / max(1e-9, time.monotonic() - self._since)
            self.write(f"{self._what}: {runs:,} runs, {states:,} states, {rate:,.0f} runs/s")


class _Interrupt:
    """Ctrl-C, answered at the next choice: there the threads of an execution can be let go. A second one is answered at once."""

    def __init__(self) -> None:
        self._asked = False
        self._mine = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._mine = True
            signal.signal(signal.SIGINT, self._note)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._mine = False
        if error is None:
            self.answer()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            signal.default_int_handler(number, frame)
        self._asked = True

    def answer(self) -> None:
        """Raise it, if there was one."""
        if self._asked:
            raise KeyboardInterrupt


class _Counted:
    """A scheduler whose executions are counted, so that it can be told how far it is; it can be interrupted."""

    def __init__(self, inner: Scheduler, progress: _Progress, interrupt: _Interrupt) -> None:
        self.inner: Final = inner
        self._progress: Final = progress
        self._interrupt: Final = interrupt
        self.runs = 0

    @property
    def complete(self) -> bool:
        return bool(getattr(self.inner, "complete", False))

    @property
    def states(self) -> dict[bytes, int]:
        return getattr(self.inner, "states", {})

    def begin(self) -> bool:
        self._interrupt.answer()
        return self.inner.begin()

    def choose(self, point: Point) -> int | None:
        self._interrupt.answer()
        return self.inner.choose(point)

    def end(self, world: World) -> None:
        self.inner.end(world)
        self.runs += 1
        self._progress.tell(self.runs, len(self.states))


class _Job:
    """One call of the command."""

    def __init__(self, asked: Asked, program: str, out: TextIO, err: TextIO) -> None:
        self.asked: Final = asked
        self.program: Final = program
        self.out: Final = out
        self.err: Final = err
        self.progress: Final = _Progress(err)
        self.interrupt: Final = _Interrupt()
        self.current = "nothing"
        self.reports: Final[list[Report]] = []
        self.scenes: list[Scene] = []
        self.until: Final = None if asked.limit is None else time.monotonic() + asked.limit

    # what was asked for

    def _check(self) -> None:
        asked = self.asked
        if asked.id and asked.scenarios:
            raise UsageError(f"--replay {asked.id} names its scenario itself: leave out {' '.join(asked.scenarios)}")
        ways = [name for name, value in (("--bound", asked.bound), ("--random", asked.chance), ("--pct", asked.pct)) if value is not None]
        if asked.id and (ways or asked.limit is not None):
            raise UsageError(f"--replay {asked.id} is one execution: leave out {' and '.join(ways) or '--limit'}")
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)} are different ways to search: choose one")
        if asked.seed and asked.chance is None and asked.pct is None:
            raise UsageError(f"--seed {asked.seed} is for choices by chance: add --random RUNS or --pct RUNS")

    def _chosen(self) -> list[Scene]:
        self._check()
        if self.asked.scenarios:
            return [_known(name, SCENES, "scenario") for name in dict.fromkeys(self.asked.scenarios)]
        return [scene for scene in SCENES.values() if scene.tier == "ci" or self.asked.tier == "deep"]

    def _twin(self) -> Twin | None:
        if not self.asked.twin:
            return None
        twin = _known(self.asked.twin, {twin.name: twin for twin in reversed(TWINS)}, "twin")
        if twin.factory.method:
            raise UsageError(f"twin {twin.name} is of worker processes, and exploring is of threads: --list names those that can be explored")
        return twin

    def _scheduler(self) -> Scheduler:
        asked = self.asked
        if asked.chance is not None:
            return Chance(asked.chance, asked.seed)
        if asked.pct is not None:
            return PCT(asked.pct, seed=asked.seed)
        return Exhaustive(asked.bound)

    def _share(self, left: int) -> float | None:
        """Return how many seconds the next of so many scenarios may take."""
        return None if self.until is None else max(0.0, self.until - time.monotonic()) / max(1, left)

    # what is done

    def lists(self) -> int:
        """Say which scenarios and twins there are."""
        twins = {twin.name: twin for twin in reversed(TWINS) if not twin.factory.method}
        if self.asked.as_json:
            scenes = [{"name": scene.name, "tier": scene.tier, "says": scene.says} for scene in SCENES.values()]
            self._json({"scenarios": scenes, "twins": [{"name": twin.name, "breaks": twin.breaks, "says": twin.says} for twin in twins.values()]})
            return 0
        texts = ["Scenarios:", *(f"  {scene.name} ({scene.tier}): {scene.says}" for scene in SCENES.values()), ""]
        texts.append("Twins of threads, each with the promise that it breaks:")
        texts += [f"  {twin.name} ({twin.breaks}): {twin.says}" for twin in reversed(twins.values())]
        show([(line, "") for text in texts for line in wrap(text)], self.out)
        return 0

    def replays(self) -> int:
        """Execute one schedule, and show it."""
        self._check()
        twin = self._twin()
        name, _, choices = self.asked.id.rpartition("@")
        if not name:
            raise UsageError(f"--replay {self.asked.id}: an id is written as scenario@choices, for example {next(iter(SCENES))}@3.1-17.2")
        scene = _known(name, SCENES, "scenario")
        scenario = _of(scene, twin)
        try:
            read(choices)
            report = replay(scenario, choices)
        except (ValueError, CheckerError) as error:
            raise UsageError(f"--replay {self.asked.id}: {error}") from error
        report = replace(report, id=self.asked.id)
        broken = report.failure is not None
        if self.asked.as_json:
            self._json(self._as_json([report]))
        else:
            self._tell([(line, "bold") for line in wrap(f"{scene.name}: {scene.says}")])
            if twin is not None:
                self._tell([(line, "bold") for line in wrap(f"{twin.name}: {twin.says}")])
            self._lanes(scenario, report)
        return int(broken == (twin is None))

    def explores(self) -> int:
        """Explore scenarios of the enqueuer as it is."""
        self.scenes = self._chosen()
        for number, scene in enumerate(self.scenes):
            self.current = scene.name
            self.progress.begin(f"{number + 1}/{len(self.scenes)} {scene.name}")
            scheduler = _Counted(self._scheduler(), self.progress, self.interrupt)
            with self.interrupt:
                report = explore(scene.of(), scheduler, seconds=self._share(len(self.scenes) - number))
            self.reports.append(report)
            self.progress.end(str(report))
        broken = [report for report in self.reports if report.failure is not None]
        if self.asked.as_json:
            self._json(self._as_json(self.reports))
            return int(bool(broken))
        self._table()
        for report in broken:
            self._tell([("", ""), (f"{report.scenario}: {SCENES[report.scenario].says}", "bold")])
            self._lanes(SCENES[report.scenario].of(), report)
            self._again(report)
        return int(bool(broken))

    def finds(self) -> int:
        """Search for what a twin breaks: in all scenarios without a switch, then with one, then with two."""
        twin = self._twin()
        assert twin is not None
        self.scenes = self._chosen()
        searches = {scene.name: _Search(scene, _of(scene, twin), _Counted(self._searcher(), self.progress, self.interrupt)) for scene in self.scenes}
        bound = 0
        left: list[_Search] = list(searches.values())
        while left and (self.until is None or time.monotonic() < self.until):
            for number, search in enumerate(left):
                self.current = search.scene.name
                self.progress.begin(f"{twin.name} in {search.scene.name}", search.runs)
                with self.interrupt:
                    report = search.go_on(bound, self._share(len(left) - number))
                if report.failure is not None:
                    self.progress.end(str(report))
                    return self._found(twin, search, report, [each for each in searches.values() if each is not search])
            bound += 1
            left = [search for search in left if not search.done]
        self.progress.end()
        self.reports.extend(search.report for search in searches.values() if search.report is not None)
        if self.asked.as_json:
            self._json(self._as_json(self.reports))
        else:
            runs = sum(report.runs for report in self.reports)
            known = all(report.verdict == "exhausted" for report in self.reports)
            what = f"{twin.name} was not found in {runs:,} runs of {_names_of(self.scenes)}, "
            what += "which are all interleavings there: try other scenarios" if known else f"and not all interleavings were tried: {self._more()}"
            self._tell([(line, "bold red") for line in wrap(what)])
        return 1

    def _searcher(self) -> Scheduler:
        by_chance = self.asked.chance is not None or self.asked.pct is not None
        return self._scheduler() if by_chance else Rising(self.asked.bound)

    def _found(self, twin: Twin, search: _Search, report: Report, others: Iterable[_Search]) -> int:
        assert report.failure is not None
        self.reports.append(report)
        if self.asked.as_json:
            self._json(self._as_json([report]))
            return 0
        self._tell([(line, "bold") for line in wrap(f"{twin.name}: {twin.says}")])
        self._tell([(line, "bold") for line in wrap(f"{search.scene.name}: {search.scene.says}")])
        self._lanes(search.scenario, report)
        switches = f"with {report.switches} {'switch' if report.switches == 1 else 'switches'}"
        runs = f"{report.runs:,} {'run' if report.runs == 1 else 'runs'} of {search.scene.name}"
        other = sum(each.runs for each in others)
        fewest = ", and not with fewer" if report.switches and search.rising is not None else ""
        told = f"found {switches}{fewest}, in {runs}{f', after {other:,} of other scenarios' if other else ''}"
        if report.failure.guarantee != twin.breaks:
            told += f"; the twin breaks {twin.breaks}, which shows here as {report.failure.guarantee or report.failure.kind}"
        self._tell([(line, "") for line in wrap(told)])
        self._again(report)
        return 0

    def interrupted(self) -> int:
        """Say how far it came."""
        self.progress.end()
        if self.reports and not self.asked.as_json and not self.asked.twin:
            self._table()
        told = "interrupted"
        if self.scenes:
            told += f" in {self.current}, after {self.progress.runs:,} runs and {self.progress.states:,} states"
            told += "" if self.asked.twin else f"; {len(self.reports)} of {len(self.scenes)} scenarios were done"
        self.err.write(f"{self.program}: {told}\n")
        return 130

    # what is told

    def _tell(self, lines: Iterable[Line]) -> None:
        show(lines, self.out)

    def _lanes(self, scenario: Scenario, report: Report) -> None:
        self._tell([("", "")])
        self._tell(lanes(scenario, report, width=width(), marks=marks_for(self.out)))

    def _again(self, report: Report) -> None:
        twin = f" --twin {self.asked.twin}" if self.asked.twin else ""
        self._tell([(f"again: {self.program}{twin} --replay {report.id}", "bold")])

    def _more(self) -> str:
        """Say what would explore more."""
        asked = self.asked
        if asked.limit is not None:
            return f"--limit {asked.limit:g} was over"
        if asked.bound is not None:
            return f"--bound {asked.bound} left out what takes more switches"
        return f"--{'random' if asked.chance is not None else 'pct'} tries some by chance"

    def _table(self) -> None:
        rows = [_cells(report) for report in self.reports]
        heads = ("scenario", "verdict", "runs", "states", "longest", "seconds")
        sizes = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        styles = {"broken": "bold red", "exhausted": "", "not exhausted": "yellow"}
        if sum(sizes) + 2 * len(sizes) <= width():
            lines = [(_aligned(heads, sizes), "dim"), ("  ".join("-" * size for size in sizes), "dim")]
            lines += [(_aligned(row, sizes), styles[row[1]]) for row in rows]
        else:
            lines = [
                (line, styles[row[1]])
                for row in rows
                for text in (f"{row[0]}: {row[1]}", "  " + ", ".join(f"{cell} {head}" for head, cell in zip(heads[2:], row[2:], strict=True)))
                for line in wrap(text)
            ]
        self._tell([*lines, ("", ""), *((line, "bold") for line in wrap(self._sum()))])

    def _sum(self) -> str:
        """Say plainly what is known."""
        by = {verdict: [report for report in self.reports if report.verdict == verdict] for verdict in ("exhausted", "not exhausted", "broken")}
        runs = sum(report.runs for report in self.reports)
        said: list[str] = []
        if by["exhausted"]:
            count = len(by["exhausted"])
            said.append(f"{count} of {len(self.reports)} exhausted: every interleaving within the bounds of the scenario keeps the contract.")
        if by["not exhausted"]:
            names = ", ".join(report.scenario for report in by["not exhausted"])
            said.append(f"Not exhausted: {names}. What was tried keeps the contract; {self._more()}.")
        if by["broken"]:
            said.append(f"BROKEN: {', '.join(report.scenario for report in by['broken'])}.")
        return f"{' '.join(said)} {runs:,} runs in all."

    def _json(self, data: object) -> None:
        self.out.write(json.dumps(data, indent=2) + "\n")

    def _as_json(self, reports: Iterable[Report]) -> dict[str, object]:
        asked = self.asked
        return {"twin": asked.twin or None, "bound": asked.bound, "limit": asked.limit, "scenarios": [_report_as_json(report) for report in reports]}


class _Search:
    """The search for a twin's fault in one scenario, which can be continued."""

    def __init__(self, scene: Scene, scenario: Scenario, counted: _Counted) -> None:
        self.scene: Final = scene
        self.scenario: Final = scenario
        self.rising: Final = counted.inner if isinstance(counted.inner, Rising) else None
        self._most: Final = counted.inner.most if isinstance(counted.inner, Rising) else None
        self._counted: Final = counted
        self._seconds = 0.0
        self.report: Report | None = None

    @property
    def runs(self) -> int:
        """How many executions there were."""
        return self._counted.runs

    @property
    def done(self) -> bool:
        """Whether it would find nothing more."""
        rising = self.rising
        return rising is None or rising.complete or (self._most is not None and rising.bound >= self._most)

    def go_on(self, bound: int, seconds: float | None) -> Report:
        """Search with so many switches; the report is of everything until now."""
        if self.rising is not None:
            self.rising.most = bound if self._most is None else min(bound, self._most)
        report = explore(self.scenario, self._counted, seconds=seconds)
        self._seconds += report.seconds
        self.report = replace(report, runs=self.runs, seconds=self._seconds)
        return self.report


def _of(scene: Scene, twin: Twin | None) -> Scenario:
    return scene.of() if twin is None else scene.of(twin.factory)


def _known(name: str, things: dict[str, T_], what: str) -> T_:
    if name in things:
        return things[name]
    folded = {known.lower(): known for known in things}
    close = [folded[near] for near in difflib.get_close_matches(name.lower(), folded, CLOSEST)]
    told = f"is it {' or '.join(close)}?" if close else f"there are {', '.join(things)}"
    raise UsageError(f"there is no {what} {name!r}: {told}")


def _names_of(scenes: Sequence[Scene]) -> str:
    return scenes[0].name if len(scenes) == 1 else f"{len(scenes)} scenarios"


def _cells(report: Report) -> tuple[str, ...]:
    return report.scenario, report.verdict, f"{report.runs:,}", f"{report.states:,}", str(report.longest), f"{report.seconds:.1f}"


def _aligned(cells: Sequence[str], sizes: Sequence[int]) -> str:
    return "  ".join(cell.ljust(size) if at < 2 else cell.rjust(size) for at, (cell, size) in enumerate(zip(cells, sizes, strict=True)))


def _report_as_json(report: Report) -> dict[str, object]:
    failure = report.failure
    return {
        "scenario": report.scenario,
        "verdict": report.verdict,
        "failure": None if failure is None else {"kind": failure.kind, "guarantee": failure.guarantee or None, "what": failure.what},
        "id": report.id or None,
        "runs": report.runs,
        "states": report.states,
        "steps": report.steps,
        "longest": report.longest,
        "switches": report.switches if failure is not None else None,
        "seconds": round(report.seconds, 3),
    }
