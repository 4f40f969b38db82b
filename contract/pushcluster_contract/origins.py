"""Origins of web pages (RFC 6454), as the author of a PushCluster writes them and as browsers send them."""

import re
from typing import Final

from pushcluster_contract.errors import InvalidInput

ORIGIN_PATTERN: Final = r"https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?"
"""What the author may write. `null` is excluded: browsers send it for any sandboxed frame or file."""
ORIGIN_RULE: Final = "an origin such as https://app.example.com, without a path"
MAX_ORIGIN_CHARS: Final = 255
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def parse_origin(text: str) -> str:
    """Return an origin as browsers send it: lower case, no default port. Raise InvalidInput for other text."""
    if len(text) > MAX_ORIGIN_CHARS or not re.fullmatch(ORIGIN_PATTERN, text):
        raise InvalidInput(f"{text[:100]!r} is not {ORIGIN_RULE}")
    origin = text.lower()
    return origin.removesuffix(_DEFAULT_PORTS[origin.partition(":")[0]])
