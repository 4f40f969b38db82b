import re

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys, encode_member, parse_lease, parse_member
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry

KEYS = Keys("shop.demo")
QUEUE = Destination("queue", "demo")
SID = "a" * 26
INCARNATION = Incarnation("uid-1", "0123456789abcdef")


def test_keys_have_their_documented_form() -> None:
    assert KEYS.sessions("alice") == "pc:shop.demo:{YWxpY2U}:sessions"
    assert KEYS.log("alice", QUEUE) == "pc:shop.demo:{YWxpY2U}:log:queue:demo"
    assert KEYS.meta("alice", QUEUE) == "pc:shop.demo:{YWxpY2U}:meta:queue:demo"
    assert KEYS.destinations("alice") == "pc:shop.demo:{YWxpY2U}:destinations"
    assert KEYS.recipients("alice", QUEUE) == "pc:shop.demo:{YWxpY2U}:recipients:queue:demo"
    assert KEYS.gateways == "pc:shop.demo:gateways"
    assert KEYS.without_broker == "pc:shop.demo:without-broker"
    assert KEYS.gateway(INCARNATION) == "pc:shop.demo:gw:uid-1.0123456789abcdef"


def test_all_keys_of_a_user_share_one_hash_slot() -> None:
    keys = [KEYS.sessions("a{b}"), KEYS.log("a{b}", QUEUE), KEYS.meta("a{b}", QUEUE), KEYS.message("a{b}", QUEUE, "1")]
    keys += [KEYS.destinations("a{b}"), KEYS.recipients("a{b}", QUEUE)]
    tags = {re.findall(r"\{([^}]*)\}", key)[0] for key in keys}
    assert len(tags) == 1


def test_the_same_message_id_on_two_destinations_is_two_messages() -> None:
    assert KEYS.message("alice", QUEUE, "1") != KEYS.message("alice", Destination("topic", "demo"), "1")


def test_two_message_ids_of_one_destination_are_two_keys_and_stay_the_same() -> None:
    first, second = (KEYS.message("alice", QUEUE, message_id) for message_id in ("1", "2"))
    assert first != second
    assert first == KEYS.message("alice", QUEUE, "1")
    assert first.startswith("pc:shop.demo:{YWxpY2U}:id:")


def test_a_cluster_that_cannot_stand_in_a_key_has_no_keys() -> None:
    with pytest.raises(InvalidInput):
        Keys("a{b}")


def test_a_member_survives_its_text() -> None:
    assert parse_member(encode_member("alice smith", SID)) == ("alice smith", SID)


@pytest.mark.parametrize("member", ["", "YWxpY2U", f"YWxpY2U {SID} x", f"*** {SID}"])
def test_text_that_is_not_a_member_is_refused(member: str) -> None:
    with pytest.raises(InvalidInput):
        parse_member(member)


@pytest.mark.parametrize("member", [b"", b"no incarnation", b"uid-1.0123456789abcdeg", b"\xff.0123456789abcdef"])
def test_a_member_of_gateways_that_no_gateway_wrote_is_not_a_lease(member: bytes) -> None:
    assert parse_lease(member) is None
    assert parse_lease(str(INCARNATION).encode()) == INCARNATION


def test_a_session_entry_survives_its_text() -> None:
    entry = SessionEntry(INCARNATION, (QUEUE, Destination("topic", "t")))
    assert entry.encode() == "uid-1.0123456789abcdef /queue/demo /topic/t"
    assert SessionEntry.parse(entry.encode()) == entry
    assert SessionEntry.parse(str(INCARNATION)) == SessionEntry(INCARNATION)


def test_a_session_entry_says_which_destinations_have_no_queue_in_words_that_version_0_2_reads() -> None:
    topic = Destination("topic", "demo")
    entry = SessionEntry(INCARNATION, (QUEUE, topic), frozenset({topic}))
    assert entry.encode() == "uid-1.0123456789abcdef /queue/demo /topic/demo /topic/demo"
    assert SessionEntry.parse(entry.encode()) == entry
    assert all(map(Destination.parse, entry.encode().split(" ")[1:])), "what version 0.2 makes of each word"


@pytest.mark.parametrize("script", Script)
def test_every_script_names_its_keys_and_arguments_and_waits_for_memory_only_to_add_a_message(script: Script) -> None:
    source = script.source()
    flags = {Script.APPEND: "", Script.READ_PAGE: " flags=no-writes"}
    shebang, _, source = source.partition("\n")
    assert shebang == f"#!lua{flags.get(script, ' flags=allow-oom')}"
    header = "".join(line for line in source.splitlines(keepends=True) if line.startswith("--"))
    code = source.removeprefix(header)
    for reference in set(re.findall(r"(?:KEYS|ARGV)\[\d+\]", code)):
        assert reference in header
