import pytest

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.errors import FrameTooLarge, MalformedFrame, ProtocolViolation, TooManyHeaders
from pushcluster_gateway.stomp.frames import Frame, Version
from pushcluster_gateway.stomp.parser import FrameParser
from tests.support.parsing import parse_pieces

LIMITS = Limits(max_frame_bytes=200, max_head_bytes=100, max_headers=5)


def parse(
    *pieces: bytes, version: Version | None = Version.V1_2, limits: Limits = LIMITS
) -> tuple[list[Frame], str | None]:
    """Return the frames, and the name of the error that ended them."""
    frames, violation = parse_pieces(pieces, version, limits)
    return frames, None if violation is None else type(violation).__name__


def parse_one(data: bytes, version: Version | None = Version.V1_2) -> Frame:
    frames, error = parse(data, version=version)
    assert error is None
    (frame,) = frames
    return frame


def test_a_frame_has_command_headers_and_body() -> None:
    assert parse_one(b"SEND\ndestination:/a\nx:1\n\nbody\0") == Frame("SEND", {"destination": "/a", "x": "1"}, b"body")


def test_of_repeated_headers_the_first_counts() -> None:
    assert parse_one(b"ACK\nid:1\nid:2\n\n\0").headers == {"id": "1"}


def test_content_length_lets_a_body_hold_nul() -> None:
    assert parse_one(b"SEND\ncontent-length:3\n\na\0b\0").body == b"a\0b"


def test_eols_between_frames_are_heart_beats() -> None:
    frames, error = parse(b"\n\r\n\nABORT\n\n\0\n\n\r\nBEGIN\n\n\0\n")
    assert [frame.command for frame in frames] == ["ABORT", "BEGIN"]
    assert error is None


def test_heart_beats_leave_nothing_in_memory() -> None:
    parser = FrameParser(LIMITS)
    for _ in range(1_000):
        parser.receive(b"\n" * 200)
        assert parser.next_frame() is None


@pytest.mark.parametrize(
    ("version", "raw", "value"),
    [
        (Version.V1_2, rb"a\nb\rc\cd\\e", "a\nb\rc:d\\e"),
        (Version.V1_1, rb"a\nb\cd\\e", "a\nb:d\\e"),
        (Version.V1_0, rb"a\nb\q", r"a\nb\q"),
        (Version.V1_0, b" trimmed ", "trimmed"),
        (Version.V1_1, b" kept ", " kept "),
        (None, rb"a\cb", "a:b"),
    ],
)
def test_escapes_are_those_of_the_version(version: Version | None, raw: bytes, value: str) -> None:
    assert parse_one(b"ACK\nid:" + raw + b"\n\n\0", version).headers == {"id": value}


@pytest.mark.parametrize(("version", "raw"), [(Version.V1_2, rb"\t"), (Version.V1_1, rb"\r"), (Version.V1_2, b"a\\")])
def test_an_escape_that_the_version_lacks_is_an_error(version: Version, raw: bytes) -> None:
    assert parse(b"ACK\nid:" + raw + b"\n\n\0", version=version) == ([], "MalformedFrame")


def test_connect_has_no_escapes() -> None:
    assert parse_one(rb"CONNECT" + b"\nlogin:a\\cb\n\n\0", None).headers == {"login": r"a\cb"}


def test_lines_may_end_in_cr_lf_in_1_2_and_before_the_version_is_known() -> None:
    for version in (Version.V1_2, None):
        assert parse_one(b"ACK\r\nid:1\r\n\r\n\0", version).headers == {"id": "1"}


def test_in_1_0_a_cr_is_padding_and_in_1_1_an_octet_like_any_other() -> None:
    data = b"ACK\r\nid:1\r\n\n\0"
    assert parse_one(data, Version.V1_0) == Frame("ACK", {"id": "1"})
    assert parse_one(data, Version.V1_1) == Frame("ACK\r", {"id": "1\r"})


@pytest.mark.parametrize("data", [b"ACK\nid:1\r2\n\n\0", b"A\rCK\n\n\0", b"ACK\ni\rd:1\n\n\0", b"ACK\nid:1\r\r\n\n\0"])
def test_in_1_2_a_cr_stands_only_before_a_lf(data: bytes) -> None:
    assert parse(data) == ([], "MalformedFrame")
    for version in (None, Version.V1_0, Version.V1_1):
        assert parse(data, version=version)[1] is None


