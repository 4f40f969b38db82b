"""Control messages from a dispatcher to a gateway, in the gateway's own queue. No I/O.

They arrive between copies; the AMQP property `type` distinguishes them. Producers cannot send one, because they may
write only to the exchange `push`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import check_session_id

CONTROL_TYPE: Final = "pushcluster.control"
"""AMQP `type` of a control message."""

_ACTION: Final = "pc-control"
_DISCONNECT: Final = "disconnect"
_USER: Final = "pc-user"
_SESSION: Final = "pc-session"


@dataclass(frozen=True, slots=True)
class Disconnect:
    """End this session: the back end asked for it."""

    user: str
    sid: str

    def headers(self) -> dict[str, str]:
        """Return the AMQP headers of this message. Its body is empty."""
        return {_ACTION: _DISCONNECT, _USER: self.user, _SESSION: self.sid}

    @classmethod
    def parse(cls, headers: Mapping[str, object]) -> Self:
        """Return the message with these headers. Raise InvalidInput for an action that this version does not know."""
        action, user, sid = (headers.get(name) for name in (_ACTION, _USER, _SESSION))
        if action != _DISCONNECT or not isinstance(user, str) or not isinstance(sid, str):
            raise InvalidInput(f"control message {str(action)[:100]!r} cannot be read")
        return cls(user, check_session_id(sid))
