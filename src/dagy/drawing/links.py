"""Who follows whom in a graph, and which groups enclose a task run."""

from __future__ import annotations

from collections.abc import Sequence

from dagy.graph import DagState
from dagy.spec import FlowSpec


class Links:
    """Who follows whom in a graph. Task runs are integers, positions in `FlowSpec.task_runs`.

    Attributes:
        parents: what each task run depends on, each parent once.
        children: what depends on each task run, in the order of the flow.

    Raises:
        DependencyCycleError: task runs wait for each other or for one that does not exist.
    """

    def __init__(self, spec: FlowSpec) -> None:
        DagState(spec)
        position = {node.id: index for index, node in enumerate(spec.task_runs)}
        self.parents = [[position[parent] for parent in dict.fromkeys(node.depends_on)] for node in spec.task_runs]
        self.children: list[list[int]] = [[] for _ in spec.task_runs]
        for index, parents in enumerate(self.parents):
            for parent in parents:
                self.children[parent].append(index)

    @property
    def edge_count(self) -> int:
        return sum(map(len, self.parents))


def group_paths(spec: FlowSpec) -> list[tuple[str, ...]]:
    """Return the groups that each task run is in, the outermost first."""
    return [tuple(node.group.split("/")) if node.group else () for node in spec.task_runs]


def shared_depth(path: Sequence[str], other: Sequence[str]) -> int:
    """Return how many of their outermost groups two paths have in common."""
    depth = 0
    for one, another in zip(path, other, strict=False):
        if one != another:
            break
        depth += 1
    return depth
