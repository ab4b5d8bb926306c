"""The errors of a run on this machine, under the import path that users know."""

from dagy.errors import (
    ArtifactSerializationError,
    DependencyCycleError,
    FlowFailedError,
    LocalExecutionError,
    TaskFailedError,
    TaskTimeoutError,
)

__all__ = [
    "ArtifactSerializationError",
    "DependencyCycleError",
    "FlowFailedError",
    "LocalExecutionError",
    "TaskFailedError",
    "TaskTimeoutError",
]
