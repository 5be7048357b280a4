"""Time the imports of the provider, and many mapped tasks and deferred queries in a real Airflow.

Run: python -m benchmarks.airflow imports|mapped|deferred [HOW_MANY]  (it needs the development environment).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from carto_auth_integrations.sandbox import Sandbox
from tests.support.airflow_scenarios import Deferral, defer_many
from tests.support.airflow_site import DAGS, AirflowSite, airflow_site_in

STARTS = 15
"""New processes; the fastest was disturbed least."""
MAPPED, DEFERRED = 200, 300
"""Number of tasks, unless the command line says otherwise."""
HEAVY = ("google", "pandas", "pyarrow", "requests")

IMPORTS = f"""
import sys, time
import airflow.sdk
from airflow.providers.common.sql.hooks.sql import DbApiHook
before = set(sys.modules)
started = time.perf_counter()
import airflow_provider.hooks.carto, airflow_provider.operators.carto, airflow_provider.triggers.carto
seconds = time.perf_counter() - started
heavy = [name for name in set(sys.modules) - before if name.partition(".")[0] in {HEAVY}]
print(seconds * 1e3, *heavy)
"""


def imports(count: int = STARTS) -> None:
    """Print the import time of hook, operators and triggers on top of `airflow.sdk` and `DbApiHook`, from bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as home:
        environment["AIRFLOW_HOME"] = home
        outputs = [_output(environment) for _ in range(count + 1)][1:]  # the first one compiles
    times = [float(output[0]) for output in outputs]
    print(f"import of hook, operators and triggers  {min(times):5.1f} ms at best, {median(times):5.1f} ms median")
    print(f"  of google, pandas, pyarrow, requests  {', '.join(outputs[0][1:]) or 'nothing'}")


def mapped(count: int = MAPPED) -> None:
    """Print how many token requests and exchanges many mapped queries cause."""
    with _site() as (site, sandbox):
        sandbox.reset()
        started = time.monotonic()
        run = site.run("mapped_queries", count=count)
        seconds = time.monotonic() - started
        stats = sandbox.stats()
    print(f"{count} mapped tasks, cold, eight at a time: {dict(run.states('ask'))} in {seconds:.0f} s")
    print(f"  CARTO token requests  {stats.count('token')}")
    print(f"  DW exchanges          {stats.count('dw_token')}")


def deferred(count: int = DEFERRED) -> None:
    """Print how long a triggerer's event loop is blocked by many deferred queries, and by triggers that only sleep."""
    with _site() as (site, sandbox):
        print(f"{count} in a triggerer that starts; longest, in milliseconds")
        for name, dag_id in (("queries, 2 s token endpoint", "deferred_queries"), ("only sleep", "idle_deferrals")):
            print(f"  {name:28} {_told(defer_many(site, sandbox, count, dag_id=dag_id))}", flush=True)


def _told(deferral: Deferral) -> str:
    states = dict(deferral.run.states("ask"))
    longest = ", ".join(f"{name} {value:g}" for name, value in deferral.milliseconds.items())
    return f"{longest}; {states}, {deferral.token_requests} token requests, {deferral.exchanges} exchanges"


def _output(environment: dict[str, str]) -> list[str]:
    command = [sys.executable, "-c", IMPORTS]
    run = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return run.stdout.splitlines()[-1].split()


@contextmanager
def _site() -> Iterator[tuple[AirflowSite, Sandbox]]:
    """Run an Airflow and a local CARTO, with the connections of the tests' DAGs."""
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox, airflow_site_in(Path(folder)) as site:
        sandbox.start_emulator()
        for name in ("mapped", "deferred"):
            account = {**sandbox.account, "token_store": f"{folder}/{name}.json"}
            site.save_connection(f"carto_{name}", account)
        site.add_dags(DAGS / "mapped_queries.py", DAGS / "deferred_queries.py")
        yield site, sandbox


def main() -> None:
    """Run the benchmark of the command line."""
    name, *counts = sys.argv[1:] or ["imports"]
    {"imports": imports, "mapped": mapped, "deferred": deferred}[name](*map(int, counts))


if __name__ == "__main__":
    main()
