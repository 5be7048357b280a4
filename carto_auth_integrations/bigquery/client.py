"""A ready BigQuery client for the CARTO Data Warehouse."""

from __future__ import annotations

from ..errors import MissingDependency
from ..http import USER_AGENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from google.cloud import bigquery

    from ..auth import CartoAuth


def make_client(auth: CartoAuth, project: str, options: Mapping[str, Any]) -> bigquery.Client:
    """Make a client whose credentials renew themselves.

    Args:
        auth: Whose warehouse.
        project: The warehouse's BigQuery project.
        options: Further options of `google.cloud.bigquery.Client`; each takes the place of the account's own.

    Raises:
        MissingDependency: If google-cloud-bigquery is not installed (an `ImportError`).
    """
    try:
        from google.api_core.client_info import ClientInfo
        from google.cloud import bigquery

        from .credentials import CartoDWCredentials
    except ImportError as error:
        raise MissingDependency(
            f"{error.name} is not installed, which the CARTO Data Warehouse needs: "
            'pip install "carto-auth-integrations[carto-dw]".'
        ) from None
    account = auth.account
    settings: dict[str, Any] = {"project": project, "client_info": ClientInfo(user_agent=USER_AGENT)}
    if account.location:
        settings["location"] = account.location
    if account.bigquery_endpoint:
        settings["client_options"] = {"api_endpoint": account.bigquery_endpoint}
    if account.default_dataset:
        dataset = bigquery.DatasetReference.from_string(account.default_dataset, default_project=project)
        settings["default_query_job_config"] = bigquery.QueryJobConfig(default_dataset=dataset)
    settings["credentials"] = CartoDWCredentials(auth)
    return bigquery.Client(**{**settings, **options})
