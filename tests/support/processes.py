"""Processes that run a Python script, one or many at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PATIENCE = 120
"""Seconds after which a process counts as hung; far above what any of them takes on a busy machine."""

ROOT = Path(__file__).parents[2]


def start_process(script: str, **variables: str) -> subprocess.Popen[str]:
    """Start a process that runs a Python script.

    Args:
        script: The script; its indentation is removed.
        variables: Environment variables besides those of this process.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-c", dedent(script)],
        env={**os.environ, "PYTHONPATH": path, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_processes(count: int, script: str, **variables: str) -> list[str]:
    """Run a script in many processes at once.

    Args:
        count: How many.
        script: The script; its indentation is removed.
        variables: Environment variables besides those of this process.

    Returns:
        The output of each, stripped.
    """
    processes = [start_process(script, **variables) for _ in range(count)]
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        outputs.append(output.strip())
    return outputs
