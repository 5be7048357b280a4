"""The commands of `carto-auth`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.text import Text

from .. import __version__
from ..auth import CartoAuth
from ..checks import CHECK_TIMEOUT, CheckResult, in_words, run_checks
from ..errors import CredentialsError
from .accounts import THREE_WAYS, Choice, account_options
from .local import sandbox
from .output import Commands, Failure, console, example, logs_on_stderr, mark, say, verbose_option
from .status import lines_of, status_of
from .warehouse import load, query


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=example("carto-auth check"))
@click.version_option(__version__)
@verbose_option
@click.pass_context
def carto_auth(ctx: click.Context) -> None:
    """CARTO tokens and the CARTO Data Warehouse, from a terminal.

    The account is that of --credentials FILE, of the login with --oauth, or else of the environment
    (CARTO_API_BASE_URL, CARTO_CLIENT_ID, CARTO_CLIENT_SECRET …); where that has none, of the stored login.
    """
    ctx.with_resource(logs_on_stderr())


@carto_auth.command(epilog=example("carto-auth login --org org_abc"))
@click.option("--no-browser", is_flag=True, help="Open no browser; a page shows a code to paste here.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Loopback port the browser comes back to; 0 for a free one."
)
@click.option("--org", metavar="ORG", help="Single sign-on organization.")
@click.option("--api-base-url", metavar="URL", help="API base URL of the account; left out, it is looked up.")
@verbose_option
def login(no_browser: bool, port: int | None, org: str | None, api_base_url: str | None) -> None:
    """Log in to CARTO in the browser and store the tokens."""
    auth = CartoAuth.from_oauth(open_browser=not no_browser, org=org, api_base_url=api_base_url)
    auth.login(port=port)
    click.echo(f"Logged in at {auth.account.auth_url}.")
    _tell_api(auth)
    token = auth._source.token
    lives = in_words(token.expires_at - token.obtained_at)
    renewal = "and is renewed without a new login" if token.refresh_token else "and then asks for a new login"
    click.echo(f"The token lives for {lives} {renewal}.")
    if auth._store.read(auth._source.key).token and auth._store.describe() != "memory":
        click.echo(f"Stored in {auth._store.describe()}.")
    else:
        say("Warning: the token is stored nowhere and gone when this command ends. Check token_store.", style="yellow")
    given = ", ".join(f"{name}={value!r}" for name, value in (("org", org), ("api_base_url", api_base_url)) if value)
    if given:
        click.echo(f"Programs find this login with CartoAuth.from_oauth({given}).")


def _tell_api(auth: CartoAuth) -> None:
    try:
        click.echo(f"The API is {auth.get_api_base_url()}.")
    except CredentialsError as error:  # the login stands all the same
        say(f"Warning: {error}", style="yellow")


@carto_auth.command(epilog=example("carto-auth logout --oauth"))
@account_options
@verbose_option
def logout(choice: Choice) -> None:
    """Forget an account's tokens, here and in its token store.

    CARTO is not told: a token that somebody has copied serves until it runs out.
    """
    auth = choice.auth()
    auth.logout()
    click.echo(f"Forgot the tokens of {auth.account.client_id or 'the API user'} in {auth._store.describe()}.")


@carto_auth.command(epilog=example("carto-auth status --json"))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@account_options
@verbose_option
def status(choice: Choice, as_json: bool) -> None:
    """Show accounts and the state of their tokens, without a request.

    A FRESH token serves. A STALE one serves, and is renewed with the next call. An EXPIRED one is replaced then.
    """
    reports = [status_of(auth) for auth in choice.all()]
    if as_json:
        click.echo(json.dumps(reports, indent=2))
        return
    if not reports:
        raise Failure(THREE_WAYS)
    for number, report in enumerate(reports):
        if number:
            click.echo()
        for label, value in lines_of(report):
            click.echo(f"{label + ':':<14} {value}")


@carto_auth.command(epilog=example('curl -H "Authorization: Bearer $(carto-auth token)" https://…'))
@click.option("--dw", is_flag=True, help="The token of the CARTO Data Warehouse instead, for BigQuery.")
@account_options
@verbose_option
def token(choice: Choice, dw: bool) -> None:
    """Print a valid access token, and nothing else. Nobody is asked to log in."""
    auth = choice.auth()
    source = auth._warehouse_source() if dw else auth._source
    value = source.get(interactive=False)
    if sys.stdout.isatty():
        say("Warning: the token stands on this screen now; whoever copies it is you until it ends.", style="yellow")
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
def check(choice: Choice, timeout: float, as_json: bool) -> None:
    """Check an account from its first token to a query, and name what fails.

    The stages: credentials, CARTO API, DW token, SELECT 1. The exit code is 1 if one of them fails.
    """
    results = []
    for result in run_checks(choice.auth(), timeout=timeout):
        results.append(result)
        if not as_json:
            _show(result)
    failed = not results[-1].ok
    if as_json:
        click.echo(json.dumps({"ok": not failed, "stages": [_as_json(result) for result in results]}, indent=2))
    if failed:
        raise Failure(f"The check stopped at {results[-1].name}.")


def _show(result: CheckResult) -> None:
    line = Text.assemble(mark(result.ok), f" {result.name:<11} {result.seconds:6.2f} s  {result.detail}")
    console().print(line)


def _as_json(result: CheckResult) -> dict[str, Any]:
    stage = {"name": result.name, "ok": result.ok, "seconds": round(result.seconds, 3), "detail": result.detail}
    return stage if result.error is None else {**stage, "error": type(result.error).__name__}


for _command in (query, load, sandbox):
    carto_auth.add_command(_command)
