"""Every error that Dagy raises on purpose.

    Exception
    ├── DagyError
    │   ├── APIError(status_code, message)
    │   ├── ParameterTypeError
    │   ├── ParameterError (also ValueError)
    │   ├── RetryConfigurationError
    │   ├── FlowDefinitionError
    │   ├── SpecFormatError
    │   ├── IllegalTransition
    │   ├── LocalStoreError
    │   ├── NotFound
    │   ├── InvalidTarget (also ValueError)
    │   ├── FlowFileNotFound (also FileNotFoundError)
    │   ├── FlowNotFound (also AttributeError)
    │   ├── FlowImportError (also ImportError)
    │   ├── ArtifactNotFound (also FileNotFoundError)
    │   ├── InvalidArtifact (also ValueError)
    │   ├── ConfigError
    │   └── NotAvailableYet
    └── LocalExecutionError (RuntimeError)
        ├── DependencyCycleError
        ├── TaskFailedError
        ├── FlowFailedError
        ├── ArtifactSerializationError
        ├── CacheKeyError
        └── TaskTimeoutError

The command line prints `<label>: <message>` and leaves with `exit_code`, without a traceback: each message is one
sentence that names what is wrong and the way out. Where the contract documents a built-in class, ours is also that
class and prints its name.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class ExitCode(enum.IntEnum):
    """What `dagy` tells the shell."""

    SUCCESS = 0
    FAILURE = 1
    USAGE = 2
    AUTH = 3
    NETWORK = 4
    NOT_FOUND = 5
    INTERRUPTED = 130


class DagyError(Exception):
    """The root of what Dagy raises about a user's input, a file or an API."""

    exit_code: ExitCode = ExitCode.FAILURE
    #: What the command line prints before the message; None means the name of the class, "" nothing.
    label: str | None = None


class LocalExecutionError(RuntimeError):
    """The root of what ends a run on this machine."""

    exit_code: ExitCode = ExitCode.FAILURE
    label: str | None = None


def shown(error: BaseException) -> str:
    """The line that a person reads: `<label>: <message>`."""
    label = getattr(error, "label", None)
    label = type(error).__name__ if label is None else label
    return f"{label}: {error}" if label else str(error)


class APIError(DagyError):
    """The API answered with an error, or could not be reached (`status_code` 0)."""

    def __init__(self, status_code: int, message: str, *, request_id: str | None = None) -> None:
        super().__init__(f"APIError {status_code}: {message}")
        self.status_code = status_code
        self.message = message
        self.request_id = request_id
        self.exit_code = _EXIT_CODE_OF_STATUS.get(status_code, ExitCode.FAILURE)

    label = ""


_EXIT_CODE_OF_STATUS = {
    0: ExitCode.NETWORK,
    401: ExitCode.AUTH,
    403: ExitCode.AUTH,
    404: ExitCode.NOT_FOUND,
}


class ParameterTypeError(DagyError):
    """A value does not have the type that its parameter declares."""

    exit_code = ExitCode.USAGE


class ParameterError(DagyError, ValueError):
    """A parameter is missing, unknown or malformed."""

    exit_code = ExitCode.USAGE
    label = "ValueError"


class RetryConfigurationError(DagyError):
    """The retry settings of a task or flow can not work."""


class FlowDefinitionError(DagyError):
    """A flow can not be turned into a graph. `user_traceback` says where, if its body raised."""

    def __init__(self, message: str, *, user_traceback: str = "") -> None:
        super().__init__(message)
        self.user_traceback = user_traceback


class SpecFormatError(DagyError):
    """A FlowSpec document is not one that this version reads."""


class IllegalTransition(DagyError):
    """A status change that the tables in `dagy.status` do not allow."""

    def __init__(self, what: str, old: str, new: str, legal: Iterable[str]) -> None:
        ways = ", ".join(sorted(legal)) or "nothing, it is final"
        super().__init__(f"A {what} can not go from {old} to {new}; from {old} it can become: {ways}")


class LocalStoreError(DagyError):
    """The local directory can not be read or written."""


class NotFound(DagyError):
    """What was named does not exist."""

    exit_code = ExitCode.NOT_FOUND
    label = ""


class InvalidTarget(DagyError, ValueError):
    """The target is not of the form `<path>:<flow_fn>`."""

    exit_code = ExitCode.USAGE
    label = "ValueError"


class FlowFileNotFound(DagyError, FileNotFoundError):
    """The file of the target does not exist."""

    exit_code = ExitCode.NOT_FOUND
    label = "FileNotFoundError"


class FlowNotFound(DagyError, AttributeError):
    """The file has no flow of that name."""

    exit_code = ExitCode.NOT_FOUND
    label = "AttributeError"


class FlowImportError(DagyError, ImportError):
    """The file raised while it was imported. `user_traceback` holds the frames of the user's own code."""

    label = "ImportError"

    def __init__(self, message: str, *, user_traceback: str = "") -> None:
        super().__init__(message)
        self.user_traceback = user_traceback


class ArtifactNotFound(DagyError, FileNotFoundError):
    """There is no flow artifact at that path."""

    exit_code = ExitCode.NOT_FOUND
    label = "FileNotFoundError"


class InvalidArtifact(DagyError, ValueError):
    """The file is not a flow artifact, or is not the one that was asked for."""

    label = "ValueError"


class ConfigError(DagyError):
    """A setting, a profile or the credentials file is unusable."""

    exit_code = ExitCode.USAGE
    label = ""


class NotAvailableYet(DagyError):
    """The command needs a Dagy server that speaks this part of the API."""

    label = ""


class DependencyCycleError(LocalExecutionError):
    """The tasks of a flow wait for each other, or for one that does not exist."""


class TaskFailedError(LocalExecutionError):
    """A task failed after all its attempts and ended the run. `user_traceback` has the frames of the user's code."""

    def __init__(
        self, task_name: str, message: str, *, run_id: str = "", task_run_id: str = "", user_traceback: str = ""
    ) -> None:
        super().__init__(f"Task {task_name} failed: {message}")
        self.user_traceback = user_traceback
        self.task_name = task_name
        self.run_id = run_id
        self.task_run_id = task_run_id


class FlowFailedError(LocalExecutionError):
    """The run failed outside any task, for example at its own time limit."""

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class ArtifactSerializationError(LocalExecutionError):
    """A task's output can not be stored: not JSON, or larger than the limit."""


class CacheKeyError(LocalExecutionError):
    """The cache key of a task run can not be computed."""


class TaskTimeoutError(LocalExecutionError):
    """An attempt ran longer than its task's `timeout_seconds`."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(f"Task exceeded timeout of {timeout_seconds:g}s")
        self.timeout_seconds = timeout_seconds
