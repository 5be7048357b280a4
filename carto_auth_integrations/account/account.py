"""Which CARTO account: who asks, with what, where; from arguments, a file, the environment or a mapping."""

from __future__ import annotations

import json
import os
import stat

from ..errors import CredentialsFileNotFound, InvalidField, MissingField
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

try:  # as the standard library's random does it: hashlib loads OpenSSL, which takes a fifth of a warm start
    from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]  # Python 3.12 and later
except ImportError:
    from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

    from .secret import Secret

M2M_REQUIRED = ("api_base_url", "client_id", "client_secret")
_PLAIN = tuple(name for name, field in FIELDS.items() if field.kind != "secret")
_SECRET = tuple(name for name, field in FIELDS.items() if field.kind == "secret")


class CartoAccount:
    """A checked, immutable account. Pickles without its secrets: the other process reads them where they came from.

    Make one with `from_file`, `from_env`, `from_mapping` or `resolve`. Its attributes are the fields of `FIELDS`, the
    secret ones wrapped in `Secret`. `fingerprint` names the credential in a token store: accounts with an equal one
    share their tokens, and no other account sees them.
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
    origin: str
    digests: Mapping[str, str]
    fingerprint: str

    def __init__(self, values: Mapping[str, Any], *, origin: str, digests: Mapping[str, str] | None = None) -> None:
        fill = object.__setattr__
        for name in FIELDS:
            fill(self, name, values.get(name))
        if digests is None:
            digests = {name: _digest(values[name]) for name in _SECRET if values.get(name)}
        identity = (
            self.auth_mode,
            self.auth_url,
            self.client_id,
            self.audience,
            self.organization,
            self.api_base_url,
            *(digests.get(name) for name in _SECRET),
        )
        fill(self, "origin", origin)
        fill(self, "digests", digests)
        fill(self, "fingerprint", sha256_of(json.dumps(identity)))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **given: Any) -> CartoAccount:
        """Read a CARTO credentials file: JSON with `api_base_url`, `client_id`, `client_secret` and any other field.

        Args:
            path: Path of the file. A file that others may read is used, with a warning.
            given: Fields that replace those of the file.

        Raises:
            MissingField: If one of the three attributes is not in the file (an `AttributeError`).
            InvalidField: If one has no value, or the file is not a JSON object (a `ValueError`).
            CredentialsFileNotFound: If the file cannot be opened (a `FileNotFoundError`).
        """
        given = hidden(given)
        path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        content = _read_credentials(path)
        for name in M2M_REQUIRED:
            if name not in content:
                raise MissingField(f"Missing attribute {name} from {path}: add it, as in CARTO's credentials file.")
            if not content[name]:
                raise InvalidField(f"Missing value for {name} in {path}: fill it in, as in CARTO's credentials file.")
        for name in content.keys() - FIELDS.keys() - ALIASES.keys():
            _warn("unknown field %r in %s is ignored%s", name, path, suggestion(name))
        fields = canonical({name: content[name] for name in content if name in FIELDS or name in ALIASES}, path)
        fields.update(canonical(given, "the arguments"))
        fields["auth_mode"] = "m2m"
        return cls.resolve(fields, origin=f"file:{path}", required=M2M_REQUIRED)

    @classmethod
    def from_env(cls, **given: Any) -> CartoAccount:
        """Read the account from the environment: `CARTO_` + the field's name in capitals (`CARTO_CLIENT_ID` …).

        Args:
            given: Fields that replace those of the environment.

        Raises:
            AccountError: If a variable is missing or malformed.
        """
        given = hidden(given)
        return cls._resolve_complete(given, origin="environment")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> CartoAccount:
        """Take the account from a mapping of fields, such as a connection's or a block's.

        Args:
            mapping: Fields by name; None and the empty string count as left out.

        Raises:
            AccountError: If a field is unknown, missing or malformed.
        """
        mapping = hidden(mapping)
        return cls._resolve_complete(mapping, origin="mapping")

    @classmethod
    def _resolve_complete(cls, given: Mapping[str, Any], *, origin: str) -> CartoAccount:
        mode = _mode(canonical(given, origin), origin)
        return cls.resolve(given, origin=origin, required=M2M_REQUIRED if mode == "m2m" else ())

    @classmethod
    def resolve(
        cls, given: Mapping[str, Any], *, origin: str = "arguments", required: Iterable[str] = ()
    ) -> CartoAccount:
        """Complete fields from the environment and the defaults, and check them all.

        Args:
            given: Fields by name (the seed's `mode`, `org`, `cache_filepath` too); None and "" count as left out.
            origin: Where they come from, for messages: `arguments`, `mapping`, `environment` or `file:PATH`.
            required: Fields that must end up with a value, besides what the mode itself needs.

        Raises:
            AccountError: If a field is unknown, missing or malformed; the message names it.
        """
        given = hidden(given)  # before anything can raise
        fields = canonical(given, origin)
        mode = _mode(fields, origin)
        around = Fields((name, from_environment(name)) for name in FIELDS if _environment_counts(name, mode))
        values = Fields(auth_mode=mode)
        for name, field in FIELDS.items():
            if name == "auth_mode":
                continue
            if name in fields:
                values[name] = checked(name, fields, origin)
            elif around.get(name) is not None:
                values[name] = checked(name, around, f"the variable {variable(name)}")
            else:
                values[name] = field.default
        if mode == "oauth" and values["client_id"] is None:
            values["client_id"] = PUBLIC_CLIENT_ID
        for name in (*required, *_needed(mode, values)):
            if values[name] is None:
                raise MissingField(f"Missing {name} (auth_mode {mode}): give it, or set {variable(name)}.")
        return cls(values, origin=origin)

    def require(self, name: str) -> Any:
        """Give a field that the next step cannot do without.

        After unpickling, a secret is read again from the credentials file or the environment.

        Raises:
            MissingField: If the account has no such value, or this process no way to the secret.
        """
        value = getattr(self, name)
        if value is not None:
            return value
        if FIELDS[name].kind != "secret":
            raise MissingField(f"{name} required: give it, or set {variable(name)}.")
        secret = self._secret_again(name)
        if secret is None:
            raise MissingField(
                f"{name} did not travel with the pickled account of {self.client_id or 'this token'}: set "
                f"{variable(name)} in this process, or build the account from a credentials file that is there too."
            )
        object.__setattr__(self, name, secret)
        return secret

    def _secret_again(self, name: str) -> Secret | None:
        """Look where the account came from, then in the environment; take only the very secret that stayed behind."""
        places = [Fields({name: from_environment(name)})]
        if self.origin.startswith("file:") and os.path.exists(self.origin[5:]):
            places.insert(0, _read_credentials(self.origin[5:]))
        for place in places:
            if place.get(name):
                secret: Secret = checked(name, place, self.origin)
                if _digest(secret) == self.digests.get(name):
                    return secret
        return None

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a CartoAccount is immutable; make another one to change {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a CartoAccount is immutable; {name} stays")

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in FIELDS}
        if self.token_store is not None:
            shown["token_store"] = without_password(self.token_store)
        return f"CartoAccount({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CartoAccount):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in ("fingerprint", *_PLAIN))

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __copy__(self) -> CartoAccount:
        return self

    def __deepcopy__(self, memo: object) -> CartoAccount:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        if self.token_store is not None and without_password(self.token_store) != self.token_store:
            plain["token_store"] = None  # its password stays behind as well; the other process has CARTO_TOKEN_STORE
        return _unpickle, (plain, self.origin, self.digests)


def _unpickle(plain: dict[str, Any], origin: str, digests: dict[str, str]) -> CartoAccount:
    values = Fields(plain)
    around = Fields(token_store=from_environment("token_store"))
    if values["token_store"] is None and around["token_store"]:
        values["token_store"] = checked("token_store", around, f"the variable {variable('token_store')}")
    return CartoAccount(values, origin=origin, digests=digests)


def sha256_of(text: str) -> str:
    """Give the hexadecimal SHA-256 of a text."""
    digest: str = sha256(text.encode()).hexdigest()
    return digest


def _digest(secret: Secret) -> str:
    return sha256_of(f"carto-auth:{secret.reveal()}")


def _mode(fields: Mapping[str, Any], origin: str) -> str:
    """Decide the mode: as given, as CARTO_AUTH_MODE says, else by what there is to authenticate with."""
    mode = fields.get("auth_mode")
    if mode is None and "client_secret" in fields:
        mode = "m2m"
    elif mode is None and "access_token" in fields:
        mode = "token"
    elif mode is None:
        mode = from_environment("auth_mode") or ("m2m" if _m2m_in_environment() else "token")
    if mode not in MODES:
        raise InvalidField(f"Mode not supported in {origin}. Available modes: {', '.join(MODES)}.")
    return str(mode)


def _m2m_in_environment() -> bool:
    return from_environment("client_secret") is not None or from_environment("access_token") is None


def _environment_counts(name: str, mode: str) -> bool:
    """Tell whether a variable is this account's: one that serves another mode is not."""
    if name == "access_token":
        return mode == "token"
    if name == "client_secret":
        return mode == "m2m"
    if name == "client_id" and mode == "oauth":  # the id beside a secret is an M2M client's, which cannot log users in
        return from_environment("client_secret") is None
    return True


def _needed(mode: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    if mode == "token":
        return ("access_token",)
    if mode == "m2m" and values["access_token"] is None:
        return ("client_id", "client_secret")
    return ()


def _read_credentials(path: str) -> Fields:
    try:
        with open(path, "rb") as file:
            permissions = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = json.loads(file.read())
    except OSError as error:
        failure: Exception = CredentialsFileNotFound(
            f"Cannot open the credentials file {path} ({error.strerror}): check the path and its permissions."
        )
    except (ValueError, RecursionError):
        failure = InvalidField(f"The credentials file {path} is not JSON: save CARTO's credentials file again.")
    else:
        if isinstance(content, dict):
            content = hidden(content)
            if os.name == "posix" and permissions & 0o077:
                _warn("the credentials file %s can be read by others: run chmod 600 on it", path)
            return content
        failure = InvalidField(
            f"The credentials file {path} holds a JSON {type(content).__name__}, not an object with the attributes "
            f"{', '.join(M2M_REQUIRED)}."
        )
        content = None
    raise failure  # outside the handlers: a JSON error carries the whole file, secret included


def _warn(message: str, *args: object) -> None:
    from logging import getLogger

    getLogger(__name__).warning(message, *args)
