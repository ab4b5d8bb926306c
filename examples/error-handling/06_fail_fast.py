"""Fail fast: the first task that fails ends the run, and the caller gets its error.

    task_a   task_b   task_c

The three do not depend on each other. With one worker they run in this order: A succeeds, B fails, C never starts.

Run it, first as it is and then so that C runs all the same:

    python examples/error-handling/06_fail_fast.py
    dagy run examples/error-handling/06_fail_fast.py:fail_fast_flow
    dagy run examples/error-handling/06_fail_fast.py:fail_fast_flow --no-fail-fast
"""

from dagy import flow, task
from dagy.local.errors import TaskFailedError


@task
def task_a() -> str:
    return "A is done"


@task
def task_b() -> str:
    raise RuntimeError("B is broken")


@task
def task_c() -> str:
    return "C is done"


@flow
def fail_fast_flow() -> None:
    task_a()
    task_b()
    task_c()


# `fail_fast=True` is the default: nothing new starts, tasks under way end, the rest is CANCELLED, and `run_local`
# raises what failed. With `fail_fast=False` everything that does not depend on the failed task still runs, and
# `run_local` returns a result whose status is FAILED.
if __name__ == "__main__":
    try:
        result = fail_fast_flow.run_local(max_workers=1, fail_fast=True)
    except TaskFailedError as error:
        print(f"Run ID : {error.run_id}")
        print("Status : FAILED")
        print(f"Error  : {error}")
    else:
        print(f"Run ID : {result.run_id}")
        print(f"Status : {result.status}")
