"""`carto-auth query` and `carto-auth load`: the CARTO Data Warehouse from a terminal."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.text import Text

from ..errors import CredentialsError
from ..warehouse.results import UPLOADING, plain_result
from .accounts import account_options
from .output import Failure, console, example, say, verbose_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.progress import Progress, TaskID

    from ..auth import CartoAuth
    from ..warehouse import CartoWarehouse, JobProgress, QueryResult
    from .accounts import Choice

T = TypeVar("T")

STANDARD_INPUT = "-"
SHOWN_ROWS = 100
"""Rows of a query that are shown unless more are asked for: what a person scrolls through."""
TOLD_PARTS = 10
"""Lines that tell of an upload where there is no bar: one for each tenth of it."""
TOLD_ERRORS = 3
"""Of the errors of a job, how many are told; BigQuery lists up to a hundred bad rows."""
SETTLING = 1.0
"""Seconds after which a job that was not there is looked for once more: its last byte may just have been on its way."""
INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, as shells have it: 128 and the signal's number."""
FORMATS = ("CSV", "JSON", "GEOJSON", "PARQUET", "AVRO")
PIPE_WIDTH = 1_000_000
"""Columns of a table that nobody looks at: no value is cut."""


@click.command(epilog=example('carto-auth query "SELECT * FROM shops.stores LIMIT 10"'))
@click.argument("sql", required=False)
@click.option(
    "--file", "file", type=click.Path(path_type=Path, dir_okay=False), help="Read the SQL from this file instead."
)
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A text for @NAME in the SQL; may be repeated."
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=SHOWN_ROWS,
    show_default=True,
    metavar="COUNT",
    help="How many rows to give.",
)
@click.option("--key", metavar="KEY", help="Idempotency key: the same query with the same key runs once.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@account_options
@verbose_option
def query(
    choice: Choice,
    sql: str | None,
    file: Path | None,
    parameters: tuple[str, ...],
    max_rows: int,
    key: str | None,
    as_json: bool,
) -> None:
    """Run a query and show its first rows. SQL is the statement, or - to read it from standard input."""
    values = _values_of(parameters)
    statement = _statement(sql, file)
    watch = Watch(choice.auth(), sends=False)
    result = watch.during(
        partial(
            watch.warehouse.query,
            statement,
            parameters=values,
            idempotency_key=key,
            max_rows=max_rows,
            on_progress=watch.look,
        )
    )
    if as_json:
        click.echo(json.dumps(plain_result(result), indent=2, ensure_ascii=False))
        return
    if result.rows:
        _show_table(result.rows)
    say(_summary_of(result))


@click.command(epilog=example("carto-auth load stores.geojson shops.stores --replace"))
@click.argument("source", metavar="FILE")
@click.argument("destination", metavar="DATASET.TABLE")
@click.option("--replace", is_flag=True, help="Replace the table's rows, at once and whole, instead of adding to them.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS, case_sensitive=False),
    help="The file's format, if its name does not tell.",
)
@click.option(
    "--geometry", multiple=True, metavar="COLUMN", help="A column of WKT or WKB that becomes GEOGRAPHY; repeatable."
)
@click.option("--crs", metavar="CRS", help="The reference system of these columns; left out, longitude and latitude.")
@click.option("--key", metavar="KEY", help="Idempotency key: the same load with the same key happens once.")
@click.option("--create-dataset", is_flag=True, help="Make the dataset if it is not there.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@account_options
@verbose_option
def load(
    choice: Choice,
    source: str,
    destination: str,
    replace: bool,
    file_format: str | None,
    geometry: tuple[str, ...],
    crs: str | None,
    key: str | None,
    create_dataset: bool,
    as_json: bool,
) -> None:
    """Load a file into a table, whole or not at all.

    FILE is CSV with a header, newline-delimited JSON, GeoJSON, Parquet, GeoParquet or Avro, here or at gs://.
    """
    watch = Watch(choice.auth(), sends=True)
    result = watch.during(
        partial(
            watch.warehouse.load,
            source,
            destination,
            idempotency_key=key,
            write_disposition="WRITE_TRUNCATE" if replace else "WRITE_APPEND",
            create_dataset=create_dataset,
            format=file_format,
            geometry=geometry,
            crs=crs,
            on_progress=watch.look,
        )
    )
    if as_json:
        click.echo(json.dumps(plain_result(result), indent=2, ensure_ascii=False))
        return
    done = "had been loaded by an earlier try" if result.reattached else "loaded"
    click.echo(
        f"{_count(result.rows, 'row')} {done} into {result.destination}: {in_bytes(result.bytes)}, job {result.job_id}."
    )


@dataclass
class Watch:
    """Runs one call of the warehouse: shows how far it is, cancels it on Ctrl-C, and tells its errors as a line.

    Args:
        auth: Whose warehouse.
        sends: Whether there are bytes to be sent, of which to tell.
    """

    auth: CartoAuth
    sends: bool
    last: JobProgress | None = field(default=None, init=False)
    _bar: tuple[Progress, TaskID] | None = field(default=None, init=False)
    _told: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.warehouse: CartoWarehouse = self.auth.warehouse()
        terminal = console(stderr=True)
        self.has_bar = terminal.is_terminal and not terminal.is_dumb_terminal and not terminal.no_color

    def during(self, call: Callable[[], T]) -> T:
        """Make the call.

        Raises:
            Failure: If it fails.
            click.exceptions.Exit: If a person ended it.
        """
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        try:
            return self._with_bar(call)
        except KeyboardInterrupt:
            interrupted = True
        except CredentialsError:
            raise
        except (GoogleAPIError, GoogleAuthError, ValueError, TypeError, OSError) as error:
            interrupted, failure = False, Failure(self._describe(error))
        if interrupted:
            say(self._cancel(), style="yellow")
            raise click.exceptions.Exit(INTERRUPTED)
        raise failure

    def look(self, progress: JobProgress) -> None:
        """Show how far it is: on a terminal with a bar; elsewhere with a line for each news, if it sends."""
        self.last = progress
        if self._bar is not None:
            _draw(progress, *self._bar)
        elif self.sends:
            self._tell(progress)

    def _tell(self, progress: JobProgress) -> None:
        news, line = progress.state, f"Job {progress.job_id}: {progress.state}."
        if progress.state == UPLOADING:
            if progress.bytes_total is None:
                return
            news = f"{progress.bytes_sent * TOLD_PARTS // max(progress.bytes_total, 1)}"
            line = f"Sent {in_bytes(progress.bytes_sent)} of {in_bytes(progress.bytes_total)}."
        if news != self._told:
            self._told = news
            say(line)

    def _with_bar(self, call: Callable[[], T]) -> T:
        if not self.has_bar:
            return call()
        from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        sent = (BarColumn(), DownloadColumn()) if self.sends else ()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), *sent, TimeElapsedColumn())
        with Progress(*columns, console=console(stderr=True), transient=True) as bar:
            self._bar = bar, bar.add_task("Starting", total=None)
            return call()

    def _cancel(self) -> str:
        """Cancel the job, and say what came of it."""
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError

        if self.last is None:
            return "Interrupted before a job began: nothing was changed."
        job_id = self.last.job_id
        try:
            try:
                self.warehouse.cancel(job_id, self.last.location)
            except NotFound:
                time.sleep(SETTLING)
                self.warehouse.cancel(job_id, self.last.location)
        except NotFound:
            return f"Interrupted: BigQuery has no job {job_id}, so nothing was changed."
        except (CredentialsError, GoogleAPIError, GoogleAuthError, OSError) as error:
            return f"Interrupted, but job {job_id} may go on: it could not be cancelled. {self._describe(error)}"
        return f"Interrupted: BigQuery was asked to cancel job {job_id}."

    def _describe(self, error: Exception) -> str:
        from google.api_core.exceptions import GoogleAPICallError

        from ..checks import describe

        if isinstance(error, GoogleAPICallError):
            reasons = [reason for reason in error.errors or () if isinstance(reason, dict)]
            said = dict.fromkeys(str(reason["message"]) for reason in reasons if reason.get("message"))
            text = " ".join(list(said)[:TOLD_ERRORS]) or str(error.message)
            job = f" (job {self.last.job_id})" if self.last and self.last.job_id else ""
            return f"BigQuery answered {error.code}: {_one_line(text)}{job}"
        if type(error).__module__.partition(".")[0] in ("google", "requests"):
            return describe(error, self.auth)
        return _one_line(str(error))


