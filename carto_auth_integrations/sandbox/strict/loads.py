"""Load jobs as BigQuery runs them: each value arrives as its column's type, or the job fails and loads nothing."""

# ruff: noqa: S608 - the SQL is DuckDB's, and quotes whatever comes from a request

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import avro, csv_files, geography, json_files, parquet
from .configuration import load_fields
from .engine import database, datasets, duckdb, emulator_loads, models, names, pyarrow, settings, storage, tables
from .fitting import Fit
from .refusal import Refusal, cannot, refusal_of
from .schema import Field, check_columns, check_fits_table, field_of
from .source import ROWS_OF_FILE, Source
from .values import literal

# Characters of a shape that an error shows.
SHOWN = 60

# Shapes that are looked at together: few enough to be small in memory.
_BATCH = 10_000


@dataclass(frozen=True)
class Target:
    """The table of a load job.

    Attributes:
        reference: Its project, dataset and name.
        fields: Its columns; empty if it does not exist, or is replaced.
    """

    reference: tuple[str, str, str]
    fields: tuple[Field, ...]

    @property
    def label(self) -> str:
        """Its name in messages."""
        return str(names.label(*self.reference))


def run(cursor: Any, config: Any, upload: str | None, *, strict: bool = True) -> Any:
    """Run a load job, in place of the emulator's function of this name.

    Args:
        cursor: A cursor of DuckDB.
        config: The load configuration.
        upload: The path of the uploaded file; None if the configuration has URIs.
        strict: Whether to check what BigQuery checks of shapes and names.

    Returns:
        The job's statistics.

    Raises:
        Refusal: If the job fails.
    """
    load: dict[str, Any] = config.dump()
    target = _target(config, load)
    locations = (
        [upload] if upload else [path for uri in load.get("sourceUris") or () for path in storage.paths(cursor, uri)]
    )
    kind = load.get("sourceFormat") or "CSV"
    if kind == "ORC":
        return emulator_loads.run(cursor, config, upload)
    # Columns of GeoParquet stay WKB, like any other column of bytes.
    cursor.execute("SET enable_geoparquet_conversion = false")
    with _scratch() as scratch, _reading():
        missing = [path for path in locations if not Path(path).exists()]
        if missing or not locations:
            raise Refusal(f"Not found: URI {', '.join(load.get('sourceUris') or ())}", "notFound")
        source = _open(cursor, kind, load, [Path(path) for path in locations], target, scratch)
        if strict:
            check_columns(source.fields)
        label, updates = target.label, load.get("schemaUpdateOptions") or ()
        if target.fields:
            check_fits_table(source.fields, target.fields, label, updates)
        return _load(cursor, config, load, source, target, [Path(path) for path in locations], strict)


def _target(config: Any, load: Mapping[str, Any]) -> Target:
    reference = tables.reference(config.destinationTable)
    datasets.get(*reference[:2])
    if "$" in reference[2]:
        raise cannot("load into one partition of a table")
    names.table(reference[2])
    if load.get("writeDisposition") == "WRITE_TRUNCATE" or not tables.exists(*reference):
        return Target(reference, ())
    resource = tables.load(*reference)
    return Target(reference, tuple(field_of(field.dump()) for field in tables.fields(resource)))


@contextmanager
def _scratch() -> Iterator[Path]:
    root = settings.settings.data_dir / "scratch"
    root.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pyarrow.ArrowException, ValueError, OverflowError) as error:
        message = str(error).split("\n")[0].partition("Error: ")[2] or str(error)
        raise Refusal(f"Error while reading data, error message: {message}") from None


def _open(
    cursor: Any, kind: str, load: Mapping[str, Any], files: Sequence[Path], target: Target, scratch: Path
) -> Source:
    fields = load_fields(load)
    if kind == "PARQUET":
        return parquet.open_source(load, files, fields, scratch)
    if kind == "AVRO":
        return avro.open_source(load, files, fields, scratch)
    fields = fields or (() if load.get("autodetect") else target.fields)
    if not fields and not load.get("autodetect"):
        raise Refusal("No schema specified on job or table.")
    read = csv_files.open_source if kind == "CSV" else json_files.open_source
    return read(cursor, load, files, fields, scratch)


