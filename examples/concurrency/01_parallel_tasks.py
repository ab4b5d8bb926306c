"""Parallel tasks: one task called several times, with as many calls at once as there are workers.

    resize_images × 5 ─── aggregate

Run it:

    python examples/concurrency/01_parallel_tasks.py
    dagy run examples/concurrency/01_parallel_tasks.py:parallel_tasks_flow --max-workers 4
"""

from time import sleep
from typing import Any

from dagy import flow, task


# Tasks run in threads: work that waits (a network, a disk, a database) or that leaves Python (NumPy, DuckDB) overlaps.
@task
def resize_images(folder: str, images: int) -> dict[str, Any]:
    sleep(0.1)  # stands for real work
    return {"folder": folder, "images": images}


@task
def aggregate(results: list[dict[str, Any]]) -> dict[str, int]:
    total = sum(result["images"] for result in results)
    print(f"{total} images in {len(results)} folders")
    return {"folders": len(results), "images": total}


# Five calls are five task runs, resize_images-1 to resize_images-5. None depends on another, so `max_workers` alone
# decides how many run at once; with four workers the fifth starts when the first of them is free.
@flow
def parallel_tasks_flow() -> dict[str, int]:
    cats = resize_images("cats", 40)
    dogs = resize_images("dogs", 25)
    birds = resize_images("birds", 10)
    fish = resize_images("fish", 15)
    frogs = resize_images("frogs", 5)
    return aggregate([cats, dogs, birds, fish, frogs])


if __name__ == "__main__":
    result = parallel_tasks_flow.run_local(max_workers=4)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
