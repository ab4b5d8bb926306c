"""Timeout: an attempt that takes longer than its limit fails, so nothing hangs for ever.

Run it, first in time and then too slow:

    python examples/error-handling/04_timeout.py
    dagy run examples/error-handling/04_timeout.py:timeout_flow --param delay=0.1
    dagy run examples/error-handling/04_timeout.py:timeout_flow --param delay=3

A timeout is a failure like any other: with `retries` the task is tried again.
"""

from time import sleep

from dagy import flow, task


# Python can not kill a thread. Dagy stops waiting for it and ignores what it still returns, but the function itself
# goes on to its end: give your network and database calls time limits of their own, too.
@task(timeout_seconds=2)
def slow_query(delay: float) -> str:
    sleep(delay)  # stands for a query
    return f"answered within {delay} s"


@task
def show(answer: str) -> None:
    print(answer)


@flow
def timeout_flow(delay: float = 0.1) -> None:
    show(slow_query(delay))


if __name__ == "__main__":
    # Keywords other than `max_workers`, `fail_fast` and `home` are the flow's own parameters.
    result = timeout_flow.run_local(delay=0.1)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
