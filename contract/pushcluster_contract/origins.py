"""Origins of web pages (RFC 6454), as the author writes them and as browsers send them."""

import re
from typing import Final

from pushcluster_contract.errors import InvalidInput

ORIGIN_PATTERN: Final = r"https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?"
"""What an author may write. Not `null`, which a browser sends for sandboxed frames and files: it names nobody."""
ORIGIN_RULE: Final = "an origin such as https://app.example.com, without a path"
MAX_ORIGIN_CHARS: Final = 255
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def parse_origin(text: str) -> str:
    """Return an origin as a browser sends it: in lower case, without the scheme's own port; raises InvalidInput."""
    if len(text) > MAX_ORIGIN_CHARS or not re.fullmatch(ORIGIN_PATTERN, text):
        raise InvalidInput(f"{text[:100]!r} is not {ORIGIN_RULE}")
    origin = text.lower()
    return origin.removesuffix(_DEFAULT_PORTS[origin.partition(":")[0]])
