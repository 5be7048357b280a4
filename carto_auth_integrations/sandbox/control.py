"""HTTP endpoints under `/_sandbox` that control a running sandbox from another process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, request

from .faults import Fault
from .shapes import carto_error, json_reply
from .state import TOKEN_KINDS, SandboxState

BLUEPRINT_NAME = "control"


def blueprint(state: SandboxState) -> Blueprint:
    """Return the control routes; each does the same as the method of that name of `Sandbox`."""
    routes = Blueprint(BLUEPRINT_NAME, __name__, url_prefix="/_sandbox")

    @routes.errorhandler(ValueError)
    @routes.errorhandler(TypeError)
    def bad_request(error: ValueError | TypeError) -> Response:
        return carto_error(400, str(error))

    @routes.get("/stats")
    def stats() -> Response:
        return json_reply(asdict(state.stats.snapshot()), 200)

    @routes.post("/faults")
    def add_fault() -> Response:
        state.faults.add(Fault(**_json_object()))
        return Response(status=204)

    @routes.delete("/faults")
    def clear_faults() -> Response:
        state.faults.clear()
        return Response(status=204)

    @routes.post("/lifetimes")
    def lifetimes() -> Response:
        state.set_lifetimes(**{kind: float(seconds) for kind, seconds in _json_object().items()})
        return json_reply(state.lifetimes, 200)

    @routes.post("/revoke")
    def revoke() -> Response:
        what = _json_object().get("what")
        for kind in TOKEN_KINDS:
            if what == kind:
                return json_reply({"revoked": state.tokens.revoke(kind)}, 200)
        raise ValueError(f"'what' must be one of {', '.join(TOKEN_KINDS)}")

    @routes.post("/reset")
    def reset() -> Response:
        state.reset()
        return Response(status=204)

    return routes


def _json_object() -> dict[str, Any]:
    """Return the JSON object in the request body."""
    document = request.get_json(force=True)
    if not isinstance(document, dict):
        raise ValueError("the body must be a JSON object")
    return document
