"""`carto-auth query` and `carto-auth load`: the CARTO Data Warehouse from a terminal."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import click
from humanize import naturalsize

from ..waiting import Deadline
from ..warehouse.options import (
    BadRows,
    ColumnNames,
    Edges,
    FileFormat,
    LoadOptions,
    Priority,
    QueryOptions,
    SourceKeywords,
)
from ..warehouse.results import counted, plain_result
from .accounts import account_options
from .jobs import run_job, run_reading
from .output import Failure, example, print_note, verbose_option
from .plans import plain_plan, print_plan
from .tables import print_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Unpack

    from ..waiting import Steps
    from ..warehouse import CartoWarehouse, LoadResult, QueryResult
    from ..warehouse.options import InvalidGeometry, LoadKeywords, OnProgress, QueryKeywords, WriteDisposition
    from ..warehouse.results import LoadPlan
    from .accounts import AccountChoice

STANDARD_INPUT = "-"
SHOWN_ROWS = 100
"""Rows of a query that are shown by default: as many as a person scrolls through."""


def _use_query_cache(_ctx: click.Context, _option: click.Parameter, no_cache: bool) -> bool | None:
    return False if no_cache else None


# The options have the names of the keywords of `CartoWarehouse.query`, and are passed to it as they are.
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
@click.option(
    "--maximum-bytes-billed",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="Fail, at no cost, if the query would bill more; left out, the account's limit.",
)
@click.option(
    "--priority",
    type=click.Choice(get_args(Priority), case_sensitive=False),
    default=QueryOptions.priority,
    show_default=True,
    help="BATCH waits until the project has resources to spare.",
)
@click.option(
    "--no-cache",
    "use_query_cache",
    is_flag=True,
    callback=_use_query_cache,
    help="Do not take the rows from BigQuery's cache.",
)
@click.option("--dry-run", is_flag=True, help="Check the query and print how much it would read, without running it.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@account_options
@verbose_option
def query(
    choice: AccountChoice,
    sql: str | None,
    file: Path | None,
    parameters: tuple[str, ...],
    as_json: bool,
    **options: Unpack[QueryKeywords],
) -> None:
    """Run a query and print its first rows. SQL is the statement, or - to read it from standard input."""
    values = _parameter_values(parameters)
    statement = _read_statement(sql, file)

    def call(warehouse: CartoWarehouse, on_progress: OnProgress) -> QueryResult:
        options["on_progress"] = on_progress
        return warehouse.query(statement, parameters=values, **options)

    result = run_job(choice.auth(), call, uploads=False)
    if as_json:
        _print_json(result)
        return
    if not result.job_id:
        click.echo(f"The query is valid, and would read {naturalsize(result.bytes_processed)}.")
        return
    if result.rows:
        print_table(result.rows)
    print_note(_summary(result))


def _write_disposition(_ctx: click.Context, _option: click.Parameter, replace: bool) -> WriteDisposition:
    return "WRITE_TRUNCATE" if replace else "WRITE_APPEND"


def _invalid_geometry(_ctx: click.Context, _option: click.Parameter, repair: bool) -> InvalidGeometry:
    return "repair" if repair else "refuse"


def _header(_ctx: click.Context, _option: click.Parameter, no_header: bool) -> bool:
    return not no_header


def _column_types(_ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    types: dict[str, str] = {}
    for each in given:
        name, sign, kind = each.rpartition("=")
        if not sign or not name or not kind:
            raise click.BadParameter(f"{each!r} is not COLUMN=TYPE.", param=option)
        if name in types:
            raise click.BadParameter(f"{name} is given twice.", param=option)
        types[name] = kind
    return types or None


# The options have the names of the keywords of `CartoWarehouse.load`, and are passed to it as they are.
@click.command(epilog=example("carto-auth load stores.gpkg shops.stores --layer shops --replace"))
@click.argument("source", metavar="FILE...", nargs=-1, required=True)
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
    help="The files' format, if their names do not tell. VECTOR is what GDAL reads: GeoPackage, Shapefile, KML …",
)
@click.option("--layer", metavar="NAME", help="The layer of a geographic file, or the sheet of a workbook.")
@click.option(
    "--geometry",
    multiple=True,
    metavar="COLUMN",
    help="A column of WKT, WKB or GeoJSON that becomes GEOGRAPHY; repeatable.",
)
@click.option("--lon", metavar="COLUMN", help="A column of longitudes; with --lat it becomes a column geom of points.")
@click.option("--lat", metavar="COLUMN", help="A column of latitudes.")
@click.option(
    "--crs",
    metavar="CRS",
    help="Coordinate reference system of the geometry; left out, what the file names, else longitude and latitude.",
)
@click.option(
    "--edges",
    type=click.Choice(get_args(Edges)),
    help="What edges are: straight lines on a map of longitude and latitude, or geodesics. Left out, what the file "
    "names, else planar.",
)
@click.option(
    "--repair",
    "invalid_geometry",
    is_flag=True,
    callback=_invalid_geometry,
    help="Repair invalid geometry, instead of refusing it, and print by how much areas changed.",
)
@click.option(
    "--bad-rows",
    type=click.Choice(get_args(BadRows)),
    default=LoadOptions.bad_rows,
    show_default=True,
    help="End at the first row that does not fit, or load such rows into DATASET.TABLE__rejected, with the reason.",
)
@click.option(
    "--column-names",
    type=click.Choice(get_args(ColumnNames)),
    default=LoadOptions.column_names,
    show_default=True,
    help="Refuse column names that BigQuery does not accept, or make them valid.",
)
@click.option(
    "--column-type",
    "column_types",
    multiple=True,
    metavar="COLUMN=TYPE",
    callback=_column_types,
    help="A column's BigQuery type, such as zip=STRING, instead of the one that follows from the data; repeatable.",
)
@click.option("--delimiter", metavar="CHARACTER", help="The delimiter of a CSV file; left out, it is found.")
@click.option("--encoding", metavar="NAME", help="The encoding of a text file; left out, it is found.")
@click.option(
    "--quote",
    metavar="CHARACTER",
    default=LoadOptions.quote,
    show_default=True,
    help="The quote character of a CSV file.",
)
@click.option("--null-marker", metavar="TEXT", help="What stands for NULL in a CSV file, beside an empty field.")
@click.option(
    "--skip-rows",
    type=click.IntRange(min=0),
    metavar="COUNT",
    default=LoadOptions.skip_rows,
    show_default=True,
    help="Lines before the header of a CSV file or a sheet.",
)
@click.option(
    "--no-header",
    "header",
    is_flag=True,
    callback=_header,
    help="The first line of a CSV file or a sheet is data; the columns are column_1 and so on.",
)
@click.option(
    "--key", "idempotency_key", metavar="KEY", help="Idempotency key: the same load with the same key happens once."
)
@click.option("--create-dataset", is_flag=True, help="Create the dataset if it does not exist.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read the files and print what would be loaded, without loading it. Needs no account.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@account_options
@verbose_option
def load(
    choice: AccountChoice,
    source: tuple[str, ...],
    destination: str,
    dry_run: bool,
    as_json: bool,
    **options: Unpack[LoadKeywords],
) -> None:
    """Load files into a table, whole or not at all.

    FILE is a file, a directory, a glob, a URL such as https:// or s3://, or - for standard input, with --format. It
    is CSV, JSON, GeoJSON, Parquet, GeoParquet, Avro, Excel, GeoPackage, Shapefile or what else GDAL reads. BigQuery
    reads gs:// URIs by itself.
    """
    _check_sources(source, options)
    if dry_run:
        _print_plan(run_reading(lambda on_progress: _plan(source, options, on_progress)), destination, as_json=as_json)
        return

    def call(warehouse: CartoWarehouse, on_progress: OnProgress) -> LoadResult:
        options["on_progress"] = on_progress
        with _readable(source) as files:
            return warehouse.load(files, destination, **options)

    result = run_job(choice.auth(), call, uploads=True)
    if as_json:
        _print_json(result)
        return
    loaded = "had been loaded by an earlier try" if result.reattached else "loaded"
    click.echo(
        f"{counted(result.rows, 'row')} {loaded} into {result.destination}: {naturalsize(result.bytes)}, "
        f"job {result.job_id}."
    )
    if result.rejected:
        click.echo(result.rejection)
    if result.repaired:
        click.echo(result.repair)


def _check_sources(sources: Sequence[str], options: LoadKeywords) -> None:
    """Raise if standard input is given with files, or without its format."""
    if STANDARD_INPUT not in sources:
        return
    if len(sources) > 1:
        raise click.UsageError("Load standard input by itself, without files.")
    if not options["format"]:
        raise click.UsageError("Standard input has no name that tells its format: give --format.")


@contextmanager
def _readable(sources: Sequence[str]) -> Iterator[str | list[str]]:
    """Return the files; standard input is copied to one, since files are read more than once."""
    if STANDARD_INPUT not in sources:
        yield sources[0] if len(sources) == 1 else list(sources)
        return
    with tempfile.TemporaryDirectory(prefix="carto-load-") as directory:
        path = Path(directory) / "standard input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield str(path)


def _plan(sources: Sequence[str], options: LoadKeywords, on_progress: OnProgress) -> Steps[LoadPlan]:
    from ..warehouse.loads import plan_of  # queries need none of it

    names = SourceKeywords.__annotations__
    reading = cast("SourceKeywords", {name: value for name, value in options.items() if name in names})
    with _readable(sources) as files:
        return (yield from plan_of(files, LoadOptions(**reading), Deadline(), on_progress))


def _print_plan(plan: LoadPlan, destination: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(plain_plan(plan), indent=2, ensure_ascii=False))
    else:
        print_plan(plan, destination)


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
        rows = f"{counted(result.affected_rows, 'row')} changed"
    elif result.truncated:
        rows = f"The first {len(result.rows)} of {counted(result.total_rows, 'row')}"
    else:
        rows = counted(result.total_rows, "row")
    return f"{rows}, {naturalsize(result.bytes_processed)} processed, job {result.job_id}."
