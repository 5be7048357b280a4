"""A local CARTO for tests and demos: login, API and a BigQuery emulator that checks its tokens.

Nothing but the Python standard library is imported until one of the names below is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import SandboxError
    from .faults import Fault
    from .options import SandboxOptions
    from .sandbox import Sandbox
    from .serving import serve
    from .state import SandboxStats

__all__ = ["Fault", "Sandbox", "SandboxError", "SandboxOptions", "SandboxStats", "serve"]

_HOMES = {
    "Fault": "faults",
    "Sandbox": "sandbox",
    "SandboxError": "errors",
    "SandboxOptions": "options",
    "SandboxStats": "state",
    "serve": "serving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
