"""The sandbox as a program and as a pytest plugin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

HEAVY = ("authlib", "cheroot", "flask", "google.cloud", "requests", "uv", "werkzeug")


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


@pytest.fixture
def program():
    """Runs `carto-auth sandbox` and yields the process and its first lines."""
    started = []

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "carto_auth_integrations.cli", "sandbox", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        started.append(process)
        lines = []
        while not lines or "BIGQUERY_ENDPOINT" not in lines[-1]:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line)
        return process, "".join(lines)

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_serves_until_a_signal_and_leaves_nothing_behind(program, number, tmp_path):
    process, text = program()
    exports = dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))
    credentials = Path(re.search(r"from_m2m\(\): (.*)", text)[1])
    assert json.loads(credentials.read_text())["client_id"] == exports["CARTO_CLIENT_ID"]
    answer = requests.post(
        f"{exports['CARTO_AUTH_URL']}/oauth/token",
        data={
            "grant_type": "client_credentials",
            "client_id": exports["CARTO_CLIENT_ID"],
            "client_secret": exports["CARTO_CLIENT_SECRET"],
            "audience": exports["CARTO_AUDIENCE"],
        },
        timeout=30,
    )
    assert answer.status_code == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert not credentials.exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(exports["CARTO_AUTH_URL"], timeout=5)


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_signal_ends_a_start_that_takes_long(tmp_path):
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nexec sleep 60\n")
    uv.chmod(0o755)
    script = (
        "from carto_auth_integrations.sandbox import SandboxOptions, emulator_env, serve\n"
        f"emulator_env._find_uv = lambda: print('making', flush=True) or {str(uv)!r}\n"
        "serve(SandboxOptions(eager_emulator=True), on_ready=print)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(), "CARTO_SANDBOX_HOME": str(tmp_path / "home")},
    )
    assert process.stdout.readline() == "making\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode == 0


def test_the_credentials_go_where_they_are_asked_for(program, tmp_path):
    place = tmp_path / "carto.json"
    process, _ = program("--credentials-file", str(place))
    assert json.loads(place.read_text())["api_base_url"].startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert not place.exists()


@pytest.mark.parametrize("module", ["sandbox", "sandbox.pytest_plugin", "sandbox.sandbox", "sandbox.serving"])
def test_importing_brings_in_nothing_heavy(module):
    script = f"""
import sys
import carto_auth_integrations.{module}
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "[]"


def test_the_pytest_fixture_is_fresh_for_each_test(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "import pytest\n"
        "from carto_auth_integrations.sandbox import SandboxOptions\n"
        "@pytest.fixture(scope='session')\n"
        "def carto_sandbox_options():\n"
        "    return SandboxOptions(user='me@example.com')\n"
    )
    (tmp_path / "test_user.py").write_text(
        "import requests\n"
        "seen = []\n"
        "def test_first(carto_sandbox):\n"
        "    seen.append(carto_sandbox)\n"
        "    carto_sandbox.fault('config', status=500)\n"
        "    carto_sandbox.set_lifetimes(carto=1)\n"
        "    assert requests.get(carto_sandbox.url + '/config.yaml').status_code == 500\n"
        "def test_second(carto_sandbox):\n"
        "    assert carto_sandbox is seen[0]\n"
        "    assert carto_sandbox.stats().count('config') == 0\n"
        "    assert requests.get(carto_sandbox.url + '/config.yaml').status_code == 200\n"
        "    assert carto_sandbox.options.user == 'me@example.com'\n"
        "def test_third(carto_sandbox_bigquery):\n"
        "    assert carto_sandbox_bigquery.emulator_pid\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
