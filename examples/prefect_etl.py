"""A Prefect flow: the world's airports into the CARTO Data Warehouse, and a summary of them by country."""

from __future__ import annotations

from prefect import flow, task

from prefect_blocks import CartoCredentials

AIRPORTS = "shared.airports_prefect"
BY_COUNTRY = "shared.airports_by_country_prefect"


@task(retries=2, retry_delay_seconds=5)
def load_airports(block: str) -> int:
    """Load the airports. A retry replaces the table; it never adds to it."""
    import airportsdata

    rows = (
        {
            "icao": airport["icao"],
            "name": airport["name"],
            "country": airport["country"],
            "elevation_ft": airport["elevation"],
            "geom": f"POINT({airport['lon']} {airport['lat']})",
        }
        for airport in airportsdata.load().values()
    )
    warehouse = CartoCredentials.load(block).get_carto_warehouse()
    return warehouse.load(rows, AIRPORTS, geometry="geom", write_disposition="WRITE_TRUNCATE").rows


@task(retries=2, retry_delay_seconds=5)
def sum_up_by_country(block: str) -> int:
    """Count the airports of each country, and find their middle."""
    warehouse = CartoCredentials.load(block).get_carto_warehouse()
    warehouse.query(f"""
        CREATE OR REPLACE TABLE {BY_COUNTRY} AS
        SELECT
          country,
          COUNT(*) AS airports,
          ROUND(AVG(elevation_ft)) AS mean_elevation_ft,
          ST_CENTROID(ST_UNION_AGG(geom)) AS centroid
        FROM {AIRPORTS}
        GROUP BY country
    """)
    return warehouse.query(f"SELECT country FROM {BY_COUNTRY}").total_rows


@flow
def airports(block: str = "prod") -> int:
    """Load the airports, then sum them up.

    Args:
        block: The name under which the CARTO credentials were saved.
    """
    loaded = load_airports(block)
    sum_up_by_country(block)
    return loaded


if __name__ == "__main__":
    airports()
