"""Feeding the STOMP parser, as all tests of it do."""

from collections.abc import Iterable

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.errors import ProtocolViolation
from pushcluster_gateway.stomp.frames import Frame, Version
from pushcluster_gateway.stomp.parser import FrameParser


def parse_pieces(
    pieces: Iterable[bytes], version: Version | None, limits: Limits, *, most_held: int | None = None
) -> tuple[list[Frame], ProtocolViolation | None]:
    """Return the frames, and what ended them; after each piece at most `most_held` bytes may be held."""
    parser = FrameParser(limits)
    parser.version = version
    frames: list[Frame] = []
    try:
        for piece in pieces:
            parser.receive(piece)
            while (frame := parser.next_frame()) is not None:
                frames.append(frame)
            assert most_held is None or parser.held_bytes <= most_held
    except ProtocolViolation as violation:
        return frames, violation
    return frames, None
