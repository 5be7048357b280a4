"""The commands of `carto-auth`."""

from __future__ import annotations

import json
import sys

import click
from rich.text import Text

from .. import __version__
from ..auth import CartoAuth
from ..checks import CHECK_TIMEOUT, CheckResult
from ..errors import CredentialsError
from .accounts import NO_ACCOUNT, AccountChoice, account_options
from .output import (
    CommandGroup,
    Failure,
    check_mark,
    console,
    duration,
    example,
    logs_on_stderr,
    print_note,
    verbose_option,
)
from .sandbox import sandbox
from .status import account_status, status_lines
from .warehouse import load, query


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example("carto-auth check"),
)
@click.version_option(__version__)
@verbose_option
@click.pass_context
def carto_auth(ctx: click.Context) -> None:
    """CARTO tokens and the CARTO Data Warehouse, from a terminal.

    The account is that of --credentials FILE or, with --oauth, the stored login. Without these options it is the
    account of the environment (CARTO_API_BASE_URL, CARTO_CLIENT_ID, CARTO_CLIENT_SECRET …) or, if that has none, the
    stored login.
    """
    ctx.with_resource(logs_on_stderr())


@carto_auth.command(epilog=example("carto-auth login --org org_abc"))
@click.option("--no-browser", is_flag=True, help="Open no browser; a page shows a code to paste here.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Loopback port that the browser is redirected to; 0 for a free one."
)
@click.option("--org", metavar="ORG", help="Single sign-on organization.")
@click.option("--api-base-url", metavar="URL", help="API base URL of the account; left out, it is looked up.")
@verbose_option
def login(no_browser: bool, port: int | None, org: str | None, api_base_url: str | None) -> None:
    """Log in to CARTO in the browser and store the tokens."""
    auth = CartoAuth.from_oauth(open_browser=not no_browser, org=org, api_base_url=api_base_url)
    auth.login(port=port)
    click.echo(f"Logged in at {auth.account.auth_url}.")
    _print_api_base_url(auth)
    source = auth.access_tokens.source
    lifetime = duration(source.token.expires_at - source.token.obtained_at)
    renewal = "is renewed without a new login" if source.token.refresh_token else "then a new login is needed"
    click.echo(f"The token lives for {lifetime} and {renewal}.")
    if source.store.read(source.key).token and source.store.describe() != "memory":
        click.echo(f"Stored in {source.store.describe()}.")
    else:
        print_note(
            "Warning: the token is not stored, and is lost when this command ends. Check token_store.", style="yellow"
        )
    given = ", ".join(f"{name}={value!r}" for name, value in (("org", org), ("api_base_url", api_base_url)) if value)
    if given:
        click.echo(f"Programs find this login with CartoAuth.from_oauth({given}).")


def _print_api_base_url(auth: CartoAuth) -> None:
    try:
        click.echo(f"The API is {auth.get_api_base_url()}.")
    except CredentialsError as error:  # the login has succeeded nevertheless
        print_note(f"Warning: {error}", style="yellow")


@carto_auth.command(epilog=example("carto-auth logout --oauth"))
@account_options
@verbose_option
def logout(choice: AccountChoice) -> None:
    """Delete an account's tokens here and in its token store.

    They are not revoked: a copy of a token works until it expires.
    """
    auth = choice.auth()
    auth.logout()
    click.echo(f"Deleted the tokens of {auth.account.owner} in {auth.access_tokens.source.store.describe()}.")


@carto_auth.command(epilog=example("carto-auth status --json"))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@account_options
@verbose_option
def status(choice: AccountChoice, as_json: bool) -> None:
    """Show accounts and the state of their tokens, without a request.

    A FRESH token is used. A STALE one is still valid, and is renewed by the next call. An EXPIRED one is replaced by
    the next call.
    """
    reports = [account_status(auth) for auth in choice.available()]
    if as_json:
        click.echo(json.dumps(reports, indent=2))
        return
    if not reports:
        raise Failure(NO_ACCOUNT)
    for number, report in enumerate(reports):
        if number:
            click.echo()
        for label, value in status_lines(report):
            click.echo(f"{label + ':':<14} {value}")


@carto_auth.command(epilog=example('curl -H "Authorization: Bearer $(carto-auth token)" https://…'))
@click.option("--dw", is_flag=True, help="Print the token of the CARTO Data Warehouse, for BigQuery, instead.")
@account_options
@verbose_option
def token(choice: AccountChoice, dw: bool) -> None:
    """Print a valid access token and nothing else. It never starts a login."""
    auth = choice.auth()
    value = auth.dw_tokens.get() if dw else auth.access_tokens.get()
    if sys.stdout.isatty():
        print_note(
            "Warning: the token is visible on this screen. Whoever copies it can use the account until it expires.",
            style="yellow",
        )
    click.echo(value.reveal())


@carto_auth.command(epilog=example("carto-auth check --credentials carto.json"))
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=CHECK_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="For all stages together.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@account_options
@verbose_option
def check(choice: AccountChoice, timeout: float, as_json: bool) -> None:
    """Check an account from its first token to a query, and name the stage that fails.

    The stages are credentials, CARTO API, DW token and SELECT 1. The exit code is 1 if one of them fails.
    """
    results = []
    for result in choice.auth().check(timeout=timeout):
        results.append(result)
        if not as_json:
            line = f" {result.name:<11} {result.seconds:6.2f} s  {result.detail}"
            console().print(Text.assemble(check_mark(result.ok), line))
    passed = results[-1].ok
    if as_json:
        click.echo(json.dumps({"ok": passed, "stages": [_as_json(result) for result in results]}, indent=2))
    if not passed:
        raise Failure(f"The check stopped at {results[-1].name}.")


def _as_json(result: CheckResult) -> dict[str, object]:
    stage = {"name": result.name, "ok": result.ok, "seconds": round(result.seconds, 3), "detail": result.detail}
    return stage if result.error is None else {**stage, "error": type(result.error).__name__}


for _command in (query, load, sandbox):
    carto_auth.add_command(_command)
