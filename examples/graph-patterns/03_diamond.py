"""Diamond: the work splits into two branches and comes together again.

              ┌─ clean ──┐
    ingest ───┤          ├─ combine
              └─ enrich ─┘

Run it:

    python examples/graph-patterns/03_diamond.py
    dagy run examples/graph-patterns/03_diamond.py:diamond_flow --max-workers 2 --param source=raw_feed
"""

from typing import Any

from dagy import flow, task


# What a task returns is stored as JSON for the tasks after it. None is a JSON value like any other: the record without
# a value arrives downstream as it is here.
@task
def ingest(source: str) -> list[dict[str, Any]]:
    return [
        {"id": 1, "source": source, "value": 10},
        {"id": 2, "source": source, "value": None},
        {"id": 3, "source": source, "value": 30},
    ]


@task
def clean(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Drop the records without a value."""
    kept = [record for record in records if record["value"] is not None]
    return {"records": kept, "dropped": len(records) - len(kept)}


@task
def enrich(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Give each record that has a value a score."""
    scores = {str(record["id"]): record["value"] * 1.5 for record in records if record["value"] is not None}
    return {"scores": scores, "enriched": len(scores)}


@task
def combine(branches: list[dict[str, Any]]) -> dict[str, Any]:
    cleaned, enriched = branches
    records = [{**record, "score": enriched["scores"][str(record["id"])]} for record in cleaned["records"]]
    print(f"{cleaned['dropped']} record dropped, {enriched['enriched']} enriched")
    return {"records": records, "dropped": cleaned["dropped"], "enriched": enriched["enriched"]}


# `clean` and `enrich` take the same output and run at the same time; `combine` waits for both.
@flow
def diamond_flow(source: str = "raw_feed") -> dict[str, Any]:
    records = ingest(source)
    cleaned = clean(records)
    enriched = enrich(records)
    return combine([cleaned, enriched])


if __name__ == "__main__":
    result = diamond_flow.run_local(max_workers=2)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
