"""The refusal of a request or a job, with BigQuery's reason for it."""

from __future__ import annotations

_CANNOT = "The sandbox cannot do this, BigQuery can: "


class Refusal(Exception):
    """What BigQuery refuses, or the sandbox cannot do.

    Args:
        message: One sentence in BigQuery's words.
        reason: BigQuery's reason: `invalid` for input that BigQuery refuses, `notImplemented` for input that BigQuery
            takes and the sandbox does not.
    """

    def __init__(self, message: str, reason: str = "invalid") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


def refusal_of(message: str) -> Refusal:
    """Return the refusal with a message, with the reason that belongs to it."""
    _, found, what = message.partition(_CANNOT)
    return cannot(what) if found else Refusal(message)


def cannot(what: str) -> Refusal:
    """Return the refusal of something that BigQuery can do and the sandbox cannot."""
    return Refusal(f"{_CANNOT}{what}", "notImplemented")
