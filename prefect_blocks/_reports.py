"""Reports of a load in Prefect: an asset's materialization, a table artifact, and a progress artifact if it is long."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from prefect.artifacts import acreate_progress_artifact, acreate_table_artifact, aupdate_progress_artifact
from prefect.assets import Asset
from prefect.context import AssetContext, TaskRunContext
from prefect.logging import get_logger

from carto_auth_integrations.warehouse.results import READING, UPLOADING
from carto_auth_integrations.warehouse.tables import asset_uri

if TYPE_CHECKING:
    from concurrent.futures import Future
    from uuid import UUID

    from carto_auth_integrations.warehouse import JobProgress, LoadResult

PROGRESS_AFTER = 5.0
"""Seconds after which the progress of a load is shown: most have ended by then."""
PROGRESS_EVERY = 2.0
"""Seconds between two updates, however often the load reports its progress."""
UPLOAD_SHARE = 90.0
"""Share of reading and upload in the progress, in per cent: BigQuery reports none for the job, usually shorter."""
READ_SHARE = 45.0
"""Share of the reading alone: it takes about as long as the upload."""
DONE = 100.0
_NOT_IN_KEYS = re.compile(r"[^a-z0-9]+")


class LoadReport:
    """Reports a load that happens in a `with` block: its progress, and its result when the block ends.

    Outside of a task run nothing is reported.

    Args:
        destination: The table that is loaded.
        asset: Whether the load is the materialization of an asset.
        table_artifact: Whether rows, bytes, job and duration are written to a table artifact.
        progress_artifact: Whether the progress is shown if the load is long.

    Attributes:
        result: The result of the load; the `with` block sets it.
        on_progress: The callback for the load; None if its progress is not shown.
    """

    def __init__(self, destination: str, *, asset: bool, table_artifact: bool, progress_artifact: bool) -> None:
        in_a_task = TaskRunContext.get() is not None
        self.result: LoadResult | None = None
        self.on_progress = ProgressReport(destination) if progress_artifact and in_a_task else None
        self._asset = asset and in_a_task
        self._table_artifact = table_artifact and in_a_task
        self._began = time.monotonic()

    def __enter__(self) -> LoadReport:
        return self

    def __exit__(self, *_: object) -> None:
        """Report, on another thread: in an async flow, this one already runs an event loop."""
        with ThreadPoolExecutor(1, thread_name_prefix="carto-report") as thread:
            thread.submit(copy_context().run, asyncio.run, self.__aexit__()).result()

    async def __aenter__(self) -> LoadReport:
        return self

    async def __aexit__(self, *_: object) -> None:
        seconds = round(time.monotonic() - self._began, 1)
        if self.on_progress:
            await asyncio.to_thread(self.on_progress.finish, succeeded=self.result is not None)
        if self.result and self._asset:
            materialize(self.result, seconds)
        if self.result and self._table_artifact:
            await acreate_table(self.result, seconds)


def materialize(result: LoadResult, seconds: float) -> None:
    """Add a table to the assets of the running task. Prefect emits the event when the task has succeeded.

    `@materialize` does the same for assets that are known before the task runs. So the table is part of the lineage:
    it is related to what the task depends on, and to what uses its result.

    Args:
        result: The result of the load.
        seconds: How long it took.
    """
    context = AssetContext.get()
    if context is None:
        return
    asset = Asset(key=asset_key(result.destination))
    context.downstream_assets.add(asset)
    context.update_tracked_assets()
    facts = {"rows": result.rows, "bytes": result.bytes, "job_id": result.job_id, "seconds": seconds}
    context.add_asset_metadata(asset.key, {**facts, **result.treated})


def asset_key(table: str) -> str:
    """Return the key of the asset of a table: `bigquery://project/dataset/table` for `project.dataset.table`."""
    return asset_uri(table).replace(" ", "_")  # Prefect accepts no blanks


async def acreate_table(result: LoadResult, seconds: float) -> None:
    """Write rows, bytes, job and duration of a load to a table artifact.

    Args:
        result: The result of the load.
        seconds: How long it took.
    """
    row = {
        "table": result.destination,
        "rows": result.rows,
        "bytes": result.bytes,
        "seconds": seconds,
        "job": result.job_id,
        "done by an earlier try": result.reattached,
        **{name.replace("_", " "): value for name, value in result.treated.items()},
    }
    try:
        await acreate_table_artifact([row], key=artifact_key(result.destination), description=f"`{result.destination}`")
    except Exception as error:  # a load does not fail because of its report
        _warn(error)


def artifact_key(table: str) -> str:
    """Return the key under which Prefect keeps the reports of all loads of a table."""
    return f"carto-load-{_NOT_IN_KEYS.sub('-', table.lower()).strip('-')}"


class ProgressReport:
    """Shows the progress of a load as an artifact, which appears if the load is long.

    Requests to Prefect's server run on another thread, one at a time: neither the upload nor an event loop waits.

    Args:
        destination: The table that is loaded.
    """

    def __init__(self, destination: str) -> None:
        self._destination = destination
        self._context = copy_context()  # the artifact belongs to this task run
        self._began = self._sent = time.monotonic()
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._artifact: UUID | None = None
        self._was_read = False

    def __call__(self, progress: JobProgress) -> None:
        """Send the progress, if the last update was long enough ago."""
        self._was_read |= progress.state == READING and progress.bytes_sent + progress.rows > 0
        now = time.monotonic()
        if now - self._began < PROGRESS_AFTER or now - self._sent < PROGRESS_EVERY:
            return
        if self._last is None or self._last.done():
            self._sent = now
            self._send(per_cent(progress, was_read=self._was_read))

    def finish(self, *, succeeded: bool) -> None:
        """Send the last update, and wait for it.

        Args:
            succeeded: Whether the load succeeded; if not, the progress stays as it is.
        """
        if self._thread is None:
            return
        if succeeded:
            self._send(DONE)
        self._thread.shutdown()

    def _send(self, value: float) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="carto-progress")
        self._last = self._thread.submit(self._context.run, asyncio.run, self._arequest(value))

    async def _arequest(self, value: float) -> None:
        try:
            if self._artifact is None:
                key, text = f"{artifact_key(self._destination)}-progress", f"Load of `{self._destination}`"
                self._artifact = await acreate_progress_artifact(value, key=key, description=text)
            else:
                await aupdate_progress_artifact(self._artifact, value)
        except Exception as error:  # a load does not fail because of its report
            _warn(error)


def per_cent(progress: JobProgress, *, was_read: bool) -> float:
    """Return the progress of a load in per cent: of its source, its upload, then its job, of which BigQuery tells none.

    Args:
        progress: The latest report.
        was_read: Whether the source was read before the upload; a few files are sent as they are.
    """
    part = progress.bytes_sent / progress.bytes_total if progress.bytes_total else 0.0
    if progress.state == READING:
        return READ_SHARE * min(part, 1.0)
    if progress.state == UPLOADING:
        begin = READ_SHARE if was_read else 0.0
        return begin + (UPLOAD_SHARE - begin) * part
    return DONE if progress.state == "DONE" else UPLOAD_SHARE


def _warn(error: Exception) -> None:
    context = TaskRunContext.get()
    run = context.task_run.name if context else "a load"
    get_logger(__name__).warning("The report of %s did not reach Prefect (%s)", run, type(error).__name__)
