"""Saves the CARTO credentials of the environment as the Prefect block `prod`; flows load it from then on."""

from __future__ import annotations

from prefect_blocks import CartoCredentials

if __name__ == "__main__":
    CartoCredentials.from_env().save("prod", overwrite=True)
