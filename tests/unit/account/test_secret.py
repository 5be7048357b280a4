"""Secrets: shown by nothing but `reveal()`, and travelling nowhere."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from string import Template
from typing import Any

import pytest

from carto_auth_integrations.account.secret import REDACTED, Secret
from carto_auth_integrations.tokens.token import Token
from tests.support.accounts import SECRET

KINDS: dict[str, Callable[[], Secret]] = {
    "a secret": lambda: Secret(SECRET),
    "a token": lambda: Token(SECRET, obtained_at=0.0, refresh_token=Secret(SECRET)),
}


@pytest.fixture(params=KINDS)
def secret(request: pytest.FixtureRequest) -> Secret:
    return KINDS[request.param]()


@dataclasses.dataclass
class Holder:
    name: str
    secret: Secret


WAYS_TO_SHOW: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "an f-string": lambda secret: f"{secret} {secret!r} {secret!s} {secret!a}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - as others write it
    "str.format": lambda secret: "{} {!r}".format(secret, secret),  # noqa: UP032 - as others write it
    "a template": lambda secret: Template("$secret").substitute(secret=secret),
    "ascii": ascii,
    "a list": lambda secret: repr([secret]),
    "a mapping": lambda secret: str({"secret": secret}),
    "pprint": pprint.pformat,
    "a dataclass": lambda secret: repr(Holder("x", secret)),
    "dataclasses.asdict": lambda secret: repr(dataclasses.asdict(Holder("x", secret))),
    "vars of its holder": lambda secret: repr(vars(Holder("x", secret))),
    "json with default=str": lambda secret: json.dumps(secret, default=str),
    "json with default=repr": lambda secret: json.dumps([secret], default=repr),
}


@pytest.mark.parametrize("way", WAYS_TO_SHOW)
def test_a_secret_is_shown_as_stars(way: str, secret: Secret) -> None:
    shown = WAYS_TO_SHOW[way](secret)

    assert SECRET not in shown
    assert REDACTED in shown


def test_only_reveal_gives_it(secret: Secret) -> None:
    assert secret.reveal() == SECRET


def test_a_format_with_a_width_shows_nothing(secret: Secret) -> None:
    try:
        shown = f"{secret:>40}"
    except TypeError as error:
        shown = str(error)
    assert SECRET not in shown


def test_a_secret_has_no_vars(secret: Secret) -> None:
    with pytest.raises(TypeError):
        vars(secret)


def test_a_log_line_shows_stars(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("a.test").warning("%s %r %s", secret, secret, {"x": secret}, extra={"credential": secret})

    assert SECRET not in caplog.text
    assert SECRET not in repr([vars(record) for record in caplog.records])


def test_json_refuses_a_secret_without_showing_it(secret: Secret) -> None:
    with pytest.raises(TypeError) as info:
        json.dumps({"secret": secret})
    assert SECRET not in str(info.value)


def test_a_traceback_with_locals_shows_stars() -> None:
    def fail(secret: Secret, token: Token) -> None:
        raise ValueError(secret, token)

    with pytest.raises(ValueError, match=r"\*\*\*") as info:
        fail(Secret(SECRET), Token(SECRET, obtained_at=0.0, details={"project_id": "p"}))
    shown = "".join(traceback.TracebackException.from_exception(info.value, capture_locals=True).format())
    assert REDACTED in shown
    assert SECRET not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_does_not_pickle(secret: Secret, protocol: int) -> None:
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps({"x": [secret]}, protocol)


def test_copies_of_a_secret_are_the_secret(secret: Secret) -> None:
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_secrets_compare_by_what_they_hold_and_with_secrets_only() -> None:
    assert Secret(SECRET) == Secret(SECRET)
    assert Secret(SECRET) != Secret("another")
    assert Secret(SECRET) != SECRET
    assert len({Secret(SECRET), Secret(SECRET)}) == 1


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(SECRET)


def test_the_name_of_the_kind_is_shown() -> None:
    assert repr(Secret(SECRET)) == f"Secret({REDACTED!r})"
    assert repr(Token(SECRET, obtained_at=0.0)) == f"Token({REDACTED!r})"
