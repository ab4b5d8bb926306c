"""What `@task` and `@flow` accept: each check returns the value, or names the setting and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dagy.errors import FlowDefinitionError
from dagy.hooks import Hook

F = TypeVar("F", bound=Callable[..., Any])

#: The longest timeout or delay, a bit over three years. It is far below `threading.TIMEOUT_MAX`, which waiting for an
#: attempt must not exceed also when jitter lengthens a delay.
LONGEST_SECONDS = 1e8


def plain_function(fn: Any, word: str) -> Any:
    if hasattr(fn, "__wrapped__") and hasattr(fn, "fn"):
        raise FlowDefinitionError(f"{fn!r} is decorated already; @{word} takes a plain function")
    if not callable(fn):
        raise FlowDefinitionError(
            f"@{word} decorates a function, got {fn!r}; write @{word} or @{word}(...) above a def"
        )
    return fn


def look_like(decorated: Any, fn: Callable[..., Any]) -> None:
    """What `functools.update_wrapper` copies, so that help(), IDEs and inspect see the user's function."""
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        if hasattr(fn, attribute):
            setattr(decorated, attribute, getattr(fn, attribute))
    decorated.__wrapped__ = fn  # the protocol of inspect.unwrap


def checked_name(name: str | None, fn: Any, word: str) -> str:
    chosen = getattr(fn, "__name__", "") if name is None else name
    if not chosen and name is None:
        raise FlowDefinitionError(f"{fn!r} has no name of its own; give the {word} one with @{word}(name=...)")
    return _one_line(chosen, f"name of a {word}")


def checked_label(text: str | None, setting: str, owner: str) -> str | None:
    return None if text is None else _one_line(text, f"{setting} of {owner}")


def _one_line(text: Any, what: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise FlowDefinitionError(f"{what} must be a non-empty string, got {text!r}")
    if "\x00" in text or "\n" in text:
        raise FlowDefinitionError(f"{what} must be one line of text, got {text!r}")
    return text


def checked_version(version: str, owner: str) -> str:
    if not isinstance(version, str) or not version.strip():
        raise FlowDefinitionError(f"version of {owner} must be a non-empty string, got {version!r}")
    return version


def checked_tags(tags: Mapping[str, str] | None, owner: str) -> dict[str, str]:
    tags = dict(tags or {})
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise FlowDefinitionError(f"tags of {owner} must be strings by strings, got {key!r}: {value!r}")
    return tags


def checked_description(description: str | None, fn: Any) -> str:
    return (fn.__doc__ or "").strip() if description is None else description


def checked_timeout(timeout_seconds: float | None, owner: str) -> float | None:
    if timeout_seconds is None:
        return None
    is_number = isinstance(timeout_seconds, (int, float)) and not isinstance(timeout_seconds, bool)
    if not is_number or not 0 < timeout_seconds <= LONGEST_SECONDS:
        raise FlowDefinitionError(
            f"timeout_seconds of {owner} must be a number above 0 and up to {LONGEST_SECONDS:.0f}, "
            f"got {timeout_seconds!r}"
        )
    return timeout_seconds


def checked_limit(limit: int | None, setting: str, owner: str) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise FlowDefinitionError(f"{setting} of {owner} must be a whole number from 1, got {limit!r}")
    return limit


def checked_hooks(hooks: Sequence[Hook] | None, setting: str, owner: str) -> tuple[Hook, ...]:
    if hooks is None:
        return ()
    if callable(hooks) or isinstance(hooks, str) or not all(callable(hook) for hook in hooks):
        raise FlowDefinitionError(f"{setting} of {owner} must be a list of functions, got {hooks!r}")
    return tuple(hooks)


def checked_callable(fn: F | None, setting: str, owner: str) -> F | None:
    if fn is not None and not callable(fn):
        raise FlowDefinitionError(f"{setting} of {owner} must be a function, got {fn!r}")
    return fn
