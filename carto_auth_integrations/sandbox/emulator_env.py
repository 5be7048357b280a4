"""Create the Python environment of the BigQuery emulator, once per user and machine.

`local-bigquery` needs Python 3.13 and a version of FastAPI that conflicts with Airflow, so it is never installed in
the user's environment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import SandboxError

PINS = Path(__file__).with_name("emulator.txt")

# The Python version that the pins were tested with, and the oldest that local-bigquery supports.
PREFERRED_PYTHON = "3.13"
MINIMUM_PYTHON = ">=3.13"

# Seconds to wait for another process that creates the environment, and for each command that creates it: about
# 250 MB of wheels over a slow connection.
TIMEOUT = 900

_ADVICE = (
    "Install Python 3.13 (`uv python install 3.13`), or run local-bigquery yourself and pass its URL with "
    "the option emulator_url."
)


def emulator_python() -> Path:
    """Return the Python interpreter of the emulator's environment, which the first call creates.

    Returns:
        Its path, below `$CARTO_SANDBOX_HOME` or the user's cache directory.

    Raises:
        SandboxError: If the environment cannot be created; the message says what to install.
    """
    environment = _home() / _name()
    python = _interpreter(environment)
    if python.exists():
        return python
    from filelock import FileLock, Timeout

    environment.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{environment}.lock", timeout=TIMEOUT):
            if not python.exists():
                _make(environment)
    except Timeout:
        raise SandboxError(
            f"Another process has been creating {environment} for {TIMEOUT} s; end it and try again"
        ) from None
    return python


def _home() -> Path:
    if home := os.environ.get("CARTO_SANDBOX_HOME"):
        return Path(home).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "carto-auth-integrations"


def _name() -> str:
    """Return the name of the environment's folder, which changes with the pins."""
    pins = PINS.read_text()
    version = next(line.partition("==")[2] for line in pins.splitlines() if line.startswith("local-bigquery=="))
    return f"local-bigquery-{version}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"


def _interpreter(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _make(environment: Path) -> None:
    """Create the environment in a folder beside it and rename that, so that an existing environment is complete."""
    building = environment.with_name(f"{environment.name}.building")
    for leftover in (building, environment):
        shutil.rmtree(leftover, ignore_errors=True)
    uv = _find_uv()
    try:
        _make_venv(uv, building)
        install = ["pip", "install", "--python", str(_interpreter(building)), "--no-deps", "-r", str(PINS)]
        problem = _run(uv, install, cwd=environment.parent)
        if problem is not None:
            raise SandboxError(f"The emulator's packages could not be installed:\n{problem}")
        building.rename(environment)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _make_venv(uv: str, target: Path) -> None:
    """Create a virtual environment with an installed Python; if there is none, let uv download one."""
    attempts: list[tuple[str, dict[str, str]]] = [
        (PREFERRED_PYTHON, {"UV_PYTHON_DOWNLOADS": "never"}),
        (MINIMUM_PYTHON, {"UV_PYTHON_DOWNLOADS": "never"}),
        (PREFERRED_PYTHON, {}),
    ]
    problem: str | None = None
    for version, variables in attempts:
        problem = _run(
            uv, ["venv", "--no-project", "--python", version, str(target)], cwd=target.parent, extra=variables
        )
        if problem is None:
            return
    raise SandboxError(f"The BigQuery emulator needs Python 3.13. {_ADVICE}\n{problem}")


def _find_uv() -> str:
    if importlib.util.find_spec("uv") is not None:
        from uv import find_uv_bin

        return str(find_uv_bin())
    uv = shutil.which("uv")
    if uv is None:
        raise SandboxError(
            "The sandbox needs `uv` to install the BigQuery emulator: pip install 'carto-auth-integrations[sandbox]'"
        )
    return uv


def _run(uv: str, arguments: Sequence[str], *, cwd: Path, extra: Mapping[str, str] | None = None) -> str | None:
    """Run uv without the settings of the current environment. Return its error output, or None if it succeeded."""
    dropped = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment.update({"PATH": _path_to_pythons(), **(extra or {})})
    try:
        result = subprocess.run(
            [uv, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return f"uv {arguments[0]} took longer than {TIMEOUT} s"
    return None if result.returncode == 0 else result.stderr.strip()


def _path_to_pythons() -> str:
    """Return PATH with pyenv's Pythons instead of its shims, which refuse to run versions that are not activated."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    pythons = [str(python.parent) for python in sorted(root.glob("versions/*/bin/python3.1[3-9]"))]
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*pythons, *(entry for entry in path if Path(entry).name != "shims")])
