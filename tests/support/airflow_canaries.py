"""A search for secrets in all that a real Airflow wrote down and all that its API answers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.airflow_site import AirflowSite, Run

MARK = "canary"
"""What all secrets of the tests begin with; the sandbox's tokens begin with `sandbox-carto-` and `sandbox-dw-`."""
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
"""Lists that the API gives page by page, by the key under which they are in the answer."""
SHOWN = b"shown by the task itself:"
"""How a task begins what it prints with a token in it: Airflow masks that in the task's log, and only there."""
AROUND = 40
"""Characters to show on either side of a find."""


def finds(site: AirflowSite, runs: list[Run]) -> list[str]:
    """Give every place where a secret shows: files that Airflow wrote, its database among them, and its API's answers.

    Args:
        site: The Airflow.
        runs: The DAG runs about which the API is asked.
    """
    pattern = _pattern()
    found = []
    for place, content in (*_files(site), *_answers(site, runs)):
        for match in pattern.finditer(content):
            start, end = match.start() - AROUND, match.end() + AROUND
            found.append(f"{place}: {content[max(0, start) : end]!r}")
    return found


def _pattern() -> re.Pattern[bytes]:
    """Match what secrets begin with, as they are and as base64 makes them at each of its three alignments."""
    beginnings = (f"{MARK}-", "sandbox-carto-", "sandbox-dw-")
    plain = [re.escape(text.encode()) + rb"[\w-]{4}" for text in beginnings]
    coded = [re.escape(code) for text in beginnings for code in _base64(text.encode())]
    return re.compile(b"|".join(plain + coded))


def _base64(text: bytes) -> Iterator[bytes]:
    for shift in range(3):
        code = base64.b64encode(bytes(shift) + text)
        first, end = -(-shift * 8 // 6), (shift + len(text)) * 8 // 6  # what no byte before or after can change
        yield code[first:end]


def _files(site: AirflowSite) -> Iterator[tuple[str, bytes]]:
    for path in site.files():
        content = path.read_bytes()
        if path in site.component_logs():  # where LocalExecutor repeats what tasks print, and masks nothing
            content = b"\n".join(line for line in content.splitlines() if SHOWN not in line)
        yield str(path), content


def _answers(site: AirflowSite, runs: list[Run]) -> Iterator[tuple[str, bytes]]:
    for key, path in LISTS.items():
        yield path, _bytes(site.all(path, key))
    for connection in site.all("/api/v2/connections", "connections"):
        path = f"/api/v2/connections/{connection['connection_id']}"
        yield path, _bytes(site.get(path))
    yield "/api/v2/config", _bytes(site.get("/api/v2/config"))
    for run in runs:
        yield run.path, _bytes([site.get(run.path), run.tasks])
        for number, log in enumerate(site.logs(run)):
            yield f"{run.path}, log {number}", _bytes(log)
        for task_id in sorted({task["task_id"] for task in run.tasks}):
            yield f"{run.path}, XCom of {task_id}", _bytes(_xcoms(site, run, task_id))


def _xcoms(site: AirflowSite, run: Run, task_id: str) -> list[Any]:
    entries = site.all(f"{run.path}/taskInstances/{task_id}/xcomEntries", "xcom_entries")
    return [site.xcom(run, task_id, entry["map_index"], entry["key"]) for entry in entries]


def _bytes(answer: Any) -> bytes:
    return json.dumps(answer).encode()
