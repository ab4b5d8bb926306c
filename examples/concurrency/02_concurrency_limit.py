"""Concurrency limit: many workers, yet never more than two calls of one task at once.

    call_api × 6, two at a time ─── collect

The usual reason is a service that allows only a few connections. `max_workers` limits the whole run,
`concurrency_limit` one task: the other workers are free for other tasks meanwhile.

Run it:

    python examples/concurrency/02_concurrency_limit.py
    dagy run examples/concurrency/02_concurrency_limit.py:concurrency_limit_flow --max-workers 6
"""

from threading import Lock
from time import sleep

from dagy import flow, task

# Only to show that the limit holds: how many calls are under way. Tasks run in threads of one process, so they see the
# same module, and a counter that several of them change needs a lock.
lock = Lock()
under_way = 0


def count_call(change: int) -> int:
    global under_way
    with lock:
        under_way += change
        return under_way


@task(concurrency_limit=2)
def call_api(page: int) -> dict[str, int]:
    at_once = count_call(+1)
    sleep(0.05)  # stands for the answer of a service
    count_call(-1)
    return {"page": page, "at_once": at_once}


@task
def collect(answers: list[dict[str, int]]) -> dict[str, int]:
    most = max(answer["at_once"] for answer in answers)
    print(f"{len(answers)} answers, at most {most} calls at once")
    return {"answers": len(answers), "most_at_once": most}


# A list comprehension over calls makes a list of outputs, which the collector gets as a list of six dicts.
@flow
def concurrency_limit_flow() -> dict[str, int]:
    answers = [call_api(page) for page in range(6)]
    return collect(answers)


if __name__ == "__main__":
    result = concurrency_limit_flow.run_local(max_workers=6)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
