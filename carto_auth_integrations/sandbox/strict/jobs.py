"""Jobs as BigQuery takes them: their configuration, ids and locations are checked before there is a job."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from . import configuration, costs, loads
from .engine import app, datasets, errors, fastapi, jobs_api, models, runner, store
from .refusal import Refusal

# The location of jobs whose data is nowhere else.
DEFAULT_LOCATION = "US"

# jobs.get finds jobs of these locations without being told.
_FOUND_ANYWHERE = ("US", "EU")

_location: ContextVar[str] = ContextVar("location", default=DEFAULT_LOCATION)
_asked_location: ContextVar[str | None] = ContextVar("asked_location", default=None)

_STATUSES = {"bytesBilledLimitExceeded": (400, "INVALID_ARGUMENT")}


def install(*, strict: bool) -> None:
    """Replace the emulator's own functions.

    Args:
        strict: Whether to refuse what BigQuery refuses; if not, only what the emulator lacks is translated.
    """
    errors.STATUSES.update(_STATUSES)
    runner.HANDLERS["load"] = functools.partial(loads.run, strict=strict)
    for module in (app, runner):
        module.from_exception = _translated(module.from_exception)
    _estimate_costs()
    _read_requests()
    if strict:
        _check_jobs()


def _translated(original: Callable[[Exception], Any]) -> Callable[[Exception], Any]:
    """Return the function that makes an error of BigQuery of any exception.

    What the emulator fails at is not implemented: clients retry other server errors for minutes.
    """

    def from_exception(error: Exception) -> Any:
        if isinstance(error, Refusal):
            return errors.BigQueryError(error.reason, error.message)
        translated = original(error)
        if translated.reason != "dontRetry":
            return translated
        line = (str(error).splitlines() or [""])[0]
        return errors.BigQueryError(
            "notImplemented", f"The emulator of BigQuery cannot do this: {type(error).__name__}: {line}"
        )

    return from_exception


def _estimate_costs() -> None:
    dry_run, query = runner._dry_run, runner._query

    def estimated(project: str, job: Any, config: Any) -> Any:
        read = costs.bytes_processed(project, config.dump())
        statistics = job.statistics.dump()
        statistics["totalBytesProcessed"] = str(read)
        statistics["query"] = {**statistics.get("query", {}), "totalBytesProcessed": str(read)}
        return job.replace(statistics=statistics)

    def run_dry(project: str, job_configuration: Any) -> Any:
        return estimated(project, dry_run(project, job_configuration), job_configuration.query)

    def run_query(job: Any, session: Any, running: Any) -> Any:
        costs.check_limit(job.jobReference.projectId, job.configuration.query.dump())
        return query(job, session, running)

    runner._dry_run, runner._query = run_dry, run_query


def _check_jobs() -> None:
    submit, new_job, get = runner.submit, runner._job, runner.get
    lock = threading.Lock()

    def checked_submit(project: str, job_id: str, job_configuration: Any, upload: str | None = None) -> Any:
        given = job_configuration.dump()
        is_dry = bool(job_configuration.dryRun)
        # One at a time: two requests with the same id must not both find it unused.
        with lock:
            if not is_dry and (known := store.load(project, job_id)) is not None:
                location = known.jobReference.location or DEFAULT_LOCATION
                raise errors.already_exists("Job", f"{project}:{location}.{job_id}")
            configuration.check_job({"jobReference": {"jobId": job_id}, "configuration": given})
            _location.set(_find_location(project, given))
            if not is_dry:
                return submit(project, job_id, job_configuration, upload)
        return submit(project, job_id, job_configuration, upload)

    def located_job(project: str, job_id: str | None, job_configuration: Any) -> Any:
        job, location = new_job(project, job_id, job_configuration), _location.get()
        reference = {**job.jobReference.dump(), "location": location}
        link = f"/bigquery/v2/projects/{project}/jobs/{job_id}?location={location}"
        return job.replace(id=f"{project}:{location}.{job_id}", selfLink=link, jobReference=reference)

    def found_job(project: str, job_id: str) -> Any:
        asked = _asked_location.get()
        job = get(project, job_id)
        location = job.jobReference.location or DEFAULT_LOCATION
        wrong = asked.upper() != location.upper() if asked else location.upper() not in _FOUND_ANYWHERE
        if wrong:
            raise errors.not_found("Job", f"{project}:{asked + '.' if asked else ''}{job_id}")
        return job

    runner.submit, runner._job = checked_submit, located_job
    _read_locations(found_job)


def _read_locations(found_job: Callable[[str, str], Any]) -> None:
    """Check the location with the requests that name a job; the emulator's own look-ups know none."""

    async def check_location(request: Any, call_next: Callable[[Any], Any]) -> Any:
        parts = request.url.path.split("/")
        if len(parts) > 6 and parts[5] in ("jobs", "queries") and request.method in ("GET", "POST", "DELETE"):
            token = _asked_location.set(request.query_params.get("location"))
            try:
                await fastapi.concurrency.run_in_threadpool(found_job, parts[4], parts[6])
            except errors.BigQueryError as error:
                return fastapi.responses.JSONResponse(error.response(), status_code=error.code)
            finally:
                _asked_location.reset(token)
        return await call_next(request)

    app.app.middleware("http")(check_location)


