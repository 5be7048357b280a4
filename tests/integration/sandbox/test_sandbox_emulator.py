"""The emulator's life: its environment is made once, it starts on need and never outlives its parent."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import requests

from carto_auth_integrations.sandbox import SandboxError, emulator_env
from carto_auth_integrations.sandbox.emulator import Emulator

ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

# Seconds after which a process that should end is taken to live on.
PATIENCE = 10


def run_script(script, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), **variables},
    )


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def emulator_of(python, timeout=60.0):
    return Emulator("p", ["d"], url=None, start_timeout=timeout, python=lambda: python)


@ON_LINUX
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a forked child that lives on"])
def test_the_emulator_dies_and_cleans_up_when_its_parent_is_killed(forks):
    script = f"""
        import os, signal, time
        from carto_auth_integrations.sandbox import Sandbox
        sandbox = Sandbox()
        sandbox.start()
        sandbox.start_emulator()
        child = os.fork() if {forks} else 1
        if child == 0:
            os.close(1)
            time.sleep(60)
            os._exit(0)
        print(sandbox.emulator_pid, sandbox._emulator.log_file.parent, child, flush=True)
        time.sleep(600)
    """
    parent = run_script(script)
    pid, home, child = parent.stdout.readline().split()
    assert alive(pid)
    assert Path(home).exists()
    parent.kill()
    wait_until(lambda: not alive(pid) and not Path(home).exists())
    if forks:
        os.kill(int(child), signal.SIGKILL)
    parent.communicate()


@ON_LINUX
def test_the_emulator_outlives_the_thread_that_started_it(make_sandbox):
    sandbox = make_sandbox()
    starter = threading.Thread(target=sandbox.start_emulator)
    starter.start()
    starter.join()
    time.sleep(1)
    assert alive(sandbox.emulator_pid)


@ON_LINUX
def test_stopping_a_sandbox_ends_its_emulator_and_removes_its_files(make_sandbox):
    sandbox = make_sandbox(eager_emulator=True)
    pid, home = sandbox.emulator_pid, sandbox._emulator.log_file.parent
    sandbox.stop()
    assert not alive(pid)
    assert not home.exists()


@ON_LINUX
def test_a_program_that_forgets_to_stop_its_sandbox_still_ends():
    script = """
        from carto_auth_integrations.sandbox import Sandbox
        sandbox = Sandbox()
        sandbox.start()
        sandbox.start_emulator()
        print(sandbox.emulator_pid, sandbox._emulator.log_file.parent, flush=True)
    """
    parent = run_script(script)
    pid, home = parent.communicate(timeout=120)[0].split()
    assert parent.returncode == 0
    wait_until(lambda: not alive(pid) and not Path(home).exists())


def test_the_users_own_duckdb_folder_is_left_alone(make_sandbox, caller_of, tmp_path, monkeypatch):
    monkeypatch.setenv("CARTO_SANDBOX_HOME", str(emulator_env._home()))
    monkeypatch.setenv("HOME", str(tmp_path))
    make_sandbox(eager_emulator=True)
    assert list(tmp_path.iterdir()) == []


def test_the_emulator_starts_on_the_first_bigquery_request_that_has_a_token(make_sandbox, caller_of):
    sandbox = make_sandbox()
    caller = caller_of(sandbox)
    caller.get("/bigquery/v2/projects", "made-up")
    assert sandbox.emulator_pid is None
    assert caller.get("/bigquery/v2/projects", caller.dw_token()).status_code == 200
    assert sandbox.emulator_pid is not None


def test_an_emulator_that_dies_is_reported_and_can_be_started_again(make_sandbox, caller_of):
    sandbox = make_sandbox(eager_emulator=True)
    caller = caller_of(sandbox)
    os.kill(sandbox.emulator_pid, signal.SIGTERM)
    sandbox._emulator._process.wait()
    response = caller.get("/bigquery/v2/projects", caller.dw_token())
    assert response.status_code == 501
    assert "has died" in response.json()["error"]["message"]
    sandbox.start_emulator()
    assert caller.get("/bigquery/v2/projects", caller.dw_token()).status_code == 200


def test_an_emulator_that_ends_while_it_starts_shows_the_end_of_its_log():
    emulator = emulator_of(Path(sys.executable))  # has no local-bigquery
    with pytest.raises(SandboxError, match="ModuleNotFoundError"):
        emulator.start()
    with pytest.raises(SandboxError, match="ModuleNotFoundError"):
        emulator.url()


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script")
def test_an_emulator_that_does_not_start_in_time_is_given_up(tmp_path, monkeypatch):
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\necho still loading\nexec sleep 60\n")
    slow.chmod(0o755)
    emulator = Emulator("p", [], url=None, start_timeout=0.5, python=lambda: slow)
    monkeypatch.setattr("carto_auth_integrations.sandbox.emulator.GRACE", 0.1)
    with pytest.raises(SandboxError, match=r"(?s)0\.5 s.*still loading"):
        emulator.start()


def test_a_named_emulator_that_is_not_there_is_an_error_at_once(make_sandbox):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SandboxError, match="does not answer"):
        make_sandbox(emulator_url=f"http://127.0.0.1:{port}", eager_emulator=True)


def test_two_processes_that_need_the_environment_at_once_make_it_once(tmp_path):
    script = """
        from pathlib import Path
        from carto_auth_integrations.sandbox import emulator_env
        make = emulator_env._make
        def counted(environment):
            with open(environment.parent / "made", "a") as file:
                file.write("x")
            make(environment)
        emulator_env._make = counted
        print(emulator_env.emulator_python())
    """
    home = tmp_path / "home"
    (home / f"{emulator_env._name()}.building" / "half").mkdir(parents=True)  # what a killed process leaves
    both = [run_script(script, CARTO_SANDBOX_HOME=str(home)) for _ in range(2)]
    outputs = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert Path(outputs[0][0].strip()).exists()
    assert (home / "made").read_text() == "x"
    assert not list(home.glob("*.building"))


def test_without_a_python_for_it_the_error_says_what_to_do(tmp_path, monkeypatch):
    for name in ("CARTO_SANDBOX_HOME", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    uv = emulator_env._find_uv()
    monkeypatch.setattr(emulator_env, "_find_uv", lambda: uv)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match=r"uv python install 3\.13.*emulator_url"):
        emulator_env.emulator_python()


def test_without_uv_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("CARTO_SANDBOX_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(emulator_env.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SandboxError, match=r"carto-auth-integrations\[sandbox\]"):
        emulator_env.emulator_python()


@ON_LINUX
def test_an_upload_is_never_held_in_memory():
    """200 MB pass through a sandbox in a process of its own, to something that swallows them."""

    class Swallow(http.server.BaseHTTPRequestHandler):
        swallowed = 0

        def do_POST(self):
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, 1 << 20)))
            Swallow.swallowed += int(self.headers["Content-Length"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    def peak(pid):
        (line,) = [text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in text]
        return int(line.split()[1]) * 1024

    size = 200 * 1024 * 1024
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Swallow)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    script = f"""
        import time
        from carto_auth_integrations.sandbox import Sandbox, SandboxOptions
        sandbox = Sandbox(SandboxOptions(emulator_url="http://127.0.0.1:{sink.server_address[1]}"))
        sandbox.start()
        sandbox._state.tokens.add("dw", "known")
        print(sandbox.url, flush=True)
        time.sleep(600)
    """
    process = run_script(script)
    try:
        url = process.stdout.readline().strip()
        headers = {"Authorization": "Bearer known"}
        requests.post(f"{url}/upload/bigquery/v2/projects/p/jobs", data=b"x", headers=headers, timeout=60)
        before = peak(process.pid)
        with Path("/dev/zero").open("rb") as zeros:
            limited = {**headers, "Content-Length": str(size)}
            body = iter(lambda left=[size]: _take(zeros, left), b"")
            response = requests.post(
                f"{url}/upload/bigquery/v2/projects/p/jobs",
                data=_Sized(body, size),
                headers=limited,
                timeout=60,
            )
        assert response.status_code == 200
        assert Swallow.swallowed > size
        assert peak(process.pid) - before < 32 * 1024 * 1024
    finally:
        process.kill()
        process.communicate()
        sink.shutdown()
        sink.server_close()


def _take(zeros, left):
    block = zeros.read(min(left[0], 1 << 20))
    left[0] -= len(block)
    return block


class _Sized:
    """A body of known length that is made as it is sent."""

    def __init__(self, blocks, size):
        self._blocks, self._size = blocks, size

    def __len__(self):
        return self._size

    def __iter__(self):
        return self._blocks
