"""No secret is in anything that Prefect stores or returns of runs that fail in many ways."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carto_auth_integrations.sandbox import Sandbox
from tests.support.accounts import SECRET

if TYPE_CHECKING:
    from tests.support.prefect_site import PrefectSite

pytest_plugins = ["tests.support.prefect_site"]

MARK = "to-be-found"
"""A block's name that all runs write: the search must find it wherever it must not find a secret."""
TOKENS = ("sandbox-carto-", "sandbox-dw-")
"""The beginnings of all tokens of the sandbox."""
LOGGERS = "carto_auth_integrations,google,urllib3"
"""Loggers whose lines Prefect stores besides its own."""

ANSWERS = (
    "artifacts",
    "block_documents",
    "block_schemas",
    "block_types",
    "deployments",
    "events",
    "flow_runs",
    "flows",
    "logs",
    "task_runs",
)
PLACES = ("database file", "database tables", "logs of the processes", "results", *ANSWERS)
WITHOUT_A_MARK = {"block_schemas", "block_types", "deployments", "flows"}
"""Answers that do not hold the name of a block."""


def forms_of(text: str) -> list[bytes]:
    """Return a text as bytes: plain, and in base64 (as Prefect stores results) at each of the three alignments."""
    forms = [text.encode()]
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + text.encode()).rstrip(b"=")
        forms.append(encoded[(0, 2, 3)[offset] : -1])  # the ends depend on neighbouring bytes
    return forms


def finds(text: str, content: bytes) -> bool:
    """Whether the bytes hold a text, even if it is broken over lines."""
    together = b"".join(content.split())
    return any(form in content or form in together for form in forms_of(text))


@pytest.fixture(scope="module")
def kept(
    prefect_site: PrefectSite,
    registered_blocks: str,
    carto_sandbox_server: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, bytes]:
    """Everything that Prefect stores after a run with many failures, by place."""
    carto_sandbox_server.start_emulator()
    account = {**carto_sandbox_server.account, "token_store": str(tmp_path_factory.mktemp("tokens") / "tokens.json")}
    prefect_site.save_block(MARK, account)
    prefect_site.save_block(f"{MARK}-refused", {**account, "client_secret": SECRET})
    with prefect_site.serving("misfortunes", PREFECT_LOGGING_EXTRA_LOGGERS=LOGGERS) as served:
        run = prefect_site.begin_run(served, block=MARK)
        assert prefect_site.ended(run)["state_type"] == "FAILED"
    assert carto_sandbox_server.stats().issued["carto"] + carto_sandbox_server.stats().issued["dw"] >= 2
    # The server writes events every few seconds, in their order; this one is about the end of the run.
    name = {"event": {"name": ["prefect.flow-run.Failed"]}}
    prefect_site.wait_for(
        lambda: f"prefect.flow-run.{run}" in json.dumps(prefect_site.all_of("events", filter=name)),
        "The event was not written",
    )
    places = {"database file": b"", "logs of the processes": b"", "results": b""}
    for path in (path for path in prefect_site.home.rglob("*") if path.is_file()):
        places[place_of(path)] += path.read_bytes()
    places["database tables"] = b"\n".join(values_of(prefect_site.home / "prefect/prefect.db"))
    for kind in ANSWERS:
        places[kind] = json.dumps(prefect_site.all_of(kind)).encode()
    return places


def place_of(file: Path) -> str:
    if file.name.startswith("prefect.db"):
        return "database file"
    return "logs of the processes" if file.suffix == ".log" else "results"


def values_of(database: Path) -> Iterator[bytes]:
    """Yield every value of every table: the database file may hold a long value in pieces."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)


@pytest.mark.parametrize("place", [place for place in PLACES if place not in WITHOUT_A_MARK])
def test_the_search_finds_what_is_there(kept: dict[str, bytes], place: str) -> None:
    assert finds(MARK, kept[place])


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_there(kept: dict[str, bytes], carto_sandbox_server: Sandbox, place: str) -> None:
    secrets = (*TOKENS, SECRET, carto_sandbox_server.options.client_secret)
    assert [secret for secret in secrets if finds(secret, kept[place])] == []
