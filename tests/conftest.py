"""Fixtures of all tests: a new home, no account in the environment; and no skips where CI forbids them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from carto_auth_integrations.oauth.login import WORKER_VARIABLES

# Airflow and Prefect make their folders when they are imported, before any fixture.
_ORCHESTRATORS = tempfile.TemporaryDirectory(prefix="carto-tests-")
os.environ["AIRFLOW_HOME"] = f"{_ORCHESTRATORS.name}/airflow"
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"  # one of 3.0's cannot be imported without a further provider
os.environ["PREFECT_HOME"] = f"{_ORCHESTRATORS.name}/prefect"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set HOME to a new directory, and remove CARTO's variables from the environment."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    # If one of them is set, there is no interactive login; Airflow leaves its own set when a test runs a task.
    for name in ("CI", *WORKER_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("CARTO_") and not name.startswith("CARTO_TEST")]:
        if name != "CARTO_SANDBOX_HOME":
            monkeypatch.delenv(name)
    return home


@pytest.fixture(autouse=True)
def no_tokens_of_other_tests() -> Iterator[None]:
    """Remove the sources, listeners and stores of a test, so that each test begins like a new process."""
    yield
    for module, registry in (
        ("registry", "_sources"),
        ("registry", "_listeners"),
        ("stores", "_opened"),
    ):
        loaded = sys.modules.get(f"carto_auth_integrations.tokens.{module}")
        if loaded is not None:
            getattr(loaded, registry).clear()


@pytest.fixture(scope="session", autouse=True)
def _emulator_environment_outlives_the_own_home() -> None:
    """Keep the emulator's environment in the real home, so that it is made only once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("CARTO_SANDBOX_HOME", str(cache / "carto-auth-integrations"))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker for tests that need a program which is not on PyPI."""
    config.addinivalue_line("markers", "needs_program(name): skipped where this system program is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail if CARTO_TEST_REQUIRE names the program, as in CI, which installs it."""
    required = os.environ.get("CARTO_TEST_REQUIRE", "").split(",")
    for marker in item.iter_markers("needs_program"):
        program = marker.args[0]
        if shutil.which(program):
            continue
        if program in required:
            pytest.fail(f"{program} is not installed, and CARTO_TEST_REQUIRE says that it has to be", pytrace=False)
        pytest.skip(f"needs {program}")
