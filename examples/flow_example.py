"""The smallest pipeline: extract, transform, load.

Run it:

    python examples/flow_example.py
    dagy run examples/flow_example.py:example_flow

and look at what was recorded, with the run id that it printed:

    dagy runs show <run_id>
    dagy logs <run_id> --task load-1
"""

from dagy import flow, task


@task
def extract() -> list[int]:
    return [3, 1, 2]


@task
def transform(numbers: list[int]) -> list[int]:
    return sorted(number * 10 for number in numbers)


@task
def load(numbers: list[int]) -> int:
    print(f"loaded {numbers}")
    return len(numbers)


# The body of a flow runs before any task does. Each call notes a task run, named after its task with a number
# (extract-1, transform-1, load-1), and passing an output on says which task has to wait for which.
@flow
def example_flow() -> int:
    numbers = extract()
    ordered = transform(numbers)
    return load(ordered)


if __name__ == "__main__":
    result = example_flow.run_local()
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
    print(f"Output : {result.output()}")
