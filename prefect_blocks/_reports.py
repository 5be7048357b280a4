"""What a load leaves in Prefect: an asset's materialization, a table, and how far it is while it takes long."""

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

from carto_auth_integrations.warehouse.results import UPLOADING
from carto_auth_integrations.warehouse.tables import asset_uri

if TYPE_CHECKING:
    from concurrent.futures import Future
    from uuid import UUID

    from carto_auth_integrations.warehouse import JobProgress, LoadResult

PROGRESS_AFTER = 5.0
"""Seconds after which a load counts as long: most have ended by then, and nobody looks at their progress."""
PROGRESS_EVERY = 2.0
"""Seconds between two updates, however often the load tells how far it is."""
UPLOAD_SHARE = 90.0
"""Per cent that an upload counts for: how far its job is BigQuery does not say, and most take less time than it."""
DONE = 100.0
_NOT_IN_KEYS = re.compile(r"[^a-z0-9]+")


class LoadReport:
    """Reports a load while a `with` block makes it, and what it came to when the block ends.

    Outside of a task run there is nobody to report to.

    Args:
        destination: The table that is loaded.
        asset: Whether the load is the materialization of an asset.
        table_artifact: Whether it leaves a table of rows, bytes, job and duration.
        progress_artifact: Whether it shows how far it is when it takes long.

    Attributes:
        result: What the load came to; the block sets it.
        on_progress: What the load is to call; None if nobody looks.
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
        """Report; on a thread of its own, since this one may be an async flow's, whose loop is running."""
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
    """Tell Prefect that the running task has written a table; it emits the event when the task has ended well.

    This is what `@materialize` does with assets that are known beforehand, and so takes part in the lineage as they do:
    whatever the task depended on, and whatever takes its result, is related to the table.

    Args:
        result: What the load came to.
        seconds: How long it took.
    """
    context = AssetContext.get()
    if context is None:
        return
    asset = Asset(key=asset_key(result.destination))
    context.downstream_assets.add(asset)
    context.update_tracked_assets()
    context.add_asset_metadata(
        asset.key, {"rows": result.rows, "bytes": result.bytes, "job_id": result.job_id, "seconds": seconds}
    )


def asset_key(table: str) -> str:
    """Give a table, `project.dataset.table`, as an asset: `bigquery://project/dataset/table`."""
    return asset_uri(table).replace(" ", "_")  # Prefect takes no blanks


async def acreate_table(result: LoadResult, seconds: float) -> None:
    """Leave rows, bytes, job and duration of a load as a table artifact.

    Args:
        result: What the load came to.
        seconds: How long it took.
    """
    row = {
        "table": result.destination,
        "rows": result.rows,
        "bytes": result.bytes,
        "seconds": seconds,
        "job": result.job_id,
        "done by an earlier try": result.reattached,
    }
    try:
        await acreate_table_artifact([row], key=artifact_key(result.destination), description=f"`{result.destination}`")
    except Exception as error:  # the rows are there: a load does not fail for want of its report
        _warn(error)


def artifact_key(table: str) -> str:
    """Give the key under which Prefect keeps the reports of all loads of a table."""
    return f"carto-load-{_NOT_IN_KEYS.sub('-', table.lower()).strip('-')}"


class ProgressReport:
    """Shows how far a load is, as a progress artifact that appears when the load takes long.

    Prefect's server is asked on a thread of its own, one request at a time: neither the upload nor an event loop waits.

    Args:
        destination: The table that is loaded.
    """

    def __init__(self, destination: str) -> None:
        self._destination = destination
        self._context = copy_context()  # says whose artifact it is
        self._began = self._sent = time.monotonic()
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._artifact: UUID | None = None

    def __call__(self, progress: JobProgress) -> None:
        """Take note of how far the load is, and pass it on if it is time to."""
        now = time.monotonic()
        if now - self._began < PROGRESS_AFTER or now - self._sent < PROGRESS_EVERY:
            return
        if self._last is None or self._last.done():
            self._sent = now
            self._pass_on(per_cent(progress))

    def finish(self, *, succeeded: bool) -> None:
        """End the report; returns when the last update is through.

        Args:
            succeeded: Whether all was loaded; if not, the report stays where it is.
        """
        if self._thread is None:
            return
        if succeeded:
            self._pass_on(DONE)
        self._thread.shutdown()

    def _pass_on(self, value: float) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="carto-progress")
        self._last = self._thread.submit(self._context.run, asyncio.run, self._asend(value))

    async def _asend(self, value: float) -> None:
        try:
            if self._artifact is None:
                key, text = f"{artifact_key(self._destination)}-progress", f"Load of `{self._destination}`"
                self._artifact = await acreate_progress_artifact(value, key=key, description=text)
            else:
                await aupdate_progress_artifact(self._artifact, value)
        except Exception as error:  # a load does not fail for want of its report
            _warn(error)


def per_cent(progress: JobProgress) -> float:
    """Give how far a load is: its upload first, then its job, of which BigQuery says nothing before its end."""
    if progress.state == "DONE":
        return DONE
    if progress.state == UPLOADING:
        return UPLOAD_SHARE * progress.bytes_sent / progress.bytes_total if progress.bytes_total else 0.0
    return UPLOAD_SHARE


def _warn(error: Exception) -> None:
    context = TaskRunContext.get()
    run = context.task_run.name if context else "a load"
    get_logger(__name__).warning("The report of %s did not reach Prefect (%s)", run, type(error).__name__)
