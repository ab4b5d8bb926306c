"""Fan-out: one output feeds several tasks, which then run at the same time.

                    ┌─ compute_mean
    load_dataset ───┼─ compute_max
                    └─ compute_min

Run it:

    python examples/graph-patterns/01_fan_out.py
    dagy run examples/graph-patterns/01_fan_out.py:fan_out_flow --max-workers 3

With `--max-workers 1` the same graph takes longer, because only one task runs at a time.
"""

from statistics import fmean
from time import sleep

from dagy import flow, task


@task
def load_dataset(dataset_name: str) -> list[dict[str, float]]:
    """Thirty rows of sales; a real one would query a database."""
    rows = [{"day": day, "amount": 100.0 + 7 * day} for day in range(1, 31)]
    print(f"{dataset_name}: {len(rows)} rows")
    return rows


# Each of the three gets a copy of the rows of its own, so what one does to them can not disturb the others.
# The sleep stands for real work: it makes visible that they overlap.
@task
def compute_mean(rows: list[dict[str, float]]) -> dict[str, float]:
    sleep(0.1)
    return {"rows": len(rows), "mean": fmean(row["amount"] for row in rows)}


@task
def compute_max(rows: list[dict[str, float]]) -> dict[str, float]:
    sleep(0.1)
    return {"rows": len(rows), "max": max(row["amount"] for row in rows)}


@task
def compute_min(rows: list[dict[str, float]]) -> dict[str, float]:
    sleep(0.1)
    return {"rows": len(rows), "min": min(row["amount"] for row in rows)}


# All three take the same output and none takes another's, so they wait for the loader and not for each other. The flow
# returns nothing: every task that is called runs, whether its output is used or not.
@flow
def fan_out_flow(dataset_name: str = "sales_q1") -> None:
    rows = load_dataset(dataset_name)
    compute_mean(rows)
    compute_max(rows)
    compute_min(rows)


if __name__ == "__main__":
    result = fan_out_flow.run_local(max_workers=3)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
