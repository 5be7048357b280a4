"""What Airflow's compat provider does not have yet in its last version for Python 3.10, 1.20."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import mask_secret, redact
else:
    try:
        from airflow.providers.common.compat.sdk import mask_secret, redact
    except ImportError:
        try:
            from airflow.sdk.log import mask_secret, redact
        except ImportError:
            from airflow.utils.log.secrets_masker import mask_secret, redact

__all__ = ["mask_secret", "redact"]
