"""The SQL of the report, and the few lines that run it with DuckDB."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The five files of the data set, by the name of their table.
FILES = {
    "flights": "flights.csv.zip",
    "airlines": "airlines.csv",
    "airports": "airports.csv",
    "planes": "planes.csv",
    "weather": "weather.csv",
}

#: What cleaning means, by table. The files write `NA` for a missing value, which `read_csv` makes NULL.
CLEAN = {
    "flights": """
        SELECT *,
               make_timestamp(year, month, day, hour, minute, 0) AS scheduled_at,
               dep_time IS NULL AS cancelled,
               coalesce(arr_delay < 15, false) AS on_time
        FROM raw
    """,
    "airlines": "SELECT carrier, name FROM raw",
    "airports": "SELECT faa, name, lat, lon, tzone FROM raw",
    "planes": "SELECT tailnum, year AS built_year, manufacturer, model, seats FROM raw",
    # One sensor reported 1,048 mph; no surface wind ever measured on Earth passed 255.
    "weather": """
        SELECT origin, time_hour, temp, precip, visib, CASE WHEN wind_speed < 255 THEN wind_speed END AS wind_speed
        FROM raw
    """,
}

#: One row per flight, whatever the other tables know about it: the checks prove that no join lost or doubled one.
JOIN = """
    SELECT flights.*,
           airlines.name AS carrier_name,
           airports.name AS dest_name,
           flights.year - planes.built_year AS plane_age,
           weather.origin IS NOT NULL AS has_weather,
           weather.temp, weather.precip, weather.visib, weather.wind_speed
    FROM flights
    LEFT JOIN airlines USING (carrier)
    LEFT JOIN airports ON airports.faa = flights.dest
    LEFT JOIN planes USING (tailnum)
    LEFT JOIN weather USING (origin, time_hour)
"""


class Grouping(NamedTuple):
    """One question to the joined table: `label` names the groups, `position` sorts them."""

    label: str
    position: str


def _bins(column: str, *edges: float) -> str:
    """An SQL expression that names the interval between two edges in which a value lies, its lower edge included."""
    cases = [f"WHEN {column} < {edges[0]} THEN 'under {edges[0]}'"]
    cases += [f"WHEN {column} < {high} THEN '{low}–{high}'" for low, high in pairwise(edges)]
    return f"CASE {' '.join(cases)} WHEN {column} >= {edges[-1]} THEN '{edges[-1]} and more' END"


#: The questions of the report; each is answered by a task of its own. A group without a label is "unknown".
GROUPINGS = {
    "year": Grouping("year::VARCHAR", "min(year)"),
    "carrier": Grouping("coalesce(carrier_name, carrier)", "avg(on_time::INT) DESC"),
    "route": Grouping(
        "origin || ' → ' || dest || coalesce(' ' || regexp_replace(dest_name, ' Airport$', ''), '')",
        "avg(arr_delay) DESC",
    ),
    "hour": Grouping("lpad(hour::VARCHAR, 2, '0')", "min(hour)"),
    "month": Grouping("monthname(scheduled_at)", "min(month)"),
    "month_hour": Grouping("strftime(scheduled_at, '%b %H')", "min(month), min(hour)"),
    "day": Grouping("strftime(scheduled_at, '%Y-%m-%d')", "min(scheduled_at)"),
    "rain": Grouping(f"CASE WHEN precip = 0 THEN 'dry' ELSE {_bins('precip', 0.05, 0.1, 0.2)} END", "min(precip)"),
    "visibility": Grouping(_bins("visib", 1, 3, 6, 10), "min(visib)"),
    "wind": Grouping(_bins("wind_speed", 5, 10, 15, 20, 25, 30), "min(wind_speed)"),
    "plane_age": Grouping(_bins("plane_age", 5, 10, 15, 20, 25), "min(plane_age)"),
}

#: The same measures for every group. A mean over groups without a departure is NULL, in Python None.
MEASURES = """
    count(*) AS flights,
    100.0 * avg(cancelled::INT) AS cancelled_percent,
    100.0 * avg(on_time::INT) AS on_time_percent,
    avg(dep_delay) AS mean_delay_minutes,
    quantile_disc(dep_delay, 0.5) AS median_delay_minutes,
    quantile_disc(dep_delay, 0.9) AS p90_delay_minutes,
    quantile_disc(dep_delay, 0.95) AS p95_delay_minutes,
    avg(arr_delay) AS mean_arrival_delay_minutes
"""

#: Figures of the joined table that `independent.count_figures` finds in the CSV files on its own.
FIGURES = """
    SELECT count(*) AS "Flights",
           count(*) FILTER (cancelled) AS "Cancelled flights",
           count(*) FILTER (on_time) AS "Flights on time",
           sum(dep_delay)::BIGINT AS "Departure delay, minutes in total",
           sum(arr_delay)::BIGINT AS "Arrival delay, minutes in total",
           quantile_disc(dep_delay, 0.5) AS "Departure delay, median minutes",
           quantile_disc(dep_delay, 0.95) AS "Departure delay, 95th percentile in minutes",
           sum(distance)::BIGINT AS "Distance, miles in total",
           count(DISTINCT carrier) AS "Carriers",
           count(DISTINCT (origin, dest)) AS "Routes",
           count(*) FILTER (carrier_name IS NOT NULL) AS "Flights of a carrier with a name",
           count(*) FILTER (has_weather) AS "Flights with weather",
           count(*) FILTER (precip > 0) AS "Flights scheduled in rain",
           count(*) FILTER (plane_age IS NOT NULL) AS "Flights of a plane of known age"
    FROM joined
"""


def grouped(question: str, min_flights: int = 1) -> str:
    """The SELECT that answers one of `GROUPINGS` about the table `joined`, leaving out groups below `min_flights`."""
    grouping = GROUPINGS[question]
    return f"""
        SELECT coalesce({grouping.label}, 'unknown') AS label, {MEASURES}
        FROM joined GROUP BY label HAVING count(*) >= {int(min_flights)} ORDER BY {grouping.position} NULLS LAST, label
    """


def open_tables(paths: Mapping[str, str]) -> DuckDBPyConnection:
    """A DuckDB connection in memory that sees each Parquet file under the name of its key."""
    import duckdb  # here, so that building the flow does not load a database

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name, path in paths.items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({_quoted(path)})")
    return connection


def csv_to_parquet(table: str, csv_path: str, target: Path) -> str:
    """Clean one CSV file into a Parquet file and return its path."""
    with open_tables({}) as connection:
        connection.execute(f"CREATE TABLE raw AS SELECT * FROM read_csv({_quoted(csv_path)}, nullstr = 'NA')")
        return write_parquet(connection, CLEAN[table], target)


def write_parquet(connection: DuckDBPyConnection, query: str, target: Path) -> str:
    """Write what `query` selects and return the path of the file, which is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        connection.execute(f"COPY ({query}) TO {_quoted(str(unfinished))} (FORMAT parquet, COMPRESSION zstd)")
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return str(target)


def count_rows(connection: DuckDBPyConnection, table: str) -> int:
    """How many rows `table` has."""
    return int(rows_of(connection, f"SELECT count(*) AS n FROM {table}")[0]["n"])


def rows_of(connection: DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """The rows that `query` selects, each as a dict by column name."""
    cursor = connection.execute(query)
    columns = [column[0] for column in cursor.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
