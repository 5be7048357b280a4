"""A ready BigQuery client for the CARTO Data Warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency
from ..http import USER_AGENT
from .rest import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from google.cloud import bigquery

    from .credentials import CartoDWCredentials
    from .dw_tokens import DWTokens

REFRESH_TIMEOUT = 300
"""Seconds that google's session waits for a refresh, as google's own clients set it."""


def make_client(tokens: DWTokens, project: str, options: Mapping[str, Any]) -> bigquery.Client:
    """Return a client whose credentials renew themselves.

    Args:
        tokens: The DW tokens.
        project: The warehouse's BigQuery project.
        options: Further options of `google.cloud.bigquery.Client`; each replaces the account's own.

    Raises:
        MissingDependency: If google-cloud-bigquery is not installed (an `ImportError`).
        InvalidField: If the endpoint is plain http to another machine.
    """
    try:
        from google.api_core.client_info import ClientInfo
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud import bigquery

        from .credentials import CartoDWCredentials
    except ImportError as error:
        raise MissingDependency(
            f"{error.name} is not installed, which the CARTO Data Warehouse needs: "
            'pip install "carto-auth-integrations[carto-dw]".'
        ) from None
    account = tokens.account
    credentials: CartoDWCredentials = options.get("credentials") or CartoDWCredentials(tokens)
    session = AuthorizedSession(credentials, refresh_timeout=REFRESH_TIMEOUT)
    session.auth = _keep_headers
    endpoint = endpoint_of(account)
    session.trust_env = endpoint.startswith("https://")  # no proxy gets to see plain http
    settings: dict[str, Any] = {
        "project": project,
        "credentials": credentials,
        "client_info": ClientInfo(user_agent=USER_AGENT),
        "client_options": {"api_endpoint": endpoint},
        "_http": session,
    }
    if account.location:
        settings["location"] = account.location
    if account.default_dataset:
        dataset = bigquery.DatasetReference.from_string(account.default_dataset, default_project=project)
        settings["default_query_job_config"] = bigquery.QueryJobConfig(default_dataset=dataset)
    return bigquery.Client(**{**settings, **options})


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an `auth` of its own, a session of requests replaces the bearer token with what `~/.netrc` says."""
    return request
