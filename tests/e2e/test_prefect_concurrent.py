"""Many tasks of one async flow that need a token at once share one request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carto_auth_integrations.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.support.prefect_site import PrefectSite

pytest_plugins = ["tests.support.prefect_site"]

TASKS = 64
SLOW = 2.0
"""Seconds that the token endpoint takes: all tasks wait before there is a token."""

RUN = f"""
import asyncio
from tests.support.prefect_flows import many_at_once
asyncio.run(many_at_once("concurrent", {TASKS}))
"""


def test_the_tasks_of_a_flow_share_one_request(
    prefect_site: PrefectSite, carto_sandbox: Sandbox, tmp_path: Path
) -> None:
    prefect_site.save_block("concurrent", {**carto_sandbox.account, "token_store": str(tmp_path / "tokens.json")})
    carto_sandbox.fault("token", delay=SLOW)

    said = prefect_site.run("concurrent", ["python", "-c", RUN])

    assert said.count("Finished in state Completed()") == TASKS + 1
    assert carto_sandbox.stats().count("token") == 1
    assert carto_sandbox.stats().count("dw_token") == 1
