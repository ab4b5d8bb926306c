"""How long to wait before the next attempt: pure functions of the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from dagy.errors import RetryConfigurationError
from dagy.settings import LONGEST_SECONDS

#: What `retry_delay_seconds` accepts: one delay, a delay per retry, or a function of the number of retries.
RetryDelays: TypeAlias = "float | Sequence[float] | Callable[[int], Sequence[float]] | None"

#: What `retries` accepts: a number, or rules by exception: `(exception, retries, delay_seconds)`.
Retries: TypeAlias = "int | Sequence[tuple[Any, ...]]"


def retry_delays(retries: object, delay_seconds: RetryDelays, *, owner: str) -> tuple[float, ...]:
    """Return the delay in seconds before each retry; its length is `retries`.

    Args:
        retries: how many attempts may follow the first one, 0 or more.
        delay_seconds: a number for every retry, a list (the last value repeats), or a function that is called once
            with `retries` and returns the list; None means at once.
        owner: how the task or flow is named in an error.

    Raises:
        RetryConfigurationError: the settings can not work; the message names the owner and the legal values.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise RetryConfigurationError(f"retries of {owner} must be a whole number from 0, got {retries!r}")
    values = delay_seconds
    if callable(values):
        try:
            values = values(retries)
        except Exception as exc:
            raise RetryConfigurationError(
                f"retry_delay_seconds of {owner} raised {type(exc).__name__}: {exc}; it is called with the number of "
                "retries and returns a list of seconds"
            ) from exc
    if values is None:
        return (0.0,) * retries
    if isinstance(values, (int, float)):
        values = [values]
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise RetryConfigurationError(
            f"retry_delay_seconds of {owner} must be a number, a list of numbers or a function, got {values!r}"
        )
    if retries and not values:
        raise RetryConfigurationError(f"retry_delay_seconds of {owner} is an empty list; give at least one delay")
    delays = [_seconds(value, owner) for value in values]
    return tuple((delays + delays[-1:] * retries)[:retries])


def jitter_factor(value: float | None, *, owner: str) -> float:
    """Return the factor as a number from 0 to 1.

    Raises:
        RetryConfigurationError: it is something else.
    """
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise RetryConfigurationError(f"retry_jitter_factor of {owner} must be from 0.0 to 1.0, got {value!r}")
    return float(value)


class RetryRule(NamedTuple):
    """How often, and after which delays, an attempt is repeated that raised one of these exceptions."""

    exceptions: tuple[type[BaseException], ...]
    delays_seconds: tuple[float, ...]


def retry_rules(retries: Retries, delay_seconds: RetryDelays, *, owner: str) -> tuple[RetryRule, ...]:
    """Return the rules in the order in which they are tried; the first that fits an exception decides.

    Args:
        retries: how many attempts may follow the first, or a list of `(exception, retries, delay_seconds)`, where
            exception is a class or a tuple of classes.
        delay_seconds: as in `retry_delays`, for the plain number.

    Raises:
        RetryConfigurationError: the settings can not work.
    """
    if not isinstance(retries, (list, tuple)):
        return (RetryRule((Exception,), retry_delays(retries, delay_seconds, owner=owner)),)
    if delay_seconds is not None:
        raise RetryConfigurationError(f"{owner} has rules in retries, so the delays belong into those rules")
    return tuple(_rule(each, owner) for each in retries)


def _rule(rule: object, owner: str) -> RetryRule:
    if not isinstance(rule, (list, tuple)) or not 2 <= len(rule) <= 3:
        raise RetryConfigurationError(
            f"Each rule in retries of {owner} is (exception, retries, delay_seconds), got {rule!r}"
        )
    kinds = rule[0] if isinstance(rule[0], tuple) else (rule[0],)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise RetryConfigurationError(f"A rule in retries of {owner} names {rule[0]!r}, which is no exception class")
    return RetryRule(kinds, retry_delays(rule[1], rule[2] if len(rule) == 3 else None, owner=owner))


def retry_delay(rules: Sequence[RetryRule], error: BaseException, attempt: int) -> float | None:
    """Return the seconds to wait after a failed attempt, without jitter; None when it is not to be repeated."""
    for rule in rules:
        if isinstance(error, rule.exceptions):
            if attempt > len(rule.delays_seconds):
                return None
            return max(rule.delays_seconds[attempt - 1], retry_after_seconds(error) or 0.0)
    return None


def retry_after_seconds(error: BaseException) -> float | None:
    """Return how long the other side asked to wait: the exception's `retry_after`, or its response's Retry-After.

    It is at most `LONGEST_SECONDS`, the longest that can be waited.
    """
    value = getattr(error, "retry_after", None)
    if value is None:
        headers: Any = getattr(getattr(error, "response", None), "headers", None)
        value = headers.get("Retry-After") if hasattr(headers, "get") else None
    try:
        seconds = float(value)  # type: ignore[arg-type]  # None and dates raise, and mean nothing here
    except (TypeError, ValueError):
        return None
    return min(seconds, LONGEST_SECONDS) if 0 <= seconds < float("inf") else None


def with_jitter(delay_seconds: float, factor: float, random: Callable[[], float]) -> float:
    """Return `delay_seconds` lengthened by up to `factor` of itself; `random` draws from [0, 1)."""
    return delay_seconds + delay_seconds * factor * random()


def _seconds(value: object, owner: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_SECONDS:
        raise RetryConfigurationError(
            f"retry_delay_seconds of {owner} must be numbers of seconds from 0 to {LONGEST_SECONDS:.0f}, got {value!r}"
        )
    return float(value)
