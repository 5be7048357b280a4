"""The BigQuery job of an Airflow task: its key and labels, its cancellation, and its errors as JSON."""

from __future__ import annotations

import threading
from logging import getLogger
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException

from carto_auth_integrations.errors import CredentialsError, causes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from airflow.providers.common.compat.sdk import Context

    from carto_auth_integrations import CartoAuth
    from carto_auth_integrations.warehouse import JobProgress, RunKey

logger = getLogger(__name__)

NOT_MAPPED = -1
"""Airflow's map index of a task that is not mapped."""
KILL_WAIT = 4.0
"""Seconds that a killed task waits for its job's cancellation: Airflow kills the process after 5 s."""
ERROR_NUMBERS = ("status", "retry_after")
"""Attributes of this package's errors, and of google's as the warehouse raises them."""


def idempotency_key(context: Context) -> RunKey:
    """Return the key of what a task does in a run: the same for each try, and another one after the task was cleared.

    A retry has to find the job of the earlier try; a cleared task has to run again, since its upstream data changed.
    `max_tries` tells the two apart: a clearing sets it to the tries so far plus the retries, a retry leaves it alone.
    (The retries are not subtracted: editing them between two tries must not hide the job.) The start of the run tells
    runs of one id apart: one that was deleted and created again, or the run of another Airflow.

    Args:
        context: The task's context.
    """
    from carto_auth_integrations.warehouse.jobs import RunKey  # its HTTP client is not needed to parse a DAG file

    ti, run = context["ti"], context["dag_run"]
    start = run.start_date.timestamp() if run.start_date else ""
    names = (ti.dag_id, ti.task_id, ti.run_id, ti.map_index, start, ti.max_tries)
    return RunKey("/".join(map(str, names)))


def job_labels(context: Context) -> dict[str, str]:
    """Return the labels that name the task in BigQuery's list of jobs, and in the bill.

    Args:
        context: The task's context.
    """
    ti = context["ti"]
    names = {"dag": ti.dag_id, "task": ti.task_id, "run": ti.run_id, "map-index": ti.map_index, "try": ti.try_number}
    return {f"airflow-{name}": str(value) for name, value in names.items() if value != NOT_MAPPED}


class JobWatch:
    """Knows the job of a task, so that it can be cancelled at any moment, also from a signal handler.

    Args:
        auth: The account whose job it is.
        on_job: Called once with the id and location of each job that the task waits for.

    Attributes:
        job_id: The job's id. The job may not exist yet.
        location: Where it runs, once that is known.
    """

    def __init__(self, auth: CartoAuth, on_job: Callable[[str, str], None]) -> None:
        self._auth = auth
        self._on_job = on_job
        self.job_id: str | None = None
        self.location: str | None = None
        self._reported: str | None = None
        self._killed = False

    def __call__(self, progress: JobProgress) -> None:
        """Note the job of a progress report.

        Raises:
            AirflowException: If the task was killed.
        """
        self.note(progress.job_id, progress.location)

    def note(self, job_id: str, location: str | None) -> None:
        """Note the job, which may not exist yet.

        Raises:
            AirflowException: If the task was killed. An upload ends here, and a job that began meanwhile is cancelled.
        """
        self.job_id, self.location = job_id, location
        if self._killed:
            self._cancel()
            raise AirflowException(f"The task was killed, and its job {job_id} cancelled.")
        if location and job_id != self._reported:
            self._reported = job_id
            self._on_job(job_id, location)

    def kill(self) -> None:
        """Cancel the job, if there is one, and stop the task at its next progress report."""
        self._killed = True
        if self.job_id is None:
            return
        # On a thread: whatever lock the interrupted code holds, this ends, and the next progress report cancels again.
        canceller = threading.Thread(target=self._cancel, name="carto-cancel", daemon=True)
        canceller.start()
        canceller.join(KILL_WAIT)

    def _cancel(self) -> None:
        if self.job_id is None:
            return
        from google.api_core.exceptions import NotFound

        try:
            self._auth.warehouse().cancel(self.job_id, self.location)
        except NotFound:
            pass  # its data is still being sent: BigQuery creates the job with the last byte
        except Exception as error:
            logger.warning("Job %s could not be cancelled: %s", self.job_id, error)
        else:
            logger.info("Job %s is cancelled.", self.job_id)


def error_as_json(error: Exception) -> dict[str, Any]:
    """Return an error as plain JSON types, so that a task can raise what its trigger met.

    Args:
        error: Any error. If it was raised from a `CredentialsError`, that one is returned.
    """
    error = next((cause for cause in causes_of(error) if isinstance(cause, CredentialsError)), error)
    message = getattr(error, "message", None) or error  # google's str() puts the code in front of its message
    numbers = {name: getattr(error, name, None) for name in ERROR_NUMBERS}
    return {
        "error": type(error).__name__,
        "message": str(message),
        "numbers": {name: value for name, value in numbers.items() if isinstance(value, (int, float))},
    }


def error_from_json(error: Mapping[str, Any]) -> Exception:
    """Return the error of `error_as_json`, of the same class, so that a retry policy treats it alike.

    Args:
        error: What `error_as_json` returned.
    """
    from google.api_core import exceptions as google
    from google.auth import exceptions as auth

    from carto_auth_integrations import errors

    known = (CredentialsError, google.GoogleAPICallError, auth.GoogleAuthError, TimeoutError)
    kinds = {**vars(auth), **vars(google), **vars(errors), "TimeoutError": TimeoutError}
    kind = kinds.get(error["error"])
    if not (isinstance(kind, type) and issubclass(kind, known)):
        return AirflowException(f"{error['error']}: {error['message']}")
    raised: Exception = kind(error["message"])
    vars(raised).update(error["numbers"])
    return raised
