"""Law 5: importing a connector imports neither `google.*`, `pandas`, `pyarrow` nor `requests`."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from carto_auth_integrations.sandbox import Sandbox
from tests.support.processes import run_processes

HEAVY = {"filelock", "google", "pandas", "pyarrow", "requests"}

AIRFLOW = "import airflow.sdk.bases.hook, airflow.providers.common.sql.hooks.sql"
CONNECTORS = {
    "airflow_provider": AIRFLOW,
    "airflow_provider.hooks.carto": AIRFLOW,
    "prefect_blocks": "import prefect.blocks.core",
}


def imported_by(statement: str, base: str = "pass") -> set[str]:
    (output,) = run_processes(
        1,
        f"""
        import sys
        {base}
        before = set(sys.modules)
        {statement}
        print("modules:", *{{name.partition(".")[0] for name in set(sys.modules) - before}})
        """,
    )
    return set(output.rpartition("modules:")[2].split())


@pytest.mark.parametrize("module", CONNECTORS)
def test_a_connector_adds_nothing_heavy_to_its_orchestrator(module: str) -> None:
    if not find_spec("airflow" if "airflow" in module else "prefect"):
        pytest.skip("needs the orchestrator")
    assert not imported_by(f"import {module}", CONNECTORS[module]) & HEAVY


def test_the_core_and_a_token_from_the_store_need_nothing_heavy(carto_sandbox: Sandbox, tmp_path: object) -> None:
    credentials = carto_sandbox.write_credentials(f"{tmp_path}/credentials.json")
    use = (
        "from carto_auth_integrations import CartoAuth; "
        f"CartoAuth.from_m2m({str(credentials)!r}, cache_filepath='{tmp_path}/tokens.json').get_access_token()"
    )
    imported_by(use)

    assert not imported_by(use) & (HEAVY | {"asyncio", "concurrent", "dataclasses", "logging"})
    assert carto_sandbox.stats().count("token") == 1
