"""How `carto-auth` speaks: plain where it is piped, one red line for an error, logs on standard error."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from ..errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


LOGGER = "carto_auth_integrations"


class Failure(click.ClickException):
    """What ends a command: one red line on standard error, exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        console(stderr=True, file=file).print(Text(f"Error: {' '.join(self.message.split())}", "red"))


class Commands(click.Group):
    """A group whose commands may raise a `CredentialsError`: it is shown as a line, without its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CredentialsError as error:
            failure = Failure(str(error))
        raise failure  # outside the handler: nothing of the request hangs on it


def console(*, stderr: bool = False, file: IO[Any] | None = None, width: int | None = None) -> Console:
    """Give a console that takes text as it is: no wrapping, no markup, no colour where nobody sees it."""
    return Console(file=file, stderr=stderr, width=width, soft_wrap=True, markup=False, highlight=False, emoji=False)


def say(text: str, *, style: str = "") -> None:
    """Print a line for the person, beside the output: on standard error."""
    console(stderr=True).print(Text(text, style))


def mark(ok: bool) -> Text:
    """Give ✓ or ✗, in words where standard output cannot show them."""
    text = "✓" if ok else "✗"
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = "ok    " if ok else "failed"
    return Text(text, "green" if ok else "red")


def example(command: str) -> str:
    """Give the closing lines of a command's help."""
    return f"\b\nExample:\n  {command}"


@contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Show the package's warnings while a command runs; with `--verbose` what it does, retries too."""
    logger, handler = logging.getLogger(LOGGER), _Lines()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    before = logger.level
    if before == logging.NOTSET:
        logger.setLevel(logging.WARNING)  # whatever level the root logger has been given
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def verbose_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--verbose`: it may stand before the command's name and after it."""

    def switch(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if not value:
            return
        logger = logging.getLogger(LOGGER)
        ctx.find_root().call_on_close(partial(logger.setLevel, logger.level))
        logger.setLevel(logging.INFO)

    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=switch,
        help="Show what is done, on standard error.",
    )(command)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)
