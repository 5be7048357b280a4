"""Which CARTO account: parsed once, checked once, immutable. From arguments, a file, the environment or a mapping."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NoReturn

from ..errors import AccountError, CredentialsFileNotFound, InvalidField, MissingField
from .fields import (
    ALIASES,
    FIELDS,
    MODES,
    PUBLIC_CLIENT_ID,
    Fields,
    canonical,
    checked,
    from_environment,
    hidden,
    suggestion,
    variable,
    without_password,
)
from .secret import Secret

REQUIRED = {"m2m": ("api_base_url", "client_id", "client_secret"), "oauth": (), "token": ("access_token",)}
_IGNORED = {"m2m": {"access_token"}, "oauth": {"access_token", "client_secret"}, "token": {"client_secret"}}
"""The fields that an account of each mode needs, and those that it does not take from the environment."""
_IDENTITY = ("auth_mode", "auth_url", "client_id", "audience", "organization", "api_base_url")
"""Fields that decide, with the secrets, whose a token is."""
_PLAIN = tuple(name for name, field in FIELDS.items() if field.kind != "secret")
_SECRET = tuple(name for name, field in FIELDS.items() if field.kind == "secret")


class CartoAccount:
    """A checked, immutable account. It pickles without its secrets: the other process reads them from their source.

    Create one with `from_file`, `from_env`, `from_mapping` or `resolve`. All methods raise `AccountError` for a field
    that is unknown, missing or malformed; the message names it. The attributes are the fields of `FIELDS`, the secret
    ones wrapped in `Secret`. `fingerprint` names the credential in a token store: accounts with the same one share
    their tokens, and no other account sees them.
    """

    __slots__ = (*FIELDS, "digests", "fingerprint", "origin")

    auth_mode: str
    api_base_url: str | None
    client_id: str | None
    client_secret: Secret | None
    access_token: Secret | None
    auth_url: str
    accounts_url: str
    audience: str
    organization: str | None
    token_store: str | None
    location: str | None
    default_dataset: str | None
    bigquery_endpoint: str | None
    maximum_bytes_billed: int | None
    origin: str
    digests: Mapping[str, str]
    fingerprint: str

    def __init__(self, values: Mapping[str, Any], *, origin: str, digests: Mapping[str, str] | None = None) -> None:
        fill = object.__setattr__
        for name in FIELDS:
            fill(self, name, values.get(name))
        if digests is None:
            digests = {name: _digest(values[name]) for name in _SECRET if values.get(name)}
        identity = [values[name] for name in _IDENTITY] + [digests.get(name) for name in _SECRET]
        fill(self, "origin", origin)
        fill(self, "digests", digests)
        fill(self, "fingerprint", sha256_of(json.dumps(identity)))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **given: Any) -> CartoAccount:
        """Read a CARTO credentials file: JSON with `api_base_url`, `client_id`, `client_secret` and any other field.

        Args:
            path: Path of the file. A file that other users may read is used, with a warning.
            given: Fields that replace those of the file.
        """
        given = hidden(given)
        path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        content = _read_credentials(path)
        for name in REQUIRED["m2m"]:
            if name not in content:
                raise MissingField(f"Missing attribute {name} from {path}: add it, as in CARTO's credentials file.")
            if not content[name]:
                raise InvalidField(f"Missing value for {name} in {path}: fill it in, as in CARTO's credentials file.")
        for name in content.keys() - FIELDS.keys() - ALIASES.keys():
            _warn("unknown field %r in %s is ignored%s", name, path, suggestion(name))
            del content[name]
        fields = canonical(content, path)
        fields.update(canonical(given, "the arguments"), auth_mode="m2m")
        return cls.resolve(fields, origin=f"file:{path}", is_complete=True)

    @classmethod
    def from_env(cls, **given: Any) -> CartoAccount:
        """Read the account from `CARTO_` + field names in capitals (`CARTO_CLIENT_ID` …), and any given fields."""
        given = hidden(given)
        return cls.resolve(given, origin="environment", is_complete=True)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> CartoAccount:
        """Read the account from fields by name, such as a connection's or a block's; None and "" count as left out."""
        mapping = hidden(mapping)
        return cls.resolve(mapping, origin="mapping", is_complete=True)

    @classmethod
    def resolve(cls, given: Mapping[str, Any], *, origin: str = "arguments", is_complete: bool = False) -> CartoAccount:
        """Complete fields from the environment and the defaults, and check them all.

        Args:
            given: Fields by name (the seed's `mode`, `org`, `cache_filepath` too); None and "" count as left out.
            origin: Where they come from, for messages: `arguments`, `mapping`, `environment` or `file:PATH`.
            is_complete: Whether an M2M account needs its API base URL, and client id and secret beside a token too.
        """
        given = hidden(given)  # before anything can raise an error whose traceback shows it
        fields = canonical(given, origin)
        around = {name for name in FIELDS if os.environ.get(variable(name))}
        fields["auth_mode"] = mode = _mode(fields, around, origin)
        if mode == "oauth" and "client_secret" in around:
            around.discard("client_id")  # it is the id of an M2M client, which cannot log users in
        values = Fields((name, field.default) for name, field in FIELDS.items())
        for name in FIELDS:
            if name in fields:
                values[name] = checked(name, fields, origin)
            elif name in around - _IGNORED[mode]:
                values[name] = from_environment(name)
        if mode == "oauth":
            values["client_id"] = values["client_id"] or PUBLIC_CLIENT_ID
        required = REQUIRED[mode]
        if mode == "m2m" and not is_complete:
            required = () if values["access_token"] else ("client_id", "client_secret")
        for name in required:
            if values[name] is None:
                raise MissingField(f"Missing {name} (auth_mode {mode}): pass it, or set {variable(name)}.")
        return cls(values, origin=origin)

    @property
    def owner(self) -> str:
        """Whose account it is, for messages: the client id, if there is one."""
        return self.client_id or "an API user"

    def require(self, name: str) -> Any:
        """Return a field that the next step needs. After unpickling, a secret is read from its source again."""
        value = getattr(self, name)
        if value is not None:
            return value
        if FIELDS[name].kind != "secret":
            raise MissingField(f"{name} required: pass it, or set {variable(name)}.")
        places = [hidden({name: os.environ.get(variable(name))})]
        if self.origin.startswith("file:") and os.path.exists(self.origin[5:]):
            places.insert(0, _read_credentials(self.origin[5:]))
        for place in places:
            secret = checked(name, place, self.origin) if place.get(name) else None
            if secret and _digest(secret) == self.digests.get(name):  # otherwise it is another client's, or a new one
                object.__setattr__(self, name, secret)
                return secret
        raise MissingField(
            f"{name} did not travel with the pickled account of {self.client_id or 'this token'}: set "
            f"{variable(name)} in this process, or build the account from a credentials file that is there too."
        )

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        raise AttributeError(f"a CartoAccount is immutable; create another one to change {name}")

    __delattr__ = __setattr__

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in FIELDS}
        shown["token_store"] = self.token_store and without_password(self.token_store)
        return f"CartoAccount({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __eq__(self, other: object) -> bool:
        names = ("fingerprint", *_PLAIN)
        return isinstance(other, CartoAccount) and all(getattr(self, name) == getattr(other, name) for name in names)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __deepcopy__(self, memo: object = None) -> CartoAccount:
        return self

    __copy__ = __deepcopy__

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        if self.token_store and without_password(self.token_store) != self.token_store:
            plain["token_store"] = None  # its password does not travel either; the other process has CARTO_TOKEN_STORE
        return _unpickle, (plain, self.origin, self.digests)


def _unpickle(plain: dict[str, Any], origin: str, digests: dict[str, str]) -> CartoAccount:
    store = plain["token_store"] or from_environment("token_store")
    return CartoAccount({**plain, "token_store": store}, origin=origin, digests=digests)


def sha256_of(text: str) -> str:
    """Return the hexadecimal SHA-256 of a text."""
    return sha256(text.encode()).hexdigest()


def _digest(secret: Secret) -> str:
    return sha256_of(f"carto-auth:{secret.reveal()}")


def _mode(fields: Fields, around: set[str], origin: str) -> str:
    """Return the mode: the given one, else what the given secrets imply, else the same of the environment."""
    if "auth_mode" in fields:
        mode = fields["auth_mode"]
    elif "client_secret" in fields or "access_token" in fields:
        mode = "m2m" if "client_secret" in fields else "token"
    elif "auth_mode" in around:
        mode = os.environ[variable("auth_mode")]
    else:
        mode = "token" if "access_token" in around and "client_secret" not in around else "m2m"
    if mode not in MODES:
        raise InvalidField(f"Mode not supported in {origin}. Available modes: {', '.join(MODES)}.")
    return str(mode)


def _read_credentials(path: str) -> Fields:
    try:
        with open(path, "rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                _warn("the credentials file %s can be read by others: run chmod 600 on it", path)
            return hidden({**json.loads(file.read())})
    except OSError as error:
        failure: AccountError = CredentialsFileNotFound(
            f"Cannot open the credentials file {path} ({error.strerror}): check the path and its permissions."
        )
    except (ValueError, TypeError, RecursionError):
        failure = InvalidField(f"The credentials file {path} is not a JSON object: save CARTO's file again.")
    raise failure  # outside the handlers: a JSON error holds the whole file, secret included


def _warn(message: str, *args: object) -> None:
    from logging import getLogger

    getLogger(__name__).warning(message, *args)
