"""Explain where a message would go now, and why: in data and in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation, StreamId
from pushcluster_contract.routing import Copy, RoutingMode, plan_copies
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_dispatcher.egress.path_switch import JOIN_ABOVE, WINDOW_S

_HOW: Final = {
    RoutingMode.SESSION: "Mode Session: one copy for each subscribed session, straight to the queue that its "
    "subscription bound to amq.topic. A subscription gets this queue when it has lasted a few seconds, if the broker "
    "has memory for one more. Else, and where no queue takes a copy, it goes to the queue of the session's gateway. "
    "A gateway with several of these sessions gets one copy for all of them, to its own queue. In a flood (more than "
    f"{JOIN_ABOVE / WINDOW_S:,.0f} such copies a second from one dispatcher to one gateway), copies go to `fallback` "
    "at once, where they are joined.",
    RoutingMode.GATEWAY: "Mode Gateway: one copy for each gateway that holds a subscribed session, to its own queue.",
    RoutingMode.BROADCAST: "Mode Broadcast: one copy to every gateway. Gateways that do not hold the user drop it.",
}


@dataclass(frozen=True, slots=True)
class LogFacts:
    """The state of a user's log of one destination."""

    entries: int
    newest: StreamId
    cursor: StreamId
    """The newest entry that any session of the user has received."""

    @property
    def waiting(self) -> int:
        """The number of entries that no session has received."""
        return min(self.entries, max(0, self.newest.seq - self.cursor.seq))


def explain_route(
    mode: RoutingMode,
    user: str,
    destination: Destination,
    *,
    sessions: Mapping[str, SessionEntry],
    leases: Mapping[Incarnation, bool],
    log: LogFacts,
) -> dict[str, Any]:
    """Return the answer of `GET …/route`, from what Redis holds."""
    subscribed = {sid: entry.incarnation for sid, entry in sessions.items() if destination in entry.destinations}
    without_queue = {sid for sid, entry in sessions.items() if destination in entry.without_queue}
    return {
        "user": user,
        "destination": str(destination),
        "mode": mode.value,
        "why": _say_why(mode, destination, sessions, leases, log),
        "sessions": [
            {
                **describe_session(sid, entry),
                "subscribed": destination in entry.destinations,
                "lease": leases[entry.incarnation],
            }
            for sid, entry in sorted(sessions.items())
        ],
        "copies": [_describe_copy(copy) for copy in plan_copies(mode, destination, subscribed, without_queue)],
        "offline": {
            "entries": log.entries,
            "waiting": log.waiting,
            "newest": str(log.newest),
            "cursor": str(log.cursor),
        },
    }


def describe_session(sid: str, entry: SessionEntry) -> dict[str, Any]:
    """Return one session as the API shows it."""
    return {
        "session": sid,
        "incarnation": str(entry.incarnation),
        "destinations": [str(each) for each in entry.destinations],
    }


def _describe_copy(copy: Copy) -> dict[str, Any]:
    described: dict[str, Any] = {"exchange": copy.exchange, "routingKey": copy.routing_key}
    if copy.fallback is not None:
        described["fallback"] = _describe_copy(copy.fallback)
    return described


def _say_why(
    mode: RoutingMode,
    destination: Destination,
    sessions: Mapping[str, SessionEntry],
    leases: Mapping[Incarnation, bool],
    log: LogFacts,
) -> list[str]:
    subscribed = [entry for entry in sessions.values() if destination in entry.destinations]
    are = "is" if len(subscribed) == 1 else "are"
    count = _count(len(sessions), "session")
    words = [f"The user has {count}; {len(subscribed)} of them {are} subscribed to {destination}.", _HOW[mode]]
    if not subscribed:
        words.append("Nobody is there to receive the message. It waits in the user's log until the next subscribe.")
    without = {entry.incarnation for entry in subscribed if not leases[entry.incarnation]}
    if without:
        holds, it_is, its = ("holds", "it is", "its") if len(without) == 1 else ("hold", "they are", "their")
        words.append(
            f"{_count(len(without), 'gateway')} of these sessions {holds} no lease: "
            f"{it_is} gone or cannot reach Redis. If {it_is} gone, {its} sessions leave the registry within seconds, "
            "and their messages wait in the log."
        )
    if log.waiting:
        wait, it = ("waits", "it") if log.waiting == 1 else ("wait", "them")
        words.append(
            f"{_count(log.waiting, 'message')} before it {wait} in the log: as far as Redis knows, no session has "
            f"received {it} yet. Gateways report within a second what they have sent."
        )
    return words


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
