"""Sources of rows: files, frames, Arrow and dicts become typed batches in which no value has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rows import open_rows

if TYPE_CHECKING:
    from ..options import LoadOptions
    from .base import Source


def open_source(source: object, options: LoadOptions) -> Source:
    """Open whatever can be loaded.

    Args:
        source: A file, URL, directory or glob, or a list of them; or rows, as `rows.open_rows` takes them.
        options: How it is loaded.

    Raises:
        TypeError: If it is of another type.
        FileNotFoundError: If there is no such file.
        ValueError: If its content or an option is invalid.
    """
    from .files import is_files, open_files

    if is_files(source):
        return open_files(source, options)
    opened = open_rows(source, options)
    if opened is None:
        advice = " Call collect() first." if type(source).__name__ == "LazyFrame" else ""
        raise TypeError(
            f"A {type(source).__name__} cannot be loaded: pass a file, a URI, a frame, an Arrow table or rows.{advice}"
        )
    return opened
