"""Exponential backoff: wait longer before each retry, so that a service in trouble gets time to recover.

Run it:

    python examples/error-handling/02_exponential_backoff.py
    dagy run examples/error-handling/02_exponential_backoff.py:exponential_backoff_flow
"""

from dagy import flow, task

calls = 0


# One delay for each retry, in seconds. A list that is shorter than `retries` repeats its last value, and a function
# computes the list: `lambda n: [2**i for i in range(n)]` is called with `retries`. Real services want seconds or
# minutes here; these are short so that the example is quick.
@task(retries=3, retry_delay_seconds=[0.01, 0.05, 0.1])
def call_service() -> dict[str, int]:
    global calls
    calls += 1
    print(f"attempt {calls}")
    if calls < 3:
        raise ConnectionError(f"the service refused call {calls}")
    return {"answer": 42, "calls": calls}


@task
def store_answer(answer: dict[str, int]) -> str:
    return f"stored {answer['answer']} after {answer['calls']} calls"


@flow
def exponential_backoff_flow() -> str:
    return store_answer(call_service())


if __name__ == "__main__":
    result = exponential_backoff_flow.run_local()
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
