"""An Airflow home of a test's own, for what needs a metadata database and processes, and no server."""

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
        path: Where.
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
        """Run `airflow` and give what it printed.

        Args:
            arguments: Its command line.
            variables: Environment variables beside the home's own.
        """
        return self.python("-m", "airflow", *arguments, **variables)

    def python(self, *arguments: str, **variables: str) -> str:
        """Run Python in this home and give what it printed, errors too. It has to succeed."""
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
