"""What each request does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from aiohttp import web
from pika.spec import BasicProperties

from pushcluster_contract.api_keys import Scope
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.outcomes import MessageOutcome
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_dispatcher.api.batch import MAX_BATCH_BYTES, parse_batch
from pushcluster_dispatcher.api.explain import LogFacts, describe_session, explain_route
from pushcluster_dispatcher.api.openapi import build_document
from pushcluster_dispatcher.api.problems import Problem
from pushcluster_dispatcher.api.publication import Publication
from pushcluster_dispatcher.api.replies import (
    MAX_WAITING,
    Collected,
    Replies,
    TooManyWaiting,
    Waiter,
)
from pushcluster_dispatcher.api.requests import (
    check_query,
    parse_destination,
    parse_session,
    parse_user,
    parse_wait_s,
    read_body,
    read_publication,
    require_json,
)

MAX_BATCHES: Final = 16
"""How many batches one dispatcher works on at the same time."""
BATCH_WINDOW: Final = 50
"""How many messages of one batch wait for the broker's confirm at the same time."""

Handler = Callable[[web.Request], Awaitable[web.Response]]
Answer = dict[str, Any]


class Broker(Protocol):
    """What the API needs from RabbitMQ (`IngressPublisher`)."""

    async def publish(self, user: str, body: bytes, properties: BasicProperties) -> None:
        """Return once the message is safe. Raises Unavailable."""

    async def disconnect(self, user: str, sid: str, incarnation: Incarnation) -> bool:
        """Tell a gateway to end a session. Return False if there is no such gateway now. Raises Unavailable."""


class UserStore(Protocol):
    """What the API needs from Redis (`UserDirectory`)."""

    async def sessions(self, user: str) -> dict[str, SessionEntry]:
        """Return the user's sessions by id."""

    async def log_facts(self, user: str, destination: Destination) -> LogFacts:
        """Return the state of the log."""

    async def leases(self, incarnations: Sequence[Incarnation]) -> dict[Incarnation, bool]:
        """Return which gateway processes hold their lease."""

    async def forget(self, user: str) -> int:
        """Delete the user's logs. Return how many there were."""