def _load(
    cursor: Any,
    config: Any,
    load: Mapping[str, Any],
    source: Source,
    target: Target,
    files: Sequence[Path],
    strict: bool,
) -> Any:
    fit = Fit(
        source, lists=bool((load.get("parquetOptions") or {}).get("enableListInference")) or source.kind != "PARQUET"
    )
    bad = _bad_rows(cursor, source, fit) | (_bad_shapes(cursor, source, fit) if strict else {})
    allowed = int(load.get("maxBadRecords") or 0) if source.kind in ("CSV", "JSON") else 0
    rejected = source.rejected + len(bad)
    if rejected > allowed:
        row, problem = min(bad.items()) if bad else (0, source.problem)
        raise refusal_of(_failure(source, row, problem, rejected))
    [(total,)] = cursor.sql(f"SELECT count(*) FROM {source.relation}").fetchall()
    query = f"SELECT {fit.projection} FROM {source.relation}{_without(bad)}"
    _write(cursor, query, config, load, source, target)
    rows = total - len(bad)
    return models.JobStatistics3(
        inputFiles=str(len(files)),
        inputFileBytes=str(sum(file.stat().st_size for file in files)),
        outputRows=str(rows),
        outputBytes=str(tables.logical_bytes(rows, len(source.fields))),
        badRecords=str(rejected),
    )


def _without(bad: Mapping[int, str]) -> str:
    return f" WHERE file_row_number NOT IN ({', '.join(map(str, bad))})" if bad else ""


def _failure(source: Source, row: int, problem: str, errors: int) -> str:
    row %= ROWS_OF_FILE
    if source.kind in ("CSV", "JSON"):
        return (
            f"Error while reading data, error message: {source.kind} table encountered too many errors, giving up. "
            f"Rows: {row + 1}; errors: {errors}. Please look into the errors[] collection for more details. "
            f"Row {row + 1}: {problem}"
        )
    return f"Error while reading data, error message: {problem}, in row {row + 1}"


def _bad_rows(cursor: Any, source: Source, fit: Fit) -> dict[int, str]:
    """Return the rows with a value that does not fit its column, with the reason."""
    if not fit.misfits:
        return {}
    reason = "CASE " + " ".join(f"WHEN {test} THEN {literal(text)}" for test, text in fit.misfits) + " END"
    rows = cursor.sql(
        f"SELECT file_row_number, reason FROM (SELECT file_row_number, {reason} AS reason FROM {source.relation}) "
        f"WHERE reason IS NOT NULL ORDER BY file_row_number LIMIT {_BATCH}"
    )
    return dict(rows.fetchall())


def _bad_shapes(cursor: Any, source: Source, fit: Fit) -> dict[int, str]:
    """Return the rows with a shape that is none in BigQuery, with the reason."""
    bad: dict[int, str] = {}
    for path, texts in fit.shapes:
        oriented = path.partition(".")[0] not in source.planar
        unnested = f"SELECT file_row_number AS ord, unnest({texts}) AS x FROM {source.relation}"
        result = cursor.execute(geography.suspects(unnested, oriented=oriented))
        while batch := result.fetchmany(_BATCH):
            for row, text, wkb, valid in batch:
                problem = geography.problem_of(text, wkb, valid, oriented=oriented)
                if problem is not None:
                    bad.setdefault(row, _shape_message(source.kind, path, text, problem))
    return bad


def _shape_message(kind: str, path: str, text: str, problem: str) -> str:
    shown = text[:SHOWN] + ("..." if len(text) > SHOWN else "")
    if kind == "CSV":
        return f"Could not parse '{shown}' as GEOGRAPHY for field {path}; {problem}"
    if kind == "JSON":
        return f"Could not convert JSON value to geography: {shown}; Field: {path}; {problem}"
    return f"Invalid geography value for column {path}, error: {problem}; in {shown}"


def _relax(cursor: Any, load: Mapping[str, Any], source: Source, target: Target) -> None:
    """Let columns of the table be NULL that are so in the load, if ALLOW_FIELD_RELAXATION says so."""
    if "ALLOW_FIELD_RELAXATION" not in (load.get("schemaUpdateOptions") or ()):
        return
    nullable = {field.name.casefold() for field in source.fields if field.mode == "NULLABLE"}
    for field in target.fields:
        if field.mode == "REQUIRED" and field.name.casefold() in nullable:
            table, name = tables.name(*target.reference), database.quote(field.name)
            cursor.execute(f"ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL")


def _write(cursor: Any, query: str, config: Any, load: Mapping[str, Any], source: Source, target: Target) -> None:
    prefix = f"Provided Schema does not match Table {target.label}. "
    keeps = load.get("writeDisposition") == "WRITE_TRUNCATE_DATA"
    if keeps:
        raise cannot("replace the rows and keep the schema with WRITE_TRUNCATE_DATA")
    _relax(cursor, load, source, target)
    created = tables.write(cursor, query, None, target.reference, config, "WRITE_APPEND", prefix)
    if not created and target.fields:
        return
    schema = {"fields": [field.resource() for field in source.fields]}
    if load.get("schema"):
        schema = load["schema"]
    for field in source.fields:
        if field.mode == "REQUIRED":
            cursor.execute(
                f"ALTER TABLE {tables.name(*target.reference)} ALTER COLUMN {database.quote(field.name)} SET NOT NULL"
            )
    tables.annotate(target.reference, models.Table.model_validate({"schema": schema}))
