"""WebSocket frames that the gateway writes."""

import pytest
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from pushcluster_gateway.transport.frame_writer import encode_message


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize(("octet", "opcode"), [(b"a", Opcode.TEXT), (b"\xff", Opcode.BINARY)])
def test_data_frames_are_those_of_the_websockets_library(size: int, octet: bytes, opcode: Opcode) -> None:
    data = octet * size
    expected = opcode if size else Opcode.TEXT
    assert encode_message(data) == WebSocketFrame(expected, data).serialize(mask=False)


def test_text_that_is_not_ascii_stays_text() -> None:
    assert encode_message("é".encode())[0] == 0x80 | Opcode.TEXT
