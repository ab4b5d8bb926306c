"""Fixed delay: try again, and wait the same time before each retry.

`retries=3` means up to four attempts: the first one and three more.

Run it:

    python examples/error-handling/01_fixed_delay.py
    dagy run examples/error-handling/01_fixed_delay.py:fixed_delay_flow

`dagy runs show <run_id>` tells how many attempts it took, `dagy logs <run_id> --task read_sensor-1` what went wrong.
"""

from dagy import flow, task

# A module-level counter is enough to play an unreliable device: all attempts run in this process.
calls = 0


@task(retries=3, retry_delay_seconds=0.05)
def read_sensor() -> float:
    global calls
    calls += 1
    print(f"attempt {calls}")
    if calls == 1:
        raise OSError("the sensor is still waking up")
    return 21.5


# Only a final failure is seen by what comes after: this task gets the value of the attempt that succeeded.
@task
def report(celsius: float) -> str:
    return f"{celsius} °C"


@flow
def fixed_delay_flow() -> str:
    return report(read_sensor())


if __name__ == "__main__":
    result = fixed_delay_flow.run_local()
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
