"""The fields of an account: one table for the core, the connectors' forms and the docs, and their checks."""

from __future__ import annotations

import os
import re

from ..errors import InvalidField
from .secret import Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PUBLIC_CLIENT_ID = "0dxb8HR3ATXCxJiPOJVHsLoHoAtbRX6u"
"""The public OAuth client of CARTO's own Python library: it may log in users, and has no secret."""

LAST_PORT = 65535
MODES = ("m2m", "oauth", "token")


class Field:
    """One field of an account, described once for the core, the connectors' forms and the docs.

    Args:
        kind: `text`, `url`, `secret`, `mode` or `store`; decides how a value is checked.
        description: One sentence for forms and documentation.
        default: The value where nothing else gives one.
    """

    __slots__ = ("default", "description", "kind")

    def __init__(self, kind: str, description: str, default: str | None = None) -> None:
        self.kind = kind
        self.description = description
        self.default = default


FIELDS: dict[str, Field] = {
    "auth_mode": Field(
        "mode", "How tokens are obtained: m2m (client credentials), oauth (browser login) or token (API access token)."
    ),
    "api_base_url": Field("url", "API base URL of the account, such as https://gcp-us-east1.api.carto.com."),
    "client_id": Field("text", "Client ID of the machine-to-machine application in CARTO."),
    "client_secret": Field("secret", "Client secret of the machine-to-machine application in CARTO."),
    "access_token": Field("secret", "A token that exists already, such as an API access token."),
    "auth_url": Field("url", "The login domain that issues tokens.", "https://auth.carto.com"),
    "accounts_url": Field("url", "Where the API base URL of a user is looked up.", "https://accounts.app.carto.com"),
    "audience": Field("text", "The audience that tokens are asked for.", "carto-cloud-native-api"),
    "organization": Field("text", "Single sign-on organization of the login, such as org_abc."),
    "token_store": Field("store", "Where tokens rest between processes: a file's path, memory: or redis://host/0."),
    "location": Field("text", "BigQuery location of the jobs, such as US; left out, BigQuery finds it."),
    "default_dataset": Field("text", "Dataset for table names without one: dataset or project.dataset."),
    "bigquery_endpoint": Field("url", "BigQuery endpoint, for a proxy or an emulator."),
}

ALIASES = {"mode": "auth_mode", "org": "organization", "cache_filepath": "token_store"}
"""The seed's names for three of the fields."""

