"""Jitter: lengthen each delay by a random part, so that many runs that failed together do not come back together.

With a delay of 0.02 s and a factor of 0.5, each wait is 0.02 to 0.03 s:

    delay + delay * retry_jitter_factor * random()

Run it:

    python examples/error-handling/03_jitter.py
    dagy run examples/error-handling/03_jitter.py:jitter_flow

`dagy logs <run_id>` shows the delays that were drawn.
"""

from dagy import flow, task

calls = 0


@task(retries=4, retry_delay_seconds=0.02, retry_jitter_factor=0.5)
def fetch_prices() -> dict[str, float]:
    global calls
    calls += 1
    print(f"attempt {calls}")
    if calls < 3:
        raise ConnectionError(f"too many requests, call {calls}")
    return {"apples": 1.2, "pears": 1.8}


@task
def average(prices: dict[str, float]) -> float:
    return sum(prices.values()) / len(prices)


@flow
def jitter_flow() -> float:
    return average(fetch_prices())


if __name__ == "__main__":
    result = jitter_flow.run_local()
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
