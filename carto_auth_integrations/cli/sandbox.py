"""`carto-auth sandbox`: run a local CARTO in the foreground."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..sandbox import SandboxError, SandboxOptions, serve
from .output import Failure, example, verbose_option

if TYPE_CHECKING:
    from ..sandbox import Sandbox

_DEFAULTS = SandboxOptions()


@click.command(epilog=example("carto-auth sandbox --port 8080 --credentials-file sandbox.json"))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 for a free one.")
@click.option(
    "--carto-lifetime",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.carto_token_lifetime,
    show_default=True,
    metavar="SECONDS",
    help="How long CARTO access tokens live.",
)
@click.option(
    "--dw-lifetime",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.dw_token_lifetime,
    show_default=True,
    metavar="SECONDS",
    help="How long DW tokens live.",
)
@click.option("--emulator-url", metavar="URL", help="Use the BigQuery emulator that runs there, and start none.")
@click.option("--eager", is_flag=True, help="Start the BigQuery emulator at once instead of with the first query.")
@click.option("--lenient", is_flag=True, help="Accept also what BigQuery refuses, such as polygons inside out.")
@click.option(
    "--credentials-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the credentials file, which is removed at the end; left out, a temporary folder.",
)
@verbose_option
def sandbox(
    port: int,
    carto_lifetime: float,
    dw_lifetime: float,
    emulator_url: str | None,
    eager: bool,
    lenient: bool,
    credentials_file: Path | None,
) -> None:
    """Run a local CARTO until Ctrl-C: login, API and BigQuery on one port.

    It prints the variables that a shell needs to use it. Ctrl-C and SIGTERM end it with exit code 0. The BigQuery
    emulator is downloaded and started with the first query.
    """
    options = SandboxOptions(
        port=port,
        carto_token_lifetime=carto_lifetime,
        dw_token_lifetime=dw_lifetime,
        emulator_url=emulator_url,
        eager_emulator=eager,
        strict=not lenient,
    )
    try:
        serve(options, credentials_file=credentials_file, on_ready=_print_variables)
    except FileExistsError:
        raise Failure(f"The file {credentials_file} already exists: remove it, or name another.") from None
    except (SandboxError, OSError) as error:
        raise Failure(f"The sandbox cannot run: {error}") from None


def _print_variables(sandbox: Sandbox, credentials_file: Path) -> None:
    click.echo(f"# A local CARTO runs at {sandbox.url}; Ctrl-C stops it.")
    click.echo(f"# Credentials file, for --credentials and CartoAuth.from_m2m(): {credentials_file}")
    for name, value in sandbox.environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")
