"""Flows that tests and benchmarks serve: `python tests/support/prefect_flows.py FLOW DEPLOYMENT`.

Each loads the block itself, as the flows of users do; none takes a secret as a parameter.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from prefect_blocks import CartoCredentials, carto_load, carto_query

LIMIT = int(os.environ.get("LIMIT", "2"))
"""Concurrent runs of a served flow: as many as there are cores, or all of them take longer."""


@flow
def one_query(block: str) -> int:
    """Run a query of one row, and log the id of the process."""
    get_run_logger().info("process %d", os.getpid())
    client = CartoCredentials.load(block).get_carto_dw_client()
    return next(iter(client.query_and_wait("SELECT 1 AS one"))).one


@flow
def load_rows(block: str, table: str, rows: int) -> int:
    """Append rows, once, and log the id of the process."""
    get_run_logger().info("process %d", os.getpid())
    return carto_load(block, lambda: ({"id": number} for number in range(rows)), table)["rows"]


@task(cache_policy=NO_CACHE)
async def take_tokens(carto: CartoCredentials) -> None:
    """Get a token of each kind."""
    await carto.aget_access_token()
    await carto.aget_carto_dw_credentials()


@flow
async def many_at_once(block: str, tasks: int) -> None:
    """Run many tasks on one event loop, all of which need a token at once."""
    carto = await CartoCredentials.aload(block)
    await asyncio.gather(*(take_tokens(carto) for _ in range(tasks)))


# Tasks that fail and succeed while they hold secrets; see test_prefect_secrets.py


@task
def leave_traces(block: str) -> str:
    """Write the block's name wherever Prefect stores something, so that the search can find it there."""
    get_run_logger().info("a log line about %s", block)
    create_markdown_artifact(f"an artifact about {block}", key="traces")
    emit_event("traces", {"prefect.resource.id": f"traces.{block}"}, payload={"about": block})
    return block


@task
def hold_tokens(block: str) -> None:
    """Fail with tokens, a client and the block in the locals."""
    carto = CartoCredentials.load(block)
    held = [carto, carto.get_client(), carto.get_access_token(), *carto.get_carto_dw_credentials()]
    held.append(carto.get_carto_dw_client())
    raise RuntimeError(f"{len(held)} things were at hand for {block}")


@task
def take_a_block(carto: CartoCredentials, block: str) -> str:
    """Take secrets as an argument, and return what is shown of it."""
    return f"{block}: {carto!r} {carto.model_dump()}"


@task
def ask_google_for_nonsense(block: str) -> None:
    """Fail as google's client does: with an error that holds the request and its headers."""
    CartoCredentials.load(block).get_carto_dw_client().query_and_wait("SELECT nonsense FROM nowhere")


@task
def look_for_a_table(block: str) -> None:
    """Fail in the same way for a table that does not exist."""
    CartoCredentials.load(block).get_carto_dw_client().get_table("shared.not_there")


@task
def load_a_broken_source(block: str) -> None:
    """Fail during a load, in the user's own code."""

    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": 1}
        raise OSError(f"the source of {block} broke")

    CartoCredentials.load(block).get_carto_warehouse().load(rows(), "shared.broken")


@task(retries=1)
def be_refused(block: str) -> None:
    """Fail with a client secret that CARTO does not know."""
    CartoCredentials.load(f"{block}-refused").get_access_token()


@flow
def take_a_block_as_parameter(carto: CartoCredentials, block: str) -> str:
    """Take secrets as a parameter, which Prefect stores."""
    return take_a_block(carto, block)


@flow
def misfortunes(block: str) -> None:
    """Run everything that may fail, and fail."""
    carto = CartoCredentials.load(block)
    leave_traces(block)
    take_a_block_as_parameter(carto, block)
    carto_query(carto, "SELECT 1 AS one")
    carto_load(carto, [{"id": 1}], "shared.misfortunes")
    for each in (hold_tokens, ask_google_for_nonsense, look_for_a_table, load_a_broken_source, be_refused):
        each(block, return_state=True)
    carto_query(carto, "SELECT nonsense FROM nowhere", return_state=True)
    carto_load(carto, [{"id": "no number"}], "shared.misfortunes", return_state=True)
    carto_load(carto, [{"id": 1}], "not_there.misfortunes", return_state=True)
    carto_query(f"{block}-refused", "SELECT 1", return_state=True)
    raise RuntimeError(f"all of it went wrong for {block}")


FLOWS = {each.name: each for each in (load_rows, misfortunes, one_query)}

if __name__ == "__main__":
    served, deployment = sys.argv[1:]
    FLOWS[served].serve(
        deployment,
        interval=float(os.environ.get("INTERVAL", "0")) or None,
        parameters={"block": os.environ["BLOCK"]} if "BLOCK" in os.environ else None,
        limit=LIMIT,
    )
