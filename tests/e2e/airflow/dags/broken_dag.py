"""A DAG file of the tests that cannot be imported: it requests a token with a rejected secret."""

from __future__ import annotations

from airflow_provider.hooks.carto import CartoHook

CartoHook("carto_rejected").get_access_token()
