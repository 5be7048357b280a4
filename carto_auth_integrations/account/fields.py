"""The fields of an account: one table for the core, the connectors' forms and the docs, and their checks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InvalidField
from .secret import Secret

PUBLIC_CLIENT_ID = "0dxb8HR3ATXCxJiPOJVHsLoHoAtbRX6u"
"""The public OAuth client of CARTO's own Python library: it may log in users, and has no secret."""

LAST_PORT = 65535
MODES = ("m2m", "oauth", "token")


class Field(NamedTuple):
    """One field of an account. Its kind decides the check: `text`, `url`, `secret`, `mode`, `store` or `size`."""

    kind: str
    description: str
    default: str | None = None


FIELDS: dict[str, Field] = {
    "auth_mode": Field(
        "mode", "How tokens are obtained: m2m (client credentials), oauth (browser login) or token (API access token)."
    ),
    "api_base_url": Field("url", "API base URL of the account, such as https://gcp-us-east1.api.carto.com."),
    "client_id": Field("text", "Client ID of the machine-to-machine application in CARTO."),
    "client_secret": Field("secret", "Client secret of the machine-to-machine application in CARTO."),
    "access_token": Field("secret", "An existing token, such as an API access token."),
    "auth_url": Field("url", "The login domain that issues tokens.", "https://auth.carto.com"),
    "accounts_url": Field("url", "Where the API base URL of a user is looked up.", "https://accounts.app.carto.com"),
    "audience": Field("text", "The audience of the tokens.", "carto-cloud-native-api"),
    "organization": Field("text", "Single sign-on organization of the login, such as org_abc."),
    "token_store": Field("store", "Where tokens are kept between processes: a file's path, memory: or redis://host/0."),
    "location": Field("text", "BigQuery location of the jobs, such as US; if empty, BigQuery finds it."),
    "default_dataset": Field("text", "Dataset for table names without one: dataset or project.dataset."),
    "bigquery_endpoint": Field("url", "BigQuery endpoint, for a proxy or an emulator."),
    "maximum_bytes_billed": Field("size", "Bytes that a query may bill at most, unless it names a limit itself."),
}

ALIASES = {"mode": "auth_mode", "org": "organization", "cache_filepath": "token_store"}
"""The seed's names for three of the fields."""

_CONFIDENTIAL = {name for name in (*FIELDS, *ALIASES) if FIELDS[ALIASES.get(name, name)].kind in ("secret", "store")}
"""Names whose values must not show: secrets, and token stores, whose URLs may hold a password."""
_NO_MAPPING = "not a mapping"
_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[^/?#@\s:\[\]]+)(:\d{1,5})?(/[^?#\s]*)?", re.ASCII)
_SIZE = re.compile(r"0*[1-9][0-9]{0,17}")
_STORE_SCHEMES = ("memory", "redis", "rediss", "file")


class Fields(dict[str, Any]):
    """Fields by name. Its `repr` shows the names only: a value passed as client id may be the secret by mistake."""

    def __repr__(self) -> str:
        return f"Fields({', '.join(self)})"


def hidden(given: Mapping[str, Any]) -> Fields:
    """Return a copy that shows no value in a traceback's locals. Whatever is given fields does this first."""
    items = given.items() if hasattr(given, "items") else [(_NO_MAPPING, type(given).__name__)]
    return Fields(
        (name, Secret(value) if value and name in _CONFIDENTIAL and not isinstance(value, Secret) else value)
        for name, value in items
    )


def canonical(given: Mapping[str, Any], origin: str) -> Fields:
    """Return the fields under their own names, without the empty ones (None, ""); refuse unknown and double names."""
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


def checked(name: str, given: Mapping[str, Any], source: str, kind: str = "") -> Any:
    """Check one of the given fields and return its final form: text stripped, a secret wrapped, a size as a number.

    Raises:
        InvalidField: If the value is not what the field takes; the message names field and source, not the value.
    """
    kind = kind or FIELDS[name].kind
    number = kind == "size" and type(given[name]) is int  # of a JSON file, or a block
    value = Secret(str(given[name]) if number else _bare(given[name]))
    problem = _problem_of(value.reveal(), kind)
    if problem:
        raise InvalidField(f"{name} in {source} {problem}.")
    if kind == "secret":
        return value
    if kind == "size":
        return int(value.reveal())
    return value.reveal().rstrip("/") if kind == "url" else value.reveal()


def check_url(name: str, value: str, source: str) -> str:
    """Check a URL that is no field, like `checked`: https, or http on loopback; no user, no query."""
    given = Fields({name: value})
    del value  # a password in it would show in the locals of a traceback
    return str(checked(name, given, source, "url"))


def variable(name: str) -> str:
    """Return the environment variable of a field."""
    return f"CARTO_{name.upper()}"


def from_environment(name: str) -> Any:
    """Return the checked value of a field's variable; None if it is empty or not set."""
    given = hidden({name: os.environ.get(variable(name))})
    return checked(name, given, f"the variable {variable(name)}") if given[name] else None


def is_loopback(host: str) -> bool:
    """Whether a host (with or without a port) is this machine: plain `http` is accepted for no other."""
    match = _URL.fullmatch(f"http://{host}")
    name = match[2] if match else ""
    if name in ("localhost", "127.0.0.1", "[::1]"):
        return True
    from ipaddress import ip_address  # not on a warm start: the usual names are above

    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def suggestion(name: str) -> str:
    """Return a hint at the field that was probably meant."""
    from difflib import get_close_matches

    close = get_close_matches(name, [*FIELDS, *ALIASES], 1)
    return f"; did you mean {close[0]}?" if close else f"; the fields are {', '.join(FIELDS)}"


def without_password(store: str) -> str:
    """Return a store's URL without its user and password."""
    scheme, mark, rest = store.partition("://")
    return f"{scheme}{mark}***@{rest.rpartition('@')[2]}" if "@" in rest else store


def _bare(value: Any) -> Any:
    """Return the stripped text of a string, secret or path; anything else as it is."""
    value = value.reveal() if isinstance(value, Secret) else value
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return value.strip() if isinstance(value, str) else value


def _problem_of(value: object, kind: str) -> str | None:
    """Return what is wrong with a value, without repeating it; None if nothing is."""
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    if not value:
        return "is blank: fill it in, or leave it out"
    if not value.isprintable():
        return "holds a line break or another control character: copy it again"
    match, (scheme, colon, _) = _URL.fullmatch(value), value.partition(":")
    if kind == "size" and not _SIZE.fullmatch(value):
        return "is not a whole number of bytes above 0, such as 10000000000"
    if kind == "url":
        if not match or int((match[3] or ":0")[1:]) > LAST_PORT:
            return "is not a URL of the form https://host/path (no user, no query): check its spelling"
        if match[1] == "http" and not is_loopback(match[2]):
            return f"is plain http for {match[2]}: credentials go over https; write https://"
    if kind == "store" and colon and scheme.isalpha() and len(scheme) > 1 and scheme.lower() not in _STORE_SCHEMES:
        return f"has the unknown scheme {scheme}: use a file's path, memory: or redis://host/0"  # one letter is a drive
    return None