def _draw(progress: JobProgress, bar: Progress, task: TaskID) -> None:
    if progress.state == UPLOADING:
        bar.update(task, description="Sending", completed=progress.bytes_sent, total=progress.bytes_total)
    else:
        bar.update(task, description=f"Job {progress.state}")


def _statement(sql: str | None, file: Path | None) -> str:
    """Read the SQL from where it is.

    Raises:
        click.UsageError: If it is nowhere, or in two places.
        Failure: If it cannot be read, or there is none.
    """
    if (sql is None) == (file is None):
        raise click.UsageError("Give the SQL, or - for standard input, or --file FILE: one of them.")
    try:
        text = file.read_text("utf-8") if file else sys.stdin.read() if sql == STANDARD_INPUT else str(sql)
    except (OSError, UnicodeDecodeError) as error:
        failure = Failure(f"The SQL cannot be read from {file or 'standard input'}: {error}")
    else:
        if text.strip():
            return text
        failure = Failure("The SQL is empty.")
    raise failure


def _values_of(parameters: Iterable[str]) -> dict[str, str] | None:
    """Give the values of `--param`.

    Raises:
        click.BadParameter: If one has no name, or two have the same.
    """
    values: dict[str, str] = {}
    for parameter in parameters:
        name, sign, value = parameter.partition("=")
        if not sign or not name.isidentifier():
            raise click.BadParameter(f"{parameter!r} is not NAME=VALUE.", param_hint="--param")
        if name in values:
            raise click.BadParameter(f"{name} is given twice.", param_hint="--param")
        values[name] = value
    return values or None


def _summary_of(result: QueryResult) -> str:
    if result.affected_rows is not None:
        what = f"{_count(result.affected_rows, 'row')} changed"
    elif result.truncated:
        what = f"The first {len(result.rows)} of {_count(result.total_rows, 'row')}"
    else:
        what = _count(result.total_rows, "row")
    return f"{what}, {in_bytes(result.bytes_processed)} processed, job {result.job_id}."


def _show_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    screen = console() if sys.stdout.isatty() else console(width=PIPE_WIDTH)
    head = "" if screen.no_color else "bold"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style=head)
    for name in rows[0]:
        numbers = all(isinstance(row[name], (int, float, type(None))) for row in rows)
        table.add_column(Text(_printable(name)), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    screen.print(table, soft_wrap=False)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL")
    return Text(_printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


def _printable(text: str) -> str:
    """Give text without what would move a terminal's cursor or colour it."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _one_line(text: str) -> str:
    return _printable(" ".join(text.split()))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def in_bytes(number: float) -> str:
    """Give an amount for people: `512 B`, `1.2 kB`, `34.0 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
