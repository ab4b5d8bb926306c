"""Fixtures and settings that every test may use."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

#: How much of the random cases, kills and fuzzing is done: 0.1 in `make test`, 1 in `make soak`.
SCALE = float(os.environ.get("DAGY_TEST_SCALE", "0.1"))

settings.register_profile(
    "dagy",
    max_examples=max(10, int(500 * SCALE)),
    deadline=None,  # timed assertions belong into benchmarks
    derandomize=SCALE < 1,  # `make test` says the same of the same code; `make soak` looks for what is new
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("dagy")


@pytest.fixture
def scale() -> float:
    """How much of the random work is to be done, see `SCALE`."""
    return SCALE
