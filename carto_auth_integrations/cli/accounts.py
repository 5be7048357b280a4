"""The account of a command: that of a credentials file, of the environment or of the stored login."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..account import CartoAccount
from ..account.fields import variable
from ..account.secret import Secret
from ..auth import CartoAuth
from ..errors import MissingField
from ..tokens.token import NO_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

NO_ACCOUNT = (
    "No CARTO account is set up here. Give a credentials file with --credentials FILE; or set CARTO_API_BASE_URL, "
    "CARTO_CLIENT_ID and CARTO_CLIENT_SECRET; or log in with `carto-auth login`."
)

_OPTIONS = (
    click.option("--credentials", metavar="FILE", help="Use the account of this CARTO credentials file."),
    click.option("--oauth", is_flag=True, help="Use the login that `carto-auth login` stored."),
    click.option("--org", metavar="ORG", help="Use the login with this single sign-on organization."),
    click.option("--api-base-url", metavar="URL", help="Use the login with this API base URL."),
    click.option(
        "--prompt-secret",
        is_flag=True,
        help="Use the account of the environment, and ask for its secret at a hidden prompt.",
    ),
)


@dataclass(frozen=True)
class AccountChoice:
    """The values of the options that choose the account.

    Attributes:
        credentials: Path of a credentials file.
        oauth: Whether to use the stored login.
        org: The organization of the login.
        api_base_url: The API base URL of the login.
        prompt_secret: Whether to ask for the secret of the environment's account.
    """

    credentials: str | None
    oauth: bool
    org: str | None
    api_base_url: str | None
    prompt_secret: bool

    @property
    def is_login(self) -> bool:
        """Whether one of the options for the stored login is given."""
        return bool(self.oauth or self.org or self.api_base_url)

    def auth(self) -> CartoAuth:
        """Return the account to use.

        Raises:
            MissingField: If there is none.
            click.UsageError: If the options name more than one.
        """
        accounts = self.available()
        if not accounts:
            raise MissingField(NO_ACCOUNT)
        return accounts[0]

    def available(self) -> list[CartoAuth]:
        """Return the account that the options name or, without such options, that of the environment and the login.

        Raises:
            click.UsageError: If the options name more than one.
        """
        if sum((self.credentials is not None, self.is_login, self.prompt_secret)) > 1:
            raise click.UsageError(
                "Choose one account: --credentials, --oauth (with --org, --api-base-url) or --prompt-secret."
            )
        if self.credentials is not None:
            return [CartoAuth.from_m2m(self.credentials)]
        if self.is_login:
            return [CartoAuth.from_oauth(org=self.org, api_base_url=self.api_base_url)]
        if self.prompt_secret:
            return [_with_prompted_secret()]
        login = _stored_login()
        if _any_in_environment("auth_mode", "client_secret", "access_token"):
            return [CartoAuth.from_env(), *login]
        if login or not _any_in_environment("client_id"):
            return login
        return [CartoAuth.from_env()]  # a client id without its secret: the error names the missing variable


def account_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose the account; the command receives them as an `AccountChoice`, its first argument."""

    @functools.wraps(command)
    def with_choice(
        *,
        credentials: str | None,
        oauth: bool,
        org: str | None,
        api_base_url: str | None,
        prompt_secret: bool,
        **others: object,
    ) -> None:
        command(AccountChoice(credentials, oauth, org, api_base_url, prompt_secret), **others)

    decorated: Callable[..., None] = with_choice
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _any_in_environment(*names: str) -> bool:
    return any(os.environ.get(variable(name)) for name in names)


def _stored_login() -> list[CartoAuth]:
    login = CartoAuth.from_oauth()
    return [] if login.access_tokens.source.peek() is NO_TOKEN else [login]


def _with_prompted_secret() -> CartoAuth:
    field, label = "client_secret", "Client secret"
    if os.environ.get(variable("auth_mode")) == "token":
        field, label = "access_token", "Access token"
    secret = Secret(click.prompt(label, hide_input=True, err=True))
    return CartoAuth.from_account(CartoAccount.from_env(**{field: secret}))
