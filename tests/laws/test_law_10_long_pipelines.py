"""Law 10: a pipeline that outlives many tokens never notices."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.cloud import bigquery

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.sandbox.state import TokenKind
from tests.support.processes import run_processes

LIFETIME = 2.0
"""Seconds a token lives here."""
DURATION = 5 * LIFETIME


@pytest.fixture
def auth(carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> CartoAuth:
    carto_sandbox_bigquery.set_lifetimes(carto=3 * LIFETIME, dw=LIFETIME)
    return CartoAuth.from_mapping({**carto_sandbox_bigquery.account, "token_store": str(tmp_path / "tokens.json")})


def test_queries_from_eight_threads_go_on_past_the_end_of_many_tokens(auth: CartoAuth, carto_sandbox: Sandbox) -> None:
    client = auth.get_carto_dw_client()
    end = time.monotonic() + DURATION

    def query_on(_: int) -> int:
        answers = 0
        while time.monotonic() < end:
            answers += next(iter(client.query_and_wait("SELECT 1 AS one"))).one
        return answers

    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(query_on, range(8))) > 8
    lifetimes = (time.monotonic() - started) / LIFETIME

    assert carto_sandbox.stats().count("dw_token") <= lifetimes + 1
    assert carto_sandbox.stats().dw_unauthorized > 0, "the lifetime is not announced, so 401s are how it is learnt"


def test_a_token_that_is_revoked_early_is_replaced_by_one_exchange(auth: CartoAuth, carto_sandbox: Sandbox) -> None:
    carto_sandbox.set_lifetimes(dw=3600, carto=3600)
    client = auth.get_carto_dw_client()
    assert list(client.query_and_wait("SELECT 1"))
    carto_sandbox.revoke("dw")

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: list(client.query_and_wait("SELECT 1")), range(8)))) == 8

    assert carto_sandbox.stats().count("dw_token") == 2


@pytest.mark.parametrize("kinds", [("dw",), ("carto", "dw")])
def test_tokens_of_two_processes_that_are_revoked_at_once_are_both_replaced(
    kinds: tuple[TokenKind, ...], auth: CartoAuth, carto_sandbox: Sandbox, tmp_path: Path
) -> None:
    carto_sandbox.set_lifetimes(dw=3600, carto=3600)
    mine = auth.get_access_token(), auth.carto_dw_token()
    fields = {**carto_sandbox.account, "token_store": str(tmp_path / "tokens.json")}
    run_processes(
        1,
        f"""
        from carto_auth_integrations import CartoAuth
        auth = CartoAuth.from_mapping({fields!r})
        auth.reject_access_token(auth.get_access_token())
        auth.get_access_token()
        auth.reject_carto_dw_token(auth.carto_dw_token())
        auth.carto_dw_token()
        """,
    )
    assert (auth.get_access_token(), auth.carto_dw_token()) == mine, "and others rest in the store"
    for kind in kinds:
        carto_sandbox.revoke(kind)

    assert auth.warehouse().query("SELECT 1 AS one").rows == ({"one": 1},)
    assert carto_sandbox.stats().count("token") == (3 if "carto" in kinds else 2)
    assert carto_sandbox.stats().count("dw_token", 200) == 3


def test_an_upload_goes_on_past_the_end_of_its_token(
    auth: CartoAuth, carto_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    carto_sandbox.fault("upload", delay=LIFETIME / 2)
    monkeypatch.setattr("google.cloud.bigquery.client._DEFAULT_CHUNKSIZE", 256 * 1024)
    rows = 100_000
    file = io.BytesIO(b"".join(b"%d,name-%d\n" % (number, number) for number in range(rows)))
    client = auth.get_carto_dw_client()
    job = client.load_table_from_file(
        file,
        "shared.uploaded_for_long",
        job_config=bigquery.LoadJobConfig(
            source_format="CSV",
            schema=[bigquery.SchemaField("id", "INTEGER"), bigquery.SchemaField("name", "STRING")],
            write_disposition="WRITE_TRUNCATE",
        ),
    )
    job.result()

    assert job.output_rows == rows
    assert carto_sandbox.stats().dw_unauthorized > 0


def test_a_cartos_token_revoked_early_is_replaced_once(auth: CartoAuth, carto_sandbox: Sandbox) -> None:
    auth.get_access_token()
    carto_sandbox.revoke("carto")

    assert auth.get_carto_dw_credentials()

    assert carto_sandbox.stats().count("token") == 2
    assert carto_sandbox.stats().count("dw_token", 401) == 1
    assert carto_sandbox.stats().count("dw_token", 200) == 1
