"""Reading what clients send: of the right type, in range, or an error that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosyduplex.errors import ErrorCode
from cosyduplex_server.errors import Failure


def bad_field(message: str, solution: str | None = None) -> Failure:
    """A mistake in what was sent."""
    return Failure(ErrorCode.BAD_REQUEST, message, solution)


def encodable(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which JSON for the client must not hold."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Fields:
    """One object of a message. A field that is null is one that was left out.

    Args:
        value: what stands there.
        name: what errors call it.

    Raises:
        Failure: it is no object.
    """

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise bad_field(f"{name} must be an object")
        self._values: Mapping[str, Any] = value
        self._name = name

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def part(self, name: str) -> Fields:
        """An object in it; an empty one when left out."""
        value = self._values.get(name)
        return Fields({} if value is None else value, f"{self._name}.{name}")

    def has_object(self, name: str) -> bool:
        """Whether an object stands there."""
        return isinstance(self._values.get(name), dict)

    def merged(self, other: Fields) -> Fields:
        """Its fields with another's over them."""
        given = {name: value for name, value in other._values.items() if value is not None}
        return Fields({**self._values, **given}, self._name)

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise bad_field(f"{self._name}.{name} must be a string")
        return value

    def required_text(self, name: str) -> str:
        """A string that is there."""
        value = self.text(name)
        if not value:
            raise bad_field(f"{self._name}.{name} is missing")
        return value

    def flag(self, name: str) -> bool:
        """True or false, which it is when left out."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise bad_field(f"{self._name}.{name} must be true or false")
        return bool(value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise bad_field(f"{self._name}.{name} must be a number")
        if not low <= value <= high:
            raise bad_field(f"{self._name}.{name} must be from {low:g} to {high:g}, not {value:g}")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.number(name, default, low, high)
        if value != int(value):
            raise bad_field(f"{self._name}.{name} must be a whole number")
        return int(value)

    def strings(self, name: str) -> list[str]:
        """A list of strings."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise bad_field(f"{self._name}.{name} must be a list of strings")
        return value

    def pairs(self, name: str) -> dict[str, str]:
        """A list of objects of strings, `[{"from": "to"}, …]`, as one mapping."""
        value = self._values.get(name)
        items = [] if value is None else value if isinstance(value, list) else [value]
        pairs: dict[str, str] = {}
        for item in items:
            if not isinstance(item, dict) or not all(isinstance(target, str) for target in item.values()):
                raise bad_field(f"{self._name}.{name} must be a list of objects of strings")
            pairs.update(item)
        return pairs
