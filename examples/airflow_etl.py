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
        from google.cloud import bigquery

        rows = [
            {
                "icao": airport["icao"],
                "name": airport["name"],
                "country": airport["country"],
                "elevation_ft": airport["elevation"],
                "geom": f"POINT({airport['lon']} {airport['lat']})",
            }
            for airport in airportsdata.load().values()
        ]
        schema = [
            bigquery.SchemaField("icao", "STRING"),
            bigquery.SchemaField("name", "STRING"),
            bigquery.SchemaField("country", "STRING"),
            bigquery.SchemaField("elevation_ft", "FLOAT64"),
            bigquery.SchemaField("geom", "GEOGRAPHY"),
        ]
        config = bigquery.LoadJobConfig(schema=schema, write_disposition="WRITE_TRUNCATE")
        client = CartoHook("carto_default").get_carto_dw_client()
        return int(client.load_table_from_json(rows, AIRPORTS, job_config=config).result().output_rows)

    @task
    def sum_up_by_country() -> int:
        client = CartoHook("carto_default").get_carto_dw_client()
        client.query_and_wait(f"""
            CREATE OR REPLACE TABLE {BY_COUNTRY} AS
            SELECT
              country,
              COUNT(*) AS airports,
              ROUND(AVG(elevation_ft)) AS mean_elevation_ft,
              ST_CENTROID(ST_UNION_AGG(geom)) AS centroid
            FROM {AIRPORTS}
            GROUP BY country
        """)
        return int(client.get_table(BY_COUNTRY).num_rows)

    load_airports() >> sum_up_by_country()


airports()
