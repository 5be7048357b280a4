"""A new Airflow home, for tests that need a metadata database and processes, but no server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PATIENCE = 180
"""Seconds after which a process counts as hung; far above what any of them takes on a busy machine."""


class AirflowHome:
    """A directory with a configuration, a DAGs folder and an empty metadata database.

    Args:
        path: A directory that does not exist yet.
        settings: Options of Airflow's configuration, `SECTION__OPTION`.
    """

    def __init__(self, path: Path, **settings: str) -> None:
        self.dags = path / "dags"
        self.dags.mkdir(parents=True)
        options = {"CORE__LOAD_EXAMPLES": "False", "CORE__DAGS_FOLDER": str(self.dags), **settings}
        self.variables = {
            "AIRFLOW_HOME": str(path),
            **{f"AIRFLOW__{name}": value for name, value in options.items()},
        }
        self.run("db", "migrate")

    def run(self, *arguments: str, **variables: str) -> str:
        """Run `airflow` and return its output.

        Args:
            arguments: Its command line.
            variables: Environment variables besides those of this home.
        """
        return self.python("-m", "airflow", *arguments, **variables)

    def python(self, *arguments: str, **variables: str) -> str:
        """Run Python in this home and return its output, errors too; assert that it succeeds."""
        done = self.start(*arguments, **variables)
        output, _ = done.communicate(timeout=PATIENCE)
        assert done.returncode == 0, output
        return output

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start Python in this home."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
