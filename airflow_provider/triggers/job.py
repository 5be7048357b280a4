"""CartoJobTrigger: wait for a BigQuery job on the triggerer's event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider.jobs import error_as_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import Any

    from airflow_provider.hooks.carto import CartoHook
    from carto_auth_integrations.warehouse import CartoWarehouse

AIRFLOW_CALLS_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Whether Airflow calls `on_kill` when a user clears or marks the task (3.3). Earlier versions only cancel the trigger,
as they also do when the triggerer stops."""

_opening: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[CartoWarehouse]] = {}
"""Connections that are being read, by loop and id. Triggers that begin together share one read: hundreds of reads would
load the secrets backend, and their thread would hold up the loop for a tenth of a second."""
_running: set[asyncio.Future[None]] = set()
"""Cancellations that outlive their trigger. The event loop has weak references alone: they could be collected."""


class CartoJobTrigger(BaseTrigger):
    """Wait for the end of a job, and fire one event with the connection, the job and its location.

    The event's `status` is `success`, or `error` with class and message. Neither trigger nor event holds a token; all
    triggers of one account share the token of their triggerer. After a restart of the triggerer the trigger waits
    again. If a user clears or marks the task, the job is cancelled.

    Args:
        carto_conn_id: The connection.
        job_id: The BigQuery job.
        location: Where it runs; None for the account's location.
        deadline: When the job is cancelled, in UTC epoch seconds; None for no limit.
    """

    def __init__(
        self, carto_conn_id: str, job_id: str, location: str | None = None, deadline: float | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is not annotated
        self.carto_conn_id = carto_conn_id
        self.job_id = job_id
        self.location = location
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another process needs to create this trigger."""
        return "airflow_provider.triggers.carto.CartoJobTrigger", {
            "carto_conn_id": self.carto_conn_id,
            "job_id": self.job_id,
            "location": self.location,
            "deadline": self.deadline,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the job."""
        try:
            event = await self._outcome()
        except asyncio.CancelledError:
            if not AIRFLOW_CALLS_ON_KILL:
                await _completed(self._cancel(if_unknown=False))
            raise
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # Airflow's is not annotated

    async def on_kill(self) -> None:
        """Cancel the job: a user cleared or marked the task."""
        await _completed(self._cancel(if_unknown=True))

    async def _outcome(self) -> dict[str, Any]:
        job = {"carto_conn_id": self.carto_conn_id, "job_id": self.job_id, "location": self.location}
        timeout = None if self.deadline is None else max(0.0, self.deadline - time.time())
        try:
            warehouse = await _warehouse(self.carto_conn_id)
            await warehouse.await_for(self.job_id, location=self.location, timeout=timeout)
        except Exception as error:
            return {"status": "error", **job, **error_as_json(error)}
        return {"status": "success", **job}

    async def _cancel(self, *, if_unknown: bool) -> None:
        """Cancel the job, unless its task is still deferred: then another triggerer waits for it, or will.

        Airflow 3.3 also calls `on_kill` when it has assigned the trigger to another triggerer.

        Args:
            if_unknown: Whether the job is cancelled if Airflow does not return the task's state.
        """
        waiting = await self._is_task_waiting()
        if waiting or (waiting is None and not if_unknown):
            return
        try:
            warehouse = await _warehouse(self.carto_conn_id)
            await warehouse.acancel(self.job_id, self.location)
        except Exception as error:
            self.log.warning("Job %s could not be cancelled: %s", self.job_id, error)
        else:
            self.log.info("Job %s is cancelled: a user cleared or marked its task.", self.job_id)

    async def _is_task_waiting(self) -> bool | None:
        """Whether the task is still deferred; None if Airflow does not return its state."""
        try:
            return await sync_to_async(_state_of)(self.task_instance) == "deferred"
        except Exception as error:
            self.log.warning("Airflow does not return the task's state: %s", error)
            return None


async def _completed(work: Coroutine[Any, Any, None]) -> None:
    """Await work that goes on if this is cancelled: a triggerer cancels trigger and `on_kill` again each second."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    await asyncio.shield(task)


async def _warehouse(carto_conn_id: str) -> CartoWarehouse:
    """Read a connection, or join a read that has begun."""
    key = asyncio.get_running_loop(), carto_conn_id
    if key not in _opening:
        _opening[key] = asyncio.create_task(_opened(carto_conn_id))
        _opening[key].add_done_callback(lambda _: _opening.pop(key))
    # Shielded for the others, and since asgiref drops a cancellation's message, by which Airflow decides on on_kill.
    return await asyncio.shield(_opening[key])


async def _opened(carto_conn_id: str) -> CartoWarehouse:
    hook: CartoHook = await sync_to_async(_hook)(carto_conn_id)
    return await hook.aget_carto_warehouse()


def _hook(carto_conn_id: str) -> CartoHook:
    """Create a hook, on a thread: its import takes longer than an event loop may be held."""
    import carto_auth_integrations.warehouse.warehouse  # noqa: F401  # for the same reason
    from airflow_provider.hooks.carto import CartoHook

    return CartoHook(carto_conn_id)


def _state_of(task_instance: Any) -> str | None:
    """Return a task's state from Airflow's API server, or before 3.0 from its database."""
    ti = task_instance
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:
        ti.refresh_from_db()
        return None if ti.state is None else str(ti.state)
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    state = states[ti.run_id].get(ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}")
    return None if state is None else str(state)
