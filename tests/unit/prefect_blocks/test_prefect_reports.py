"""What a load reports to Prefect, without a server."""

from __future__ import annotations

import pytest

from carto_auth_integrations.warehouse import JobProgress
from prefect_blocks._reports import per_cent


@pytest.mark.parametrize(
    ("state", "sent", "total", "was_read", "expected"),
    [
        ("READING", 0, None, False, 0.0),
        ("READING", 50, 100, True, 22.5),
        ("READING", 100, 100, True, 45.0),
        ("READING", 110, 100, True, 45.0),
        ("UPLOADING", 0, None, True, 45.0),
        ("UPLOADING", 50, 100, True, 67.5),
        ("UPLOADING", 50, 100, False, 45.0),
        ("UPLOADING", 100, 100, True, 90.0),
        ("UPLOADING", 100, 100, False, 90.0),
        ("PENDING", 0, None, False, 90.0),
        ("RUNNING", 0, None, True, 90.0),
        ("DONE", 0, None, True, 100.0),
    ],
)
def test_the_progress_counts_reading_and_upload(
    state: str, sent: int, total: int | None, was_read: bool, expected: float
) -> None:
    assert per_cent(JobProgress("job", state, 1.0, sent, total), was_read=was_read) == expected
