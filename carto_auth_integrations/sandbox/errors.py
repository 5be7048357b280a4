"""What goes wrong with the sandbox itself, as opposed to the faults it plays."""

from __future__ import annotations


class SandboxError(RuntimeError):
    """The sandbox, or the BigQuery emulator behind it, cannot do what it was asked; says what to do."""
