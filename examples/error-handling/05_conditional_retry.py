"""Conditional retry: try again only where that can help.

A lost connection passes; an order that does not exist will not exist in a second either, and asking again only delays
the bad news.

Run it, first with an order that is found at the second attempt and then with one that does not exist:

    python examples/error-handling/05_conditional_retry.py
    dagy run examples/error-handling/05_conditional_retry.py:conditional_retry_flow --param order_id=A-1
    dagy run examples/error-handling/05_conditional_retry.py:conditional_retry_flow --param order_id=Z-9
"""

from dagy import flow, task

ORDERS = {"A-1": 99.5, "B-2": 12.0}

calls = 0


def is_temporary(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


# The function is asked after each failed attempt; when it says no, the retries that are left are not made.
@task(retries=3, retry_delay_seconds=0.02, retry_condition_fn=is_temporary)
def find_order(order_id: str) -> float:
    global calls
    calls += 1
    print(f"attempt {calls}")
    if order_id not in ORDERS:
        raise ValueError(f"there is no order {order_id}")
    if calls == 1:
        raise ConnectionError("the connection was reset")
    return ORDERS[order_id]


@task
def charge(amount: float) -> str:
    return f"charged {amount:.2f}"


@flow
def conditional_retry_flow(order_id: str = "A-1") -> str:
    return charge(find_order(order_id))


if __name__ == "__main__":
    result = conditional_retry_flow.run_local(order_id="A-1")
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
