"""The mark on a message of copies, of which a gateway times one.

It is a header of the AMQP message whose body is a batch (`batch.py`). Few messages have it. Gateways that do not know
it pass it over, and copies without it are as good.
"""

from typing import Final, NamedTuple, Self

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_BATCH_COPIES

COPY_STAMP: Final = "pc-sent"
"""The header. Its value is `<µs since the epoch> <number of the copy in the batch>`."""
_MAX_CHARS: Final = 24


class CopyStamp(NamedTuple):
    """When a batch was sent, and which of its copies is timed."""

    sent_s: float
    """Seconds since the epoch, by the dispatcher's clock."""
    number: int
    """0: the first copy."""

    def encode(self) -> str:
        """Return the header's value, exact to a microsecond."""
        return f"{round(self.sent_s * 1e6)} {self.number}"

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read the header's value. Raise InvalidInput."""
        sent_us, _, number = value.partition(" ") if isinstance(value, str) and len(value) <= _MAX_CHARS else ("",) * 3
        if not (_is_number(sent_us) and _is_number(number)) or int(number) >= MAX_BATCH_COPIES:
            raise InvalidInput(f"header {COPY_STAMP!r} is not a time in µs and the number of a copy")
        return cls(int(sent_us) / 1e6, int(number))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