_NO_MAPPING = "not a mapping"
_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[^/?#@\s:\[\]]+)(:\d{1,5})?(/[^?#\s]*)?", re.ASCII)
_STORE_SCHEMES = ("memory", "redis", "rediss", "file")


def variable(name: str) -> str:
    """Name the environment variable of a field."""
    return f"CARTO_{name.upper()}"


class Fields(dict):  # type: ignore[type-arg]  # dict[str, Any] would need typing at run time
    """Fields by name, whose `repr` shows the names alone: what a caller mistook for a client id may be the secret."""

    def __repr__(self) -> str:
        return f"Fields({', '.join(self)})"


def hidden(given: Mapping[str, Any]) -> Fields:
    """Copy a mapping so that an error's locals show none of it: whoever takes fields in does this first of all."""
    if not hasattr(given, "items"):
        return Fields({_NO_MAPPING: type(given).__name__})
    return Fields(
        (name, Secret(value) if _is_confidential(name) and value and not isinstance(value, Secret) else value)
        for name, value in given.items()
    )


def from_environment(name: str) -> str | Secret | None:
    """Read a field's variable; an empty one counts as not set."""
    if _is_confidential(name):
        return Secret(os.environ[variable(name)]) if os.environ.get(variable(name)) else None
    return os.environ.get(variable(name)) or None


def canonical(given: Mapping[str, Any], origin: str) -> Fields:
    """Give the fields under their own names, without those left out (None, "").

    Raises:
        InvalidField: If a name is unknown, or a field is given under two names.
    """
    given = hidden(given)
    if _NO_MAPPING in given:
        raise InvalidField(f"The account in {origin} must be fields by name, not a {given[_NO_MAPPING]}.")
    fields = Fields()
    for name in given:
        field = ALIASES.get(name, name)
        if field not in FIELDS:
            raise InvalidField(f"Unknown field {name!r} in {origin}{suggestion(name)}.")
        if given[name] is None or given[name] == "":
            continue
        if field in fields:
            raise InvalidField(f"{name} and another name of {field} are both given in {origin}: keep one.")
        fields[field] = given[name]
    return fields


def checked(name: str, given: Mapping[str, Any], source: str) -> Any:
    """Check one field and give it in its final form: text stripped, a URL without trailing slash, a secret wrapped.

    Args:
        name: The field.
        given: Where its value is.
        source: What to call that in a message.

    Raises:
        InvalidField: If the value is not what the field takes; the message names field and source, not the value.
    """
    problem = _problem_of(given[name])
    if problem:
        raise InvalidField(f"{name} in {source} {problem}.")
    if FIELDS[name].kind == "secret":
        return Secret(_text(given[name]))
    if FIELDS[name].kind == "url":
        return check_url(name, _text(given[name]), source)
    if FIELDS[name].kind == "store":
        _check_scheme(name, _scheme(_text(given[name])), source)
    return _text(given[name])


def check_url(name: str, value: str, source: str) -> str:
    """Check a URL and take its trailing slash off: https, or http on loopback; no user, no query.

    Raises:
        InvalidField: If it is anything else; the message never shows a URL that could hold a password.
    """
    problem, url = _problem_of_url(value), Secret(value.rstrip("/"))
    del value  # a password in it is in no local when the error shows them
    if problem:
        raise InvalidField(f"{name} in {source} {problem}.")
    return url.reveal()


def is_loopback(host: str) -> bool:
    """Tell whether a host (with or without a port) is this machine, the only place where plain `http` is accepted."""
    match = _URL.fullmatch(f"http://{host}")
    return bool(match and _is_this_machine(match[2]))


def suggestion(name: str) -> str:
    """Say which field was probably meant."""
    from difflib import get_close_matches

    close = get_close_matches(name, [*FIELDS, *ALIASES], 1)
    return f"; did you mean {close[0]}?" if close else f"; the fields are {', '.join(FIELDS)}"


def without_password(store: str) -> str:
    """Show a store's URL without what stands before the `@`."""
    scheme, mark, rest = store.partition("://")
    return f"{scheme}{mark}***@{rest.rpartition('@')[2]}" if "@" in rest else store


def _is_confidential(name: str) -> bool:
    """Tell whether a field's value must not show: a secret, or a store's place, which may hold a password."""
    field = FIELDS.get(ALIASES.get(name, name))
    return field is not None and field.kind in ("secret", "store")


def _bare(value: Any) -> Any:
    value = value.reveal() if isinstance(value, Secret) else value
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _text(value: Any) -> str:
    text: str = _bare(value).strip()
    return text


def _problem_of(value: Any) -> str | None:
    """Say what is wrong with a value, in words that do not repeat it."""
    value = _bare(value)
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    if not value.strip():
        return "is blank: fill it in, or leave it out"
    if not value.strip().isprintable():
        return "holds a line break or another control character: copy it again"
    return None


def _problem_of_url(value: str) -> str | None:
    match = _URL.fullmatch(value)
    if not match or int((match[3] or ":0")[1:]) > LAST_PORT:
        return "is not a URL of the form https://host/path (no user, no query): check its spelling"
    if match[1] == "http" and not _is_this_machine(match[2]):
        return f"is plain http for {match[2]}: credentials go over https; write https://"
    return None


def _scheme(place: str) -> str:
    scheme, colon, _ = place.partition(":")
    return scheme if colon else ""


def _check_scheme(name: str, scheme: str, source: str) -> None:
    if scheme.isalpha() and len(scheme) > 1 and scheme.lower() not in _STORE_SCHEMES:  # one letter is a drive
        raise InvalidField(
            f"{name} in {source} has the unknown scheme {scheme}: give a file's path, memory: or redis://host/0."
        )


def _is_this_machine(host: str) -> bool:
    numbers = host.split(".")
    is_127 = numbers[0] == "127" and len(numbers) == 4 and all(number.isdecimal() for number in numbers)
    return is_127 or host in ("localhost", "[::1]")