def test_a_body_may_hold_anything_but_nul_and_with_its_length_nul_too() -> None:
    body = bytes(range(1, 200))
    assert parse_one(b"SEND\n\n" + body + b"\0").body == body
    assert parse_one(b"SEND\ncontent-length:200\n\n" + b"\0" + body + b"\0").body == b"\0" + body


def test_of_repeated_lengths_the_first_counts() -> None:
    assert parse_one(b"SEND\ncontent-length:1\ncontent-length:9\n\na\0").body == b"a"


def test_a_header_may_be_empty_or_hold_colons() -> None:
    assert parse_one(b"ACK\nid:\nx:a:b:\n\n\0").headers == {"id": "", "x": "a:b:"}


def test_names_are_escaped_like_values() -> None:
    assert parse_one(b"ACK\nx\\cy:1\n\n\0").headers == {"x:y": "1"}


def test_a_length_has_at_most_twelve_digits() -> None:
    assert parse_one(b"SEND\ncontent-length:000000000001\n\na\0").body == b"a"
    assert parse(b"SEND\ncontent-length:0000000000001\n\na\0") == ([], "FrameTooLarge")


@pytest.mark.parametrize("version", [None, Version.V1_0])
def test_a_length_may_be_padded_where_1_0_may_be_spoken(version: Version | None) -> None:
    assert parse_one(b"CONNECT\ncontent-length: 1 \n\na\0", version).body == b"a"
    assert parse(b"SEND\ncontent-length: 1\n\na\0", version=Version.V1_1) == ([], "MalformedFrame")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"ACK\nid\n\n\0", MalformedFrame),
        (b"ACK\n:x\n\n\0", MalformedFrame),
        (b"GARBAGE\0", MalformedFrame),
        (b"\xff\xfe\n\n\0", MalformedFrame),
        (b"SEND\ncontent-length:x\n\n\0", MalformedFrame),
        (b"SEND\ncontent-length:-1\n\n\0", MalformedFrame),
        ("SEND\ncontent-length:²\n\n\0".encode(), MalformedFrame),
        (b"SEND\ncontent-length:2\n\nabc\0", MalformedFrame),
        (b"SEND\ncontent-length:201\n\n", FrameTooLarge),
        (b"SEND\ncontent-length:" + b"9" * 60 + b"\n\n", FrameTooLarge),
        (b"ACK\n" + b"a:b\n" * 6 + b"\n\0", TooManyHeaders),
    ],
)
def test_what_is_no_frame_is_a_named_error(data: bytes, error: type[ProtocolViolation]) -> None:
    assert parse(data) == ([], error.__name__)


def head_of(size: int) -> bytes:
    return b"ACK\nid:" + b"x" * (size - len(b"ACK\nid:"))


@pytest.mark.parametrize("blank", [b"\n\n", b"\n\r\n"])
def test_a_head_of_just_the_limit_is_taken_and_one_byte_more_is_not(blank: bytes) -> None:
    assert parse(head_of(100) + blank + b"\0")[1] is None
    assert parse(head_of(101) + blank + b"\0") == ([], "FrameTooLarge")


def test_a_head_without_end_is_refused_before_it_is_held() -> None:
    parser = FrameParser(LIMITS)
    for _ in range(LIMITS.max_head_bytes + 2):
        parser.receive(b"x")
        assert parser.next_frame() is None
    parser.receive(b"x")
    with pytest.raises(FrameTooLarge):
        parser.next_frame()


@pytest.mark.parametrize("headers", [b"", b"content-length:%d\n"])
def test_a_body_of_just_the_limit_is_taken_and_one_byte_more_is_not(headers: bytes) -> None:
    for size, error in ((200, None), (201, "FrameTooLarge")):
        head = b"SEND\n" + (headers % size if headers else b"") + b"\n"
        assert parse(head, b"x" * size, b"\0")[1] == error


def test_the_limit_of_headers_is_exact() -> None:
    assert parse(b"ACK\n" + b"".join(b"h%d:v\n" % n for n in range(5)) + b"\n\0")[1] is None


def test_what_waits_is_bounded_by_one_read_and_what_was_unfinished_before_it() -> None:
    limits = Limits(max_frame_bytes=200, max_head_bytes=100, max_read_bytes=1_000)
    parser = FrameParser(limits)
    parser.receive(b"SEND\n\n" + b"x" * 199)
    assert parser.next_frame() is None
    parser.receive(b"x" * 1_200)
    assert parser.held_bytes == 1_399
    parser.receive(b"x" * 101)
    with pytest.raises(FrameTooLarge):
        parser.receive(b"x")
