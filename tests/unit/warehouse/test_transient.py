"""Which failures pass by themselves: CARTO and Google unavailable do, what somebody has to change does not."""

from __future__ import annotations

import pytest
import requests
from google.api_core import exceptions as google
from google.auth.exceptions import RefreshError, TransportError

from carto_auth_integrations import AccountError, ClientRejected, InteractionRequired, ServiceUnavailable
from carto_auth_integrations.warehouse.transient import is_transient


def raised_from(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnavailable("CARTO is away"),
        google.TooManyRequests("too many"),
        google.InternalServerError("oops"),
        google.BadGateway("oops"),
        google.ServiceUnavailable("away"),
        google.GatewayTimeout("late"),
        google.Forbidden("slow down", errors=[{"reason": "rateLimitExceeded"}]),
        google.BadRequest("oops", errors=[{"reason": "backendError"}]),
        requests.ConnectionError("cut off"),
        requests.ReadTimeout("late"),
        requests.exceptions.ChunkedEncodingError("cut off"),
        ConnectionResetError("cut off"),
        TransportError("cut off"),
        raised_from(TransportError("no token"), ServiceUnavailable("CARTO is away")),
        raised_from(RefreshError("no token"), ServiceUnavailable("CARTO is away")),
    ],
    ids=repr,
)
def test_what_passes_by_itself_is_worth_another_try(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        AccountError("client_id is missing"),
        ClientRejected("wrong secret"),
        InteractionRequired("log in"),
        google.BadRequest("SELEC 1", errors=[{"reason": "invalidQuery"}]),
        google.NotFound("no such table"),
        google.Forbidden("not yours", errors=[{"reason": "accessDenied"}]),
        google.Forbidden("too much today", errors=[{"reason": "quotaExceeded"}]),
        requests.exceptions.SSLError("not trusted"),
        raised_from(RefreshError("no token"), ClientRejected("wrong secret")),
        raised_from(TransportError("no token"), ClientRejected("wrong secret")),
        TimeoutError("the job took longer than 5 s and was cancelled"),
        FileNotFoundError("visits.csv"),
        ValueError("row 7"),
    ],
    ids=repr,
)
def test_what_somebody_has_to_change_is_not(error: Exception) -> None:
    assert not is_transient(error)
