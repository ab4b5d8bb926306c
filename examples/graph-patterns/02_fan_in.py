"""Fan-in: several independent outputs are merged by one task.

    fetch_users ────┐
    fetch_orders ───┼─ merge_report
    fetch_products ─┘

Run it:

    python examples/graph-patterns/02_fan_in.py
    dagy run examples/graph-patterns/02_fan_in.py:fan_in_flow --max-workers 3
"""

from typing import Any

from dagy import flow, task


@task
def fetch_users() -> dict[str, Any]:
    return {"source": "users", "count": 120}


@task
def fetch_orders() -> dict[str, Any]:
    return {"source": "orders", "count": 450}


@task
def fetch_products() -> dict[str, Any]:
    return {"source": "products", "count": 35}


# Inside a task an output is the plain value that the other task returned: here a list of three dicts, in the order in
# which the flow wrote them, whatever the order in which they were ready.
@task
def merge_report(sources: list[dict[str, Any]]) -> dict[str, int]:
    users, orders, products = sources
    report = {each["source"]: each["count"] for each in (users, orders, products)}
    print(f"merged {report}")
    return report


# Outputs are found inside lists, so one list makes the merge wait for all three.
@flow
def fan_in_flow() -> dict[str, int]:
    users = fetch_users()
    orders = fetch_orders()
    products = fetch_products()
    return merge_report([users, orders, products])


if __name__ == "__main__":
    result = fan_in_flow.run_local(max_workers=3)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
