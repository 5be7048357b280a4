"""A DAG file of the tests that cannot be imported: it asks for a token with a secret that is refused."""

from __future__ import annotations

from airflow_provider.hooks.carto import CartoHook

CartoHook("carto_rejected").get_access_token()
