"""The figures of the report once more, found without a database: plain Python reads every row of the CSV files.

It shares no code and no SQL with `tables.py`, so an error in a join, a type or a missing value shows as a difference.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO


class Flights:
    """What one pass over the flights counts."""

    def __init__(self) -> None:
        self.flights = 0
        self.miles = 0
        self.departure_delays: Counter[int] = Counter()
        self.arrival_delays: Counter[int] = Counter()
        self.carriers: Counter[str] = Counter()
        self.tail_numbers: Counter[str] = Counter()
        self.routes: Counter[tuple[str, str]] = Counter()
        self.hours: Counter[tuple[str, str]] = Counter()

    def add(self, rows: Iterable[list[str]], columns: Mapping[str, int]) -> None:
        """Count every row; `columns` gives the place of each column in a row."""
        dep, arr, tail, carrier = (columns[name] for name in ("dep_delay", "arr_delay", "tailnum", "carrier"))
        origin, dest, miles, hour = (columns[name] for name in ("origin", "dest", "distance", "time_hour"))
        for row in rows:
            self.flights += 1
            self.miles += int(row[miles])
            if row[dep] != "NA":
                self.departure_delays[int(row[dep])] += 1
            if row[arr] != "NA":
                self.arrival_delays[int(row[arr])] += 1
            self.carriers[row[carrier]] += 1
            self.tail_numbers[row[tail]] += 1
            self.routes[row[origin], row[dest]] += 1
            self.hours[row[origin], row[hour]] += 1


def count_figures(sources: Mapping[str, str], min_flights: int) -> dict[str, int]:
    """Every figure by its title, found by streaming the files at `sources`; the flights come straight from the zip."""
    counted = Flights()
    with _open_csv(sources["flights"]) as (columns, rows):
        counted.add(rows, columns)
    small = {name: _read(path) for name, path in sources.items() if name != "flights"}
    return {
        **_flight_figures(counted, min_flights),
        **_joined_figures(counted, small),
        **{f"Rows of {name}": len(rows) for name, rows in small.items()},
    }


def _flight_figures(counted: Flights, min_flights: int) -> dict[str, int]:
    departures, arrivals, routes = counted.departure_delays, counted.arrival_delays, counted.routes
    return {
        "Flights": counted.flights,
        "Cancelled flights": counted.flights - departures.total(),
        "Flights on time": sum(n for minutes, n in arrivals.items() if minutes < 15),
        "Departure delay, minutes in total": sum(minutes * n for minutes, n in departures.items()),
        "Arrival delay, minutes in total": sum(minutes * n for minutes, n in arrivals.items()),
        "Departure delay, median minutes": value_at(departures, 0.5),
        "Departure delay, 95th percentile in minutes": value_at(departures, 0.95),
        "Distance, miles in total": counted.miles,
        "Carriers": len(counted.carriers),
        "Routes": len(routes),
        "Flights on the routes compared": sum(n for n in routes.values() if n >= min_flights),
    }


def _joined_figures(counted: Flights, small: Mapping[str, list[dict[str, str]]]) -> dict[str, int]:
    """What the joins must find, by looking each key up in a dict."""
    named = {row["carrier"] for row in small["airlines"]}
    of_known_age = {row["tailnum"] for row in small["planes"] if row["year"] != "NA"}
    rain = {(row["origin"], row["time_hour"]): float(row["precip"].replace("NA", "0")) for row in small["weather"]}
    return {
        "Flights of a carrier with a name": sum(n for code, n in counted.carriers.items() if code in named),
        "Flights with weather": sum(n for hour, n in counted.hours.items() if hour in rain),
        "Flights scheduled in rain": sum(n for hour, n in counted.hours.items() if rain.get(hour, 0.0) > 0),
        "Flights of a plane of known age": sum(n for tail, n in counted.tail_numbers.items() if tail in of_known_age),
    }


def value_at(counts: Mapping[int, int], share: float) -> int:
    """The smallest value that at least `share` (0 to 1) of the counted values do not exceed; 0 when there are none."""
    wanted, seen = math.ceil(share * sum(counts.values())), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return 0


@contextmanager
def _open_csv(path: str) -> Iterator[tuple[dict[str, int], Iterator[list[str]]]]:
    """The columns of a CSV file, plain or the only member of a zip, and its rows one by one."""
    if path.endswith(".zip"):
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as binary:
            yield _columns_and_rows(io.TextIOWrapper(binary, encoding="utf-8", newline=""))
    else:
        with open(path, encoding="utf-8", newline="") as text:
            yield _columns_and_rows(text)


def _columns_and_rows(text: TextIO) -> tuple[dict[str, int], Iterator[list[str]]]:
    rows = csv.reader(text)
    return {name: index for index, name in enumerate(next(rows))}, rows


def _read(path: str) -> list[dict[str, str]]:
    with _open_csv(path) as (columns, rows):
        return [dict(zip(columns, row, strict=True)) for row in rows]
