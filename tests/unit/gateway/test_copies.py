"""Where copies enter: what is one, and what is not."""

from typing import Any

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import COPY_DESTINATION, COPY_EXPIRES_MS, COPY_ID, COPY_USER
from pushcluster_contract.ids import StreamId
from pushcluster_contract.log import LogEntry
from pushcluster_gateway.copies import Copy, parse_copy

DEMO = Destination("queue", "demo")


class TestCopies:
    headers: dict[str, Any] = {COPY_ID: "5-2", COPY_USER: "alice", COPY_DESTINATION: "/queue/demo"}  # noqa: RUF012

    def test_a_copy_is_read(self) -> None:
        properties = BasicProperties(
            content_type="text/plain",
            message_id="m",
            headers={**self.headers, COPY_EXPIRES_MS: 9, "x-a": "1", "x-death": [], "pc-seq": 3},
        )
        entry = LogEntry(StreamId(5, 2), b"body", "text/plain", "m", {"x-a": "1"}, 9)
        assert parse_copy(properties, b"body") == Copy("alice", DEMO, entry)

    @pytest.mark.parametrize("name", [COPY_ID, COPY_USER, COPY_DESTINATION])
    def test_a_copy_without_its_headers_is_none(self, name: str) -> None:
        for wrong in ({**self.headers, name: None}, {**self.headers, name: 5}):
            with pytest.raises(InvalidInput, match=name):
                parse_copy(BasicProperties(headers=wrong), b"")

    @pytest.mark.parametrize("wrong", [{COPY_ID: "x"}, {COPY_DESTINATION: "/queue/a.b"}, {COPY_EXPIRES_MS: "soon"}])
    def test_a_copy_with_wrong_headers_is_none(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput):
            parse_copy(BasicProperties(headers=self.headers | wrong), b"")

    def test_a_message_without_headers_is_no_copy(self) -> None:
        with pytest.raises(InvalidInput):
            parse_copy(BasicProperties(), b"")
