"""The Redis store: tokens for all hosts of a fleet, and no failure while Redis is away."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import pytest

from carto_auth_integrations import AccountError, CartoAuth
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.errors import ServiceUnavailable
from carto_auth_integrations.tokens.source import TokenSource
from carto_auth_integrations.tokens.stores import open_store, redis
from carto_auth_integrations.tokens.stores.redis import PREFIX, RedisStore
from carto_auth_integrations.tokens.token import Entry, Failure
from examples.demo.processes import free_port
from tests.support.accounts import BEARER, fields_for
from tests.support.leaks import assert_shows_no_secret, raised_by
from tests.support.processes import run_processes, start_process
from tests.support.threads import Outcome, until
from tests.support.tokens import FakeGrant, token_living

KEY = "a" * 64
HOUR = 3600.0
PASSWORD = "hunter2-redis-password"
LEASE = 3.0
"""Seconds of the lease in these tests: a third of it is still far above what Redis takes to answer."""


class Redis:
    """A real Redis server on loopback that can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory)]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        until(self.answers)

    def answers(self) -> bool:
        with socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def command(self, *words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *words],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    if not shutil.which("redis-server"):
        pytest.skip("needs redis-server")
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def server(running: Redis) -> Iterator[Redis]:
    running.command("FLUSHALL")
    yield running
    if not running.answers():
        running.start()


@pytest.fixture
def store(server: Redis) -> RedisStore:
    return store_at(server.url)


def store_at(url: str) -> RedisStore:
    return RedisStore(Secret(url))


def value_in(store: RedisStore) -> str | None:
    token = store.read(KEY).token
    return token.reveal() if token else None


def seconds_left(server: Redis) -> float:
    return int(server.command("PTTL", f"{PREFIX}{KEY}")) / 1000


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("carto_auth_integrations.tokens.stores")
    ]


pytestmark = pytest.mark.needs_program("redis-server")

# What is written


def test_what_one_host_writes_another_reads(store: RedisStore, server: Redis) -> None:
    store.write(KEY, Entry(token_living(HOUR, refresh_token=Secret("refresh"), details={"project_id": "p"})))

    token = store_at(server.url).read(KEY).token
    assert token is not None
    assert token.reveal() == BEARER
    assert token.refresh_token == Secret("refresh")
    assert token.details == {"project_id": "p"}


def test_an_empty_redis_holds_nothing(store: RedisStore) -> None:
    entry = store.read(KEY)

    assert (entry.token, entry.failure) == (None, None)


def test_what_is_forgotten_is_gone(store: RedisStore) -> None:
    store.write(KEY, Entry(token_living(HOUR)))

    store.forget(KEY)

    assert value_in(store) is None


def test_redis_drops_a_token_when_it_ends(store: RedisStore, server: Redis) -> None:
    store.write(KEY, Entry(token_living(HOUR)))
    assert seconds_left(server) == pytest.approx(HOUR, abs=30)

    store.write(KEY, Entry(token_living(0.2)))
    until(lambda: server.command("EXISTS", f"{PREFIX}{KEY}") == "0")


def test_redis_keeps_a_refresh_token_longer_than_its_access_token(store: RedisStore, server: Redis) -> None:
    store.write(KEY, Entry(token_living(-1, refresh_token=Secret("refresh"))))

    assert seconds_left(server) > 29 * 86400


def test_redis_keeps_a_failure_for_its_back_off(store: RedisStore, server: Redis) -> None:
    store.write(KEY, Entry(None, Failure.of(ServiceUnavailable("down", retry_after=100.0), time.time())))

    assert seconds_left(server) == pytest.approx(100, abs=30)
    assert store.read(KEY).failure is not None


def test_a_token_without_an_end_is_stored_too(store: RedisStore) -> None:
    store.write(KEY, Entry(token_living(float("inf"))))

    assert value_in(store) == BEARER


@pytest.mark.parametrize(
    "value", ["", "{", "[]", "null", "5", '{"token": []}', '{"failure": {"kind": []}}', "\xff\xfe"]
)
def test_a_foreign_value_is_not_believed_and_replaced(store: RedisStore, server: Redis, value: str) -> None:
    server.command("SET", f"{PREFIX}{KEY}", value)

    assert value_in(store) is None
    store.write(KEY, Entry(token_living(HOUR)))
    assert value_in(store) == BEARER


