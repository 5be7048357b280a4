"""Tests that need environments of their own: each connector on every version of its orchestrator that it supports.

    nox                          all of them
    nox -s "airflow(2.11)"       the provider's tests on one Airflow; what follows `--` goes to pytest
    nox -s airflow-google        on the newest Airflow beside its google and openlineage providers
    nox -s airflow-pins          choose the newest versions that fit together, and write them down
    nox -s "prefect(3.6)"        the blocks' tests on one Prefect; prefect-pins as above

nox and uv come with the developer's environment: `.venv/bin/nox`.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.envdir = ".venv-nox"
nox.options.sessions = ["airflow", "airflow-google", "prefect"]

COMPILE = "--compile-bytecode"
"""Once, at the installation: where Python writes no bytecode, each of the tests' many processes would lose seconds."""
AIRFLOWS = {"2.11": "3.10", "3.0": "3.12", "3.1": "3.12", "3.2": "3.12", "3.3": "3.12"}
"""The Airflows that the provider supports, each with the Python of its tests: the oldest runs on the oldest."""
EXTRAS = "airflow,load,sandbox"
TOOLS = ("db-dtypes", "jsonschema", "polars", "psutil", "pytest", "pytest-timeout")
"""What the tests need beside the extras."""
BESIDE = {
    # Their task API does not answer under later versions, and the UI of 3.0 takes the fields of forms from FAB alone.
    "3.0": ("apache-airflow-providers-fab", "fastapi<0.117"),
    "3.2": ("fastapi<0.137", "starlette<1"),
    # What the provider works with where it is there; a developer's environment does without these hundred packages.
    "google": ("apache-airflow-providers-google", "apache-airflow-providers-openlineage", "sqlalchemy-bigquery"),
}
"""What one of the environments has besides."""
GOOGLE = "google"
NEWEST = list(AIRFLOWS)[-1]
TESTS = ("tests/unit/airflow_provider", "tests/integration/airflow_provider")


@nox.session(name="airflow")
@nox.parametrize(("python", "version"), [(AIRFLOWS[each], each) for each in AIRFLOWS], ids=list(AIRFLOWS))
def airflow(session: nox.Session, version: str) -> None:
    """Test the provider on one Airflow."""
    _install(session, version)
    session.run("pytest", *TESTS, *session.posargs)


@nox.session(name="airflow-google", python=AIRFLOWS[NEWEST])
def airflow_google(session: nox.Session) -> None:
    """Test what the provider does beside Airflow's google and openlineage providers."""
    _install(session, GOOGLE)
    session.run("pytest", TESTS[0], *session.posargs)


@nox.session(name="airflow-pins", venv_backend="none")
def airflow_pins(session: nox.Session) -> None:
    """Renew the pins of these sessions; what follows `--` names those to renew instead of all."""
    for version in session.posargs or (*AIRFLOWS, GOOGLE):
        release = NEWEST if version == GOOGLE else version
        wanted = Path(session.create_tmp(), "wanted.txt")
        wanted.write_text("\n".join((f"apache-airflow=={release}.*", *TOOLS, *BESIDE.get(version, ()))))
        extras = [f"--extra={extra}" for extra in EXTRAS.split(",")]
        options = ("--no-header", "--no-annotate", "--quiet", "--upgrade", f"--python-version={AIRFLOWS[release]}")
        pins = f"--output-file={_pins(version)}"
        session.run("uv", "pip", "compile", "pyproject.toml", str(wanted), *extras, *options, pins, external=True)


def _install(session: nox.Session, version: str) -> None:
    extras = BESIDE.get(version, ())
    session.install(COMPILE, "-c", _pins(version), "-e", f".[{EXTRAS}]", "apache-airflow", *TOOLS, *extras)


def _pins(version: str) -> str:
    return f"constraints/airflow-{version}.txt"


PREFECTS = {"3.6": "3.6.0", "3.7": "3.7.7", "3.8": "3.8.8", "3.9": "3.9.1"}
"""The Prefects that the blocks support: the oldest that the metadata allows, the one that fits beside Airflow, the last
of its line, the newest."""
PREFECT_PYTHONS = {"3.6": "3.10", "3.7": "3.12", "3.8": "3.12", "3.9": "3.12"}
"""The Python of each one's tests: the oldest runs on the oldest."""
PREFECT_EXTRAS = "load,prefect,sandbox"
PREFECT_TOOLS = ("airportsdata", "geopandas", "pillow", "prefect-dask", "psutil", "pytest", "pytest-timeout")
"""What the tests need beside the extras, the picture library that Prefect's own suite for blocks asks for among it."""
PREFECT_LIMITS = {"3.6": "fastapi<0.132", "3.7": "fastapi<0.137", "3.8": "fastapi<0.151", "3.9": "fastapi<0.151"}
"""Prefect's server does not work on later ones, which the metadata of all but the last allows."""
PREFECT_OVERRIDES = ("certifi",)
"""Prefect 3.9 asks for a certifi that package indexes get later than Prefect: any will do."""


@nox.session(name="prefect")
@nox.parametrize(("python", "version"), [(PREFECT_PYTHONS[each], each) for each in PREFECTS], ids=list(PREFECTS))
def prefect(session: nox.Session, version: str) -> None:
    """Test the blocks on one Prefect."""
    # The pins are complete; the resolver would stumble over what they override.
    session.install(COMPILE, "--no-deps", "-r", f"constraints/prefect-{version}.txt", "-e", ".")
    session.run("pytest", "tests/unit/prefect_blocks", "tests/integration/prefect_blocks", *session.posargs)


@nox.session(name="prefect-pins", venv_backend="none")
def prefect_pins(session: nox.Session) -> None:
    """Renew the pins of these sessions; what follows `--` names those to renew instead of all."""
    for version in session.posargs or PREFECTS:
        wanted, overrides = Path(session.create_tmp(), "wanted.txt"), Path(session.create_tmp(), "overrides.txt")
        wanted.write_text("\n".join((f"prefect=={PREFECTS[version]}", PREFECT_LIMITS[version], *PREFECT_TOOLS)))
        overrides.write_text("\n".join(PREFECT_OVERRIDES))
        extras = [f"--extra={extra}" for extra in PREFECT_EXTRAS.split(",")]
        options = ("--no-header", "--no-annotate", "--quiet", "--upgrade", f"--override={overrides}")
        pins = (f"--python-version={PREFECT_PYTHONS[version]}", f"--output-file=constraints/prefect-{version}.txt")
        session.run("uv", "pip", "compile", "pyproject.toml", str(wanted), *extras, *options, *pins, external=True)
