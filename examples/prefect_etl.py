"""A Prefect flow: the world's airports into the CARTO Data Warehouse, and a summary of them by country."""

from __future__ import annotations

from typing import Any

from prefect import flow

from prefect_blocks import carto_load, carto_query

AIRPORTS = "shared.airports_prefect"
BY_COUNTRY = "shared.airports_by_country_prefect"

SUM_UP = f"""
    CREATE OR REPLACE TABLE {BY_COUNTRY} AS
    SELECT
      country,
      COUNT(*) AS airports,
      ROUND(AVG(elevation_ft)) AS mean_elevation_ft,
      ST_CENTROID(ST_UNION_AGG(geom)) AS centroid
    FROM {AIRPORTS}
    GROUP BY country
"""


def airport_rows() -> list[dict[str, Any]]:
    """Return the airports as rows. The load calls this for each of its tries."""
    import airportsdata

    return [
        {
            "icao": airport["icao"],
            "name": airport["name"],
            "country": airport["country"],
            "elevation_ft": airport["elevation"],
            "geom": f"POINT({airport['lon']} {airport['lat']})",
        }
        for airport in airportsdata.load().values()
    ]


@flow(retries=1)
def airports(block: str = "prod") -> int:
    """Load the airports, then summarize them. A retry of the flow finds the jobs of the first try.

    Args:
        block: The name under which the CARTO credentials were saved.
    """
    loaded = carto_load(block, airport_rows, AIRPORTS, geometry="geom", write_disposition="WRITE_TRUNCATE")
    carto_query(block, SUM_UP)
    rows: int = loaded["rows"]
    return rows


if __name__ == "__main__":
    airports()
