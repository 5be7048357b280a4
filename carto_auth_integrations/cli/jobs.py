"""Run a query or a load in a terminal: show its progress, cancel it on Ctrl-C, and print its errors as one line."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click
from humanize import naturalsize

from ..checks import describe
from ..errors import CredentialsError
from ..waiting import run
from ..warehouse.results import READING, UPLOADING
from .output import Failure, console, print_note, printable
from .spelling import as_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

    from ..auth import CartoAuth
    from ..bigquery.dw_tokens import DWTokens
    from ..waiting import Steps
    from ..warehouse import CartoWarehouse, JobProgress
    from ..warehouse.options import OnProgress

T = TypeVar("T")

PARTS = 10
"""Lines that report the reading, and the upload, where there is no progress bar: one for each tenth."""
ROWS_OF_A_LINE = 1_000_000
"""Rows of such a line if the size of the source is not known."""
SHOWN_ERRORS = 3
"""Errors of one response that are shown: BigQuery may list one for each bad row."""
CANCEL_AGAIN_AFTER = 1.0
"""Seconds after which a job that did not exist is cancelled again: its last byte may have been sent just before."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


def run_job(auth: CartoAuth, call: Callable[[CartoWarehouse, OnProgress], T], *, uploads: bool) -> T:
    """Run a query or a load.

    Args:
        auth: The account.
        call: Calls the warehouse with the callback for its progress.
        uploads: Whether it may upload data: then lines report the progress where there is no progress bar.

    Raises:
        Failure: If the warehouse refuses the call or the job fails.
        CredentialsError: If no token can be obtained.
        click.exceptions.Exit: After Ctrl-C.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    warehouse = auth.warehouse()
    last: JobProgress | None = None
    failure = None
    try:
        with _progress_display(uploads=uploads) as show:

            def on_progress(progress: JobProgress) -> None:
                nonlocal last
                last = progress
                show(progress)

            return call(warehouse, on_progress)
    except KeyboardInterrupt:
        pass
    except CredentialsError:
        raise
    except (GoogleAPIError, GoogleAuthError, ValueError, TypeError, OSError) as error:
        failure = Failure(_describe(error, auth.dw_tokens, last))
    if failure:
        raise failure  # outside the handler, so that it does not hold the error's frames, which may hold a token
    print_note(_cancel(warehouse, auth.dw_tokens, last), style="yellow")
    raise click.exceptions.Exit(INTERRUPTED)


def run_reading(steps: Callable[[OnProgress], Steps[T]]) -> T:
    """Read a source without loading it, which needs no account.

    Args:
        steps: Returns the steps, with the callback for their progress.

    Raises:
        Failure: If the source cannot be read.
        click.exceptions.Exit: After Ctrl-C.
    """
    try:
        with _progress_display(uploads=True) as show:
            return run(steps(show))
    except KeyboardInterrupt:
        print_note("Interrupted: nothing was loaded.", style="yellow")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (ValueError, TypeError, OSError) as error:
        raise Failure(_one_line(as_options(str(error)))) from None


@contextmanager
def _progress_display(*, uploads: bool) -> Iterator[OnProgress]:
    """Show a bar on a terminal; elsewhere print lines for a load, and nothing for a query."""
    terminal = console(stderr=True)
    if not terminal.is_terminal or terminal.is_dumb_terminal or terminal.no_color:
        yield ProgressLines() if uploads else lambda _progress: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    upload_columns = (BarColumn(), DownloadColumn()) if uploads else ()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), *upload_columns, TimeElapsedColumn())
    with Progress(*columns, console=terminal, transient=True) as bar:
        yield partial(_update_bar, bar, bar.add_task("Starting", total=None))


def _update_bar(bar: Progress, task: TaskID, progress: JobProgress) -> None:
    moves = {READING: "Reading", UPLOADING: "Uploading"}
    if progress.state in moves:
        rows = f" {progress.rows:,} rows" if progress.rows else ""
        text = f"{moves[progress.state]}{rows}"
        bar.update(task, description=text, completed=progress.bytes_sent, total=progress.bytes_total)
    else:
        bar.update(task, description=f"Job {progress.state}")


class ProgressLines:
    """Prints a line for each tenth that is read or sent and each new state of the job, on standard error."""

    def __init__(self) -> None:
        self._printed: tuple[str, int] | None = None

    def __call__(self, progress: JobProgress) -> None:
        """Print a line if there is something new."""
        part, line = 0, f"Job {progress.job_id}: {progress.state}."
        if progress.state in (READING, UPLOADING):
            total, rows = progress.bytes_total, f", {progress.rows:,} rows" if progress.rows else ""
            if total is None and not rows:
                return
            part = progress.rows // ROWS_OF_A_LINE if total is None else progress.bytes_sent * PARTS // max(total, 1)
            whole = "" if total is None else f" of {naturalsize(total)}"
            verb = "Read" if progress.state == READING else "Sent"
            line = f"{verb} {naturalsize(progress.bytes_sent)}{whole}{rows}."
        if (progress.state, part) != self._printed:
            self._printed = progress.state, part
            print_note(line)


def _cancel(warehouse: CartoWarehouse, tokens: DWTokens, job: JobProgress | None) -> str:
    """Cancel a job if it has begun, and return the result as a sentence."""
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError

    if job is None:
        return "Interrupted before a job began: nothing was changed."
    try:
        try:
            warehouse.cancel(job.job_id, job.location)
        except NotFound:
            time.sleep(CANCEL_AGAIN_AFTER)
            warehouse.cancel(job.job_id, job.location)
    except NotFound:
        return f"Interrupted: BigQuery has no job {job.job_id}, so nothing was changed."
    except (CredentialsError, GoogleAPIError, GoogleAuthError, OSError) as error:
        reason = _describe(error, tokens, job)
        return f"Interrupted, but job {job.job_id} could not be cancelled and may still be running. {reason}"
    return f"Interrupted: BigQuery was asked to cancel job {job.job_id}."


def _describe(error: Exception, tokens: DWTokens, job: JobProgress | None) -> str:
    """Return an error as one line."""
    from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    if isinstance(error, GoogleAPICallError):
        reasons = [reason for reason in error.errors or () if isinstance(reason, dict)]
        messages = dict.fromkeys(str(reason["message"]) for reason in reasons if reason.get("message"))
        text = " ".join(list(messages)[:SHOWN_ERRORS]) or str(error.message)
        return f"BigQuery answered {error.code}: {_one_line(text)}{f' (job {job.job_id})' if job else ''}"
    if isinstance(error, (GoogleAPIError, GoogleAuthError, RequestException)):
        return describe(error, tokens)
    return _one_line(as_options(str(error)))


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
