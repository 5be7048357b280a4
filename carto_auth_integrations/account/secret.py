"""A string that is redacted everywhere except by `reveal()`."""

from __future__ import annotations

from typing import NoReturn

REDACTED = "**********"


class Secret:
    """A string that `repr`, `str`, `format`, `vars` and tracebacks with locals redact. It does not pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the bare string. Pass it on at once; a variable would show it in a traceback."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({REDACTED!r})"

    def __str__(self) -> str:
        return REDACTED

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: object = None) -> Secret:
        return self

    __copy__ = __deepcopy__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} does not travel between processes; pickle the CartoAuth instead")
