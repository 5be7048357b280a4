"""Output of `carto-auth`: no colours in a pipe, errors as one red line, logs on standard error."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, TypeVar

import click
from humanize import precisedelta
from rich.console import Console
from rich.text import Text

from ..errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Command = TypeVar("Command", bound="Callable[..., None]")

LOGGER = "carto_auth_integrations"
HOUR = 3600


class Failure(click.ClickException):
    """An error that ends a command with one red line on standard error and exit code 1."""

    def show(self, file: IO[str] | None = None) -> None:
        """Print the line."""
        console(stderr=True, file=file).print(Text(f"Error: {' '.join(self.message.split())}", "red"))


class CommandGroup(click.Group):
    """A group whose commands may raise a `CredentialsError`: it is printed as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CredentialsError as error:
            failure = Failure(str(error))
        raise failure  # outside the handler, so that it does not hold the error's frames, which may hold a token


def console(*, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> Console:
    """Return a console that prints text unchanged: no wrapping, no markup, and no colour unless it is a terminal."""
    return Console(file=file, stderr=stderr, width=width, soft_wrap=True, markup=False, highlight=False, emoji=False)


def print_note(text: str, *, style: str = "") -> None:
    """Print a line for the user on standard error, so that standard output holds the command's result alone."""
    console(stderr=True).print(Text(text, style))


def check_mark(passed: bool) -> Text:
    """Return ✓ or ✗, or a word if the encoding of standard output has neither."""
    text = "✓" if passed else "✗"
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = "ok    " if passed else "failed"
    return Text(text, "green" if passed else "red")


def duration(seconds: float) -> str:
    """Return a duration in words, rounded down to minutes or, below an hour, to seconds."""
    return precisedelta(int(seconds), minimum_unit="minutes" if seconds >= HOUR else "seconds", format="%d")


def printable(text: str) -> str:
    """Return text with control characters escaped: they could move the terminal's cursor or change its colours."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def example(command: str) -> str:
    """Return the end of a command's help: an example."""
    return f"\b\nExample:\n  {command}"


@contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Print the package's warnings, among them each retry, on standard error; with `--verbose` its requests as well."""
    logger, handler = logging.getLogger(LOGGER), _StderrHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    level = logger.level
    if level == logging.NOTSET:
        logger.setLevel(logging.WARNING)  # otherwise the root logger's level would decide
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def verbose_option(command: Command) -> Command:
    """Add `--verbose`, which is accepted before and after the command's name."""

    def set_level(ctx: click.Context, _parameter: click.Parameter, verbose: bool) -> None:
        if not verbose:
            return
        logger = logging.getLogger(LOGGER)
        ctx.find_root().call_on_close(partial(logger.setLevel, logger.level))
        logger.setLevel(logging.INFO)

    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=set_level,
        help="Log token requests on standard error, not only warnings.",
    )(command)


class _StderrHandler(logging.Handler):
    """Writes to the standard error of the moment: tests replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)
