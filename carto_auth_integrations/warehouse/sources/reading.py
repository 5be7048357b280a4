"""What the readers of files share: errors that name the file, the size of chunks, and how geometry is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast, get_args

from ..options import Edges
from ..packages import required
from .base import Geometry
from .crs import metadata_crs, name, same, system

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow

    from ..options import LoadOptions

    Item = TypeVar("Item")

CHUNK_BYTES = 8 * 1024 * 1024
"""Bytes of a chunk: enough for Arrow to be fast, and a small part of the memory that a load may take."""
CHUNK_ROWS = 10_000


def rows_per_chunk(size: int, rows: int) -> int:
    """Return how many rows make a chunk, for a file of so many bytes and rows."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES * rows // max(size, 1)))


def unreadable(place: str, kind: str, error: BaseException) -> ValueError:
    """Return the error for a file that a library cannot read."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return ValueError(f"{place} cannot be read as {kind}: {reason}.")


def guarded(items: Iterable[Item], place: str, kind: str, errors: tuple[type[BaseException], ...]) -> Iterator[Item]:
    """Yield the items of a library's reader; its errors become a `ValueError` that names the file."""
    try:
        yield from items
    except errors as error:
        raise unreadable(place, kind, error) from None


def check_text(batch: pyarrow.RecordBatch, where: str, advice: str) -> None:
    """Raise if a batch holds text that is not UTF-8, which Arrow's readers do not look at.

    Args:
        batch: Some rows.
        where: What messages call them.
        advice: The next step.
    """
    arrow = required("pyarrow")
    for column, array in zip(batch.schema.names, batch.columns, strict=True):
        try:
            array.validate(full=True)
        except arrow.ArrowInvalid as error:
            raise ValueError(f"{where}: column {column} holds text that is not UTF-8 ({error}): {advice}.") from None


def geometry_of(declared: object, edges: object, options: LoadOptions, where: str) -> Geometry:
    """Return how a geometry column of a file is meant.

    Args:
        declared: The reference system that the file names, as for `metadata_crs`; None if it names none.
        edges: What the file calls the edges; None for planar ones.
        options: `crs` stands for a reference system that the file does not name, `edges` for what it says of edges.
        where: What messages call the column.

    Raises:
        ValueError: If the reference system is unknown, or is another one than `crs=`.
    """
    if declared is None and options.crs is None:
        raise ValueError(f'{where} has no known reference system: pass crs=, for example crs="EPSG:4326".')
    try:
        crs = metadata_crs(options.crs if declared is None else declared)
        if options.crs is not None and not same(system(crs), system(options.crs)):
            raise ValueError(
                f"its reference system is {name(system(crs))}, and not crs={name(system(options.crs))}: leave crs= out."
            )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    meant = options.edges or edges or "planar"
    if meant not in get_args(Edges):
        raise ValueError(
            f'{where} has {meant} edges, which BigQuery does not have: pass edges="spherical" or "planar".'
        )
    return Geometry(crs, cast("Edges", meant))
