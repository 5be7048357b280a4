"""What holds for every test: a home of its own, no account in the environment, no skip where CI forbids it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from carto_auth_integrations.oauth.login import WORKER_VARIABLES

# Airflow and Prefect make their folders when they are imported, which is before any fixture.
_ORCHESTRATORS = tempfile.TemporaryDirectory(prefix="carto-tests-")
os.environ["AIRFLOW_HOME"] = f"{_ORCHESTRATORS.name}/airflow"
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"  # one of 3.0's cannot be imported without a further provider
os.environ["PREFECT_HOME"] = f"{_ORCHESTRATORS.name}/prefect"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the home folder away from the developer's, and take CARTO's variables out of the environment."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    # Where one of them is set, nobody is asked to log in; Airflow leaves its own behind when a test runs a task.
    for name in ("CI", *WORKER_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("CARTO_") and not name.startswith("CARTO_TEST")]:
        if name != "CARTO_SANDBOX_HOME":
            monkeypatch.delenv(name)
    return home


@pytest.fixture(autouse=True)
def no_tokens_of_other_tests() -> Iterator[None]:
    """Let each test begin as a process does, without the sources, listeners and stores of the tests before it."""
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
    """Keep the emulator's environment where it is made once, although each test has another home."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("CARTO_SANDBOX_HOME", str(cache / "carto-auth-integrations"))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker for tests that need a program which PyPI does not have."""
    config.addinivalue_line("markers", "needs_program(name): skipped where this system program is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail where CARTO_TEST_REQUIRE names the program: CI installs it, so there its absence is an error."""
    required = os.environ.get("CARTO_TEST_REQUIRE", "").split(",")
    for marker in item.iter_markers("needs_program"):
        program = marker.args[0]
        if shutil.which(program):
            continue
        if program in required:
            pytest.fail(f"{program} is not installed, and CARTO_TEST_REQUIRE says that it has to be", pytrace=False)
        pytest.skip(f"needs {program}")
