"""Errors: which are transient, and that all can be pickled and copied."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import requests
from google.api_core import exceptions as google
from google.auth.exceptions import RefreshError, TransportError

from carto_auth_integrations import AccountError, ClientRejected, InteractionRequired, ServiceUnavailable
from carto_auth_integrations.errors import (
    CallFailed,
    CredentialsError,
    Scope,
    causes_of,
    is_transient,
    is_transient_answer,
)


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
        CallFailed("could not be reached", transient=True),
    ],
    ids=repr,
)
def test_a_failure_that_may_pass_is_transient(error: Exception) -> None:
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
        CallFailed("answered 400", transient=False, status=400),
        raised_from(ValueError("row 7"), raised_from(KeyError("a"), None)),
    ],
    ids=repr,
)
def test_what_somebody_has_to_change_is_not_transient(error: Exception) -> None:
    assert not is_transient(error)


def test_the_causes_of_an_error_are_all_behind_it_and_none_twice() -> None:
    first, second, third = ValueError("first"), ValueError("second"), ValueError("third")
    first.__cause__, second.__context__, third.__cause__ = second, third, first

    assert list(causes_of(first)) == [first, second, third]
    assert list(causes_of(None)) == []


@pytest.mark.parametrize(
    ("status", "reasons", "expected"),
    [
        (503, [], True),
        (429, [], True),
        (403, [{"reason": "rateLimitExceeded"}], True),
        (400, [{"reason": "jobBackendError"}], True),
        (403, [{"reason": "quotaExceeded"}], False),
        (400, ["backendError"], False),
        (501, [], False),
        (None, [], False),
    ],
)
def test_bigquerys_answer_is_judged_by_its_reasons_and_its_status(
    status: int | None, reasons: list[Any], expected: bool
) -> None:
    assert is_transient_answer(status, reasons) is expected


def _subclasses(kind: type[CredentialsError]) -> list[type[CredentialsError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _subclasses(child))]


@pytest.mark.parametrize("kind", _subclasses(CredentialsError))
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_every_error_can_be_pickled_and_copied(
    kind: type[CredentialsError], travel: Callable[[CredentialsError], CredentialsError]
) -> None:
    error = kind("client_id is missing")
    error.status, error.retry_after, error.scope = 503, 7.0, Scope.PROCESS

    there = travel(error)

    assert type(there) is kind
    assert (str(there), there.status, there.retry_after, there.scope) == (
        "client_id is missing",
        503,
        7.0,
        Scope.PROCESS,
    )


def test_a_query_over_its_limit_of_bytes_is_not_repeated() -> None:
    """Google's client raises an error of the server for it, since it does not know the reason."""
    reasons = [{"reason": "bytesBilledLimitExceeded"}]
    assert not is_transient(google.InternalServerError("Query exceeded limit for bytes billed", errors=reasons))
    assert is_transient(
        google.InternalServerError("Error encountered during execution", errors=[{"reason": "unknown"}])
    )
