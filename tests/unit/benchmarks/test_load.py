"""The parts of the load generators that a wrong figure would come from."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.spec import BasicProperties
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from benchmarks.publisher import Confirmed, encode_publish
from benchmarks.stomp_clients import encode_stamp, masked_text, split_stamps


@given(st.lists(st.floats(0, 1e6), max_size=5), st.lists(st.integers(0, 200), max_size=6), st.binary(max_size=20))
def test_every_stamp_is_found_once_however_the_bytes_are_split(
    times: list[float], cuts: list[int], rest: bytes
) -> None:
    filler = rest.replace(b"~", b"")
    data = b"".join(filler + encode_stamp(time) for time in times) + filler
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found: list[float] = []
    held = b""
    for begin, end in pairwise(edges):
        new, held = split_stamps(held + data[begin:end])
        found += new
    assert found == times


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=40))
def test_confirms_count_each_publish_once_in_any_order(acks: list[tuple[int, bool]]) -> None:
    confirmed, model = Confirmed(), set[int]()
    for number, multiple in acks:
        confirmed.settle(number, multiple=multiple)
        model |= set(range(1, number + 1)) if multiple else {number}
        assert confirmed.count == len(model)


def test_a_publish_encoded_in_parts_is_what_pika_would_send() -> None:
    properties = BasicProperties(headers={"destination": "/queue/demo"}, delivery_mode=2)
    head, tail = encode_publish(1, "push", "user-1", properties, 200)
    stamp = encode_stamp(12.5)
    data = head + stamp + tail
    frames = []
    while data:
        used, decoded = frame.decode_frame(data)
        assert decoded is not None
        frames.append(decoded)
        data = data[used:]
    method, header, body = frames
    assert isinstance(method, frame.Method)
    assert isinstance(method.method, spec.Basic.Publish)
    assert (method.method.exchange, method.method.routing_key) == ("push", "user-1")
    assert isinstance(header, frame.Header)
    assert (header.body_size, header.properties.headers) == (200, {"destination": "/queue/demo"})
    assert isinstance(body, frame.Body)
    assert body.fragment == stamp + b"." * (200 - len(stamp))


def test_a_client_frame_is_one_that_a_server_takes() -> None:
    for size in (5, 125, 126, 3_000):
        server = Protocol(Side.SERVER)
        server.receive_data(masked_text(b"x" * size))
        (received,) = server.events_received()
        assert isinstance(received, Frame)
        assert (received.opcode, received.data) == (Opcode.TEXT, b"x" * size)
