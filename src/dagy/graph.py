"""The scheduling state of a run: which task run may start, and what follows when one has ended.

Pure: no thread, no clock, no I/O. Task runs are integers, positions in `FlowSpec.task_runs`. Ending a task run costs
time in proportion to its own children, never to the size of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from dagy.errors import DependencyCycleError
from dagy.spec import FlowSpec, TaskRunSpec


class Fate(Enum):
    """What a task run whose parents have all ended is to do."""

    READY = "ready"
    SKIPPED = "skipped"


class DagState:
    """Which task runs have ended, and how many parents the others still wait for.

    Raises:
        DependencyCycleError: task runs wait for each other or for one that does not exist; the message shows them.
    """

    def __init__(self, spec: FlowSpec) -> None:
        position = {node.id: index for index, node in enumerate(spec.task_runs)}
        if len(position) != len(spec.task_runs):
            raise DependencyCycleError(f"{_CYCLE}: two task runs are named {_first_double(spec.task_runs)}")
        count = len(spec.task_runs)
        self._children: list[list[int]] = [[] for _ in range(count)]
        self._waiting_for = [0] * count
        self._unsuccessful_parents = [0] * count
        self._ended = bytearray(count)
        self._left = count
        for index, node in enumerate(spec.task_runs):
            for parent in set(node.depends_on):
                if parent not in position:
                    raise DependencyCycleError(f"{_CYCLE}: {node.id} depends on {parent}, which is not in the flow")
                self._children[position[parent]].append(index)
                self._waiting_for[index] += 1
        self._order = self._topological_order(spec.task_runs)

    @property
    def is_finished(self) -> bool:
        """Whether every task run has ended."""
        return self._left == 0

    def ready(self) -> list[int]:
        """Return the task runs that wait for nobody, in the order in which the flow called them."""
        return [index for index, waiting in enumerate(self._waiting_for) if not waiting and not self._ended[index]]

    def complete(self, index: int, *, success: bool) -> list[tuple[int, Fate]]:
        """Record that a task run has ended and return what that decides for others, in a stable order.

        A descendant of a task run that did not succeed is skipped, and counted as ended, as soon as all its parents
        have ended; a returned `READY` one is to be started by the caller.
        """
        decided: list[tuple[int, Fate]] = []
        ended = [(index, success)]
        for current, succeeded in ended:
            self._ended[current] = 1
            self._left -= 1
            for child in self._children[current]:
                self._waiting_for[child] -= 1
                if not succeeded:
                    self._unsuccessful_parents[child] += 1
                if self._waiting_for[child]:
                    continue
                if self._unsuccessful_parents[child]:
                    decided.append((child, Fate.SKIPPED))
                    ended.append((child, False))
                else:
                    decided.append((child, Fate.READY))
        return decided

    def abandon(self, unsuccessful: Sequence[int]) -> tuple[list[int], list[int]]:
        """End every task run that has not ended, because the run stops.

        Args:
            unsuccessful: the task runs that failed, timed out or were cancelled before.

        Returns:
            The descendants of failed ones, which are skipped, and all others, which are cancelled.
        """
        below_failure = bytearray(len(self._ended))
        for index in unsuccessful:
            below_failure[index] = 1
        skipped: list[int] = []
        cancelled: list[int] = []
        for index in self._order:
            if not self._ended[index]:
                (skipped if below_failure[index] else cancelled).append(index)
            if below_failure[index]:
                for child in self._children[index]:
                    below_failure[child] = 1
        for index in (*skipped, *cancelled):
            self._ended[index] = 1
        self._left = 0
        return skipped, cancelled

    def _topological_order(self, nodes: Sequence[TaskRunSpec]) -> list[int]:
        waiting = list(self._waiting_for)
        order = [index for index, count in enumerate(waiting) if not count]
        for index in order:
            for child in self._children[index]:
                waiting[child] -= 1
                if not waiting[child]:
                    order.append(child)
        if len(order) < len(nodes):
            stuck = {nodes[index].id: nodes[index] for index, count in enumerate(waiting) if count}
            raise DependencyCycleError(f"{_CYCLE}: {' -> '.join(_one_cycle(stuck))}")
        return order


_CYCLE = "Dependency cycle detected or missing dependency output"


def _one_cycle(stuck: dict[str, TaskRunSpec]) -> list[str]:
    """Walk up from any stuck task run: every one of them has a stuck parent, so the walk must meet itself."""
    path: list[str] = []
    current = next(iter(stuck))
    while current not in path:
        path.append(current)
        current = next(parent for parent in stuck[current].depends_on if parent in stuck)
    cycle = [*path[path.index(current) :], current]
    return cycle[::-1]


def _first_double(nodes: Sequence[TaskRunSpec]) -> str:
    seen: set[str] = set()
    for node in nodes:
        if node.id in seen:
            return repr(node.id)
        seen.add(node.id)
    return ""
