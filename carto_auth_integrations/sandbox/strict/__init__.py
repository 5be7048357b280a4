"""BigQuery's rules in front of the emulator: what BigQuery refuses is refused, what the emulator lacks is translated.

This runs inside the emulator's process, where its packages are, and takes the place of the emulator's own load jobs and
uploads.
"""

from __future__ import annotations


def install(*, strict: bool) -> None:
    """Put the rules in front of the emulator, in the process that serves it.

    Args:
        strict: Whether to refuse what BigQuery refuses; if not, only what the emulator lacks is translated.
    """
    from . import jobs, uploads

    jobs.install(strict=strict)
    uploads.install(jobs.check if strict else lambda _project, _job: None)
