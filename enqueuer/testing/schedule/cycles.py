"""Livelocks: cycles of states that threads can go round for ever although none is kept from going on.

A cycle that one thread can leave, but which nobody lets, is none: an unfair scheduler can do that to any program. So what counts is a set of
states that can all reach each other, in which each thread that could go on in every one of them does so somewhere: going round all of its
steps, for ever, is fair to everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .world import Taken

__all__ = ["Graph"]


@dataclass(frozen=True, slots=True)
class _Edge:
    """From one choice to the next.

    Attributes:
        option: Which one was chosen.
        target: The state in which the next choice is made.
        ran: Threads that took steps in between.
        could: Threads that could have gone on all the time.
    """

    option: int
    target: bytes
    ran: frozenset[int]
    could: frozenset[int]


@dataclass
class Graph:
    """The states of a search, and how one leads to another."""

    first: bytes = b""
    edges: dict[bytes, list[_Edge]] = field(default_factory=dict[bytes, list[_Edge]])

    def link(self, state: bytes, option: int, target: bytes, steps: Sequence[Taken]) -> None:
        """This option has led there, by these steps."""
        could = frozenset[int].intersection(*(step.enabled for step in steps))
        self.edges.setdefault(state, []).append(_Edge(option, target, frozenset(step.task for step in steps), could))

    def livelock(self) -> list[int] | None:
        """Return choices that lead from the beginning into a fair cycle, and round it once; None if there is none."""
        for component in self._components():
            edges = [edge for state in component for edge in self.edges.get(state, ()) if edge.target in component]
            if edges and frozenset[int].intersection(*(edge.could for edge in edges)) <= frozenset[int]().union(*(edge.ran for edge in edges)):
                state = min(component)
                return self._way(self.first, {state}) + self._round(state, component)
        return None

    def _round(self, state: bytes, component: set[bytes]) -> list[int]:
        edge = next(edge for edge in self.edges[state] if edge.target in component)
        return [edge.option, *self._way(edge.target, {state})]

    def _way(self, start: bytes, goals: set[bytes]) -> list[int]:
        """Return the fewest choices from a state to one of the goals."""
        came: dict[bytes, tuple[bytes, int] | None] = {start: None}
        waiting = [start]
        for state in waiting:
            if state in goals:
                options: list[int] = []
                step = came[state]
                while step is not None:
                    options.append(step[1])
                    step = came[step[0]]
                return options[::-1]
            for edge in self.edges.get(state, ()):
                if edge.target not in came:
                    came[edge.target] = state, edge.option
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
