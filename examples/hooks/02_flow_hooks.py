"""Flow hooks: functions that Dagy calls once per run, however many tasks the flow has.

    on_running     the run begins
    on_completion  every task succeeded
    on_failure     the run failed

Run it:

    python examples/hooks/02_flow_hooks.py
    dagy run examples/hooks/02_flow_hooks.py:flow_hooks_flow --param region=us-east

`dagy run` keeps what these hooks print in the log of the run: `dagy logs <run_id>`.
"""

from dagy import RunContext, State, flow, task


# For a flow hook `ctx.name` is the flow and `ctx.parameters` are the flow's own parameters, defaults included.
def announce_start(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name} {state.type}: run {ctx.run_id} with {ctx.parameters}")


def announce_end(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name} {state.type}: run {ctx.run_id}")


def announce_failure(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name} {state.type}: run {ctx.run_id}: {state.message}")


@task
def extract(region: str, limit: int) -> list[int]:
    print(f"reading up to {limit} orders of {region}")
    return list(range(limit))


@task
def load(orders: list[int]) -> int:
    if not orders:
        raise ValueError("there is nothing to load")
    return len(orders)


@flow(on_running=[announce_start], on_completion=[announce_end], on_failure=[announce_failure])
def flow_hooks_flow(region: str = "eu-west", limit: int = 5) -> int:
    return load(extract(region, limit))


if __name__ == "__main__":
    result = flow_hooks_flow.run_local(region="eu-west", limit=5)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
