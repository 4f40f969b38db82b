"""Origins are compared as browsers send them."""

import pytest

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.origins import MAX_ORIGIN_CHARS, parse_origin


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("https://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("https://app.example.com:80", "https://app.example.com:80"),
        ("https://app.example.com:4430", "https://app.example.com:4430"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[2001:DB8::1]:80", "http://[2001:db8::1]"),
        ("http://[::80]", "http://[::80]"),
    ],
)
def test_what_an_author_writes_becomes_what_a_browser_sends(written: str, sent: str) -> None:
    assert parse_origin(written) == sent


@pytest.mark.parametrize(
    "text",
    ["", "null", "*", "app.example.com", "https://", "https://a/", "https://a/b", "https://a b", "https://u@a",
     "https://a?b", "wss://a", "https://ä", "https://a:", "https://a:0", "https://-a", "https://*.example.com"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="an origin such as"):
        parse_origin(text)


def test_one_character_too_many_is_refused() -> None:
    origin = "https://" + "a" * (MAX_ORIGIN_CHARS - len("https://"))
    assert parse_origin(origin) == origin
    with pytest.raises(InvalidInput):
        parse_origin(origin + "a")