def test_a_foreign_kind_of_key_is_not_fatal(store: RedisStore, server: Redis) -> None:
    server.command("LPUSH", f"{PREFIX}{KEY}", "x")

    assert TokenSource(KEY, "a token", FakeGrant(token_living(HOUR, "new")), store).get().reveal() == "new"


# The lock


@pytest.fixture
def _short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "LOCK_LEASE", LEASE)


def test_one_host_holds_the_lock_at_a_time(store: RedisStore, server: Redis) -> None:
    lock = store.try_lock(KEY)
    assert lock is not None

    assert store_at(server.url).try_lock(KEY) is None
    lock.release()
    again = store_at(server.url).try_lock(KEY)
    assert again is not None
    again.release()


@pytest.mark.usefixtures("_short_lease")
def test_the_lease_of_a_living_holder_is_renewed(store: RedisStore, server: Redis) -> None:
    lock = store.try_lock(KEY)
    assert lock is not None

    for _ in range(3):
        server.command("PEXPIRE", f"{PREFIX}{KEY}:lock", str(round(100_000 * LEASE)))
        until(lambda: int(server.command("PTTL", f"{PREFIX}{KEY}:lock")) <= 1000 * LEASE)
        assert store_at(server.url).try_lock(KEY) is None

    lock.release()
    assert server.command("EXISTS", f"{PREFIX}{KEY}:lock") == "0"


@pytest.mark.usefixtures("_short_lease")
def test_a_released_lease_is_renewed_no_more(store: RedisStore, server: Redis) -> None:
    lock = store.try_lock(KEY)
    assert lock is not None
    lock.release()

    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "carto-lease"])
    assert server.command("EXISTS", f"{PREFIX}{KEY}:lock") == "0"


