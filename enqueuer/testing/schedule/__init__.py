"""Every interleaving: a scheduler that owns every choice, and runs the code that ships, as often as there are ways to choose.

    world        one execution: locks, parkers, threads and a clock that a scheduler moves; what scenarios call
    state        what the future of an execution depends on, as a digest; `liveness` says which locals belong to it
    guard        each field is touched by the owner of its lock only
    exhaustive   search all; `cycles` finds livelocks in what was searched; `chance` and `pct` search by chance, `replay` does again what was done
    explore      the loop, and what comes of it: `explore(scenario, scheduler) -> Report`
    lanes        a failing execution, a column a thread
    scenarios    what is explored of an enqueuer; `apart` brings process mode into a world
    command      `python -m enqueuer explore`; `fixture` for pytest

Standard library only. Whatever is written against the seam (`Runtime`) can be explored; see docs/exploring.md.
"""

from __future__ import annotations

from .chance import Chance
from .exhaustive import Exhaustive, Rising
from .explore import Report, Scenario, explore, replay
from .guard import Discipline, guard
from .pct import PCT
from .replay import Replay
from .world import CheckerError, Failure, Scheduler, World

__all__ = [
    "PCT",
    "Chance",
    "CheckerError",
    "Discipline",
    "Exhaustive",
    "Failure",
    "Replay",
    "Report",
    "Rising",
    "Scenario",
    "Scheduler",
    "World",
    "explore",
    "guard",
    "replay",
]
