"""Flow runs in a test's own process, and what Prefect's server keeps of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from prefect import flow, get_client
from prefect.states import State

PATIENCE = 60
"""Seconds for events on their way through Prefect's server."""


def run(body: Callable[[], Any], **options: Any) -> State:
    """Run a function as a flow, and give how it ended."""
    return flow(body, name="test", **options)(return_state=True)


def result_of(state: State) -> Any:
    return state.result(raise_on_failure=True)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)


def ask(path: str, body: dict[str, Any]) -> Any:
    with get_client(sync_client=True) as client:
        return client._client.post(path, json=body).json()


def artifacts_of(state: State) -> list[tuple[str, Any]]:
    """The artifacts of a flow run, their data as it was given."""
    run_id = str(state.state_details.flow_run_id)
    found = ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
    return [
        (each["type"], json.loads(each["data"]) if each["type"] == "table" else each["data"])
        for each in found
        if each["type"] in ("table", "progress")
    ]


def events_of(state: State, count: int = 1) -> list[dict[str, Any]]:
    """The asset events of a flow run, when there are so many."""
    related = {"id": [f"prefect.flow-run.{state.state_details.flow_run_id}"]}
    query = {"filter": {"event": {"prefix": ["prefect.asset"]}, "related": related}}
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = ask("/events/filter", query)["events"]
        return len(found) >= count

    eventually(are_there)
    return found
