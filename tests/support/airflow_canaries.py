"""A search for secrets in everything that a real Airflow has written, and in everything that its API returns."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.airflow_site import AirflowSite, Run

MARK = "canary"
"""All secrets of the tests begin with this; the sandbox's tokens begin with `sandbox-carto-` and `sandbox-dw-`."""
LISTS = {
    "assets": "/api/v2/assets",
    "connections": "/api/v2/connections",
    "dags": "/api/v2/dags",
    "event_logs": "/api/v2/eventLogs",
    "import_errors": "/api/v2/importErrors",
    "jobs": "/api/v2/jobs",
    "providers": "/api/v2/providers",
    "variables": "/api/v2/variables",
}
"""Paths of lists in the API, by the key of the answer that holds the items."""
SHOWN = b"shown by the task itself:"
"""The start of a line that a task prints with a token in it: Airflow masks it in the task's log, and only there."""
AROUND = 40
"""Characters to show on both sides of a secret."""


def finds(site: AirflowSite, runs: list[Run]) -> list[str]:
    """Return every place that shows a secret: files of Airflow, its database among them, and answers of its API.

    Args:
        site: The Airflow.
        runs: The DAG runs to search.
    """
    pattern = _pattern()
    found = []
    for place, content in (*_files(site), *_answers(site, runs)):
        for match in pattern.finditer(content):
            start, end = match.start() - AROUND, match.end() + AROUND
            found.append(f"{place}: {content[max(0, start) : end]!r}")
    return found


def _pattern() -> re.Pattern[bytes]:
    """Return a pattern for the beginnings of secrets, in plain text and in base64 at each of its three alignments."""
    beginnings = (f"{MARK}-", "sandbox-carto-", "sandbox-dw-")
    plain = [re.escape(text.encode()) + rb"[\w-]{4}" for text in beginnings]
    coded = [re.escape(code) for text in beginnings for code in _base64(text.encode())]
    return re.compile(b"|".join(plain + coded))


def _base64(text: bytes) -> Iterator[bytes]:
    for shift in range(3):
        code = base64.b64encode(bytes(shift) + text)
        # Only the characters that do not depend on neighbouring bytes.
        first, end = -(-shift * 8 // 6), (shift + len(text)) * 8 // 6
        yield code[first:end]


def _files(site: AirflowSite) -> Iterator[tuple[str, bytes]]:
    for path in site.files():
        content = path.read_bytes()
        if path in site.component_logs():  # LocalExecutor repeats the output of tasks there, unmasked
            content = b"\n".join(line for line in content.splitlines() if SHOWN not in line)
        yield str(path), content


def _answers(site: AirflowSite, runs: list[Run]) -> Iterator[tuple[str, bytes]]:
    for key, path in LISTS.items():
        yield path, _bytes(site.all(path, key))
    for connection in site.all("/api/v2/connections", "connections"):
        path = f"/api/v2/connections/{connection['connection_id']}"
        yield path, _bytes(site.api.get(path))
    yield "/api/v2/config", _bytes(site.api.get("/api/v2/config"))
    for run in runs:
        yield run.path, _bytes([site.api.get(run.path), run.tasks])
        for number, log in enumerate(site.logs(run)):
            yield f"{run.path}, log {number}", _bytes(log)
        for task_id in sorted({task["task_id"] for task in run.tasks}):
            yield f"{run.path}, XCom of {task_id}", _bytes(_xcoms(site, run, task_id))


def _xcoms(site: AirflowSite, run: Run, task_id: str) -> list[Any]:
    entries = site.all(f"{run.path}/taskInstances/{task_id}/xcomEntries", "xcom_entries")
    return [site.xcom(run, task_id, entry["map_index"], entry["key"]) for entry in entries]


def _bytes(answer: Any) -> bytes:
    return json.dumps(answer).encode()
