"""Dagy: DAGs of work in plain Python.

    from dagy import flow, task

Every name is loaded when it is first used, so that `import dagy` costs next to nothing.
"""

from __future__ import annotations

#: True only for type checkers. Not imported, because `typing` alone would double the time of `import dagy`.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from dagy.artifacts import LocalArtifact
    from dagy.authoring import Failure, Settled, allow_failed, choose, tear_down
    from dagy.client.http import DagyClient
    from dagy.decorators import flow, task
    from dagy.deploy import deploy_artifact, upload_artifact_via_api
    from dagy.errors import (
        APIError,
        ArtifactSerializationError,
        DagyError,
        DependencyCycleError,
        FlowDefinitionError,
        FlowFailedError,
        LocalExecutionError,
        ParameterError,
        ParameterTypeError,
        RetryConfigurationError,
        TaskFailedError,
        TaskTimeoutError,
    )
    from dagy.flows import Flow
    from dagy.hooks import Hook, RunContext, State, completed, failed, retrying, running
    from dagy.local.runner import LocalRunResult, run_local
    from dagy.log_capture import get_logger
    from dagy.outputs import TaskOutput
    from dagy.packaging import build_artifact
    from dagy.serializers import Serializer, register_serializer
    from dagy.spec import FlowSpec
    from dagy.status import RunStatus, TaskRunStatus
    from dagy.tasks import Task, unmapped

__version__ = "0.1.0"

__all__ = [
    "APIError",
    "ArtifactSerializationError",
    "DagyClient",
    "DagyError",
    "DependencyCycleError",
    "Failure",
    "Flow",
    "FlowDefinitionError",
    "FlowFailedError",
    "FlowSpec",
    "Hook",
    "LocalArtifact",
    "LocalExecutionError",
    "LocalRunResult",
    "ParameterError",
    "ParameterTypeError",
    "RetryConfigurationError",
    "RunContext",
    "RunStatus",
    "Serializer",
    "Settled",
    "State",
    "Task",
    "TaskFailedError",
    "TaskOutput",
    "TaskRunStatus",
    "TaskTimeoutError",
    "__version__",
    "allow_failed",
    "build_artifact",
    "choose",
    "completed",
    "deploy_artifact",
    "failed",
    "flow",
    "get_logger",
    "register_serializer",
    "retrying",
    "run_local",
    "running",
    "task",
    "tear_down",
    "unmapped",
    "upload_artifact_via_api",
]

_HOME_OF = {
    "DagyClient": "dagy.client.http",
    "Failure": "dagy.authoring",
    "Flow": "dagy.flows",
    "FlowSpec": "dagy.spec",
    "Hook": "dagy.hooks",
    "LocalArtifact": "dagy.artifacts",
    "LocalRunResult": "dagy.local.runner",
    "RunContext": "dagy.hooks",
    "RunStatus": "dagy.status",
    "Serializer": "dagy.serializers",
    "Settled": "dagy.authoring",
    "State": "dagy.hooks",
    "Task": "dagy.tasks",
    "TaskOutput": "dagy.outputs",
    "TaskRunStatus": "dagy.status",
    "allow_failed": "dagy.authoring",
    "build_artifact": "dagy.packaging",
    "choose": "dagy.authoring",
    "completed": "dagy.hooks",
    "deploy_artifact": "dagy.deploy",
    "failed": "dagy.hooks",
    "flow": "dagy.decorators",
    "get_logger": "dagy.log_capture",
    "register_serializer": "dagy.serializers",
    "retrying": "dagy.hooks",
    "run_local": "dagy.local.runner",
    "running": "dagy.hooks",
    "task": "dagy.decorators",
    "tear_down": "dagy.authoring",
    "unmapped": "dagy.tasks",
    "upload_artifact_via_api": "dagy.deploy",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'dagy' has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - the one door through which everything is loaded late

    value = getattr(importlib.import_module(_HOME_OF.get(name, "dagy.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
