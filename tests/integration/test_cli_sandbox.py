"""`carto-auth` as a user runs it, in processes of its own, against a sandbox without BigQuery."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations.sandbox import Sandbox, SandboxOptions

CLI = [sys.executable, "-m", "carto_auth_integrations.cli"]

BROWSER = """#!{python}
import sys, urllib.request
open({seen!r}, "a").write(sys.argv[1] + "\\n")
urllib.request.urlopen(sys.argv[1], timeout=20).read()
"""


class Shell:
    """An environment for the command: an empty home, a token store and the URLs of a sandbox."""

    def __init__(self, sandbox: Sandbox, home: Path) -> None:
        self.sandbox, self.home = sandbox, home
        self.store = home / "tokens.json"
        self.seen = home / "browser.log"
        browser = home / "browser"
        browser.write_text(BROWSER.format(python=sys.executable, seen=str(self.seen)))
        browser.chmod(0o700)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CARTO_")}
        self.environment = {
            **kept,
            "HOME": str(home),
            "BROWSER": f"{browser} %s",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "CARTO_TOKEN_STORE": str(self.store),
            "CARTO_AUTH_URL": sandbox.url,
            "CARTO_ACCOUNTS_URL": sandbox.url,
            "CARTO_BIGQUERY_ENDPOINT": sandbox.url,
        }
        for name in ("NO_COLOR", "FORCE_COLOR"):
            self.environment.pop(name, None)
        self.credentials = str(sandbox.write_credentials(home / "carto.json"))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def status(self, *arguments: str) -> dict[str, Any]:
        (report,) = json.loads(self.run("status", "--json", *arguments).stdout)
        return dict(report)


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    # nothing listens on this port: a query fails at once and no emulator is started
    with Sandbox(SandboxOptions(emulator_url="http://127.0.0.1:9")) as sandbox:
        yield sandbox


@pytest.fixture
def shell(server: Sandbox, tmp_path: Path) -> Iterator[Shell]:
    server.reset()
    yield Shell(server, tmp_path)
    server.reset()


# login, status, token, logout


def test_a_login_in_the_browser_is_used_by_all_commands_until_the_logout(shell: Shell) -> None:
    login = shell.run("login", "--port", "0")

    assert login.returncode == 0, login.stderr
    assert f"Logged in at {shell.sandbox.url}.\nThe API is {shell.sandbox.url}.\n" in login.stdout
    assert "The token lives for 1 day and is renewed without a new login.\n" in login.stdout
    assert f"Stored in {shell.store}.\n" in login.stdout
    assert shell.seen.read_text().startswith(f"{shell.sandbox.url}/authorize?")
    assert shell.store.stat().st_mode & 0o777 == 0o600

    status = shell.status()
    assert (status["origin"], status["mode"], status["access_token"]["state"]) == ("login", "oauth", "FRESH")
    assert status["api_base_url"] == shell.sandbox.url

    token = shell.run("token")
    assert token.returncode == 0
    assert token.stdout.strip() in shell.store.read_text()
    assert len(token.stdout.splitlines()) == 1
    assert token.stdout.strip() not in login.stdout + login.stderr

    dw_token = shell.run("token", "--dw").stdout
    assert dw_token != token.stdout
    assert shell.status()["dw_token"]["project_id"] == shell.sandbox.options.project_id

    assert shell.run("logout").returncode == 0
    assert token.stdout.strip() not in shell.store.read_text()
    assert dw_token.strip() not in shell.store.read_text()
    again = shell.run("token")
    assert again.returncode == 1
    assert "No CARTO account is set up here" in again.stderr


def test_a_login_with_an_organization_says_how_programs_find_it(shell: Shell) -> None:
    login = shell.run("login", "--port", "0", "--org", "org_abc")

    assert "Programs find this login with CartoAuth.from_oauth(org='org_abc').\n" in login.stdout
    assert "organization=org_abc" in shell.seen.read_text()
    assert shell.run("token", "--org", "org_abc").returncode == 0


def test_an_expired_login_is_renewed_by_its_refresh_token(shell: Shell) -> None:
    shell.sandbox.set_lifetimes(carto=1)
    shell.run("login", "--port", "0")
    shell.sandbox.set_lifetimes(carto=3600)
    time.sleep(1.1)

    assert shell.status()["access_token"]["state"] == "EXPIRED"
    assert shell.run("token").returncode == 0
    assert shell.status()["access_token"]["state"] == "FRESH"
    assert len(shell.seen.read_text().splitlines()) == 1


def test_a_denied_login_is_one_line_and_stores_nothing(shell: Shell) -> None:
    with Sandbox(SandboxOptions(deny_login=True)) as denying:
        login = shell.run("login", "--port", "0", CARTO_AUTH_URL=denying.url)

    assert login.returncode == 1
    assert "Error: CARTO refused the login (access_denied)." in login.stderr
    assert "Traceback" not in login.stderr
    assert not shell.store.exists()


def test_a_login_without_browser_takes_the_code_from_the_page(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*CLI, "login", "--no-browser"],
            env=shell.environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert process.stderr.readline() == "Log in to CARTO at:\n"
        page = urllib.request.urlopen(process.stderr.readline().strip(), timeout=20).read().decode()
        shown = re.search("<code>([^<]+)</code>", page)
        assert shown
        os.write(ours, f"{shown[1]}\n".encode())
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)

    assert process.returncode == 0
    assert f"Stored in {shell.store}.\n" in out
    assert not shell.seen.exists()


def test_a_login_without_browser_and_terminal_says_what_to_do(shell: Shell) -> None:
    login = shell.run("login", "--no-browser")

    assert login.returncode == 1
    assert "neither a browser nor a terminal" in login.stderr


def test_a_login_that_is_not_stored_prints_a_warning(shell: Shell) -> None:
    login = shell.run("login", "--port", "0", CARTO_TOKEN_STORE="memory:")

    assert login.returncode == 0
    assert "Stored" not in login.stdout
    assert "is not stored" in login.stderr


def test_commands_of_one_credential_share_one_token_request(shell: Shell) -> None:
    tokens = {shell.run("token", "--credentials", shell.credentials).stdout for _ in range(3)}

    assert len(tokens) == 1
    assert shell.sandbox.stats().requests["token"] == {"200": 1}


def test_a_retry_is_a_warning_and_never_on_standard_output(shell: Shell) -> None:
    retry = rf"WARNING: CARTO access token of carto-sandbox-client: {shell.sandbox.url}/\S+ answered 503; the next .*\n"
    request = r"INFO: CARTO access token of carto-sandbox-client: expires in .*\n"
    for options, logged in (((), retry), (("-v",), retry + request)):
        shell.sandbox.fault("token", status=503, count=1)

        token = shell.run("token", "--credentials", shell.credentials, *options)

        assert token.returncode == 0
        assert len(token.stdout.splitlines()) == 1
        assert re.fullmatch(logged, token.stderr)
        shell.run("logout", "--credentials", shell.credentials)


# check


def names(checked: subprocess.CompletedProcess[str]) -> list[tuple[str, bool]]:
    return [(stage["name"], stage["ok"]) for stage in json.loads(checked.stdout)["stages"]]


def check(shell: Shell, *arguments: str) -> subprocess.CompletedProcess[str]:
    return shell.run("check", "--json", "--credentials", shell.credentials, *arguments)


def test_check_names_refused_credentials(shell: Shell) -> None:
    shell.sandbox.fault("token", status=401)

    checked = check(shell)

    assert checked.returncode == 1
    assert names(checked) == [("credentials", False)]
    assert "Check client_id, client_secret" in checked.stdout
    assert checked.stderr == "Error: The check stopped at credentials.\n"


def test_check_names_an_api_that_refuses_the_token(shell: Shell) -> None:
    shell.sandbox.fault("users_me", status=401)

    checked = check(shell)

    assert checked.returncode == 1
    assert names(checked) == [("credentials", True), ("CARTO API", False)]
    assert "Check api_base_url" in checked.stdout


def test_check_replaces_a_token_that_was_revoked(shell: Shell) -> None:
    first = shell.run("token", "--credentials", shell.credentials).stdout
    shell.sandbox.revoke("carto")

    checked = check(shell)

    assert names(checked)[:3] == [("credentials", True), ("CARTO API", True), ("DW token", True)]
    assert shell.run("token", "--credentials", shell.credentials).stdout != first


def test_check_names_a_missing_warehouse(shell: Shell) -> None:
    shell.sandbox.fault("dw_token", status=404)

    checked = check(shell)

    assert checked.returncode == 1
    assert names(checked)[-1] == ("DW token", False)
    assert "knows no CARTO Data Warehouse" in checked.stdout


def test_check_names_a_warehouse_that_answers_no_query(shell: Shell) -> None:
    shell.sandbox.fault("bigquery", status=403)

    checked = check(shell)

    assert checked.returncode == 1
    assert names(checked)[-1] == ("SELECT 1", False)
    assert "answered 403 (Forbidden)" in checked.stdout
    assert "Traceback" not in checked.stderr


def test_check_passes_all_stages_when_bigquery_answers(shell: Shell) -> None:
    answer = {
        "jobComplete": True,
        "jobReference": {"projectId": "p", "jobId": "j", "location": "US"},
        "schema": {"fields": [{"name": "f0_", "type": "INTEGER", "mode": "NULLABLE"}]},
        "rows": [{"f": [{"v": "1"}]}],
        "totalRows": "1",
    }
    shell.sandbox.fault("bigquery", body=answer)

    checked = shell.run("check", "--credentials", shell.credentials)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert [line[:13].rstrip() for line in checked.stdout.splitlines()] == [
        "✓ credentials",
        "✓ CARTO API",
        "✓ DW token",
        "✓ SELECT 1",
    ]


@pytest.mark.parametrize(
    ("endpoint", "stage"),
    [("token", "credentials"), ("users_me", "CARTO API"), ("dw_token", "DW token"), ("bigquery", "SELECT 1")],
)
def test_check_stops_at_a_stage_that_does_not_end_in_time(shell: Shell, endpoint: str, stage: str) -> None:
    shell.sandbox.fault(endpoint, delay=12)

    started = time.monotonic()
    checked = check(shell, "--timeout", "4")

    assert time.monotonic() - started < 11
    assert checked.returncode == 1
    assert names(checked)[-1] == (stage, False)
    assert "No answer within the 4 s" in checked.stdout


# sandbox


class Served:
    """`carto-auth sandbox` in a process group of its own."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self.temporary = shell.home / "tmp"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [*CLI, "sandbox", *arguments],
            env={**shell.environment, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.announced = [self._line() for _ in range(10)]

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    @property
    def port(self) -> int:
        return int(self.announced[0].partition(";")[0].rpartition(":")[2])

    @property
    def variables(self) -> dict[str, str]:
        exports = [line.removeprefix("export ") for line in self.announced if line.startswith("export ")]
        return dict(line.split("=", 1) for line in exports)

    @property
    def credentials(self) -> Path:
        return Path(self.announced[1].rpartition(": ")[2])

    def end(self, number: int) -> tuple[int, str]:
        os.killpg(self.process.pid, number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_runs_until_a_signal_and_removes_its_files(shell: Shell, number: int) -> None:
    served = Served(shell)
    file, port = served.credentials, served.port
    assert file.stat().st_mode & 0o777 == 0o600
    assert shell.run("token", "--credentials", str(file)).returncode == 0
    assert shell.run("token", **served.variables, CARTO_TOKEN_STORE="memory:").returncode == 0

    assert served.end(number) == (0, "")
    assert not file.exists()
    assert list(served.temporary.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    with pytest.raises(ProcessLookupError):
        os.killpg(served.process.pid, 0)


def test_the_sandbox_takes_port_lifetimes_and_credentials_file(shell: Shell) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = shell.home / "sandbox.json"

    served = Served(shell, "--port", str(port), "--credentials-file", str(file), "--carto-lifetime", "100")
    try:
        assert served.port == port
        assert served.credentials == file
        shell.run("token", "--credentials", str(file))
        assert 90 < shell.status("--credentials", str(file))["access_token"]["expires_in"] <= 100
    finally:
        code, _ = served.end(signal.SIGTERM)
    assert code == 0
    assert not file.exists()


def test_the_sandbox_overwrites_no_credentials_file(shell: Shell) -> None:
    before = Path(shell.credentials).read_text()

    done = shell.run("sandbox", "--credentials-file", shell.credentials)

    assert done.returncode == 1
    assert done.stderr == f"Error: The file {shell.credentials} already exists: remove it, or name another.\n"
    assert Path(shell.credentials).read_text() == before


def test_a_taken_port_is_one_line(shell: Shell) -> None:
    port = shell.sandbox.url.rpartition(":")[2]

    done = shell.run("sandbox", "--port", port)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: The sandbox cannot run: ")
    assert len(done.stderr.splitlines()) == 1
