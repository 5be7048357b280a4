"""The Prefect blocks for CARTO."""

from __future__ import annotations

from carto_auth_integrations import __version__

from .credentials import CartoCredentials

__all__ = ["CartoCredentials", "__version__"]
