"""The flow of `prefect_etl.py` on a schedule: this process keeps running, and starts a new one for each run."""

from __future__ import annotations

import os

from prefect_etl import airports

EVERY_MORNING = "0 6 * * *"

if __name__ == "__main__":
    airports.serve(
        name="every-morning",
        cron=os.environ.get("SCHEDULE", EVERY_MORNING),
        parameters={"block": "prod"},
        tags=["carto"],
    )
