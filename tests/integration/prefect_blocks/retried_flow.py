"""A flow whose runs are tried again by other processes: `python retried_flow.py TABLE`, or `… TABLE FLOW_RUN`.

The first try fails after its calls. It prints what the calls returned, and the id of the flow run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from google.cloud.bigquery import SchemaField
from prefect import flow, get_client, unmapped
from prefect.flow_engine import run_flow
from prefect.flows import load_flow_from_entrypoint
from prefect.states import AwaitingRetry

from prefect_blocks import carto_load, carto_query

NAMES = {f"name {number}" for number in range(50)}
"""A set, whose order depends on the hash seed."""


@dataclass(frozen=True)
class Station:
    """A class of the script, whose module has another name in another process."""

    name: str
    tags: frozenset[str]


def rows_of(names: set[str], station: Station) -> list[dict[str, str]]:
    return [{"name": name} for name in sorted(names)] + [{"name": station.name}]


def in_order(mapping: dict[str, Any], *, again: bool) -> dict[str, Any]:
    return dict(reversed(mapping.items())) if again else mapping


def closure_of(name: str) -> Callable[[], Any]:
    return lambda: [{"name": name}]


@flow
def calls(table: str, directory: str, again: bool) -> list[dict[str, Any]]:
    """Call the tasks with everything whose identity could differ between two processes."""
    insert = f"INSERT INTO {table} (name) VALUES (@name)"
    station = Station("station", frozenset(NAMES))
    cluster: Any = ("name",) if again else ["name"]
    where = Path.cwd() if again else Path(directory)
    loads = [
        carto_load("prod", partial(rows_of, NAMES, station), table, schema=[SchemaField("name", "STRING")]),
        carto_load(
            "prod", [in_order({"name": "row", "size": None}, again=again), {"name": "x", "size": 1}], f"{table}_m"
        ),
        carto_load("prod", [{"name": "clustered"}], f"{table}_c", clustering=cluster),
        carto_load("prod", where / "names.csv", f"{table}_f"),
        carto_load("prod", lambda: [{"name": "lambda"}], table),
        carto_load("prod", iter([{"name": "iterator"}]), table),
        carto_query("prod", insert, in_order({"name": "query", "tag": "a"}, again=again)),
    ]
    mapped = carto_load.map(unmapped("prod"), [closure_of("first"), closure_of("second")], table).result()
    print(json.dumps([*loads, *mapped]))
    if not again:
        raise RuntimeError("the flow fails after its calls")
    return loads


def main(table: str, directory: str, flow_run_id: str | None = None) -> None:
    """Try a new run of the flow, or an old one again."""
    parameters = {"table": table, "directory": directory, "again": flow_run_id is not None}
    with get_client(sync_client=True) as client:
        if flow_run_id is None:
            flow_run, tried = client.create_flow_run(calls, parameters=parameters), calls
        else:
            client.set_flow_run_state(flow_run_id, AwaitingRetry(), force=True)
            flow_run = client.read_flow_run(flow_run_id)
            tried = load_flow_from_entrypoint(f"{__file__}:calls")  # as Prefect's workers do
    run_flow(tried, flow_run=flow_run, parameters=parameters, return_type="state")
    print(flow_run.id)


if __name__ == "__main__":
    main(*sys.argv[1:])
