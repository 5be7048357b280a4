"""JSON responses, and errors in the formats of Auth0, CARTO and Google."""

from __future__ import annotations

import json
from http import HTTPStatus

from flask import Response

# Reasons in BigQuery's errors by HTTP status; its client decides by them whether to retry.
# https://cloud.google.com/bigquery/docs/error-messages
_GOOGLE_REASONS = {
    400: "invalid",
    401: "authError",
    403: "accessDenied",
    404: "notFound",
    409: "duplicate",
    429: "rateLimitExceeded",
    500: "internalError",
    501: "notImplemented",
    502: "badGateway",
    503: "backendError",
}

# Names of google.rpc.Code by HTTP status, where they differ from the HTTP phrase.
_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
}


def json_reply(payload: object, status: int) -> Response:
    """Return a JSON response with `Cache-Control: no-store`."""
    response = Response(json.dumps(payload), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def auth0_error(status: int, error: str, description: str) -> Response:
    """Return an error in the format of Auth0's token endpoint."""
    return json_reply({"error": error, "error_description": description}, status)


def carto_error(status: int, error: str) -> Response:
    """Return an error in the format of CARTO's API."""
    return json_reply({"error": error, "status": status}, status)


def google_error(status: int, message: str) -> Response:
    """Return an error in the format of Google's REST APIs."""
    reason = _GOOGLE_REASONS.get(status, "unknown")
    document = {
        "code": status,
        "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
        "status": _GOOGLE_STATUSES.get(status, HTTPStatus(status).phrase.upper().replace(" ", "_")),
    }
    return json_reply({"error": document}, status)


def error_of(endpoint: str, status: int) -> Response:
    """Return an error in the format of an endpoint.

    Args:
        endpoint: One of `faults.ENDPOINTS`.
        status: The HTTP status.
    """
    phrase = HTTPStatus(status).phrase
    if endpoint in ("bigquery", "upload"):
        return google_error(status, phrase)
    if endpoint in ("token", "authorize"):
        return auth0_error(status, phrase.lower().replace(" ", "_"), phrase)
    return carto_error(status, phrase)