@dataclass(frozen=True, slots=True)
class ApiServices:
    """What the handlers use."""

    broker: Broker
    users: UserStore
    replies: Replies
    mode: RoutingMode
    new_message_id: Callable[[], str]
    """Returns an id for a message that comes without one."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    """What a key must allow. None: no key is needed."""


class Routes:
    """The handlers. `table` lists them."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services
        self._document = build_document()
        self._batches = 0

    def table(self) -> tuple[Route, ...]:
        """Return all operations."""
        return (
            Route("GET", "/openapi.json", self._get_openapi, None),
            Route("POST", "/v1/users/{user}/messages", self._post_message, Scope.PUBLISH),
            Route("POST", "/v1/messages:batch", self._post_batch, Scope.PUBLISH),
            Route("GET", "/v1/users/{user}/sessions", self._get_sessions, Scope.READ),
            Route("DELETE", "/v1/users/{user}/sessions/{session}", self._delete_session, Scope.MANAGE),
            Route("GET", "/v1/users/{user}/route", self._get_route, Scope.READ),
            Route("DELETE", "/v1/users/{user}", self._delete_user, Scope.MANAGE),
        )

    async def _get_openapi(self, _: web.Request) -> web.Response:
        response = web.json_response(self._document)
        response.force_close()  # the client has shown no key, so it gets one answer and no more
        return response

    async def _post_message(self, request: web.Request) -> web.Response:
        """Publish one message. Answer once it is safe, or once its outcomes are known."""
        check_query(request, "destination", "expiration", "wait")
        wait_s = parse_wait_s(request)
        publication = await read_publication(request, spare_message_id=self._services.new_message_id())
        answer: Answer = {
            "status": "accepted",
            "user": publication.user,
            "destination": str(publication.destination),
            "messageId": publication.message_id,
        }
        if wait_s is None:
            await self._publish(publication, None)
            return web.json_response(answer, status=HTTPStatus.ACCEPTED)
        deadline = asyncio.get_running_loop().time() + wait_s
        with ExitStack() as waiting:
            waiter = self._wait_inside(waiting)
            await self._publish(publication, waiter)
            collected = await self._collect(publication, waiter, deadline)
        if collected.conflict:
            raise Problem(HTTPStatus.CONFLICT, collected.conflict)
        status = HTTPStatus.OK if collected.complete else HTTPStatus.ACCEPTED
        return web.json_response({**answer, "outcomes": describe_outcomes(collected)}, status=status)

    async def _post_batch(self, request: web.Request) -> web.Response:
        """Publish many messages, each independently."""
        check_query(request, "wait")
        wait_s = parse_wait_s(request)
        require_json(request)
        if self._batches >= MAX_BATCHES:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"this dispatcher is already working on {MAX_BATCHES} batches; try again later",
            )
        self._batches += 1
        try:
            messages = parse_batch(await read_body(request, MAX_BATCH_BYTES), self._services.new_message_id)
            results = await self._publish_batch(messages, wait_s)
        finally:
            self._batches -= 1
        accepted = sum(result["status"] < HTTPStatus.BAD_REQUEST for result in results)
        status = HTTPStatus.ACCEPTED if accepted == len(results) else HTTPStatus.MULTI_STATUS
        return web.json_response({"accepted": accepted, "results": results}, status=status)

    async def _publish_batch(
        self, messages: Sequence[Publication | InvalidInput], wait_s: float | None
    ) -> list[Answer]:
        deadline = asyncio.get_running_loop().time() + (wait_s or 0)
        with ExitStack() as waiting:
            waiters = [
                self._wait_inside(waiting) if wait_s is not None and isinstance(message, Publication) else None
                for message in messages
            ]
            results: list[Answer] = []
            for start in range(0, len(messages), BATCH_WINDOW):
                window = slice(start, start + BATCH_WINDOW)
                # Tasks start in this order, and each hands its message over at once: a user's messages keep theirs.
                results += await asyncio.gather(*map(self._publish_one, messages[window], waiters[window]))
            for message, waiter, result in zip(messages, waiters, results, strict=True):
                if isinstance(message, Publication) and waiter is not None and result["status"] == HTTPStatus.ACCEPTED:
                    result.update(describe_result(await self._collect(message, waiter, deadline)))
        return results

    async def _publish_one(self, message: Publication | InvalidInput, waiter: Waiter | None) -> Answer:
        if isinstance(message, InvalidInput):
            return {"status": int(HTTPStatus.BAD_REQUEST), "detail": str(message)}
        answer: Answer = {
            "status": int(HTTPStatus.ACCEPTED),
            "user": message.user,
            "destination": str(message.destination),
            "messageId": message.message_id,
        }
        try:
            await self._publish(message, waiter)
        except Unavailable as error:
            return {**answer, "status": int(HTTPStatus.SERVICE_UNAVAILABLE), "detail": str(error)}
        return answer

    async def _publish(self, publication: Publication, waiter: Waiter | None) -> None:
        properties = publication.properties(None if waiter is None else waiter.address)
        await self._services.broker.publish(publication.user, publication.body, properties)

    def _wait_inside(self, stack: ExitStack) -> Waiter:
        try:
            return stack.enter_context(self._services.replies.waiting())
        except TooManyWaiting:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"this dispatcher already waits for the outcomes of {MAX_WAITING} messages",
            ) from None

    async def _collect(self, publication: Publication, waiter: Waiter, deadline: float) -> Collected:
        """Return what is known of a message by the deadline, or once all is known."""
        collected = await waiter.wait_until(deadline)
        if not collected.complete and not collected.sessions:
            collected.sessions = await self._subscribed(publication)
        return collected

    async def _subscribed(self, publication: Publication) -> tuple[str, ...]:
        """Return whose outcomes are missing if nobody has reported: the sessions that are there now."""
        try:
            sessions = await self._services.users.sessions(publication.user)
        except Unavailable:
            return ()
        return tuple(sid for sid, entry in sessions.items() if publication.destination in entry.destinations)

    async def _get_sessions(self, request: web.Request) -> web.Response:
        check_query(request)
        user = parse_user(request)
        sessions = await self._services.users.sessions(user)
        described = [describe_session(sid, entry) for sid, entry in sorted(sessions.items())]
        return web.json_response({"user": user, "sessions": described})

    async def _delete_session(self, request: web.Request) -> web.Response:
        """Tell a session's gateway to end the session."""
        check_query(request)
        user, sid = parse_user(request), parse_session(request)
        entry = (await self._services.users.sessions(user)).get(sid)
        if entry is None:
            raise Problem(HTTPStatus.NOT_FOUND, "the user has no such session")
        if not await self._services.broker.disconnect(user, sid, entry.incarnation):
            raise Unavailable(
                "the session's gateway cannot be reached now; if it is gone, its sessions will soon be gone too"
            )
        return web.json_response(
            {"user": user, "session": sid, "incarnation": str(entry.incarnation)}, status=HTTPStatus.ACCEPTED
        )

    async def _get_route(self, request: web.Request) -> web.Response:
        """Explain where a message would go."""
        check_query(request, "destination")
        services, user, destination = self._services, parse_user(request), parse_destination(request)
        sessions = await services.users.sessions(user)
        leases = await services.users.leases([entry.incarnation for entry in sessions.values()])
        log = await services.users.log_facts(user, destination)
        return web.json_response(
            explain_route(services.mode, user, destination, sessions=sessions, leases=leases, log=log)
        )

    async def _delete_user(self, request: web.Request) -> web.Response:
        """Forget a user. The logs go first, so that a client which comes back at once is told about the gap."""
        check_query(request)
        services, user = self._services, parse_user(request)
        destinations = await services.users.forget(user)
        sessions = await services.users.sessions(user)
        told = await asyncio.gather(
            *(services.broker.disconnect(user, sid, entry.incarnation) for sid, entry in sessions.items())
        )
        return web.json_response(
            {"user": user, "destinations": destinations, "sessions": sum(told), "unreachable": len(told) - sum(told)}
        )


def describe_result(collected: Collected) -> Answer:
    """Return the part of a batch's result that says what became of a published message. Pure."""
    if collected.conflict:
        return {"status": int(HTTPStatus.CONFLICT), "detail": collected.conflict}
    status = HTTPStatus.OK if collected.complete else HTTPStatus.ACCEPTED
    return {"status": int(status), "outcomes": describe_outcomes(collected)}


def describe_outcomes(collected: Collected) -> list[Answer]:
    """Return one outcome for each session: what was reported, and `pending` for the rest. Pure."""
    if collected.whole is not None:
        report = collected.whole
        return [{"outcome": report.outcome.value, **({"reason": report.reason} if report.reason else {})}]
    heard = [
        {"outcome": report.outcome.value, "session": sid, "gateway": report.gateway}
        for sid, report in sorted(collected.by_session.items())
    ]
    silent = sorted(set(collected.sessions) - collected.by_session.keys())
    pending = [{"outcome": MessageOutcome.PENDING.value, "session": sid} for sid in silent]
    return heard + pending or [{"outcome": MessageOutcome.PENDING.value}]
