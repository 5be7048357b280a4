"""`carto-auth query` and `carto-auth load`: the CARTO Data Warehouse from a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from humanize import naturalsize

from ..warehouse.options import FileFormat
from ..warehouse.results import plain_result
from .accounts import account_options
from .jobs import run_job
from .output import Failure, example, print_note, verbose_option
from .tables import print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

    from ..warehouse import CartoWarehouse, LoadResult, QueryResult
    from ..warehouse.options import LoadKeywords, OnProgress, WriteDisposition
    from .accounts import AccountChoice

STANDARD_INPUT = "-"
SHOWN_ROWS = 100
"""Rows of a query that are shown by default: as many as a person scrolls through."""


@click.command(epilog=example('carto-auth query "SELECT * FROM shops.stores LIMIT 10"'))
@click.argument("sql", required=False)
@click.option(
    "--file", "file", type=click.Path(path_type=Path, dir_okay=False), help="Read the SQL from this file instead."
)
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="The value of @NAME in the SQL, a STRING; may be repeated.",
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=SHOWN_ROWS,
    show_default=True,
    metavar="COUNT",
    help="How many rows to print.",
)
@click.option(
    "--key", "idempotency_key", metavar="KEY", help="Idempotency key: the same query with the same key runs once."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@account_options
@verbose_option
def query(
    choice: AccountChoice,
    sql: str | None,
    file: Path | None,
    parameters: tuple[str, ...],
    max_rows: int,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Run a query and print its first rows. SQL is the statement, or - to read it from standard input."""
    values = _parameter_values(parameters)
    statement = _read_statement(sql, file)
    result = run_job(
        choice.auth(),
        lambda warehouse, on_progress: warehouse.query(
            statement,
            parameters=values,
            idempotency_key=idempotency_key,
            max_rows=max_rows,
            on_progress=on_progress,
        ),
        uploads=False,
    )
    if as_json:
        _print_json(result)
        return
    if result.rows:
        print_table(result.rows)
    print_note(_summary(result))


def _write_disposition(_ctx: click.Context, _option: click.Parameter, replace: bool) -> WriteDisposition:
    return "WRITE_TRUNCATE" if replace else "WRITE_APPEND"


# The options have the names of the keywords of `CartoWarehouse.load`, and are passed to it as they are.
@click.command(epilog=example("carto-auth load stores.geojson shops.stores --replace"))
@click.argument("source", metavar="FILE")
@click.argument("destination", metavar="DATASET.TABLE")
@click.option(
    "--replace",
    "write_disposition",
    is_flag=True,
    callback=_write_disposition,
    help="Replace all rows of the table in one step, instead of appending to them.",
)
@click.option(
    "--format",
    type=click.Choice(get_args(FileFormat), case_sensitive=False),
    help="The file's format, if its name does not tell.",
)
@click.option(
    "--geometry", multiple=True, metavar="COLUMN", help="A column of WKT or WKB that becomes GEOGRAPHY; repeatable."
)
@click.option(
    "--crs", metavar="CRS", help="Coordinate reference system of these columns; left out, longitude and latitude."
)
@click.option(
    "--key", "idempotency_key", metavar="KEY", help="Idempotency key: the same load with the same key happens once."
)
@click.option("--create-dataset", is_flag=True, help="Create the dataset if it does not exist.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@account_options
@verbose_option
def load(choice: AccountChoice, source: str, destination: str, as_json: bool, **options: Unpack[LoadKeywords]) -> None:
    """Load a file into a table, whole or not at all.

    FILE is CSV with a header, newline-delimited JSON, GeoJSON, Parquet, GeoParquet or Avro: a path or a gs:// URI.
    """

    def call(warehouse: CartoWarehouse, on_progress: OnProgress) -> LoadResult:
        options["on_progress"] = on_progress
        return warehouse.load(source, destination, **options)

    result = run_job(choice.auth(), call, uploads=True)
    if as_json:
        _print_json(result)
        return
    loaded = "had been loaded by an earlier try" if result.reattached else "loaded"
    click.echo(
        f"{_count(result.rows, 'row')} {loaded} into {result.destination}: {naturalsize(result.bytes)}, "
        f"job {result.job_id}."
    )


def _read_statement(sql: str | None, file: Path | None) -> str:
    """Return the SQL of the argument, of standard input or of the file.

    Raises:
        click.UsageError: If none of them is given, or two.
        Failure: If it is empty or cannot be read.
    """
    if (sql is None) == (file is None):
        raise click.UsageError("Give the SQL, or - for standard input, or --file FILE: one of them.")
    try:
        text = file.read_text("utf-8") if file else sys.stdin.read() if sql == STANDARD_INPUT else str(sql)
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"The SQL cannot be read from {file or 'standard input'}: {error}") from None
    if not text.strip():
        raise Failure("The SQL is empty.")
    return text


def _parameter_values(parameters: Iterable[str]) -> dict[str, str] | None:
    """Return the values of `--param` by name.

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


def _print_json(result: QueryResult | LoadResult) -> None:
    click.echo(json.dumps(plain_result(result), indent=2, ensure_ascii=False))


def _summary(result: QueryResult) -> str:
    if result.affected_rows is not None:
        rows = f"{_count(result.affected_rows, 'row')} changed"
    elif result.truncated:
        rows = f"The first {len(result.rows)} of {_count(result.total_rows, 'row')}"
    else:
        rows = _count(result.total_rows, "row")
    return f"{rows}, {naturalsize(result.bytes_processed)} processed, job {result.job_id}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
