"""Task hooks: functions that Dagy calls when something happens to a task.

    on_running     the first attempt starts
    on_retry       another attempt starts, after one that failed
    on_completion  the task succeeded
    on_failure     the task failed, and no attempt is left

Run it:

    python examples/hooks/01_task_hooks.py
    dagy run examples/hooks/01_task_hooks.py:task_hooks_flow

`dagy run` keeps what hooks print in the log of the task: `dagy logs <run_id> --task import_file-1`.
"""

from dagy import Hook, RunContext, State, flow, task

# How many attempts fail: with 3 there is none left, and `on_failure` is called instead of `on_completion`.
ATTEMPTS_THAT_FAIL = 1

calls = 0


# A hook gets the task run that it is called for (`ctx`) and what has just happened (`state`). An exception in a hook is
# logged and changes nothing else, so hooks are the place for messages and not for work.
def log_start(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name}: {state.type}, attempt {ctx.attempt}, {ctx.parameters}")


def log_retry(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name}: {state.type}, attempt {ctx.attempt}, because of {state.message}")


def log_success(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name}: {state.type} at attempt {ctx.attempt}")


def log_failure(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name}: {state.type} after {ctx.attempt} attempts: {state.message}")


# Each list may hold several hooks, which are called in order. `Hook` is the type of such a function.
on_success: list[Hook] = [log_success]


@task(
    retries=2,
    retry_delay_seconds=0.02,
    on_running=[log_start],
    on_retry=[log_retry],
    on_completion=on_success,
    on_failure=[log_failure],
)
def import_file(path: str) -> int:
    global calls
    calls += 1
    if calls <= ATTEMPTS_THAT_FAIL:
        raise OSError(f"{path} is locked")
    return 250


@flow
def task_hooks_flow(path: str = "incoming/orders.csv") -> int:
    return import_file(path)


if __name__ == "__main__":
    result = task_hooks_flow.run_local()
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
