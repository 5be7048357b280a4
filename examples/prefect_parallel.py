"""Parallel loads with Dask: the airports of all continents go into one table, from several processes.

Needs `pip install prefect-dask`.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, task, unmapped
from prefect_dask import DaskTaskRunner

from prefect_blocks import carto_load, carto_query

TABLE = "shared.airports_parallel"
WORKERS = 2


@task
def parts() -> list[list[dict[str, Any]]]:
    """Return the airports in parts, by the continent of their time zone."""
    import airportsdata

    continents: dict[str, list[dict[str, Any]]] = {}
    for airport in airportsdata.load().values():
        row = {
            "icao": airport["icao"],
            "continent": airport["tz"].partition("/")[0],
            "geom": f"POINT({airport['lon']} {airport['lat']})",
        }
        continents.setdefault(row["continent"], []).append(row)
    return list(continents.values())


@flow(retries=1, task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": WORKERS, "threads_per_worker": 1}))
def airports_in_parallel(block: str = "prod") -> int:
    """Load all parts at once, each exactly once: a retry of the flow finds the jobs of the first try.

    Args:
        block: The name under which the CARTO credentials were saved. A name, not the block: no secret travels to Dask.
    """
    carto_query(block, f"CREATE TABLE IF NOT EXISTS {TABLE} (icao STRING, continent STRING, geom GEOGRAPHY)")
    carto_query(block, f"TRUNCATE TABLE {TABLE}")
    loads = carto_load.map(unmapped(block), parts(), unmapped(TABLE), geometry=unmapped("geom"))
    return sum(load["rows"] for load in loads.result())


if __name__ == "__main__":
    airports_in_parallel()