def test_the_lock_of_a_holder_that_died_becomes_free(store: RedisStore, server: Redis) -> None:
    process = start_process(
        f"""
        import time
        from carto_auth_integrations.account.secret import Secret
        from carto_auth_integrations.tokens.stores import redis
        redis.LOCK_LEASE = {LEASE}
        lock = redis.RedisStore(Secret({server.url!r})).try_lock("{KEY}")
        print("held" if lock else "not held", flush=True)
        time.sleep(60)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert store.try_lock(KEY) is None

    process.kill()
    process.communicate()

    def is_free() -> bool:
        lock = store.try_lock(KEY)
        if lock:
            lock.release()
        return lock is not None

    until(is_free)


def test_releasing_a_lock_that_ran_out_harms_nobody(store: RedisStore, server: Redis) -> None:
    lock = store.try_lock(KEY)
    assert lock is not None
    server.command("DEL", f"{PREFIX}{KEY}:lock")
    theirs = store_at(server.url).try_lock(KEY)
    assert theirs is not None

    lock.release()

    assert server.command("EXISTS", f"{PREFIX}{KEY}:lock") == "1"
    theirs.release()


def test_a_thread_that_cannot_be_started_does_not_make_the_lock_fail(
    store: RedisStore, server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    source = TokenSource(KEY, "a token", FakeGrant(token_living(HOUR, "new")), store)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert source.get().reveal() == "new"

    assert server.command("EXISTS", f"{PREFIX}{KEY}:lock") == "0"


def test_processes_that_share_a_store_ask_once(server: Redis) -> None:
    outputs = run_processes(
        6,
        f"""
        import os, time
        from carto_auth_integrations.account.secret import Secret
        from carto_auth_integrations.tokens.source import TokenSource
        from carto_auth_integrations.tokens.stores.redis import RedisStore
        from carto_auth_integrations.tokens.token import Token
        def grant(previous, *, interactive):
            time.sleep(0.5)
            now = time.time()
            return Token(f"of {{os.getpid()}}", obtained_at=now, expires_at=now + 3600)
        print(TokenSource("{KEY}", "a token", grant, RedisStore(Secret({server.url!r}))).get().reveal())
        """,
    )

    assert len(set(outputs)) == 1


# Redis is away


def test_while_redis_is_down_tokens_stay_in_memory_with_one_warning(
    store: RedisStore, server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    grant = FakeGrant(token_living(HOUR, "new"))
    source = TokenSource(KEY, "a token", grant, store)

    started = time.monotonic()
    assert [source.get().reveal() for _ in range(3)] == ["new"] * 3
    source.forget()
    source.get()

    assert time.monotonic() - started < 20
    assert grant.calls == 2
    (line,) = warnings(caplog)
    assert "cannot be reached" in line
    assert "tokens stay in memory" in line


def test_when_redis_is_back_it_is_used_again_and_its_next_outage_is_told_again(
    store: RedisStore, server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    store.read(KEY)
    server.start()

    store.write(KEY, Entry(token_living(HOUR)))
    assert value_in(store) == BEARER
    assert len(warnings(caplog)) == 1
    server.stop()
    store.read(KEY)
    assert len(warnings(caplog)) == 2


def test_a_redis_that_dies_while_the_lock_is_held_is_not_fatal(store: RedisStore, server: Redis) -> None:
    def grant(*_: object, **__: object) -> object:
        server.stop()
        return token_living(HOUR, "new")

    assert TokenSource(KEY, "a token", grant, store).get().reveal() == "new"  # type: ignore[arg-type]


def test_a_redis_that_takes_connections_and_says_nothing_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "SOCKET_TIMEOUT", 0.2)
    with socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        store = store_at(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        source = TokenSource(KEY, "a token", FakeGrant(token_living(HOUR, "new")), store)

        started = time.monotonic()
        assert Outcome(source.get).settled().reveal() == "new"
        assert time.monotonic() - started < 15


def test_a_coroutine_that_waits_for_redis_does_not_hold_its_loop(store: RedisStore) -> None:
    """Whatever a store takes, `aget` waits for it on a thread: it is asked there and nowhere else."""
    import asyncio

    asked_on: list[int] = []

    class Watched(RedisStore):
        def read(self, key: str) -> Entry:
            asked_on.append(threading.get_ident())
            return super().read(key)

    watched = Watched.__new__(Watched)
    watched.__dict__.update(vars(store))
    asyncio.run(TokenSource(KEY, "a token", FakeGrant(token_living(HOUR, "new")), watched).aget())

    assert asked_on
    assert threading.get_ident() not in asked_on


# The URL


def test_its_password_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    url = f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0"
    caplog.set_level(logging.DEBUG)
    auth = CartoAuth.from_mapping(fields_for("https://x.org", token_store=url))
    store = open_store(url)
    store.read(KEY)

    shown = caplog.text + store.describe() + repr(store) + repr(vars(store)) + repr(auth) + repr(auth.account)
    assert PASSWORD not in shown
    assert "redis://***@127.0.0.1" in caplog.text


def test_a_wrong_password_is_not_fatal_and_not_shown(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    server.command("ACL", "SETUSER", "carto", "on", ">the-right-one", "~*", "+@all")
    store = store_at(f"redis://carto:{PASSWORD}@127.0.0.1:{server.port}/0")

    assert value_in(store) is None
    assert len(warnings(caplog)) == 1
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "rest",
    ["host:port/0", "host:99999999/0", "[::1/0", "host/0?unheard_of=1", "host/0?socket_timeout=soon"],
)
def test_a_url_that_redis_does_not_understand_is_a_typed_error_that_does_not_show_it(rest: str) -> None:
    url = f"redis://:{PASSWORD}@{rest}"

    error = raised_by(lambda: CartoAuth.from_mapping(fields_for("https://x.org", token_store=url)))

    assert isinstance(error, AccountError)
    assert PASSWORD not in str(error)
    assert_shows_no_secret(error)


def test_without_redis_client_the_extra_is_named() -> None:
    (output,) = run_processes(
        1,
        """
        import sys
        sys.modules["redis"] = None
        from carto_auth_integrations import CredentialsError
        from carto_auth_integrations.tokens.stores import open_store
        try:
            open_store("redis://127.0.0.1/0")
        except ImportError as error:
            print(isinstance(error, CredentialsError), error)
        """,
    )

    assert output.startswith("True")
    assert "carto-auth-integrations[redis]" in output


def test_the_record_in_redis_is_json_under_the_fingerprint(store: RedisStore, server: Redis) -> None:
    store.write(KEY, Entry(token_living(HOUR)))

    assert json.loads(server.command("GET", f"{PREFIX}{KEY}"))["token"]["access_token"] == BEARER
