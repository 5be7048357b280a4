"""Saves the CARTO credentials of the environment as the Prefect block `prod`; flows load it from then on."""

from __future__ import annotations

import os

from prefect_blocks import CartoCredentials

FIELDS = ("api_base_url", "auth_url", "bigquery_endpoint", "client_id", "client_secret", "token_store")

if __name__ == "__main__":
    fields = {name: os.environ.get(f"CARTO_{name.upper()}") for name in FIELDS}
    CartoCredentials(**fields).save("prod", overwrite=True)
