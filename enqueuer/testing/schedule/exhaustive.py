"""Depth-first search through all choices, with a memory of the states that were seen.

Each execution follows the last one up to a choice that has an option left, and takes it there. Where it comes to a state that it or an
earlier one has been in, it is given up: what can follow is followed from there. Under a bound of switches a state counts as seen only if it
was reached with as many switches left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .cycles import Cycle, Graph
from .world import CheckerError, Point, World

__all__ = ["Exhaustive", "Rising"]


@dataclass(slots=True)
class _Choice:
    """A choice of the current path.

    Attributes:
        costs: How many switches each option takes.
        state: The state in which it is made, None without a memory.
        step: How many steps were taken before.
        chosen: The option.
        spent: Switches on the way to it.
    """

    costs: tuple[int, ...]
    state: bytes | None
    step: int
    spent: int
    chosen: int = 0


@dataclass
class Exhaustive:
    """Search everything.

    Attributes:
        bound: Most switches away from a thread that could go on; None: as many as there are.
        cached: Whether states are remembered.
        states: Those seen, each with the fewest switches on the way to it.
        bounded: Whether an option was left out because of the bound.
        livelock: At the end, a cycle which threads can go round for ever, None if there is none.
    """

    bound: int | None = None
    cached: bool = True
    states: dict[bytes, int] = field(default_factory=dict[bytes, int])
    bounded: bool = False
    livelock: Cycle | None = None
    _graph: Graph = field(default_factory=Graph)
    _path: list[_Choice] = field(default_factory=list[_Choice])
    _depth: int = 0
    _begun: bool = False

    def begin(self) -> bool:
        """Go back to the last choice that has an option left."""
        self._depth = 0
        if not self._begun:
            self._begun = True
            return True
        path: Final = self._path
        while path:
            last = path[-1]
            last.chosen += 1
            while last.chosen < len(last.costs) and not self._affordable(last):
                last.chosen += 1
            if last.chosen < len(last.costs):
                return True
            path.pop()
        self.livelock = self._graph.livelock()
        return False

    def _key(self, point: Point) -> bytes:
        """Return what states are remembered by. Under a bound it counts who has the turn, as going on with that one is no switch."""
        turn = point.world.current
        return point.state() + (b"" if self.bound is None or turn is None else turn.number.to_bytes(2, "big"))

    def _link(self, state: bytes, world: World) -> None:
        """From the last choice of the path one has come here."""
        if self._path and (last := self._path[-1]).state is not None:
            self._graph.link(last.state, state, world.taken[last.step :])
        else:
            self._graph.first = state

    @property
    def complete(self) -> bool:
        """Whether nothing was left out, once there is nothing more to begin."""
        return not self.bounded

    def _affordable(self, choice: _Choice) -> bool:
        if self.bound is None or choice.spent + choice.costs[choice.chosen] <= self.bound:
            return True
        self.bounded = True
        return False

    def choose(self, point: Point) -> int | None:
        """Follow the path, then choose the first option of what is new."""
        depth, path = self._depth, self._path
        self._depth += 1
        if depth < len(path):
            if len(path[depth].costs) != len(point.options):
                raise CheckerError(
                    f"not deterministic: choice {depth} had {len(path[depth].costs)} options and has {len(point.options)} now "
                    f"({', '.join(map(str, point.options))}): something besides the scheduler decides what happens"
                )
            if depth == len(path) - 1 and path[depth].state is not None and path[depth].state != self._key(point):
                raise CheckerError(
                    f"not deterministic: choice {depth} is made in another state now: something besides the scheduler decides what happens"
                )
            return path[depth].chosen
        costs = tuple(int(option.switches) for option in point.options)
        spent = path[-1].spent + path[-1].costs[path[-1].chosen] if path else 0
        state = None
        if self.cached:
            state = self._key(point)
            known = self.states.get(state)
            self._link(state, point.world)
            if known is not None and (known <= spent or self.bound is None):
                return None
            self.states[state] = spent
        path.append(_Choice(costs, state, len(point.world.taken), spent))
        return 0

    def end(self, world: World) -> None:
        """What was chosen is in the path already."""
        if world.failure is None and not world.cut and self._depth < len(self._path):
            raise CheckerError(
                f"the execution ended after {self._depth} of {len(self._path)} choices that an earlier one had: it is not deterministic"
            )


@dataclass
class Rising:
    """Search everything, beginning with what takes no switch, then one, then two: what is found first needs the fewest."""

    most: int | None = None
    states: dict[bytes, int] = field(default_factory=dict[bytes, int])
    bound: int = 0
    _search: Exhaustive | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return self._search is not None and self._search.complete

    @property
    def livelock(self) -> Cycle | None:
        """See `Exhaustive`."""
        return None if self._search is None else self._search.livelock

    def begin(self) -> bool:
        """Go on under this bound, or under the next."""
        if self._search is None:
            self._search = Exhaustive(0)
        if self._search.begin():
            return True
        if self.complete or self.bound == self.most or self.livelock is not None:
            return False
        self.bound += 1
        self._search = Exhaustive(self.bound)
        self.states = self._search.states
        return self._search.begin()

    def choose(self, point: Point) -> int | None:
        """Choose as the search does."""
        assert self._search is not None
        return self._search.choose(point)

    def end(self, world: World) -> None:
        """Tell the search."""
        assert self._search is not None
        self._search.end(world)
