"""Header escapes of each version, whoever asks."""

import pytest

from pushcluster_gateway.stomp.errors import MalformedFrame
from pushcluster_gateway.stomp.escapes import decode, encode_header
from pushcluster_gateway.stomp.frames import Version


@pytest.mark.parametrize("text", ["plain", r"a\nb", r"a\q", "a\\"])
def test_1_0_has_no_escapes(text: str) -> None:
    assert decode(text, Version.V1_0) == text


@pytest.mark.parametrize("version", [Version.V1_1, Version.V1_2])
def test_a_backslash_alone_is_no_escape(version: Version) -> None:
    with pytest.raises(MalformedFrame, match=f"of STOMP {version}"):
        decode("a\\", version)


@pytest.mark.parametrize(
    ("version", "line"),
    [(Version.V1_0, b"a_b:c:\\d\n"), (Version.V1_1, b"a\\cb:c\\c\\\\d\n"), (Version.V1_2, b"a\\cb:c\\c\\\\d\n")],
)
def test_name_and_value_are_escaped_as_the_version_can(version: Version, line: bytes) -> None:
    assert encode_header("a:b", "c:\\d", version) == line
