"""Audit hooks: one trail of everything that several tasks did, by hooks that a function makes.

A hook may be a closure. `audit(actor)` below makes one that knows who is responsible, and three tasks share it.

Run it:

    python examples/hooks/03_audit_hooks.py
    dagy run examples/hooks/03_audit_hooks.py:audit_hooks_flow
"""

from dagy import Hook, RunContext, State, flow, task

# `list.append` is safe when several tasks end at once.
trail: list[str] = []


def audit(actor: str) -> Hook:
    def record(ctx: RunContext, state: State) -> None:
        # `state.type` is a plain string, so it can be padded to a column.
        line = f"{state.type:10s} {ctx.name:10s} attempt {ctx.attempt} by {actor}"
        trail.append(line)
        print(line)

    return record


hooks = [audit("billing")]


@task(on_running=hooks, on_completion=hooks, on_failure=hooks)
def collect() -> list[float]:
    return [19.0, 23.5]


@task(on_running=hooks, on_completion=hooks, on_failure=hooks)
def total(amounts: list[float]) -> float:
    return sum(amounts)


@task(on_running=hooks, on_completion=hooks, on_failure=hooks)
def send_bill(amount: float) -> str:
    return f"billed {amount:.2f}"


@flow
def audit_hooks_flow() -> str:
    return send_bill(total(collect()))


if __name__ == "__main__":
    result = audit_hooks_flow.run_local()
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
