"""An Airflow DAG: the world's airports into the CARTO Data Warehouse, and a summary of them by country."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from airflow_provider.hooks.carto import CartoHook

AIRPORTS = "shared.airports_airflow"
BY_COUNTRY = "shared.airports_by_country_airflow"


@dag(schedule=None, default_args={"retries": 2, "retry_delay": timedelta(seconds=5)}, tags=["carto"])
def airports() -> None:
    """Load the airports, then sum them up. A retried task replaces its table; it never adds to it."""

    @task
    def load_airports() -> int:
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
        warehouse = CartoHook("carto_default").get_carto_warehouse()
        return warehouse.load(rows, AIRPORTS, geometry="geom", write_disposition="WRITE_TRUNCATE").rows

    @task
    def sum_up_by_country() -> int:
        warehouse = CartoHook("carto_default").get_carto_warehouse()
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

    load_airports() >> sum_up_by_country()


airports()
