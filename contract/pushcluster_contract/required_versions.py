"""The oldest versions of Kubernetes, RabbitMQ and Redis that work, and the refusal of older ones."""

import re
from dataclasses import dataclass
from typing import Final

from pushcluster_contract.errors import TooOld


@dataclass(frozen=True, slots=True)
class MinimumVersion:
    """The oldest version of a product that works."""

    product: str
    major: int
    minor: int

    def require(self, version: str) -> None:
        """Raise TooOld for an older version, and for text that does not begin with two numbers."""
        found = re.match(r"v?(\d+)\.(\d+)", version)
        if found is None:
            raise TooOld(f"{self.product} reports version {version[:50]!r}: {self.major}.{self.minor} is needed")
        if (int(found[1]), int(found[2])) < (self.major, self.minor):
            raise TooOld(f"{self.product} {version} is too old: {self.major}.{self.minor} or newer is needed")


KUBERNETES: Final = MinimumVersion("Kubernetes", 1, 30)
RABBITMQ: Final = MinimumVersion("RabbitMQ", 4, 3)
"""It brought `x-modulus-hash`. Older versions leak memory when routing keys of a topic exchange keep changing."""
REDIS: Final = MinimumVersion("Redis", 7, 2)
"""It brought WAITAOF."""
