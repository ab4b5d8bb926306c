"""The scheduling state of a run: which task run may start, and what follows when one has ended.

Pure: no thread, no clock, no I/O. Task runs are integers, positions in `FlowSpec.task_runs`. Ending a task run costs
time in proportion to its own children, never to the size of the graph.

A task run is decided when all its parents have ended, by its trigger rule:

    all_succeeded   every parent succeeded (the default)
    none_failed     no parent failed; some may have been skipped by a condition
    any_succeeded   at least one parent succeeded
    all_done        whatever became of them
    tear_down       whatever became of them, and also when the run stops
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from dagy.errors import DependencyCycleError
from dagy.spec import TEAR_DOWN, FlowSpec, TaskRunSpec


class Ending(Enum):
    """What an ended task run means for those that depend on it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # itself, or it was skipped because of a failure above it
    SKIPPED = "skipped"  # by a condition, its own or one above it


class Fate(Enum):
    """What a task run whose parents have all ended is to do."""

    READY = "ready"
    SKIPPED = "skipped"  # because of a condition above it
    BLOCKED = "blocked"  # because of a failure above it


class DagState:
    """Which task runs have ended, and how many parents the others still wait for.

    Raises:
        DependencyCycleError: task runs wait for each other or for one that does not exist; the message shows them.
    """

    def __init__(self, spec: FlowSpec) -> None:
        self._nodes = spec.task_runs
        position = {node.id: index for index, node in enumerate(spec.task_runs)}
        if len(position) != len(spec.task_runs):
            raise DependencyCycleError(f"{_CYCLE}: two task runs are named {_first_double(spec.task_runs)}")
        count = len(spec.task_runs)
        self._children: list[list[int]] = [[] for _ in range(count)]
        self._parents = [0] * count
        self._waiting_for = [0] * count
        self._failed_parents = [0] * count
        self._skipped_parents = [0] * count
        #: (parent, child) pairs in which the child wants to hear of the parent's failure.
        self._tolerated: set[tuple[int, int]] = set()
        self._ended = bytearray(count)
        self._left = count
        for index, node in enumerate(spec.task_runs):
            for parent in dict.fromkeys(node.depends_on):
                if parent not in position:
                    raise DependencyCycleError(f"{_CYCLE}: {node.id} depends on {parent}, which is not in the flow")
                self._children[position[parent]].append(index)
                self._parents[index] += 1
            for parent in node.tolerates:
                self._tolerated.add((position[parent], index))
        self._waiting_for = list(self._parents)
        self._order = self._topological_order(spec.task_runs)

    @property
    def is_finished(self) -> bool:
        """Whether every task run has ended."""
        return self._left == 0

    def ready(self) -> list[int]:
        """Return the task runs that wait for nobody, in the order in which the flow called them."""
        return [index for index, waiting in enumerate(self._waiting_for) if not waiting and not self._ended[index]]

    def is_tolerated(self, index: int) -> bool:
        """Whether some task run wants to hear of this one's failure."""
        return bool(self._tolerated) and any((index, child) in self._tolerated for child in self._children[index])

    def complete(self, index: int, ending: Ending) -> list[tuple[int, Fate]]:
        """Record that a task run has ended and return what that decides for others, in a stable order.

        One that is skipped or blocked counts as ended, with all that follows; a `READY` one is to be started.
        """
        decided: list[tuple[int, Fate]] = []
        ended = [(index, ending)]
        for current, how in ended:
            self._ended[current] = 1
            self._left -= 1
            for child in self._children[current]:
                self._waiting_for[child] -= 1
                if how is not Ending.SUCCEEDED and (current, child) not in self._tolerated:
                    counts = self._failed_parents if how is Ending.FAILED else self._skipped_parents
                    counts[child] += 1
                if self._waiting_for[child]:
                    continue
                fate = self._fate(child)
                decided.append((child, fate))
                if fate is not Fate.READY:
                    ended.append((child, Ending.FAILED if fate is Fate.BLOCKED else Ending.SKIPPED))
        return decided

    def _fate(self, index: int) -> Fate:
        failed, skipped = self._failed_parents[index], self._skipped_parents[index]
        rule = self._nodes[index].trigger_rule
        if rule == "all_succeeded":
            ready = not failed and not skipped
        elif rule == "none_failed":
            ready = not failed
        elif rule == "any_succeeded":
            ready = failed + skipped < self._parents[index]
        else:
            ready = True
        if ready:
            return Fate.READY
        return Fate.BLOCKED if failed else Fate.SKIPPED

    def abandon(self, failed: Iterable[int]) -> tuple[list[int], list[int]]:
        """End every task run that has not ended, but for those that tear down, because the run stops.

        Args:
            failed: the task runs that failed or timed out.

        Returns:
            The descendants of failed ones, which are skipped, and all others, which are cancelled.
        """
        below_failure = bytearray(len(self._ended))
        for index in failed:
            below_failure[index] = 1
        skipped: list[int] = []
        cancelled: list[int] = []
        for index in self._order:
            tears_down = self._nodes[index].trigger_rule == TEAR_DOWN
            if not self._ended[index] and not tears_down:
                (skipped if below_failure[index] else cancelled).append(index)
            if below_failure[index]:
                for child in self._children[index]:
                    below_failure[child] = 1
        for index in (*skipped, *cancelled):
            self._ended[index] = 1
            self._left -= 1
        return skipped, cancelled

    def left(self) -> list[int]:
        """Return the task runs that have not ended, parents first: after `abandon`, those that tear down."""
        return [index for index in self._order if not self._ended[index]]

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
