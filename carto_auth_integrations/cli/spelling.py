"""Messages that name keywords of Python, in the spelling of the command line."""

from __future__ import annotations

import re

SPECIAL = {
    "header=False": "--no-header",
    'invalid_geometry="repair"': "--repair",
    "make_valid=True": "--repair",
    "column_types=": "--column-type",
    " or schema=": "",
}
"""Options whose name or values differ from their keyword's."""
ALIKE = "format|layer|geometry|lon|lat|crs|edges|bad_rows|column_names|delimiter|encoding|quote|null_marker|skip_rows"
"""Keywords whose option has the same name."""
KEYWORD = re.compile(rf"""(?<![\w&?./=-])(?P<name>{ALIKE})=(?:(?P<mark>["'])(?P<value>.*?)(?P=mark))?""")
COLUMN_TYPE = re.compile(r"""column_types=\{"(?P<name>[^"]*)": "(?P<type>[^"]*)"\}""")


def as_options(text: str) -> str:
    """Return a message of the warehouse for a user of the command line: `pass --layer shops`, not `layer="shops"`."""
    text = COLUMN_TYPE.sub(r"--column-type \g<name>=\g<type>", text)
    for keyword, option in SPECIAL.items():
        text = text.replace(keyword, option)
    return KEYWORD.sub(_option, text)


def _option(match: re.Match[str]) -> str:
    name = f"--{match['name'].replace('_', '-')}"
    return f"{name} {match['value']}" if match["mark"] else name
