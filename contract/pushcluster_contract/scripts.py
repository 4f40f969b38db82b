"""The Lua scripts that run inside Redis. The header of each file names every key and argument."""

from enum import StrEnum
from importlib.resources import files


class Script(StrEnum):
    """A script; the value is its file name in `lua/`."""

    APPEND = "append"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    READ_PAGE = "read_page"
    REGISTER = "register"
    REMOVE_SESSION = "remove_session"
    ADVANCE_CURSOR = "advance_cursor"
    RENEW_LEASE = "renew_lease"
    FORGET = "forget"
    ADD_MEMBERS = "add_members"
    EXPIRE_LEASES = "expire_leases"
    BARRIER = "barrier"
    TAKE_TOKEN = "take_token"  # noqa: S105 - a fencing token is no secret
    RAISE_FENCE = "raise_fence"

    def source(self) -> str:
        """Return the script's text."""
        return (files("pushcluster_contract") / "lua" / f"{self.value}.lua").read_text(encoding="utf-8")
