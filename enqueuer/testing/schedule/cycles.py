"""Livelocks: cycles of states that threads can go round for ever although none is kept from going on.

A cycle that one thread can leave, but which nobody lets, is none: an unfair scheduler can do that to any program. So what counts is a set of
states that can all reach each other, in which each thread that could go on in every one of them does so somewhere: going round all of its
steps, for ever, is fair to everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from .world import Taken

__all__ = ["Cycle", "Graph"]

Chosen: TypeAlias = tuple[int, str | int]
"""Number of a thread, and how it goes on; see `Option`."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """What can go on for ever.

    Attributes:
        way: Who goes on and how, at each choice from the beginning into the cycle and round it once. Numbers of options would not do: they are
            counted from the thread that has the turn, and a state does not tell which.
        ran: Numbers of the threads that go on in it.
    """

    way: list[Chosen]
    ran: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Edge:
    """From one choice to the next.

    Attributes:
        chosen: Who went on, and how.
        target: The state in which the next choice is made.
        ran: Threads that took steps in between.
        could: Threads that could have gone on all the time.
    """

    chosen: Chosen
    target: bytes
    ran: frozenset[int]
    could: frozenset[int]


@dataclass
class Graph:
    """The states of a search, and how one leads to another."""

    first: bytes = b""
    edges: dict[bytes, list[_Edge]] = field(default_factory=dict[bytes, list[_Edge]])

    def link(self, state: bytes, target: bytes, steps: Sequence[Taken]) -> None:
        """These steps have led there; the first was chosen, the others without an alternative."""
        could = frozenset[int].intersection(*(step.enabled for step in steps))
        self.edges.setdefault(state, []).append(_Edge((steps[0].task, steps[0].how), target, frozenset(step.task for step in steps), could))

    def livelock(self) -> Cycle | None:
        """Return a fair cycle, None if there is none."""
        for component in self._components():
            edges = [edge for state in component for edge in self.edges.get(state, ()) if edge.target in component]
            ran = frozenset[int]().union(*(edge.ran for edge in edges))
            if edges and frozenset[int].intersection(*(edge.could for edge in edges)) <= ran:
                state = min(component)
                return Cycle(self._way(self.first, state, {*self.edges}) + self._round(state, component, ran), ran)
        return None

    def _round(self, state: bytes, component: set[bytes], ran: frozenset[int]) -> list[Chosen]:
        """Return choices that lead back to a state, and on the way let everybody go on who does in these states."""
        way: list[Chosen] = []
        here, missing = state, set(ran)
        while missing:
            source, edge = min(
                ((source, edge) for source in component for edge in self.edges.get(source, ()) if edge.target in component and edge.ran & missing),
                key=lambda found: (found[0], str(found[1].chosen)),
            )
            way += [*self._way(here, source, component), edge.chosen]
            here = edge.target
            missing -= edge.ran
        return way + self._way(here, state, component)

    def _way(self, start: bytes, goal: bytes, among: set[bytes]) -> list[Chosen]:
        """Return the fewest choices from one state to another, through some only."""
        came: dict[bytes, tuple[bytes, Chosen] | None] = {start: None}
        waiting = [start]
        for state in waiting:
            if state == goal:
                way: list[Chosen] = []
                step = came[state]
                while step is not None:
                    way.append(step[1])
                    step = came[step[0]]
                return way[::-1]
            for edge in self.edges.get(state, ()):
                if edge.target not in came and edge.target in among:
                    came[edge.target] = state, edge.chosen
                    waiting.append(edge.target)
        raise AssertionError("a state that was reached can be reached")

    def _components(self) -> list[set[bytes]]:
        """Return the strongly connected components (R. Tarjan: Depth-first search and linear graph algorithms, 1972), without recursion."""
        index: dict[bytes, int] = {}
        low: dict[bytes, int] = {}
        stack: list[bytes] = []
        on_stack: set[bytes] = set()
        found: list[set[bytes]] = []
        for root in self.edges:
            if root in index:
                continue
            work = [(root, iter(self.edges[root]))]
            index[root] = low[root] = len(index)
            stack.append(root)
            on_stack.add(root)
            while work:
                state, rest = work[-1]
                edge = next(rest, None)
                if edge is None:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[state])
                    if low[state] == index[state]:
                        place = stack.index(state)
                        found.append({*stack[place:]})
                        on_stack.difference_update(stack[place:])
                        del stack[place:]
                elif edge.target not in index:
                    index[edge.target] = low[edge.target] = len(index)
                    stack.append(edge.target)
                    on_stack.add(edge.target)
                    work.append((edge.target, iter(self.edges.get(edge.target, ()))))
                elif edge.target in on_stack:
                    low[state] = min(low[state], index[edge.target])
        return found
