"""Packages that only some sources and results need, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import MissingDependency

if TYPE_CHECKING:
    from types import ModuleType


def required(module: str, extra: str = "load") -> ModuleType:
    """Import and return a module of another package.

    Args:
        module: Its name.
        extra: The extra of this package that brings it.

    Raises:
        MissingDependency: If it is not installed (an `ImportError`); the message names the extra.
    """
    try:
        return import_module(module)
    except ImportError:
        install = f'pip install "carto-auth-integrations[{extra}]"'
        raise MissingDependency(f"This needs {module}, which is not installed: {install}.") from None
