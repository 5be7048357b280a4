"""A local CARTO for tests and demos: OAuth server, API, and a BigQuery emulator that requires valid tokens.

The names below are imported on first use; until then only the Python standard library is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import SandboxError
    from .faults import Fault
    from .options import SandboxOptions
    from .sandbox import Sandbox
    from .serving import serve
    from .state import SandboxStats

__all__ = ["Fault", "Sandbox", "SandboxError", "SandboxOptions", "SandboxStats", "serve"]

_MODULES = {
    "Fault": "faults",
    "Sandbox": "sandbox",
    "SandboxError": "errors",
    "SandboxOptions": "options",
    "SandboxStats": "state",
    "serve": "serving",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