def _find_location(project: str, given: Mapping[str, Any]) -> str:
    """Return where a job runs: where its datasets are.

    Raises:
        BigQueryError: If the request names another location.
    """
    asked = _asked_location.get()
    for name in _datasets_of(project, given):
        if not datasets.exists(*name):
            continue
        location = datasets.get(*name).location or DEFAULT_LOCATION
        if asked and asked.upper() != location.upper():
            raise errors.not_found("Dataset", f"{name[0]}:{name[1]} was not found in location {asked}")
        return str(location)
    return asked or DEFAULT_LOCATION


def _datasets_of(project: str, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return project and name of the datasets that a job names."""
    names = []
    for kind, member in (("load", "destinationTable"), ("query", "destinationTable"), ("query", "defaultDataset")):
        reference = (given.get(kind) or {}).get(member) or {}
        if reference.get("datasetId"):
            names.append((reference.get("projectId") or project, reference["datasetId"]))
    if "query" in given:
        names += sorted({table[:2] for table in costs.tables_named(project, given["query"])})
    return names


def asks_for(job: Any) -> None:
    """Note the location that a request for a job names."""
    reference = job.jobReference
    _asked_location.set(reference.location if reference else None)


def check(project: str, job: Any) -> None:
    """Check a job resource before its upload. A used id is only refused with the last byte.

    Raises:
        Refusal: If BigQuery does not accept it.
    """
    job_id = job.jobReference.jobId if job.jobReference else None
    if job_id is None or store.load(project, job_id) is None:
        configuration.check_job(job.dump())


def put_first(path: str, endpoint: Callable[..., Any], method: str) -> None:
    """Answer requests with a function, before the emulator's own."""
    routes = app.app.router.routes
    dependencies = [fastapi.Depends(app.valid_project)]
    app.app.add_api_route(path, endpoint, methods=[method], response_model=None, dependencies=dependencies)
    routes.insert(0, routes.pop())


def _read_requests() -> None:
    """Read what the emulator does not read in requests for jobs: the location, and the size of a dry run."""

    def insert_job(project_id: str, body: Any) -> Any:
        asks_for(body)
        return fastapi.responses.JSONResponse(jobs_api.insert_job(project_id, body).dump())

    def run_query(project_id: str, body: Any) -> Any:
        _asked_location.set(body.location)
        known = store.load(project_id, body.requestId) if body.requestId else None
        if known is not None and known.configuration.query and known.configuration.query.query == body.query:
            int64 = bool(body.formatOptions and body.formatOptions.useInt64Timestamp)
            return jobs_api.get_query_results(project_id, body.requestId, body.maxResults, None, 0, None, int64)
        response = jobs_api.run_query(project_id, body)
        if not body.dryRun:
            return response
        read = costs.bytes_processed(project_id, body.dump())
        return fastapi.responses.JSONResponse({**json.loads(response.body), "totalBytesProcessed": str(read)})

    insert_job.__annotations__["body"] = models.Job
    run_query.__annotations__["body"] = models.QueryRequest
    put_first("/bigquery/v2/projects/{project_id}/jobs", insert_job, "POST")
    put_first("/bigquery/v2/projects/{project_id}/queries", run_query, "POST")
