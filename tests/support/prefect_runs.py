"""Flow runs in a test's own process, and what Prefect's server stores of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from prefect import flow, get_client
from prefect.states import State

from tests.support.threads import until

PATIENCE = 60
"""Seconds that Prefect's server may take to store events."""
POLL = 0.2
"""Seconds between two requests."""


def run(body: Callable[[], Any], **options: Any) -> State:
    """Run a function as a flow, and return its final state."""
    return flow(body, name="test", **options)(return_state=True)


def result_of(state: State) -> Any:
    return state.result(raise_on_failure=True)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that Prefect's server does in the background."""
    until(condition, timeout=PATIENCE, poll=POLL)


def ask(path: str, body: dict[str, Any]) -> Any:
    with get_client(sync_client=True) as client:
        return client._client.post(path, json=body).json()


def artifacts_of(state: State) -> list[tuple[str, Any]]:
    """Return the type and the data of each artifact of a flow run."""
    run_id = str(state.state_details.flow_run_id)
    found = ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
    return [
        (each["type"], json.loads(each["data"]) if each["type"] == "table" else each["data"])
        for each in found
        if each["type"] in ("table", "progress")
    ]


def events_of(state: State, count: int = 1) -> list[dict[str, Any]]:
    """Return the asset events of a flow run, once there are at least so many."""
    related = {"id": [f"prefect.flow-run.{state.state_details.flow_run_id}"]}
    query = {"filter": {"event": {"prefix": ["prefect.asset"]}, "related": related}}
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = ask("/events/filter", query)["events"]
        return len(found) >= count

    eventually(are_there)
    return found
