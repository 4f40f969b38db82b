"""A reader for the JSON of a custom resource. It checks each field's bounds, and its errors name the field's path."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec import quantities

Choice = TypeVar("Choice", bound=str)


class Reader:
    """One JSON object at a path such as `spec.gateway`. Read every field, then call `finish`.

    Fields that nobody has read are refused. With a list for `unknown`, their paths are added to it instead.
    """

    def __init__(self, value: object, path: str, unknown: list[str] | None = None) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise InvalidSpec(f"{path} must be an object, not {value!r:.60}")
        self._values: Mapping[str, Any] = value
        self.path = path
        self._unknown = unknown
        self._read: set[str] = set()

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """Return a whole number within its bounds."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise InvalidSpec(
                f"{self.path}.{name} must be a whole number from {minimum} to {maximum}, not {value!r:.60}"
            )
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise InvalidSpec(f"{self.path}.{name} must be true or false, not {value!r:.60}")
        return value

    def text(self, name: str, default: str, *, pattern: str, maximum: int, rule: str) -> str:
        """Return a string of at most `maximum` characters that matches `pattern`. Errors quote `rule`."""
        return self._check_text(name, self._take(name, default), pattern, maximum, rule)

    def optional_text(self, name: str, *, pattern: str, maximum: int, rule: str) -> str | None:
        """Return such a string, or None if the field is absent."""
        value = self._take(name, None)
        return None if value is None else self._check_text(name, value, pattern, maximum, rule)

    def texts(self, name: str, *, pattern: str, maximum: int, most: int, rule: str) -> tuple[str, ...]:
        """Return a list of at most `most` such strings. An absent field means an empty list."""
        value = self._take(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise InvalidSpec(f"{self.path}.{name} must be a list of at most {most} entries")
        return tuple(
            self._check_text(f"{name}[{index}]", item, pattern, maximum, rule) for index, item in enumerate(value)
        )

    def choice(self, name: str, default: Choice, among: type[Choice]) -> Choice:
        """Return a member of a StrEnum."""
        value = self._take(name, default)
        try:
            return among(value)
        except ValueError:
            allowed = ", ".join(str(member) for member in among)  # type: ignore[attr-defined]  # StrEnum classes iterate
            raise InvalidSpec(f"{self.path}.{name} must be one of {allowed}, not {value!r:.60}") from None

    def quantity(self, name: str, default: str, *, minimum: str = "1m") -> str:
        """Return a quantity of at least `minimum`, in canonical form."""
        return self._check_quantity(name, self._take(name, default), minimum)

    def optional_quantity(self, name: str) -> str | None:
        """Return a positive quantity in canonical form, or None if the field is absent."""
        value = self._take(name, None)
        return None if value is None else self._check_quantity(name, value, "1m")

    def child(self, name: str) -> "Reader":
        """Return the reader of an object inside this one. An absent object is read as an empty one."""
        return Reader(self._take(name, None), f"{self.path}.{name}", self._unknown)

    def optional_child(self, name: str) -> "Reader | None":
        """Return the reader of an object inside this one, or None if it is absent."""
        value = self._take(name, None)
        return None if value is None else Reader(value, f"{self.path}.{name}", self._unknown)

    def finish(self) -> None:
        """Raise InvalidSpec for fields that nobody read, so that typos are caught; or add their paths to `unknown`."""
        for name in self._values:
            if name in self._read:
                continue
            if self._unknown is not None:
                self._unknown.append(f"{self.path}.{name}")
            else:
                near = difflib.get_close_matches(name, self._read, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InvalidSpec(f"{self.path}.{name} is not a field of PushCluster{hint}")

    def _take(self, name: str, default: object) -> Any:
        self._read.add(name)
        value = self._values.get(name)
        return default if value is None else value

    def _check_text(self, name: str, value: object, pattern: str, maximum: int, rule: str) -> str:
        if not isinstance(value, str) or len(value) > maximum or not re.fullmatch(pattern, value):
            raise InvalidSpec(f"{self.path}.{name} must be {rule}, not {value!r:.60}")
        return value

    def _check_quantity(self, name: str, value: object, minimum: str) -> str:
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        try:
            canonical = quantities.canonical(text)
        except InvalidSpec as error:
            raise InvalidSpec(f"{self.path}.{name}: {error}") from None
        if quantities.parse(canonical) < quantities.parse(minimum):
            raise InvalidSpec(f"{self.path}.{name} must be at least {minimum}, not {canonical}")
        return canonical
