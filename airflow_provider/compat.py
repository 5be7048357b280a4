"""What Airflow's compat provider does not have, or not yet in its last version for Python 3.10, 1.20."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import ResumableJobMixin, mask_secret, redact

    mask_here = mask_secret
else:
    try:
        from airflow.providers.common.compat.sdk import ResumableJobMixin
    except ImportError:

        class ResumableJobMixin:
            """Does the same without Airflow's store: each try submits its job."""

            def execute_resumable(self, context: Any) -> Any:
                """Submit the job, wait for it, and take its result."""
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

    # The masker's own module: from 3.1 on, its function of this name does not ask the supervisor.
    mask_here = getattr(sys.modules[redact.__module__], "mask_secret", mask_secret)

__all__ = ["ResumableJobMixin", "mask_here", "mask_secret", "redact"]
