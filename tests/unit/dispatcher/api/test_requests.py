"""What a request's query means."""

import pytest
from aiohttp.test_utils import make_mocked_request

from pushcluster_contract.errors import InvalidInput
from pushcluster_dispatcher.api.requests import parse_wait_s


@pytest.mark.parametrize(
    ("query", "wait_s"), [("", None), ("?wait=1", 0.001), ("?wait=2500", 2.5), ("?wait=30000", 30.0)]
)
def test_a_wait_is_asked_for_in_milliseconds(query: str, wait_s: float | None) -> None:
    assert parse_wait_s(make_mocked_request("POST", f"/{query}")) == wait_s


@pytest.mark.parametrize("text", ["", "0", "30001", "000001", "-5", "1.5", "1e3", "%C2%B2", "%D9%A3"])
def test_a_wait_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="from 1 to 30000"):
        parse_wait_s(make_mocked_request("POST", f"/?wait={text}"))
