"""Models of what stands outside: producers, devices with their STOMP clients, and the network between."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pika.spec import BasicProperties

from pushcluster_contract.headers import DESTINATION
from pushcluster_contract.ids import StreamId
from tests.simulation.programs import Gateway
from tests.simulation.sockets import Socket
from tests.support.delivery_log import Attempt, Seen, Subscribed

if TYPE_CHECKING:
    from tests.simulation.lies import Lies

RETRY_S: Final = 0.3
SURE_TTL_MS: Final = 60_000
"""A message that may wait for so long outlives its schedule, unless somebody sets a clock."""


@dataclass(slots=True)
class _Session:
    """One connection of a device."""

    socket: Socket
    subs: dict[str, "_Sub"] = field(default_factory=dict)
    pending: bytes = b""


@dataclass(slots=True)
class _Sub:
    """One subscription of the session that stands."""

    destination: str
    record: Subscribed
    to_ack: list[str] = field(default_factory=list)


class Device:
    """One device of a user: a STOMP client that reconnects for ever."""

    def __init__(
        self, world: Any, name: str, user: str, destinations: tuple[str, ...], *, ack: str, resumes: bool
    ) -> None:
        self.name = name
        self.user = user
        self.ack = ack
        self.resumes = resumes
        self.wanted = False
        self.slow = False
        self.lies: Lies | None = None
        """What it says instead of the truth about what it has; None: it is honest."""
        self._world = world
        self._destinations = destinations
        self._last_ids: dict[str, StreamId] = {}
        self._session: _Session | None = None
        self._sessions: dict[Socket, _Session] = {}
        self._subscriptions_made = 0

    @property
    def records(self) -> list[Subscribed]:
        """The subscriptions that stand."""
        if self._session is None:
            return []
        return [sub.record for sub in self._session.subs.values() if sub.record.open]

    @property
    def gateway(self) -> Gateway | None:
        """What it is connected to."""
        return None if self._session is None else self._session.socket.gateway

    @property
    def settled(self) -> bool:
        """Whether every subscription stands and nothing waits for an ACK."""
        if self._session is None or self._session.socket.dark:
            return False
        subs = [sub for sub in self._session.subs.values() if sub.record.open]
        return len(subs) == len(self._destinations) and all(
            sub.record.subscribed_at is not None and not sub.to_ack for sub in subs
        )

    def connect(self) -> None:
        """Connect to some gateway that is ready, now or as soon as there is one."""
        world = self._world
        if self._session is not None or not self.wanted:
            return
        gateway = world.choose_gateway()
        if gateway is None:
            world.loop.call_later(RETRY_S, self.connect)
            return
        kernel = 60 + int(world.random() * 400) if world.random() < 0.3 else 10_000
        socket = Socket(world, gateway, self, world.next_number(), kernel)
        self._session = _Session(socket)
        self._sessions[socket] = self._session
        socket.handler = gateway.open(socket)
        world.trace("{} connects to {}", self.name, gateway.name)
        socket.client_sends(b"CONNECT\naccept-version:1.2\nhost:x\nlogin:%b\n\n\0" % self.user.encode())

    def disconnect(self, *, noticed_after_s: float) -> None:
        """Go without a word. Until the gateway notices, its kernel may go on taking what nobody will read."""
        session = self._session
        if session is not None:
            self._world.trace("{} loses its connection", self.name)
            session.socket.cut(noticed_after_s)
            self._note_unread(session)
            self._end(session)

    def go_dark(self, *, noticed_after_s: float, notices_after_s: float) -> None:
        """Lose the network without a word. The gateway notices after the first time, the device after the other."""
        session = self._session
        if session is not None and not session.socket.dark:
            self._world.trace("{} goes dark", self.name)
            session.socket.cut(noticed_after_s)
            self._world.loop.call_later(notices_after_s, self.disconnect_from, session.socket)

    def disconnect_from(self, socket: Socket) -> None:
        """The connection was reset."""
        if self._session is not None and self._session.socket is socket:
            self.disconnect(noticed_after_s=0.0)

    def closed(self, socket: Socket) -> None:
        """The gateway has closed the connection, or died."""
        session = self._session
        if session is not None and session.socket is socket and not socket.dark:
            while data := socket.client_reads():
                self._receive(session, data)
            self._world.trace("{} is disconnected", self.name)
            self._end(session)

    def readable(self, socket: Socket) -> None:
        """Something has come."""
        session = self._sessions[socket]
        if session is not self._session:
            return
        if self.slow:
            self._world.loop.call_later(0.5, self.readable, socket)
        elif data := socket.client_reads():
            self._receive(session, data)

    def resubscribe(self) -> None:
        """UNSUBSCRIBE and SUBSCRIBE again in the same session."""
        session = self._session
        if session is None or not self.settled:
            return
        for key, sub in session.subs.items():
            if not sub.record.open:
                continue
            session.socket.client_sends(b"UNSUBSCRIBE\nid:%b\n\n\0" % key.encode())
            sub.record.open = False
        self._subscribe_all(session)

    def _end(self, session: _Session) -> None:
        for sub in session.subs.values():
            sub.record.open = False
        self._session = None
        if self.wanted:
            self._world.loop.call_later(self._world.random() * 1.0, self.connect)

    def _receive(self, session: _Session, data: bytes) -> None:
        *frames, session.pending = (session.pending + data).split(b"\0")
        for frame in frames:
            self._handle(session, frame)

    def _handle(self, session: _Session, frame: bytes) -> None:
        command, headers, body = _parse(frame)
        if command == "MESSAGE":
            self._message(session, headers, body)
        elif command == "CONNECTED":
            self._subscribe_all(session)
        elif command == "RECEIPT":
            record = session.subs[headers["receipt-id"]].record
            record.subscribed_at = self._world.loop.time()
            record.recovered = _recovered(headers)
        elif command == "ERROR":
            self._world.trace("{} gets ERROR {} {}", self.name, headers.get("message"), body.strip())

    def _subscribe_all(self, session: _Session) -> None:
        for destination in self._destinations:
            self._subscriptions_made += 1
            key = f"s{self._subscriptions_made}"
            last = self._last_ids.get(destination) if self.resumes else None
            lie = self.lies.claim(self.user, destination) if self.lies is not None else None
            last = last if lie is None else lie
            record = Subscribed(self.name, self.ack != "auto", last, lies=lie is not None, open=True)
            record.session = str(session.socket.number)
            record.asked_at = self._world.loop.time()
            session.subs[key] = _Sub(destination, record)
            self._world.history(self.user, destination).subscriptions.append(record)
            self._world.trace("{} subscribes to {} after {}{}", self.name, destination, last, " (a lie)" * record.lies)
            head = f"SUBSCRIBE\ndestination:/user{destination}\nid:{key}\nack:{self.ack}\nreceipt:{key}\n"
            resume = f"last-message-id:{last}\n" if last is not None else ""
            session.socket.client_sends(f"{head}{resume}\n\0".encode())

    def _message(self, session: _Session, headers: dict[str, str], body: str) -> None:
        sub = session.subs[headers["subscription"]]
        id_ = StreamId.parse(headers["message-id"])
        if not sub.record.open:
            sub.record.unread.add(id_)  # on its way when the subscription was left
            return
        recovered = _recovered(headers)
        self._world.trace("{} gets {} {} {} {}", self.name, id_, body, recovered, headers.get("redelivered"))
        sub.record.seen.append(Seen(id_, body, headers.get("redelivered") == "true", recovered))
        self._last_ids[sub.destination] = max(id_, self._last_ids.get(sub.destination, id_))
        if self.ack != "auto":
            sub.to_ack.append(headers["ack"])
            self._world.loop.call_later(self._world.random() * 0.4, self._acknowledge, session, sub)

    def _acknowledge(self, session: _Session, sub: _Sub) -> None:
        if self._session is not session or not sub.record.open or not sub.to_ack or session.socket.dark:
            return
        if self.slow:
            self._world.loop.call_later(0.5, self._acknowledge, session, sub)
            return
        if self.ack == "client":
            acks, sub.to_ack = sub.to_ack, []
            ack = acks[-1]
        else:
            ack = sub.to_ack.pop(int(self._world.random() * len(sub.to_ack)))
            acks = [ack]
        command = "NACK" if self._world.random() < 0.05 else "ACK"
        sub.record.handled.update(StreamId.parse(each.partition("/")[2]) for each in acks)
        session.socket.client_sends(f"{command}\nid:{ack}\n\n\0".encode())

    def _note_unread(self, session: _Session) -> None:
        *frames, session.pending = (session.pending + session.socket.take_unread()).split(b"\0")
        for frame in frames:
            command, headers, _ = _parse(frame)
            sub = session.subs.get(headers.get("subscription", ""))
            if command == "MESSAGE" and sub is not None:
                sub.record.unread.add(StreamId.parse(headers["message-id"]))


def _parse(frame: bytes) -> tuple[str, dict[str, str], str]:
    head, _, body = frame.lstrip(b"\n").decode().partition("\n\n")
    command, *lines = head.split("\n")
    return command, dict(line.split(":", 1) for line in lines), body


def _recovered(headers: dict[str, str]) -> bool | None:
    value = headers.get("recovered")
    return None if value is None else value == "true"


class Producer:
    """A back end that publishes to one user's destination and sends again, in order, what was not confirmed."""

    def __init__(self, world: Any, user: str, destination: str, *, identifies: bool) -> None:
        self._world = world
        self.user = user
        self.destination = destination
        self._identifies = identifies
        self._history = world.history(user, destination)
        self._unconfirmed: dict[int, BasicProperties] = {}
        self._sent: set[int] = set()
        self._connection = 0
        self._connected = False
        self._connect()

    @property
    def settled(self) -> bool:
        return not self._unconfirmed

    def publish(self, ttl_ms: int = 0) -> None:
        """Publish the next message."""
        attempts: list[Attempt] = self._history.attempts
        number = len(attempts)
        body = f"{self.user}{self.destination}#{number}"
        expires = bool(ttl_ms) and (ttl_ms < SURE_TTL_MS or not self._world.redis_clock_is_steady)
        attempts.append(Attempt(body, self._world.loop.time(), expires=expires, identified=self._identifies))
        properties = BasicProperties(
            message_id=body if self._identifies else None,
            headers={DESTINATION: self.destination},
            expiration=str(ttl_ms) if ttl_ms else None,
        )
        self._unconfirmed[number] = properties
        self._send(number, properties)

    def lose_connection(self) -> None:
        """The connection breaks; what is on the way may arrive or not, and confirms do not."""
        self._connected = False
        self._connection += 1
        self._world.loop.call_later(RETRY_S, self._connect)

    def _connect(self) -> None:
        if self._connected:
            return
        if not self._world.broker.up:
            self._world.loop.call_later(RETRY_S, self._connect)
            return
        self._connected = True
        for number, properties in self._unconfirmed.items():
            self._send(number, properties)

    def _send(self, number: int, properties: BasicProperties) -> None:
        if self._connected:
            if number in self._sent:
                self._history.attempts[number].published_again_at.append(self._world.loop.time())
            self._sent.add(number)
            body = self._history.attempts[number].body.encode()
            connection = self._connection

            def confirm() -> None:
                if connection == self._connection:
                    self._history.attempts[number].confirmed = True
                    self._unconfirmed.pop(number, None)

            self._world.broker.publish(self.user, properties, body, confirm)
