"""What a load would do, in a terminal and as JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ..warehouse.results import counted, plain_json
from ..warehouse.tables import rejected_table
from .output import console, printable
from .spelling import as_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..warehouse.results import LoadPlan

PIPE_WIDTH = 80
"""Characters of a line if standard output is not a terminal."""
SHOWN_ROWS = 3
"""First rows that are shown beside the columns: so many fit into a line."""
NAME_WIDTH, TYPE_WIDTH = 28, 24
"""Most characters of a column's name and type in a line; the rest goes into the next line."""
LABEL_WIDTH = 14
GAP = 2


def plain_plan(plan: LoadPlan) -> dict[str, object]:
    """Return a plan as plain JSON types: dates in ISO 8601, decimals in digits, bytes in Base64."""
    return {name: plain_json(value) for name, value in asdict(plan).items()}


def print_plan(plan: LoadPlan, destination: str) -> None:
    """Print the columns with the first rows, what was found out about the source, and what does not fit.

    Args:
        plan: What the load would do.
        destination: The table, as the user named it.
    """
    output = console()
    width = output.width if sys.stdout.isatty() else PIPE_WIDTH
    output.print(_columns(plan, width, header_style="" if output.no_color else "bold"), soft_wrap=False)
    click.echo()
    for label, value in _facts(plan, destination):
        line = f"{label + ':':<{LABEL_WIDTH}} {printable(value)}"
        click.echo(_wrapped(line, width, indent=LABEL_WIDTH + 1))
    for reason in plan.reasons:
        click.echo(_wrapped(f"  {printable(as_options(reason))}", width, indent=4))
    click.echo("Nothing was loaded.")


def _columns(plan: LoadPlan, width: int, *, header_style: str) -> Table:
    """Return a table of the columns, their types and their first values, each row of the source in a column."""
    rows = [{name: _shown(value) for name, value in row.items()} for row in plan.first_rows[:SHOWN_ROWS]]
    names = _widest(("column", *plan.columns), NAME_WIDTH)
    types = _widest(("type", *plan.columns.values()), TYPE_WIDTH)
    left = (width - names - types - GAP) // max(len(rows), 1) - GAP
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style=header_style)
    table.add_column("column", width=names, overflow="fold")
    table.add_column("type", width=types, overflow="fold")
    for number, row in enumerate(rows, 1):
        head = f"row {number}"
        table.add_column(head, width=_widest((head, *row.values()), left), no_wrap=True, overflow="ellipsis")
    for name, kind in plan.columns.items():
        table.add_row(*(Text(printable(text)) for text in (name, kind, *(row.get(name, "NULL") for row in rows))))
    return table


def _facts(plan: LoadPlan, destination: str) -> Iterator[tuple[str, str]]:
    for name, value in plan.found.items():
        if value is not None:
            yield name.replace("_", " "), json.dumps(value) if name == "delimiter" else _fact(value)
    yield "rows", f"{plan.rows:,}"
    for name, meant in plan.geometry.items():
        yield "geometry", f"{name}: {meant}"
    if plan.bounds:
        sides = zip(("west", "south", "east", "north"), plan.bounds, strict=True)
        yield "bounds", ", ".join(f"{side} {degrees:.6g}" for side, degrees in sides)
    if plan.repaired:
        repaired = counted(plan.repaired, "geometry", "geometries")
        yield "repaired", f"{repaired}; areas would change by {plan.area_change:,} m²"
    if plan.rejected:
        yield "rejected", f"{counted(plan.rejected, 'row')} would go to {rejected_table(destination)}"


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_fact, value))
    return str(value)


def _shown(value: object) -> str:
    if value is None:
        return "NULL"
    plain = plain_json(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _widest(texts: Iterable[str], most: int) -> int:
    return max(min(max(cell_len(printable(text)) for text in texts), most), 1)


def _wrapped(text: str, width: int, *, indent: int) -> str:
    """Break a line between words; a path that is longer than a line stays whole, so that it can be copied."""
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
