"""Which protocols of websockets can be lent to the next connection."""

import asyncio
import logging

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol

from pushcluster_gateway.transport.protocol_pool import MAX_IDLE_PROTOCOLS, ProtocolPool, is_between_messages
from tests.support.fake_services import running_server
from tests.support.waiting import eventually

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def pool() -> ProtocolPool:
    return ProtocolPool(max_size=100_000, logger=logging.getLogger("test"))


def frame(data: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def feed(protocol: Protocol, data: bytes) -> None:
    protocol.receive_data(data)
    protocol.events_received()
    protocol.data_to_send()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 70_000])
def test_only_after_the_last_byte_of_a_frame_it_holds_nothing(size: int) -> None:
    protocol = pool().lend()
    data = frame(b"x" * size)
    for position in range(min(len(data), 40)):
        assert is_between_messages(protocol) == (position == 0)
        feed(protocol, data[position : position + 1])
    feed(protocol, data[40:])
    assert is_between_messages(protocol)


def test_what_nobody_has_taken_yet_keeps_it() -> None:
    protocol = pool().lend()
    protocol.receive_data(frame(b"x"))
    assert not is_between_messages(protocol)
    protocol.events_received()
    assert is_between_messages(protocol)
    protocol.receive_data(frame(b"p", Opcode.PING))
    protocol.events_received()
    assert not is_between_messages(protocol), "the pong"
    protocol.data_to_send()
    assert is_between_messages(protocol)


def test_a_message_that_goes_on_keeps_it() -> None:
    protocol = pool().lend()
    feed(protocol, frame(b"x", fin=False))
    assert not is_between_messages(protocol)
    feed(protocol, frame(b"p", Opcode.PONG))
    assert not is_between_messages(protocol)
    feed(protocol, frame(b"x", Opcode.CONT))
    assert is_between_messages(protocol)


def test_a_connection_that_closes_or_failed_keeps_it() -> None:
    closing, failed, ended = pool().lend(), pool().lend(), pool().lend()
    closing.send_close(1000, "")
    closing.data_to_send()
    feed(failed, b"\xff\xff")
    ended.receive_eof()
    ended.data_to_send()
    for protocol in (closing, failed, ended):
        assert not is_between_messages(protocol)
        assert not pool().give_back(protocol)


def test_a_protocol_that_comes_back_is_lent_again() -> None:
    lender = pool()
    protocol = lender.lend()
    feed(protocol, frame(b"x"))
    assert lender.give_back(protocol)
    assert lender.lend() is protocol
    assert lender.lend() is not protocol


def test_the_protocol_of_a_handshake_is_left_to_itself() -> None:
    lender = pool()
    protocol = ServerProtocol()
    protocol.receive_data(HANDSHAKE)
    assert not lender.give_back(protocol), "in its handshake"
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    assert protocol.state is State.OPEN
    assert lender.give_back(protocol)
    assert len(lender) == 0


def test_one_more_than_may_wait_is_left_to_itself() -> None:
    lender = pool()
    lent = [lender.lend() for _ in range(MAX_IDLE_PROTOCOLS + 1)]
    assert all(lender.give_back(protocol) for protocol in lent)
    assert len(lender) == MAX_IDLE_PROTOCOLS


async def test_connections_that_send_in_turns_and_in_pieces_share_protocols_and_mix_up_nothing() -> None:
    async with running_server() as server:
        server.services.grant = False
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        for _, writer in pairs:
            writer.write(HANDSHAKE)
        for reader, _ in pairs:
            await reader.readuntil(b"\r\n\r\n")
        connections = list(server.server.connections)
        await eventually(lambda: all(connection._protocol is None for connection in connections), within_s=2)
        messages = [frame(f"BEGIN\ntransaction:{n}".encode() * 20) for n in range(5)]
        for at in range(0, len(messages[0]), 50):
            for (_, writer), message in zip(pairs, messages, strict=True):
                writer.write(message[at : at + 50])
            await asyncio.sleep(0.001)
        held = [connection.handler.stomp._parser for connection in connections]  # type: ignore[union-attr]
        await eventually(lambda: all(parser.held_bytes == 19 * 20 for parser in held), within_s=2)
        assert sorted(bytes(parser._buffer) for parser in held) == [
            f"BEGIN\ntransaction:{n}".encode() * 20 for n in range(5)
        ]
        assert all(connection._protocol is None for connection in connections)
        assert 1 < len(server.server.protocols) <= 5
        for _, writer in pairs:
            writer.close()


async def test_what_a_client_sends_in_one_piece_with_its_handshake_is_heard() -> None:
    async with running_server() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HANDSHAKE + frame(b"", Opcode.PING)[:3])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(b"", Opcode.PING)[3:])
        assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\x8a\x00", "the pong"
        writer.close()
