"""Resumable uploads: after every fault the bytes are exact, and there is one job."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from google.api_core.exceptions import BadGateway, BadRequest, NotFound, ServiceUnavailable
from google.auth.exceptions import TransportError

from carto_auth_integrations.bigquery import rest, uploads
from carto_auth_integrations.bigquery.rest import BigQuery
from carto_auth_integrations.bigquery.uploads import send_file
from carto_auth_integrations.waiting import Deadline, run
from carto_auth_integrations.warehouse import CartoWarehouse, JobProgress
from tests.support.bigquery import GRAIN, TinyBigQuery, auth_of, bigquery
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.servers import reply
from tests.support.threads import until

FAULTS = (
    "lost answer",
    "503",
    "503 after it arrived",
    "connection cut",
    "308 with fewer bytes",
    "308 without Range",
    "404",
    "410",
    "401",
)
PARTS = 3
KEY = {"idempotency_key": "key"}


@pytest.fixture
def server() -> Iterator[TinyBigQuery]:
    with TinyBigQuery() as server:
        yield server


@pytest.fixture
def warehouse(server: TinyBigQuery) -> CartoWarehouse:
    return auth_of(server.url, location="EU").warehouse()


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", GRAIN)
    monkeypatch.setattr(rest, "FIRST_PAUSE", 0.01)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return file_of(tmp_path, 2 * GRAIN + 1000)


def file_of(folder: Path, size: int) -> Path:
    """Write a CSV file of noise, so that no part of it equals another."""
    path = folder / "noise.parquet"
    noise, overhead = random.Random(7).randbytes(size), 0
    for _ in range(3):  # the file's own bytes depend a little on its content
        table = pyarrow.table({"a": [noise[: size - overhead]]})
        pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
        overhead += path.stat().st_size - size
    return path


@pytest.mark.parametrize("number", range(1, PARTS + 1))
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_the_bytes_are_exact_and_the_job_is_made_once(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path, fault: str, number: int
) -> None:
    server.faults = {number: fault}

    result = warehouse.load(source, "d.t", **KEY)

    assert server.violations == []
    assert server.loaded() == [source.read_bytes()]
    assert server.made == {result.job_id: 1}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("308 without Range", "401")])
def test_a_fault_at_every_part_is_survived(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path, fault: str
) -> None:
    server.faults = {1: fault, 3: fault, 5: fault}

    result = warehouse.load(source, "d.t", **KEY)

    assert server.violations == []
    assert server.loaded() == [source.read_bytes()]
    assert server.made == {result.job_id: 1}


@pytest.mark.parametrize("size", [1000, GRAIN - 1, GRAIN, GRAIN + 1, 2 * GRAIN])
def test_a_file_of_any_size_arrives_whole(
    warehouse: CartoWarehouse, server: TinyBigQuery, tmp_path: Path, size: int
) -> None:
    path = file_of(tmp_path, size)

    warehouse.load(path, "d.t")

    assert path.stat().st_size == size
    assert server.violations == []
    assert server.loaded() == [path.read_bytes()]


def test_a_file_of_three_bytes_arrives_whole(server: TinyBigQuery, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    api = BigQuery(auth_of(server.url, location="EU").dw_tokens, Deadline())
    resource = {"jobReference": api.reference("three", "EU"), "configuration": {"load": {}}}
    with (tmp_path / "a").open("rb") as file:
        assert run(send_file(api, file, resource)).job_id == "three"
    assert server.violations == []
    assert server.loaded() == [b"abc"]


def test_a_refused_token_is_replaced_and_the_part_is_sent_again(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path
) -> None:
    server.faults = {2: "401"}

    warehouse.load(source, "d.t")

    assert server.tokens == 2
    assert len(server.sessions) == 1


@pytest.mark.parametrize("fault", ["404", "410"])
def test_an_upload_whose_session_always_expires_ends_with_an_error(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path, fault: str
) -> None:
    server.faults = dict.fromkeys(range(1, 100), fault)

    error = raised_by(lambda: warehouse.load(source, "d.t"))

    assert getattr(error, "code", None) == int(fault)
    assert len(server.sessions) == uploads.RESTARTS + 1
    assert server.jobs == {}


def test_an_outage_that_lasts_is_googles_own_error(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PATIENCE", 0.2)
    server.faults = dict.fromkeys(range(1, 1000), "503")

    error = raised_by(lambda: warehouse.load(source, "d.t"))

    assert isinstance(error, ServiceUnavailable)
    assert_shows_no_secret(error, "hunter2-dw-1")
    assert server.jobs == {}


def test_a_server_that_keeps_no_byte_is_given_up(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PATIENCE", 0.2)
    server.faults = dict.fromkeys(range(2, 1000), "308 without Range")

    error = raised_by(lambda: warehouse.load(source, "d.t"))

    assert isinstance(error, TransportError)
    assert server.jobs == {}


def test_a_refused_job_is_googles_own_error_and_is_not_repeated(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path
) -> None:
    server.faults = {1: "400"}

    with pytest.raises(BadRequest):
        warehouse.load(source, "d.t")

    assert sum(call.startswith("PUT") for call in server.calls) == 1


@pytest.mark.parametrize("session", ["", "http://carto.example.org/upload", "/upload?upload_id=1"])
def test_a_session_at_another_machine_over_plain_http_gets_no_token(session: str, source: Path) -> None:
    def answer(handler: Any) -> None:
        if handler.command == "POST":
            reply(handler, 200, "{}", Location=session)
        else:
            reply(handler, 404, "{}")

    with bigquery(answer) as server, pytest.raises(BadGateway, match="https"):
        auth_of(server.url, location="EU").warehouse().load(source, "d.t")


def test_progress_is_reported_after_each_part(warehouse: CartoWarehouse, server: TinyBigQuery, source: Path) -> None:
    server.faults = {2: "308 with fewer bytes"}
    seen: list[JobProgress] = []

    warehouse.load(source, "d.t", on_progress=seen.append)

    sent = [progress.bytes_sent for progress in seen if progress.state == "UPLOADING"]
    assert (seen[0].state, seen[0].bytes_sent, sent[0]) == ("READING", 0, GRAIN)
    assert sent == sorted(sent)
    assert sent[-1] >= GRAIN


# Cancelled and timed out


def cancel_when(load: Any, condition: Any) -> None:
    """Run a coroutine, and cancel it as soon as a condition is true."""

    async def use() -> None:
        task = asyncio.ensure_future(load())
        while not condition():
            assert not task.done(), task.result()
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())


def wait_for_silence(server: TinyBigQuery) -> None:
    """Wait until nothing has arrived for half a second."""
    seen = None
    while seen != (seen := (server.received, len(server.calls))):
        time.sleep(0.5)


def test_a_load_that_is_cancelled_while_its_source_is_read_sends_nothing(
    warehouse: CartoWarehouse, server: TinyBigQuery
) -> None:
    reading, cancelled, ended = threading.Event(), threading.Event(), threading.Event()

    def rows() -> Iterator[dict[str, int]]:
        try:
            yield {"x": 1}
            reading.set()
            assert cancelled.wait(20)
            for number in range(200_000):
                yield {"x": number}
        finally:
            ended.set()

    cancel_when(lambda: warehouse.aload(rows(), "d.t", **KEY), reading.is_set)
    cancelled.set()

    assert ended.wait(20)
    wait_for_silence(server)
    assert (server.sessions, server.jobs) == ({}, {})


@pytest.mark.parametrize("part", [GRAIN, 16 * 1024 * 1024], ids=["in parts", "in one part"])
def test_a_load_that_is_cancelled_while_it_is_sent_sends_no_last_byte(
    warehouse: CartoWarehouse, server: TinyBigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """The file is larger than what the buffers of two sockets hold."""
    monkeypatch.setattr(uploads, "CHUNK", part)
    path = file_of(tmp_path, 16 * 1024 * 1024)
    server.pause = 0.002

    cancel_when(lambda: warehouse.aload(path, "d.t", **KEY), server.begun.is_set)

    server.pause = 0.0
    wait_for_silence(server)
    if part > GRAIN:
        assert server.broken_off.wait(20)
    assert server.received < path.stat().st_size
    assert not server.sent.is_set()
    assert server.jobs == {}


def test_a_load_that_is_cancelled_after_its_last_byte_has_its_job_cancelled(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path
) -> None:
    server.gate.clear()
    server.state = "RUNNING"

    cancel_when(lambda: warehouse.aload(source, "d.t", **KEY), lambda: server.jobs)
    server.gate.set()

    until(lambda: server.cancelled)
    assert server.loaded() == []


def test_a_load_that_is_cancelled_while_its_job_runs_has_its_job_cancelled(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path
) -> None:
    server.state = "RUNNING"

    def is_polled() -> bool:
        return sum(call.startswith("GET") and "/jobs/" in call for call in server.calls) > 2

    cancel_when(lambda: warehouse.aload(source, "d.t", **KEY), is_polled)

    until(lambda: server.cancelled)
    assert server.loaded() == []


def test_a_query_that_is_cancelled_leaves_its_job_running(warehouse: CartoWarehouse, server: TinyBigQuery) -> None:
    server.state = "RUNNING"

    cancel_when(lambda: warehouse.aquery("SELECT 1", **KEY), lambda: len(server.calls) > 5)

    time.sleep(0.3)
    assert server.cancelled == []
    assert list(server.made.values()) == [1]


@pytest.mark.parametrize("twin", ["sync", "async"])
def test_the_time_limit_of_a_load_covers_its_upload(
    warehouse: CartoWarehouse, server: TinyBigQuery, tmp_path: Path, twin: str
) -> None:
    path = file_of(tmp_path, 16 * 1024 * 1024)
    server.pause = 0.05  # a minute for the whole file

    def load() -> Any:
        if twin == "async":
            return asyncio.run(warehouse.aload(path, "d.t", timeout=1, **KEY))
        return warehouse.load(path, "d.t", timeout=1, **KEY)

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        load()

    assert 0.9 < time.monotonic() - started < 20
    server.pause = 0.0
    wait_for_silence(server)
    assert not server.sent.is_set()
    assert server.jobs == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_warehouse_that_four_children_inherit_works_in_each(
    warehouse: CartoWarehouse, server: TinyBigQuery, tmp_path: Path
) -> None:
    """The parent has connections and threads, which no child can use."""
    path = file_of(tmp_path, 100)
    warehouse.load(path, "d.t", idempotency_key="parent")
    asyncio.run(warehouse.aload(path, "d.t", idempotency_key="parent"))

    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for number in range(10):
                    warehouse.load(path, "d.t", idempotency_key=f"{child}-{number}")
                    asyncio.run(warehouse.aload(path, "d.t", idempotency_key=f"async-{child}-{number}"))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)

    try:
        for pid in children:
            until(lambda pid=pid: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), timeout=120)
    finally:
        for pid in children:
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, 9)
                os.waitpid(pid, 0)
    assert len(server.jobs) == 1 + 80
    assert set(server.made.values()) == {1}


def test_a_job_that_vanishes_while_it_is_waited_for_is_not_found(
    warehouse: CartoWarehouse, server: TinyBigQuery, source: Path
) -> None:
    server.state = "RUNNING"

    def lose(progress: JobProgress) -> None:
        if progress.state == "RUNNING":
            server.jobs.clear()

    with pytest.raises(NotFound):
        warehouse.load(source, "d.t", on_progress=lose)
