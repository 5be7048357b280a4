"""Which CARTO account: its fields, where they come from, and how they are checked."""

from __future__ import annotations

from .account import CartoAccount

__all__ = ["CartoAccount"]
