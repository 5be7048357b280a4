"""The engine of `CartoWarehouse`: queries and loads as steps, for whichever driver takes them."""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from ..bigquery.rest import JobsApi, not_found, retried
from .jobs import find_or_begin, valid_labels, wait
from .queries import first_rows, query_plan
from .results import JobReference, LoadResult, QueryResult
from .steps import LONG
from .tables import destination_of, name_of
from .warehouse import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    import pyarrow
    from google.cloud import bigquery

    from ..auth import CartoAuth
    from ..bigquery.rest import Job
    from .jobs import JobPlan
    from .results import JobProgress
    from .steps import Steps

REMEMBERED = 10_000
"""Jobs whose location is remembered: far more than anyone has under way, and a megabyte."""


class Engine:
    """Does what `CartoWarehouse` describes; the arguments are the same.

    Args:
        auth: Whose warehouse.
    """

    def __init__(self, auth: CartoAuth) -> None:
        self._auth = auth
        self._api = JobsApi(auth)
        self._made: bigquery.Client | None = None
        self._making, self._remembering = Lock(), Lock()
        self._places: dict[str, str | None] = {}

    def query(
        self,
        sql: str,
        *,
        max_rows: int = MAX_ROWS,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
        **what: Any,
    ) -> Steps[QueryResult]:
        """Run a query and wait for its end."""
        job, reattached = yield from self._begun_query(sql, on_progress=on_progress, **what)
        job = yield from self._ended(job, timeout, on_progress)
        rows, total = yield from first_rows(self._api, job, max_rows)
        counted = job.statistics("query")
        affected, table = counted.get("numDmlAffectedRows"), job.configured("query").get("destinationTable")
        return QueryResult(
            job_id=job.job_id,
            location=job.location,
            statement_type=counted.get("statementType"),
            rows=rows,
            total_rows=total,
            affected_rows=None if affected is None else int(affected),
            bytes_processed=int(counted.get("totalBytesProcessed", 0)),
            destination=name_of(table) if table else None,
            reattached=reattached,
            _fetch=partial(
                _all_rows,
                self.client,
                job.job_id,
                job.location,
                may_use_storage=self._auth.account.bigquery_endpoint is None,
            ),
        )

    def begin_query(self, sql: str, **what: Any) -> Steps[JobReference]:
        """Begin a query."""
        job, reattached = yield from self._begun_query(sql, **what)
        return JobReference(job.job_id, job.location, reattached)

    def _begun_query(
        self, sql: str, *, on_progress: Callable[[JobProgress], None] | None = None, **what: Any
    ) -> Steps[tuple[Job, bool]]:
        plan = query_plan(self._api, self._auth.account, sql, **what)
        return (yield from self._begun(plan, on_progress))

    def load(
        self,
        source: Any,
        destination: str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
        **how: Any,
    ) -> Steps[LoadResult]:
        """Load data and wait for the end."""
        job, reattached = yield from self._begun_load(source, destination, on_progress=on_progress, **how)
        job = yield from self._ended(job, timeout, on_progress)
        counted = job.statistics("load")
        return LoadResult(
            job_id=job.job_id,
            location=job.location,
            destination=name_of(job.configured("load")["destinationTable"]),
            rows=int(counted.get("outputRows", 0)),
            bytes=int(counted.get("inputFileBytes", 0)),
            reattached=reattached,
        )

    def begin_load(self, source: Any, destination: str, **how: Any) -> Steps[JobReference]:
        """Send the data and begin the load."""
        job, reattached = yield from self._begun_load(source, destination, **how)
        return JobReference(job.job_id, job.location, reattached)

    def _begun_load(
        self,
        source: Any,
        destination: str,
        *,
        on_progress: Callable[[JobProgress], None] | None = None,
        **how: Any,
    ) -> Steps[tuple[Job, bool]]:
        yield LONG
        plan = self._load_plan(source, destination, on_progress=on_progress, **how)
        return (yield from self._begun(plan, on_progress))

    def _load_plan(
        self,
        source: Any,
        destination: str,
        *,
        idempotency_key: str | None = None,
        create_dataset: bool = False,
        labels: Mapping[str, str] | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
        geometry: Sequence[str] | str = (),
        **how: Any,
    ) -> JobPlan:
        """Check a load's arguments, see to its dataset, and plan it."""
        from .loads import LoadOptions, load_plan

        options = LoadOptions(geometry=(geometry,) if isinstance(geometry, str) else tuple(geometry), **how)
        client = self.client()
        table = destination_of(destination, client.project, self._auth.account.default_dataset)
        dataset = table.rpartition(".")[0]
        if create_dataset:
            client.create_dataset(dataset, exists_ok=True)
        return load_plan(
            self._api,
            client,
            source,
            table,
            options,
            key=idempotency_key,
            labels=valid_labels(labels or {}),
            location=self._auth.account.location or _location_of(client, dataset),
            on_progress=on_progress,
        )

    def _begun(self, plan: JobPlan, on_progress: Callable[[JobProgress], None] | None) -> Steps[tuple[Job, bool]]:
        job, reattached = yield from find_or_begin(self._api, plan, on_progress, self._remember)
        self._remember(job.job_id, job.location)
        return job, reattached

    def _ended(self, job: Job, timeout: float | None, on_progress: Callable[[JobProgress], None] | None) -> Steps[Job]:
        job = yield from wait(self._api, job, timeout=timeout, on_progress=on_progress)
        if job.failed:
            _raise_what_bigquery_says(self.client, job)
        return job

    def wait_for(
        self,
        job_id: str,
        *,
        location: str | None = None,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> Steps[None]:
        """Wait for the end of a job."""
        job = yield from self._asked(self._api.get, job_id, location)
        yield from self._ended(job, timeout, on_progress)

    def cancel(self, job_id: str, location: str | None) -> Steps[None]:
        """Ask for the end of a job."""
        yield from self._asked(self._api.cancel, job_id, location)

    def _asked(self, call: Callable[[str, str | None], Any], job_id: str, location: str | None) -> Steps[Any]:
        """Call for a job where it is, as far as that is known."""
        self._api.project()  # if there is no token to be had, that is told at once
        place = location or self._places.get(job_id) or self._auth.account.location
        answer = yield from retried(partial(call, job_id, place))
        if answer:
            return answer
        raise not_found(job_id, place)

    def _remember(self, job_id: str, location: str | None) -> None:
        with self._remembering:
            self._places[job_id] = location
            if len(self._places) > REMEMBERED:
                del self._places[next(iter(self._places))]

    def client(self) -> bigquery.Client:
        """Give google's client, for uploads, for rows as Arrow and for the errors of jobs."""
        with self._making:  # a thousand coroutines that begin at once need one client
            if self._made is None:
                self._made = self._auth.get_carto_dw_client()
            return self._made


def _location_of(client: bigquery.Client, dataset: str) -> str | None:
    """Give a dataset's location, where the job will run and a retry will look for it; None if that is not to be seen.

    Raises:
        google.api_core.exceptions.NotFound: If there is no such dataset: better before the upload than after.
    """
    from google.api_core.exceptions import Forbidden

    try:
        location: str | None = client.get_dataset(dataset).location
    except Forbidden:
        return None
    return location


def _raise_what_bigquery_says(client: Callable[[], bigquery.Client], job: Job) -> None:
    """Raise google's own exception for a job that failed, row and column included."""
    failed: Any = client().job_from_resource(job.resource)
    failed.result(retry=None)


def _all_rows(
    client: Callable[[], bigquery.Client], job_id: str, location: str | None, *, may_use_storage: bool
) -> pyarrow.Table:
    """Fetch all rows: by the Storage API where there is one and the token may, else by REST."""
    from google.api_core.exceptions import Forbidden, Unauthenticated

    job: Any = client().get_job(job_id, location=location)
    if may_use_storage:
        try:
            return job.to_arrow()
        except (Forbidden, Unauthenticated):  # unproven for CARTO's tokens
            pass
    return job.to_arrow(create_bqstorage_client=False)
