"""An Airflow DAG that loads the world's airports into the CARTO Data Warehouse and sums them up by country."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider.operators.carto import CartoQueryOperator

AIRPORTS = "shared.airports_airflow"
BY_COUNTRY = f"""
    SELECT
      country,
      COUNT(*) AS airports,
      ROUND(AVG(elevation_ft)) AS mean_elevation_ft,
      ST_CENTROID(ST_UNION_AGG(geom)) AS centroid
    FROM {AIRPORTS}
    GROUP BY country
"""


@dag(schedule=None, default_args={"retries": 2, "retry_delay": timedelta(seconds=5)}, tags=["carto"])
def airports() -> None:
    """Load the airports, then sum them up. A retry takes the job of the earlier try, and never adds rows twice."""

    @task.carto_load(destination=AIRPORTS, geometry="geom", write_disposition="WRITE_TRUNCATE")
    def load_airports() -> Iterator[dict[str, Any]]:
        import airportsdata

        for airport in airportsdata.load().values():
            yield {
                "icao": airport["icao"],
                "name": airport["name"],
                "country": airport["country"],
                "elevation_ft": airport["elevation"],
                "geom": f"POINT({airport['lon']} {airport['lat']})",
            }

    sum_up_by_country = CartoQueryOperator(
        task_id="sum_up_by_country", sql=BY_COUNTRY, destination="shared.airports_by_country_airflow"
    )
    load_airports() >> sum_up_by_country


airports()
