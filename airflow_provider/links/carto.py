"""The link from a task to its BigQuery job."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

CONSOLE = "https://console.cloud.google.com/bigquery"


class CartoJobLink(BaseOperatorLink):
    """The job in Google's console: its statement, plan, cost and error.

    The task writes the link to XCom as soon as the job has an id, so it works while the job runs and after it failed.
    """

    name = "BigQuery job"

    @property
    def xcom_key(self) -> str:
        """The XCom key of the link. Airflow 3 shows what it finds there, without loading this class."""
        return "carto_job_link"

    def persist(self, context: Context, project: str, location: str, job_id: str) -> str:
        """Write the link to XCom, and return it.

        Args:
            context: The task's context.
            project: The warehouse's BigQuery project.
            location: Where the job runs.
            job_id: The job.
        """
        job = quote(f"bq:{location}:{job_id}", safe=":")
        url = f"{CONSOLE}?project={quote(project)}&j={job}&page=queryresults"
        context["ti"].xcom_push(key=self.xcom_key, value=url)
        return url

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey, **kwargs: Any) -> str:
        """Return the link; empty while there is no job."""
        link: str | None = getattr(operator, "job_link", None)  # known in the task's own process
        return (XCom.get_value(ti_key=ti_key, key=self.xcom_key) or "") if link is None else link
