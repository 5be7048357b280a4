"""Used by both blocks: how their forms look in Prefect's pages, and warnings about unknown fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.logging import get_logger
from pydantic import HttpUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

LOGO_URL = HttpUrl("https://github.com/CartoDB.png")
"""The picture of CARTO's organization on GitHub."""
DOCUMENTATION_URL = HttpUrl("https://docs.carto.com/carto-for-developers/key-concepts/authentication-methods")

_KEPT_BY_PREFECT = {"block_type_slug"}
"""Fields that Prefect adds to a nested block."""
_SPELLINGS = {"api": "API", "bigquery": "BigQuery", "id": "ID", "url": "URL"}


def title_of(name: str) -> str:
    """Return the title of a field in a form; Prefect's own would be "Api Base Url"."""
    words = " ".join(_SPELLINGS.get(word, word) for word in name.split("_"))
    return words[0].upper() + words[1:]


def without_null(schema: dict[str, Any]) -> None:
    """Show an optional field as a plain one: for `X | None` the form would offer a choice of types."""
    kinds = schema.pop("anyOf")
    schema.pop("default", None)
    schema.update(next(kind for kind in kinds if kind.get("type") != "null"))


def warn_of_unknown_fields(block: str, given: Any, known: Collection[str], advice: Callable[[str], str]) -> None:
    """Log a warning for each unknown field: Prefect accepts it, and stores a mistyped secret in plain text.

    Args:
        block: The name of the block.
        given: Its input; nothing is logged unless this is a dict of fields.
        known: The names of its fields.
        advice: Returns what was probably meant by an unknown name, as the rest of the sentence.
    """
    if not isinstance(given, dict):
        return
    for name in given.keys() - set(known) - _KEPT_BY_PREFECT:
        get_logger(__name__).warning("%s: %r is not a field%s", block, name, advice(name))
