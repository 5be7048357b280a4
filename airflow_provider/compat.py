"""What the compat provider of Airflow lacks, or lacks in its last version for Python 3.10, which is 1.20."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import ResumableJobMixin, mask_secret

    mask_here = mask_secret
else:
    try:
        from airflow.providers.common.compat.sdk import ResumableJobMixin
    except ImportError:

        class ResumableJobMixin:
            """The same without the store of Airflow 3.3: each try submits its job."""

            def execute_resumable(self, context: Any) -> Any:
                """Submit the job, wait for it, and return its result."""
                job = self.submit_job(context)
                self.poll_until_complete(job, context)
                return self.get_job_result(job, context)

    try:
        from airflow.providers.common.compat.sdk import mask_secret, redact
    except ImportError:
        try:
            from airflow.sdk.log import mask_secret, redact
        except ImportError:
            from airflow.utils.log.secrets_masker import mask_secret, redact

    # The masker's own function, which calls nobody; that of Airflow 3.0 calls the supervisor first.
    mask_here = getattr(sys.modules[redact.__module__], "mask_secret", mask_secret)

MASK_HERE_ASKS = mask_here.__module__.startswith("airflow.sdk.execution_time")
"""Whether `mask_here` waits for the supervisor too."""

__all__ = ["MASK_HERE_ASKS", "ResumableJobMixin", "mask_here", "mask_secret"]
