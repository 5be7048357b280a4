"""Which account a command is about: a credentials file, the environment or the stored login."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..account.account import CartoAccount
from ..account.fields import variable
from ..account.secret import Secret
from ..auth import CartoAuth
from ..errors import MissingField
from ..tokens.token import NO_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

THREE_WAYS = (
    "No CARTO account is set up here. Give a credentials file with --credentials FILE; or set CARTO_API_BASE_URL, "
    "CARTO_CLIENT_ID and CARTO_CLIENT_SECRET; or log in with `carto-auth login`."
)

_OPTIONS = (
    click.option("--credentials", metavar="FILE", help="The account of this CARTO credentials file."),
    click.option("--oauth", is_flag=True, help="The login of `carto-auth login`."),
    click.option("--org", metavar="ORG", help="Single sign-on organization that the login was made with."),
    click.option("--api-base-url", metavar="URL", help="API base URL that the login was made with."),
    click.option(
        "--prompt-secret",
        is_flag=True,
        help="The account of the environment, its secret typed in at a hidden prompt.",
    ),
)


@dataclass(frozen=True)
class Choice:
    """What the options say about the account.

    Attributes:
        credentials: Path of a credentials file.
        oauth: Whether it is the stored login.
        org: The login's organization.
        api_base_url: The login's API base URL.
        prompt_secret: Whether the secret is asked for.
    """

    credentials: str | None
    oauth: bool
    org: str | None
    api_base_url: str | None
    prompt_secret: bool

    @property
    def is_login(self) -> bool:
        """Whether the stored login is meant; its organization and API say so too."""
        return bool(self.oauth or self.org or self.api_base_url)

    def auth(self) -> CartoAuth:
        """Give the one account that is meant.

        Raises:
            MissingField: If there is none.
            click.UsageError: If the options name more than one.
        """
        accounts = self.all()
        if not accounts:
            raise MissingField(THREE_WAYS)
        return accounts[0]

    def all(self) -> list[CartoAuth]:
        """Give the account that the options name; without one, what there is: the environment's, then the login."""
        if sum((self.credentials is not None, self.is_login, self.prompt_secret)) > 1:
            raise click.UsageError(
                "Choose one account: --credentials, --oauth (with --org, --api-base-url) or --prompt-secret."
            )
        if self.credentials is not None:
            return [CartoAuth.from_m2m(self.credentials)]
        if self.is_login:
            return [CartoAuth.from_oauth(org=self.org, api_base_url=self.api_base_url)]
        if self.prompt_secret:
            return [_with_typed_secret()]
        login = _stored_login()
        if _is_set("auth_mode", "client_secret", "access_token"):
            return [CartoAuth.from_env(), *login]
        if login or not _is_set("client_id"):
            return login
        return [CartoAuth.from_env()]  # a client id alone is half an account: the error names the other half


def account_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the account; the command gets them as a `Choice`."""

    @functools.wraps(command)
    def with_choice(
        *,
        credentials: str | None,
        oauth: bool,
        org: str | None,
        api_base_url: str | None,
        prompt_secret: bool,
        **rest: Any,
    ) -> Any:
        return command(Choice(credentials, oauth, org, api_base_url, prompt_secret), **rest)

    decorated: Callable[..., Any] = with_choice
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _is_set(*names: str) -> bool:
    return any(os.environ.get(variable(name)) for name in names)


def _stored_login() -> list[CartoAuth]:
    login = CartoAuth.from_oauth()
    return [] if login._source.peek() is NO_TOKEN else [login]


def _with_typed_secret() -> CartoAuth:
    field, label = "client_secret", "Client secret"
    if os.environ.get(variable("auth_mode")) == "token":
        field, label = "access_token", "Access token"
    secret = Secret(click.prompt(label, hide_input=True, err=True))
    return CartoAuth.from_account(CartoAccount.from_env(**{field: secret}))
