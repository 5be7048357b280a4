"""The exception for failures of the sandbox itself, as opposed to the faults that it simulates."""

from __future__ import annotations


class SandboxError(RuntimeError):
    """The sandbox or its BigQuery emulator failed; the message says what to do where that is known."""
