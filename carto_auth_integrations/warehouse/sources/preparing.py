"""Read a source to its end, and return the file that is uploaded."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING

from ..packages import required
from . import files, open_source
from .columns import bigquery_field
from .fitting import SHOWN, Fitter, Geography, Rejected
from .names import valid_names
from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ...waiting import Deadline
    from ..options import LoadOptions
    from ..results import Row
    from .declared import Field

PAUSE = 0.25
"""Seconds between two reports of how much has been read."""
EXAMPLES = 5
"""First rows that are kept to be shown."""


@dataclass(frozen=True)
class Prepared:
    """A source that has been read to its end.

    Attributes:
        file: What is uploaded, at its beginning.
        format: Its format, as BigQuery calls it.
        fields: The columns, as BigQuery's REST API writes them.
        rows: How many rows it has.
        rejected: How many rows did not fit.
        rejects: These rows as JSON lines, at their beginning.
        geography: What its geometry turned out to be.
    """

    file: IO[bytes]
    format: str
    fields: list[Field]
    rows: int
    rejected: int
    rejects: IO[bytes]
    geography: Geography


class Preparation:
    """A source that is read chunk by chunk into temporary files, which are removed at the end of the `with` block.

    Args:
        source: Whatever `open_source` opens.
        options: How it is loaded.
        deadline: When the reading ends.

    Attributes:
        first_rows: The first rows that fit.
        examples: The first rows that do not.
        found: What was found out about the source, such as a CSV file's delimiter.
    """

    def __init__(self, source: object, options: LoadOptions, deadline: Deadline) -> None:
        self.first_rows: list[Row] = []
        self.examples: list[Rejected] = []
        self._source = open_source(source, options)
        self._fitter = Fitter(options)
        self._spool = Spool()
        self._rejects = tempfile.TemporaryFile(prefix="carto-load-")  # noqa: SIM115  # the end of the block closes it
        self._rejected = 0
        self._deadline = deadline

    def __enter__(self) -> Preparation:
        return self

    def __exit__(self, *_: object) -> None:
        self._rejects.close()
        self._spool.close()

    @property
    def found(self) -> Mapping[str, object]:
        """What was found out about the source."""
        return self._source.found

    def read(self) -> Iterator[tuple[int, int, int | None]]:
        """Read the source, and yield now and then the rows and bytes that have been read, and all bytes if known.

        Raises:
            ValueError: If the source cannot be loaded exactly; the message names file, row and column.
            TimeoutError: If the deadline passes.
        """
        told = 0.0
        for chunk in self._source.chunks:
            self._deadline.raise_if_over("The source was still being read; nothing was loaded.")
            batch, misfits = self._fitter.fit(chunk)
            if len(batch):
                self._spool.write(batch, chunk, [each.row_number - chunk.first_row for each in misfits])
            for each in misfits:
                self._rejects.write(_line(each))
            self._rejected += len(misfits)
            self.examples += misfits[: SHOWN - len(self.examples)]
            if len(self.first_rows) < EXAMPLES:
                self.first_rows += batch.slice(0, EXAMPLES - len(self.first_rows)).to_pylist()
            if time.monotonic() - told > PAUSE:
                yield self._spool.rows, self._source.position(), self._source.size
                told = time.monotonic()
        yield self._spool.rows, self._source.position(), self._source.size

    def finish(self) -> Prepared:
        """Return what has been read, with the types that all of it has.

        Raises:
            ValueError: If the source has no columns, or an option names one that it does not have.
        """
        schema = self._fitter.final_schema()
        fields = self._fitter.fields()
        file, kind = self._spool.finish(schema, fields)
        self._rejects.seek(0)
        return Prepared(file, kind, fields, self._spool.rows, self._rejected, self._rejects, self._fitter.geography)


def as_is(source: object, options: LoadOptions) -> tuple[Path, str, list[Field]] | None:
    """Return the path, format and columns of a file that BigQuery itself reads exactly; None for any other source.

    An Avro file has its columns itself.
    """
    found = files.as_is(source, options)
    if found is None:
        return None
    path, kind = found
    if kind == "AVRO":
        return path, kind, []
    schema = required("pyarrow.parquet").read_schema(path)
    names = valid_names(schema.names, options.column_names)
    return path, kind, [bigquery_field(name, each.type) for name, each in zip(names, schema, strict=True)]


def _line(rejected: Rejected) -> bytes:
    row = {**asdict(rejected), "row": json.loads(rejected.row)}
    told = {name: value for name, value in row.items() if value is not None}
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"
