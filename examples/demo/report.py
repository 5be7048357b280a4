"""Show what the demo has loaded: as tables on the screen, and as a map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from carto_auth_integrations.sandbox import SandboxOptions, SandboxStats

    from .steps import Steps

SHOWN_COUNTRIES = 6

INK = "#0d1b2a"
PAPER = "#e0e6ed"
FAINT = "#7b8ca3"

# Feet: the ends of the colour scale, chosen so that plains are visible and few peaks share the last colour.
LOWEST, HIGHEST = -2500, 7000


@dataclass(frozen=True)
class Results:
    """The content of the loaded tables.

    Attributes:
        rows: Number of airports and of countries, by orchestrator.
        countries: The countries with the most airports: code, airports, mean elevation in feet, centroid.
        points: Longitude, latitude and elevation in feet of each airport.
    """

    rows: dict[str, tuple[int, int]]
    countries: list[tuple[str, int, float, str]]
    points: list[tuple[float, float, float]]


def read_back(account: Mapping[str, str]) -> Results:
    """Read the tables of both orchestrators.

    Args:
        account: The fields of the CARTO account.
    """
    from carto_auth_integrations import CartoAuth

    client = CartoAuth.from_mapping(account).get_carto_dw_client()

    def rows(sql: str) -> list[Any]:
        return [row.values() for row in client.query_and_wait(sql)]

    def count(table: str) -> int:
        return int(rows(f"SELECT COUNT(*) FROM shared.{table}")[0][0])

    return Results(
        rows={
            name.capitalize(): (count(f"airports_{name}"), count(f"airports_by_country_{name}"))
            for name in ("airflow", "prefect")
        },
        countries=rows(
            "SELECT country, airports, mean_elevation_ft, ST_ASTEXT(centroid) FROM shared.airports_by_country_airflow "
            f"ORDER BY airports DESC LIMIT {SHOWN_COUNTRIES}"
        ),
        points=rows("SELECT ST_X(geom), ST_Y(geom), elevation_ft FROM shared.airports_prefect ORDER BY elevation_ft"),
    )


def show_results(steps: Steps, results: Results, stats: SandboxStats, options: SandboxOptions, map_file: Path) -> None:
    """Print row counts, the head of the summary, times and token requests."""
    loaded = Table("", "airports loaded", "countries", title="In the warehouse", title_justify="left")
    for name, (airports, countries) in results.rows.items():
        loaded.add_row(name, f"{airports:,}", f"{countries:,}")

    headings = ("country", "airports", "mean elevation", "centroid")
    summary = Table(*headings, title="The summary's head", title_justify="left")
    for country, airports, elevation, centroid in results.countries:
        summary.add_row(country, f"{airports:,}", f"{elevation:,.0f} ft", _degrees(centroid))

    tokens = Table("", "asked for", "lives", title="Tokens", title_justify="left")
    tokens.add_row("CARTO access token", str(stats.count("token")), f"{options.carto_token_lifetime:g} s")
    tokens.add_row("CARTO DW token", str(stats.count("dw_token")), f"{options.dw_token_lifetime:g} s")
    refused = stats.dw_unauthorized
    answered = stats.count("bigquery") + stats.count("upload") - refused
    for table in (loaded, summary, tokens):
        table.columns[1].justify = table.columns[2].justify = "right"
        steps.console.print()
        steps.console.print(table)
    steps.say(f"\nBigQuery answered {answered} requests, and refused {refused} whose token had just expired:")
    steps.say("each was repeated with a new one, and neither the DAG nor the flow noticed.")
    steps.say(f"The map is in [bold]{map_file.name}[/]. Done in {steps.elapsed:.0f} s.")


def draw_map(results: Results, file: Path) -> None:
    """Draw a map of all airports, coloured by elevation.

    Args:
        results: The content of the tables.
        file: The PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    longitudes, latitudes, elevations = zip(*results.points, strict=True)
    figure = plt.figure(figsize=(16, 8), facecolor=INK)
    axes = figure.add_axes((0, 0, 1, 1))
    paint = partial(axes.scatter, longitudes, latitudes, c=elevations, vmin=LOWEST, vmax=HIGHEST, cmap="plasma")
    paint(s=28, alpha=0.05, linewidths=0)  # a glow
    dots = paint(s=2.2, alpha=0.9, linewidths=0)
    axes.set(xlim=(-172, 180), ylim=(-72, 104), aspect="equal")
    axes.axis("off")
    subtitle = f"{len(longitudes):,} points loaded by Airflow and Prefect, read back from the CARTO Data Warehouse"
    figure.text(0.04, 0.92, "Airports of the world", color=PAPER, size=28, weight="bold")
    figure.text(0.04, 0.885, subtitle, color=FAINT, size=14)
    bar = figure.colorbar(dots, cax=figure.add_axes((0.04, 0.07, 0.22, 0.014)), orientation="horizontal", extend="max")
    bar.outline.set_visible(False)
    bar.ax.set_xlim(0, HIGHEST)
    bar.ax.set_title("elevation, feet", color=FAINT, size=11, loc="left")
    bar.ax.tick_params(colors=FAINT, length=0)
    figure.savefig(file, dpi=120, facecolor=INK)
    plt.close(figure)


def _degrees(point: str) -> str:
    """Return `POINT(-96.7 39.4)` as `39.4° N, 96.7° W`."""
    longitude, latitude = (float(number) for number in point.strip("POINT ()").split())
    north = f"{abs(latitude):.1f}° {'N' if latitude >= 0 else 'S'}"
    return f"{north}, {abs(longitude):.1f}° {'E' if longitude >= 0 else 'W'}"
