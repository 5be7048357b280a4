"""Law 8: a process killed at any instruction leaves store and lock usable; no bad file is trusted, none is fatal."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.tokens.stores.file import FileStore
from tests.support.processes import start_process

KILLS = 40

WRITE_WITHOUT_END = """
    import time
    from carto_auth_integrations.account.secret import Secret
    from carto_auth_integrations.tokens.stores.file import FileStore
    from carto_auth_integrations.tokens.token import Entry, Token
    store = FileStore({path!r})
    store.write("warm-up", Entry())
    print("ready", flush=True)
    for number in range(10**9):
        token = Token.issued(Secret(f"token-{{number}}" * 40), started_at=time.time(), lifetime=3600)
        store.write(f"key-{{number % 7}}", Entry(token))
    """


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe
        pipe.close()


def test_killed_writers_leave_a_store_that_reads_and_no_debris(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    for number in range(KILLS):
        writer = start_process(WRITE_WITHOUT_END.format(path=str(path)))
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        time.sleep(random.random() / 50)
        kill(writer)

        store = FileStore(str(path))
        entries = [store.read(f"key-{key}") for key in range(7)]
        assert number > 3 or any(entry.token for entry in entries) or number == 0
        assert {file.name for file in tmp_path.iterdir()} <= {"tokens.json", "tokens.json.lock"}
    assert caplog.text == ""


def test_the_next_caller_goes_through_when_the_holder_of_the_lock_is_killed(
    carto_sandbox: Sandbox, tmp_path: Path
) -> None:
    credentials = carto_sandbox.write_credentials(tmp_path / "credentials.json")
    script = f"""
        from carto_auth_integrations import CartoAuth
        CartoAuth.from_m2m({str(credentials)!r}, cache_filepath={str(tmp_path / "t.json")!r}).get_access_token()
        """
    carto_sandbox.fault("token", delay=60, count=1)
    holder = start_process(script)
    while not list(tmp_path.glob("t.json.*.lock")):
        time.sleep(0.01)
    time.sleep(0.5)
    kill(holder)

    assert CartoAuth.from_m2m(credentials, cache_filepath=tmp_path / "t.json").get_access_token()


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (b"", 0o600),
        (b'{"format": 1, "tokens": {', 0o600),
        (b"[]", 0o600),
        (b'{"format": 99, "tokens": {}}', 0o600),
        (b"\x80\x04\x95 a pickle", 0o600),
        (b'{"format": 1, "tokens": {}}', 0o644),
    ],
    ids=["empty", "cut short", "a list", "a later format", "binary", "readable by others"],
)
def test_a_store_that_cannot_be_trusted_costs_a_request_and_is_replaced(
    carto_sandbox: Sandbox, tmp_path: Path, content: bytes, mode: int
) -> None:
    store = tmp_path / "tokens.json"
    store.write_bytes(content)
    store.chmod(mode)
    auth = CartoAuth.from_mapping({**carto_sandbox.account, "token_store": str(store)})

    token = auth.get_access_token()

    assert token in store.read_text()
    assert store.stat().st_mode & 0o777 == 0o600
    assert carto_sandbox.stats().count("token") == 1


def test_a_cache_of_carto_auth_is_not_trusted_and_not_touched(carto_sandbox: Sandbox, tmp_path: Path) -> None:
    cache = tmp_path / "tokens.json"
    cache.write_text('{"api_base_url": "x", "access_token": "someone-elses", "expiration": 99999999999}')
    before = cache.read_bytes()
    auth = CartoAuth.from_mapping({**carto_sandbox.account, "token_store": str(cache)})

    assert auth.get_access_token().startswith("sandbox-carto-")
    assert cache.read_bytes() == before
