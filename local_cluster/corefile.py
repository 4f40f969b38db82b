"""CoreDNS' configuration, for a cluster whose packets stay on this machine."""

from typing import Final

_REMOVED: Final = ("loop", "forward")
"""`forward` would ask name servers outside; `loop` guards `forward` and sends a query to do so."""


def keep_queries_inside(corefile: str) -> str:
    """Return the Corefile without the plugins that ask anybody else, blocks and all."""
    kept: list[str] = []
    depth = 0
    for line in corefile.splitlines():
        words = line.split()
        if depth == 0 and words and words[0] in _REMOVED:
            depth = line.count("{") - line.count("}")
        elif depth > 0:
            depth += line.count("{") - line.count("}")
        else:
            kept.append(line)
    return "\n".join(kept) + "\n"
