"""Law 7: on a worker no browser opens and nothing reads standard input: `InteractionRequired` says what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.processes import PATIENCE, run_processes, start_process

LOG_IN = """
    from carto_auth_integrations import CartoAuth, InteractionRequired
    try:
        CartoAuth.from_oauth(api_base_url="http://127.0.0.1:9").get_access_token()
    except InteractionRequired as error:
        print(error)
    """


@pytest.fixture
def browser(tmp_path: Path) -> tuple[str, Path]:
    """A browser that leaves a trace when it is opened."""
    trace, script = tmp_path / "opened", tmp_path / "browser.sh"
    script.write_text(f"#!/bin/sh\ntouch {trace}\n")
    script.chmod(0o755)
    return f"{script} %s", trace


def test_without_a_terminal_an_expired_login_is_an_error_that_says_what_to_do(browser: tuple[str, Path]) -> None:
    command, trace = browser
    (output,) = run_processes(1, LOG_IN, BROWSER=command, CARTO_AUTH_URL="http://127.0.0.1:9")

    assert "carto-auth login" in output
    assert "from_m2m" in output
    assert not trace.exists()


@pytest.mark.parametrize("variable", ["AIRFLOW_CTX_DAG_ID", "PREFECT__FLOW_RUN_ID", "CI"])
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_worker_with_a_terminal_is_a_worker(browser: tuple[str, Path], variable: str) -> None:
    import pty

    command, trace = browser
    ours, theirs = pty.openpty()
    process = start_process(
        f"import sys; sys.stdin = open({os.ttyname(theirs)!r})\n" + dedent(LOG_IN),
        BROWSER=command,
        CARTO_AUTH_URL="http://127.0.0.1:9",
        **{variable: "x"},
    )
    output, errors = process.communicate(timeout=PATIENCE)
    os.close(ours)
    os.close(theirs)

    assert "no person can be asked here" in output, errors
    assert not trace.exists()
