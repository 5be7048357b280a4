"""`make demo`: what it shows and writes, and that nothing is left of it after its end or Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import airportsdata
import psutil
import pytest

from carto_auth_integrations.sandbox import SandboxOptions

ROOT = Path(__file__).parents[2]
MAP = ROOT / "demo-map.png"

TIMEOUT = 420
"""Seconds a whole demo may take where other work keeps the machine busy; alone it takes under two minutes."""
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Demo:
    """A demo that has ended: its exit code, its output, and the directory of its temporary files."""

    code: int
    output: str
    home: Path

    def number_after(self, words: str) -> int:
        """Return the first number after these words."""
        found = re.search(re.escape(words) + r"\D*([\d,]+)", self.output)
        assert found, self.output
        return int(found[1].replace(",", ""))

    def processes_left(self) -> list[str]:
        """Return the command lines of processes that work below the demo's directory."""
        return [" ".join(process.cmdline()) for process in psutil.process_iter() if _works_below(process, self.home)]

    def files_left(self) -> list[Path]:
        return list(self.home.iterdir())


def _works_below(process: psutil.Process, directory: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(directory)
    except (psutil.Error, OSError):
        return False


def run_demo(home: Path, meanwhile: Callable[[subprocess.Popen[str]], None] = lambda _: None) -> Demo:
    """Run the demo as `make demo` does, in a new process group.

    Args:
        home: The directory of its temporary files.
        meanwhile: Called with its process while it runs.
    """
    with (home.parent / f"{home.name}.out").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.demo"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            meanwhile(process)
            code = process.wait(TIMEOUT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(TIMEOUT)
        output.seek(0)
        return Demo(code, output.read(), home)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """One complete demo."""
    MAP.unlink(missing_ok=True)
    demo = run_demo(tmp_path_factory.mktemp("demo"))
    assert demo.code == 0, demo.output
    return demo


def test_both_orchestrators_load_every_airport(demo: Demo) -> None:
    airports = airportsdata.load()
    countries = {airport["country"] for airport in airports.values()}
    for orchestrator in ("Airflow", "Prefect"):
        assert f"│ {orchestrator} │ {len(airports):>15,} │ {len(countries):>9,} │" in demo.output


def test_the_summary_counts_the_airports_of_a_country(demo: Demo) -> None:
    american = sum(airport["country"] == "US" for airport in airportsdata.load().values())
    assert demo.number_after("│ US ") == american


def test_tokens_are_renewed_and_shared(demo: Demo) -> None:
    carto, dw = demo.number_after("CARTO access token"), demo.number_after("CARTO DW token")
    requests = demo.number_after("BigQuery answered")
    assert carto >= 2, "the first token expires while Prefect starts"
    assert carto <= dw < requests, "a token serves more than one request"


def test_a_refused_token_goes_unnoticed(demo: Demo) -> None:
    assert demo.number_after("requests, and refused") >= 1


@pytest.mark.usefixtures("demo")
def test_a_map_is_drawn() -> None:
    content = MAP.read_bytes()
    assert content.startswith(PNG)
    assert len(content) > 100_000, "28,000 points make a large picture"


def test_no_secret_is_shown(demo: Demo) -> None:
    assert SandboxOptions().client_secret not in demo.output
    assert not re.search(r"sandbox-(carto|dw)-\w|eyJ\w", demo.output)


def test_nothing_is_left_behind(demo: Demo) -> None:
    assert not demo.processes_left()
    assert not demo.files_left()


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        ("The examples in a real Airflow", 0.2),
        ("Start a local CARTO", 4),
        ("Airflow: save the connection", 5),
    ],
    ids=["at the start", "while Airflow makes its database", "while the DAG runs"],
)
def test_ctrl_c_ends_everything(after: str, seconds: float, tmp_path: Path) -> None:
    home = tmp_path / "demo"
    home.mkdir()

    def press_ctrl_c(process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while after not in (tmp_path / "demo.out").read_text():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)

    demo = run_demo(home, press_ctrl_c)
    assert demo.code == 128 + signal.SIGINT
    assert "Traceback" not in demo.output
    assert not demo.processes_left()
    assert not demo.files_left()
