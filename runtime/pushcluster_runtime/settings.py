"""Read environment variables. Each error names the variable and what it may be.

Programs read their settings once into a frozen dataclass. Secrets are in fields with `repr=False`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pushcluster_contract.errors import InvalidInput

_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class EnvironmentVariables:
    """The environment of the process. Every method may raise InvalidInput. An empty variable counts as missing."""

    variables: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text. It is required unless it has a default."""
        value = self.variables.get(name, "").strip() or default
        if value is None:
            raise InvalidInput(f"{name} is not set")
        return value

    def secret(self, name: str) -> str:
        """Return a required secret. No error quotes its value."""
        return self.text(name)

    def integer(self, name: str, default: int | None = None, *, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        raw = self.text(name, None if default is None else str(default))
        rule = f"{name} must be a whole number from {low} to {high}, not {raw[:50]!r}"
        try:
            value = int(raw)
        except ValueError:
            raise InvalidInput(rule) from None
        if not low <= value <= high:
            raise InvalidInput(rule)
        return value

    def port(self, name: str, default: int) -> int:
        """Return a TCP port. 0 lets the system choose one."""
        return self.integer(name, default, low=0, high=65_535)

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return `true` or `false`."""
        raw = self.text(name, "true" if default else "false")
        if raw not in {"true", "false"}:
            raise InvalidInput(f"{name} must be true or false, not {raw[:50]!r}")
        return raw == "true"

    def choice(self, name: str, choices: type[_E], default: _E | None = None) -> _E:
        """Return a member of a StrEnum by its value."""
        raw = self.text(name, None if default is None else default.value)
        try:
            return choices(raw)
        except ValueError:
            raise InvalidInput(f"{name} must be one of {', '.join(choices)}, not {raw[:50]!r}") from None
