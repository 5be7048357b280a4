"""The files of a load job after they were read: Parquet files, with the columns that they are to become."""

# ruff: noqa: S608 - the SQL is DuckDB's, and quotes whatever comes from a request

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .schema import Field
from .values import literal

# More rows than a file has, to number those of several files.
ROWS_OF_FILE = 10**12

Kind = Literal["CSV", "JSON", "PARQUET", "AVRO"]


@dataclass(frozen=True)
class Source:
    """What a load job reads.

    Attributes:
        kind: The format of its files.
        files: The Parquet files to load: those of the job, or those that its files were turned into.
        columns: The Arrow type of each column.
        fields: The columns of the table.
        rejected: Rows that are not in `files`, as they could not be read.
        problem: What was wrong with the first of them.
        planar: Columns whose geographies have planar edges, so that the winding of their rings does not matter.
    """

    kind: Kind
    files: Sequence[Path]
    columns: Mapping[str, Any]
    fields: tuple[Field, ...]
    rejected: int = 0
    problem: str = ""
    planar: frozenset[str] = frozenset()

    @property
    def relation(self) -> str:
        """The rows, in SQL, with the column `file_row_number`."""
        files = ", ".join(literal(str(file)) for file in self.files)
        read = f"read_parquet([{files}], union_by_name = true, file_row_number = true)"
        if len(self.files) == 1:
            return read
        return f"(SELECT * REPLACE (file_index * {ROWS_OF_FILE} + file_row_number AS file_row_number) FROM {read})"
