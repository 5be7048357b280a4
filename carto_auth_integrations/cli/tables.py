"""Rows of a query as a table in a terminal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .output import console, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PIPE_WIDTH = 1_000_000
"""Width of the table, in characters, if standard output is not a terminal: no value is cut."""


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows, at least one, as a table with a header."""
    output = console() if sys.stdout.isatty() else console(width=PIPE_WIDTH)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="" if output.no_color else "bold")
    for name in rows[0]:
        is_number = all(isinstance(row[name], (int, float, type(None))) for row in rows)
        table.add_column(Text(printable(name)), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    output.print(table, soft_wrap=False)


def _cell(value: object) -> Text:
    if value is None:
        return Text("NULL")
    return Text(printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
