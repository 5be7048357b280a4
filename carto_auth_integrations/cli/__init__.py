"""`carto-auth`: log in, look at tokens, check an account, query, load and run a local CARTO from a terminal."""

from __future__ import annotations

import sys

EXTRA_PACKAGES = ("click", "humanize", "rich")
"""What the extra `cli` installs for these modules."""


def main() -> None:
    """Run `carto-auth`, or exit with a line that says what to install if the extra `cli` is missing."""
    try:
        from .commands import carto_auth
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA_PACKAGES:
            raise
    else:
        carto_auth(prog_name="carto-auth")
    sys.exit(f'Error: carto-auth needs {missing}, which is not installed: pip install "carto-auth-integrations[cli]"')
