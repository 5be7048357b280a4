"""The retry policy: which failures end a task at once, and how long it waits after others."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, ServerError, TooManyRequests
from google.auth.exceptions import RefreshError
from requests import Response

from airflow_provider.retry import CartoRetryPolicy
from carto_auth_integrations import AccountError, ClientRejected, InteractionRequired, ServiceUnavailable


def decide(error: BaseException) -> tuple[str, timedelta | None]:
    pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="retry policies come with Airflow 3.3")
    decision = CartoRetryPolicy().evaluate(error, 1, 3, None)
    return decision.action.value, decision.retry_delay


def too_many_requests(**headers: str) -> TooManyRequests:
    response = Response()
    response.headers.update(headers)
    return TooManyRequests("slow down", response=response)


@pytest.mark.parametrize("kind", [AccountError, ClientRejected, InteractionRequired])
def test_an_error_that_no_retry_solves_fails_at_once(kind: type[Exception]) -> None:
    assert decide(kind("Check client_secret.")) == ("fail", None)


def test_the_reason_is_the_errors_advice() -> None:
    pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="retry policies come with Airflow 3.3")
    assert CartoRetryPolicy().evaluate(ClientRejected("Check client_secret."), 1, 3).reason == "Check client_secret."


def test_a_retry_waits_as_long_as_carto_says() -> None:
    assert decide(ServiceUnavailable("busy", status=429, retry_after=42.0)) == ("retry", timedelta(seconds=42))


def test_a_retry_waits_as_long_as_bigquery_says() -> None:
    assert decide(too_many_requests(**{"Retry-After": "7"})) == ("retry", timedelta(seconds=7))


def test_a_retry_waits_as_long_as_an_error_of_the_warehouse_says() -> None:
    error: Any = ServerError("unavailable")
    error.retry_after = 11.0
    assert decide(error) == ("retry", timedelta(seconds=11))


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnavailable("down"),
        too_many_requests(),
        too_many_requests(**{"Retry-After": "soon"}),
        BadRequest("syntax"),
        KeyError("x"),
    ],
)
def test_all_else_is_left_to_the_task(error: Exception) -> None:
    assert decide(error) == ("default", None)


def test_an_error_that_googles_library_has_wrapped_is_found() -> None:
    wrapped = RefreshError("no token")
    wrapped.__cause__ = ClientRejected("Check client_secret.")
    assert decide(wrapped) == ("fail", None)


def test_the_module_can_be_imported_where_airflow_has_no_policies() -> None:
    code = "import sys; sys.modules['airflow.sdk.definitions.retry_policy'] = None; import airflow_provider.retry"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
