"""What joins an Airflow task and its BigQuery job: key, labels, how the one ends the other, and errors on their way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from airflow.providers.common.compat.sdk import Context

    from carto_auth_integrations import CartoAuth
    from carto_auth_integrations.warehouse import JobProgress

NOT_MAPPED = -1
"""Airflow's map index of a task that is not mapped."""
KILL_WAIT = 4.0
"""Seconds that a killed task waits for its job's cancellation: Airflow kills the process for good after 5 s."""


def idempotency_key(context: Context) -> str:
    """Name what a task does in this round of this run: the same for each of its tries, and for nothing else.

    A retry has to find the job of the try before it; a task that a user clears has to run again, since its upstream
    data changed. Airflow tells the two apart in `max_tries`: a clearing sets it to the tries so far plus the retries, a
    retry leaves it alone, whatever ended the try. (The retries are not taken off again: an edit of them between two
    tries must not hide the job.) Runs of one id are told apart by their start: one that was deleted and made again, or
    another Airflow's run of the same DAG.

    Args:
        context: The task's context.
    """
    ti, run = context["ti"], context["dag_run"]
    start = run.start_date.timestamp() if run.start_date else ""
    names = (ti.dag_id, ti.task_id, ti.run_id, ti.map_index, start, ti.max_tries)
    return "/".join(str(name) for name in names)


def job_labels(context: Context) -> dict[str, str]:
    """Give the labels by which a job is found in BigQuery's own lists, and its cost in the bill.

    Args:
        context: The task's context.
    """
    ti = context["ti"]
    names = {"dag": ti.dag_id, "task": ti.task_id, "run": ti.run_id, "map-index": ti.map_index, "try": ti.try_number}
    return {f"airflow-{name}": str(value) for name, value in names.items() if value != NOT_MAPPED}


class JobWatch:
    """Follows the job of a task, so that it can be cancelled at any moment, from a signal's handler too.

    Args:
        auth: Whose job it is.
        on_job: Called with each job that the task comes to wait for, by its id and location.

    Attributes:
        job_id: The job, once it has an id: before it is begun.
        location: Where it runs, as far as that is known.
    """

    def __init__(self, auth: CartoAuth, on_job: Callable[[str, str], None]) -> None:
        self._auth = auth
        self._on_job = on_job
        self.job_id: str | None = None
        self.location: str | None = None
        self._told: str | None = None
        self._killed = False

    def __call__(self, progress: JobProgress) -> None:
        """Take note of a progress.

        Raises:
            AirflowException: If the task was killed.
        """
        self.note(progress.job_id, progress.location)

    def note(self, job_id: str, location: str | None) -> None:
        """Take note of the job, which may not be begun yet.

        Raises:
            AirflowException: If the task was killed: an upload ends here, and a job that began since is cancelled.
        """
        self.job_id, self.location = job_id, location
        if self._killed:
            self._cancel()
            raise AirflowException(f"The task was killed, and its job {job_id} cancelled.")
        if location and job_id != self._told:
            self._told = job_id
            self._on_job(job_id, location)

    def kill(self) -> None:
        """Cancel the job, if there is one, and let the task go no further."""
        self._killed = True
        if self.job_id is None:
            return
        # On a thread: whatever lock the interrupted code holds, this ends, and the next progress cancels again.
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
            pass  # its upload goes on: BigQuery makes the job with the last byte
        except Exception as error:
            _logger().warning("Job %s could not be cancelled: %s", self.job_id, error)
        else:
            _logger().info("Job %s is cancelled.", self.job_id)


def error_as_json(error: Exception) -> dict[str, Any]:
    """Give an error as plain JSON types, so that a task can raise what its trigger met.

    Args:
        error: One of the core's, of google's or of anyone else.
    """
    from carto_auth_integrations.errors import CredentialsError

    if isinstance(error.__cause__, CredentialsError):  # google-auth's RefreshError, and the like
        error = error.__cause__
    message = getattr(error, "message", None) or str(error)  # google's text has the code in front, and would have two
    told: dict[str, Any] = {"error": type(error).__name__, "message": str(message)}
    if isinstance(error, CredentialsError):
        told |= {"code": error.status, "retry_after": error.retry_after}
    return told


def error_from_json(told: Mapping[str, Any]) -> Exception:
    """Give the error that `error_as_json` told of: of the same kind, so that a retry policy treats it alike.

    Args:
        told: What it gave.
    """
    from google.api_core import exceptions as google

    from carto_auth_integrations import errors

    name, message = told["error"], told["message"]
    kinds: dict[str, Any] = {**vars(google), **vars(errors), "TimeoutError": TimeoutError}
    kind = kinds.get(name)
    if kind is None:
        return AirflowException(f"{name}: {message}")
    options = {"status": told["code"], "retry_after": told["retry_after"]} if "code" in told else {}
    error: Exception = kind(message, **options)
    return error


def _logger() -> Any:
    from logging import getLogger

    return getLogger(__name__)
