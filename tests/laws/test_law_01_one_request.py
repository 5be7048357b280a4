"""Law 1: one token request per credential and lifetime: for all threads, all processes of a host, all hosts."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import socket

import pytest

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox
from examples.demo.processes import free_port
from tests.support.clocks import system_clock
from tests.support.processes import run_processes

SLOW = 1.0
"""Seconds the token endpoint takes: long enough for every caller to arrive during the first request."""


@pytest.fixture
def credentials(carto_sandbox: Sandbox, tmp_path: Path) -> Path:
    carto_sandbox.fault("token", delay=SLOW)
    return carto_sandbox.write_credentials(tmp_path / "credentials.json")


def test_64_cold_threads_with_objects_of_their_own_make_one_request(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    def token(_: int) -> str:
        return CartoAuth.from_m2m(credentials, cache_filepath=tmp_path / "tokens.json").get_access_token()

    with ThreadPoolExecutor(64) as pool:
        tokens = set(pool.map(token, range(64)))

    assert len(tokens) == 1
    assert carto_sandbox.stats().count("token") == 1


def test_the_threads_of_one_process_need_no_store_for_that(carto_sandbox: Sandbox, credentials: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        objects = [CartoAuth.from_m2m(credentials, use_cache=False) for _ in range(16)]
        tokens = set(pool.map(CartoAuth.get_access_token, objects))

    assert len(tokens) == 1
    assert carto_sandbox.stats().count("token") == 1


def test_32_cold_processes_with_one_store_make_one_request(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    outputs = run_processes(
        32,
        f"""
        from carto_auth_integrations import CartoAuth
        auth = CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={str(tmp_path / "tokens.json")!r})
        print(auth.get_access_token())
        """,
    )

    assert len(set(outputs)) == 1
    assert carto_sandbox.stats().count("token") == 1


def test_processes_share_the_warehouse_token_as_well(carto_sandbox: Sandbox, credentials: Path, tmp_path: Path) -> None:
    outputs = run_processes(
        8,
        f"""
        from carto_auth_integrations import CartoAuth
        auth = CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={str(tmp_path / "tokens.json")!r})
        print(*auth.get_carto_dw_credentials())
        """,
    )

    assert len(set(outputs)) == 1
    assert carto_sandbox.stats().count("token") == 1
    assert carto_sandbox.stats().count("dw_token") == 1


def test_coroutines_and_threads_wait_for_the_same_request(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    auth = CartoAuth.from_m2m(credentials, cache_filepath=tmp_path / "tokens.json")

    async def everyone() -> set[str]:
        threads = [asyncio.to_thread(auth.get_access_token) for _ in range(4)]
        return set(await asyncio.gather(*(auth.aget_access_token() for _ in range(100)), *threads))

    assert len(asyncio.run(everyone())) == 1
    assert carto_sandbox.stats().count("token") == 1


def test_a_forked_child_goes_on_with_the_parents_token(
    carto_sandbox: Sandbox, credentials: Path, tmp_path: Path
) -> None:
    (output,) = run_processes(
        1,
        f"""
        import os
        from carto_auth_integrations import CartoAuth
        auth = CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={str(tmp_path / "tokens.json")!r})
        mine = auth.get_access_token()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if auth.get_access_token() == mine else 1)
        print(os.waitpid(pid, 0)[1])
        """,
    )

    assert output == "0"
    assert carto_sandbox.stats().count("token") == 1


def test_a_token_is_requested_about_once_per_lifetime(
    carto_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = system_clock(monkeypatch)
    lifetime, lifetimes = 500, 5
    carto_sandbox.set_lifetimes(carto=lifetime)
    auth = CartoAuth.from_m2m(
        carto_sandbox.write_credentials(tmp_path / "c.json"), cache_filepath=tmp_path / "tokens.json"
    )
    for _ in range(0, lifetime * lifetimes, 5):
        auth.get_access_token()
        clock.advance(5)
        for thread in threading.enumerate():
            if thread.name == "carto-token":
                thread.join()

    assert lifetimes <= carto_sandbox.stats().count("token") <= lifetimes + 1


# Beside CARTO's own carto-auth 0.2.0

CARTO_AUTH = """
    import requests
    from carto_auth import CartoAuth
    post = requests.post
    requests.post = lambda url, **options: post(url.replace("https://auth.carto.com", {url!r}), **options)
    print(CartoAuth.from_m2m({credentials!r}, cache_filepath={cache!r}).get_access_token())
    """
OURS = """
    from carto_auth_integrations import CartoAuth
    print(CartoAuth.from_m2m({credentials!r}, cache_filepath={cache!r}).get_access_token())
    """


@pytest.mark.parametrize("name", [None, "shared.json"], ids=["default files", "one named file"])
def test_in_turns_with_carto_auth_each_makes_one_request(
    carto_sandbox: Sandbox, tmp_path: Path, own_home: Path, name: str | None
) -> None:
    credentials = carto_sandbox.write_credentials(tmp_path / "credentials.json")
    cache = str(tmp_path / name) if name else None
    places = {"url": carto_sandbox.url, "credentials": str(credentials), "cache": cache}
    theirs, ours, caches = set(), set(), set()

    for _ in range(3):
        theirs.update(run_processes(1, CARTO_AUTH.format(**places)))
        caches.add(Path(cache or own_home / ".carto-auth" / "token_m2m.json").read_text())
        ours.update(run_processes(1, OURS.format(**places)))

    assert (len(theirs), len(ours), len(caches)) == (1, 1, 1)
    assert theirs.isdisjoint(ours)
    assert carto_sandbox.stats().count("token") == 2


def test_carto_auth_that_takes_over_our_named_file_costs_one_more_request(
    carto_sandbox: Sandbox, tmp_path: Path
) -> None:
    credentials = carto_sandbox.write_credentials(tmp_path / "credentials.json")
    places = {"url": carto_sandbox.url, "credentials": str(credentials), "cache": str(tmp_path / "shared.json")}
    run_processes(1, OURS.format(**places))

    for _ in range(2):
        run_processes(1, CARTO_AUTH.format(**places))
        run_processes(1, OURS.format(**places))

    assert carto_sandbox.stats().count("token") == 3


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.needs_program("redis-server")
def test_hosts_that_share_a_redis_store_make_one_request(
    carto_sandbox: Sandbox, credentials: Path, redis_url: str
) -> None:
    outputs = run_processes(
        12,
        f"""
        from carto_auth_integrations import CartoAuth
        auth = CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={redis_url!r})
        print(*auth.get_carto_dw_credentials())
        """,
    )

    assert len(set(outputs)) == 1
    assert carto_sandbox.stats().count("token") == 1
    assert carto_sandbox.stats().count("dw_token") == 1
