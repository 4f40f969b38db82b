"""Changes CoreDNS' configuration, so that the cluster's queries stay on this machine."""

from typing import Final

_REMOVED: Final = ("loop", "forward")
"""`forward` would ask name servers outside. `loop` protects `forward`, and sends a query for that."""


def keep_queries_inside(corefile: str) -> str:
    """Return the Corefile without the plugins that ask other servers, and without their blocks."""
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
