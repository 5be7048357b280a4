"""`carto-auth`: log in, look at tokens, check an account and run a local CARTO from a terminal."""

from __future__ import annotations

import sys

EXTRA = ("click", "rich")


def main() -> None:
    """Run `carto-auth`; says what to install where the extra `cli` is missing."""
    try:
        from .commands import carto_auth
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
    else:
        carto_auth(prog_name="carto-auth")
    sys.exit(f'Error: carto-auth needs {missing}, which is not installed: pip install "carto-auth-integrations[cli]"')
