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

from collections.abc import Sequence
from enum import Enum

from dagy.errors import DependencyCycleError
from dagy.spec import FlowSpec, TaskRunSpec


class Ending(Enum):
    """What an ended task run means for those that depend on it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # itself, or it was skipped because of a failure above it
    SKIPPED = "skipped"  # by a condition, its own or one above it
    CANCELLED = "cancelled"


class Fate(Enum):
    """What a task run whose parents have all ended is to do."""

    READY = "ready"
    SKIPPED = "skipped"  # because of a condition above it
    BLOCKED = "blocked"  # because of a failure above it
    CANCELLED = "cancelled"  # because of a cancelled one above it


#: How a task run that is not to start ends, for those below it.
_ENDING_OF = {Fate.SKIPPED: Ending.SKIPPED, Fate.BLOCKED: Ending.FAILED, Fate.CANCELLED: Ending.CANCELLED}


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
        self._cancelled_parents = [0] * count
        self._position = position
        self._begun = bytearray(count)
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
        #: All task runs, parents before children.
        self.order = self._topological_order(spec.task_runs)

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

    def begin(self, index: int) -> None:
        """Note that a task run, and not an item of a map, was started."""
        if index < len(self._begun):
            self._begun[index] = 1

    def has_begun(self, task_run_id: str) -> bool:
        """Whether a task run was ever started."""
        return bool(self._begun[self._position[task_run_id]])

    def complete(self, index: int, ending: Ending) -> list[tuple[int, Fate]]:
        """Record that a task run has ended and return what that decides for others, in a stable order.

        A `READY` one is to be started. All others count as ended, with all that follows from that.
        """
        decided: list[tuple[int, Fate]] = []
        ended = [(index, ending)]
        for current, how in ended:
            self._ended[current] = 1
            self._left -= 1
            for child in self._children[current]:
                self._waiting_for[child] -= 1
                self._count(current, child, how)
                if self._waiting_for[child]:
                    continue
                fate = self._fate(child)
                decided.append((child, fate))
                if fate is not Fate.READY:
                    ended.append((child, _ENDING_OF[fate]))
        return decided

    def _count(self, parent: int, child: int, how: Ending) -> None:
        if how is Ending.SUCCEEDED:
            return
        if how is Ending.CANCELLED:
            self._cancelled_parents[child] += 1
        elif (parent, child) not in self._tolerated:
            counts = self._failed_parents if how is Ending.FAILED else self._skipped_parents
            counts[child] += 1

    def _fate(self, index: int) -> Fate:
        failed, skipped = self._failed_parents[index], self._skipped_parents[index]
        cancelled = self._cancelled_parents[index]
        rule = self._nodes[index].trigger_rule
        if rule == "all_succeeded":
            ready = not failed and not skipped and not cancelled
        elif rule == "none_failed":
            ready = not failed and not cancelled
        elif rule == "any_succeeded":
            ready = failed + skipped + cancelled < self._parents[index]
        else:
            ready = True
        if ready:
            return Fate.READY
        if failed:
            return Fate.BLOCKED
        return Fate.CANCELLED if cancelled else Fate.SKIPPED

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
