"""What programs of two versions have to agree on, as it stands on the wire: to change a line here is a decision."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

from pushcluster_contract import control, env, headers, limits, log_entry, outcomes, routing, tokens
from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys
from pushcluster_contract.scripts import Script
from pushcluster_contract.topology import (
    Argument,
    Binding,
    Exchange,
    Queue,
    Topology,
    build_gateway_queue,
    build_partition,
    build_publish_targets,
    build_refused_queue,
    build_reply_queue,
    build_subscription_queue,
    build_topology,
    consumer_priority,
)

INCARNATION = Incarnation("uid-1", "0123456789abcdef")
SID = "a" * 26
MIB = 1_048_576


def constants_of(module: ModuleType, *kinds: type) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, kinds)}


def test_the_bounds_are_what_documents_and_other_versions_say() -> None:
    assert constants_of(limits, int, float) == {
        "MAX_USER_BYTES": 255,
        "MAX_NAME_CHARS": 64,
        "MAX_BODY_BYTES": 65_536,
        "BROKER_MAX_MESSAGE_BYTES": 131_072,
        "MAX_MESSAGE_ID_BYTES": 255,
        "MAX_FORWARDED_HEADERS": 32,
        "MAX_FORWARDED_HEADER_BYTES": 4_096,
        "SESSIONS_PER_USER": 64,
        "MAX_SESSIONS_PER_USER": 256,
        "MAX_SUBSCRIPTIONS_PER_SESSION": 32,
        "MAX_QUEUES_PER_SESSION": 8,
        "SUBSCRIPTION_QUEUES": 7_000,
        "MAX_SUBSCRIPTION_QUEUES": 1_000_000,
        "OUTBOXES_BYTES": 134_217_728,
        "MIN_OUTBOXES_BYTES": 16_777_216,
        "MAX_OUTBOXES_BYTES": 2**50,
        "UNAUTHENTICATED_BYTES": 33_554_432,
        "INGRESS_PARTITIONS": 16,
        "INGRESS_QUEUE_MAX_BYTES": 256 * MIB,
        "REJECTED_QUEUE_MAX_MESSAGES": 100_000,
        "REJECTED_QUEUE_MAX_BYTES": 256 * MIB,
        "REFUSED_QUEUE_MAX_MESSAGES": 100_000,
        "REFUSED_QUEUE_MAX_BYTES": 256 * MIB,
        "MAX_BATCH_COPIES": 512,
        "MAX_BATCH_BYTES": 131_072,
        "SUBSCRIPTION_QUEUE_MAX_MESSAGES": 1_000,
        "SUBSCRIPTION_QUEUE_MAX_BYTES": 4 * MIB,
        "GATEWAY_QUEUE_MAX_MESSAGES": 100_000,
        "GATEWAY_QUEUE_MAX_BYTES": 64 * MIB,
        "REPLY_QUEUE_MAX_MESSAGES": 10_000,
        "REPLY_QUEUE_MAX_BYTES": 16 * MIB,
        "LOG_PAGE_ENTRIES": 100,
        "LOG_PAGE_BYTES": 262_144,
        "DISPATCHER_PREFETCH_MESSAGES": 500,
        "LEASE_MS": 8_000,
        "LEASE_RENEW_MS": 2_000,
        "LOST_GATEWAY_MS": 60_000,
        "WALK_ROUND_MS": 120_000,
        "MIN_KEPT_DELIVERED_MS": 180_000,
        "MAX_TRIMMED_ENTRIES": 1_000,
        "SESSIONS_TTL_MS": 600_000,
        "META_EXTRA_TTL_MS": 604_800_000,
        "REMOVAL_BATCH_SESSIONS": 200,
        "ENDPOINTS_UPDATE_S": 2.0,
    }


def test_each_environment_variable_is_called_as_its_constant() -> None:
    names = constants_of(env, str)
    assert names == {name: f"PUSHCLUSTER_{name}" for name in names}


def test_amqp_headers_and_types_are_the_documented_ones() -> None:
    assert {name: value for name, value in constants_of(headers, str).items() if not name.startswith("_")} == {
        "DESTINATION": "destination",
        "FURTHER_ROUTING_KEYS": "CC",
        "REJECT_REASON": "pushcluster-reject-reason",
        "REJECT_USER": "pushcluster-user",
        "POSSIBLY_REPEATED": "possibly-repeated",
        "TRACEPARENT": "traceparent",
        "FORWARDED_PREFIX": "x-",
    }
    assert (control.CONTROL_TYPE, outcomes.REPORT_TYPE) == ("pushcluster.control", "pushcluster.outcome")
    assert outcomes.REPORT_CONTENT_TYPE == "application/json"


def test_fields_of_the_log_are_one_letter_each() -> None:
    assert constants_of(log_entry, bytes) == {
        "BODY": b"b",
        "HEADERS": b"h",
        "CONTENT_TYPE": b"t",
        "MESSAGE_ID": b"m",
        "EXPIRES_MS": b"e",
        "REPLY": b"r",
        "ATTEMPT": b"a",
    }
    assert log_entry.encode_headers({"x-ä": "1", "x-b": ""}) == '{"x-ä":"1","x-b":""}'
    assert log_entry.encode_headers({}) == ""


def test_a_key_of_a_message_id_is_half_of_a_digest_and_the_barrier_has_one_key() -> None:
    keys = Keys("shop.demo")
    assert keys.message("alice", Destination("queue", "demo"), "order-7") == (
        "pc:shop.demo:{YWxpY2U}:id:JZc3U2o79q5_MoZRB3HthA"
    )
    assert keys.barrier == "pc:shop.demo:barrier"


def test_each_partition_has_a_token_and_a_fence() -> None:
    keys = Keys("shop.demo")
    assert (keys.token(7), keys.fence(15)) == ("pc:shop.demo:token:07", "pc:shop.demo:fence:15")


def test_a_control_message_names_user_and_session() -> None:
    headers_of = control.Disconnect("alice", SID).headers()
    assert headers_of == {"pc-control": "disconnect", "pc-user": "alice", "pc-session": SID}


def test_a_report_is_the_documented_json_object() -> None:
    report = outcomes.OutcomeReport(
        outcomes.MessageOutcome.REJECTED, "bøb", "/queue/demo", "5-7", "order-7", SID, "gateway-0", (SID, "b"), "why"
    )
    assert report.encode().decode() == (
        f'{{"outcome":"rejected","user":"bøb","destination":"/queue/demo","messageId":"5-7",'
        f'"producerMessageId":"order-7","session":"{SID}","gateway":"gateway-0","sessions":["{SID}","b"],'
        f'"reason":"why"}}'
    )


def test_what_a_report_leaves_out_is_empty() -> None:
    outcome = outcomes.MessageOutcome.PENDING
    assert outcomes.OutcomeReport.parse(b'{"outcome":"pending"}') == outcomes.OutcomeReport(outcome)
    empty = outcomes.OutcomeReport(outcome, "", "", "", "", "", "", (), "")
    assert outcomes.OutcomeReport(outcome) == empty


@pytest.mark.parametrize("outcome", outcomes.MessageOutcome)
def test_each_outcome_is_called_as_its_constant(outcome: outcomes.MessageOutcome) -> None:
    assert outcome.value == outcome.name.lower()


@pytest.mark.parametrize("script", Script)
def test_each_script_is_called_as_its_constant(script: Script) -> None:
    assert script.value == script.name.lower()


def test_files_of_keys_are_the_documented_ones() -> None:
    assert constants_of(tokens, str) == {
        "KEYS_DIRECTORY": "/etc/pushcluster/auth",
        "HS256_KEY": "hs256.key",
        "HS256_SECOND_KEY": "hs256.second.key",
        "JWKS_FILE": "jwks.json",
        "CA_FILE": "ca.crt",
    }
    assert (tokens.MIN_HS256_BYTES, tokens.JWKS_REFRESH_S) == (32, 300)
    assert [(each.value, each.has_public_keys) for each in tokens.Algorithm] == [
        ("HS256", False),
        ("RS256", True),
        ("ES256", True),
    ]


def test_exchanges_and_modes_are_called_as_other_versions_know_them() -> None:
    assert constants_of(routing, str) == {
        "DEFAULT_EXCHANGE": "",
        "TOPIC_EXCHANGE": "amq.topic",
        "BROADCAST_EXCHANGE": "push.broadcast",
        "SUBSCRIPTION_QUEUE_PREFIX": "stomp-subscription-",
    }
    assert [mode.value for mode in routing.RoutingMode] == ["Session", "Gateway", "Broadcast"]


PUSH = Exchange("push", "x-modulus-hash", {"alternate-exchange": "push.rejected"})
INGRESS: Mapping[str, Argument] = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    "x-delivery-limit": -1,
    "x-max-length-bytes": 256 * MIB,
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "push.rejected",
    "x-dead-letter-strategy": "at-least-once",
}
REJECTED: Mapping[str, Argument] = {
    "x-queue-type": "quorum",
    "x-max-length": 100_000,
    "x-max-length-bytes": 256 * MIB,
    "x-overflow": "drop-head",
}


def dropping_the_oldest(messages: int, size: int) -> Mapping[str, Argument]:
    return {
        "x-queue-type": "classic",
        "x-max-length": messages,
        "x-max-length-bytes": size,
        "x-overflow": "drop-head",
    }


def test_what_dispatchers_publish_to_never_changes_on_a_live_broker() -> None:
    assert build_publish_targets() == Topology(
        (Exchange("push.rejected", "fanout"), Exchange("push.broadcast", "fanout"), PUSH),
        (Queue("push.rejected", REJECTED),),
        (Binding("push.rejected", "push.rejected", ""),),
    )


def test_what_gateways_put_refused_messages_into_never_changes_on_a_live_broker() -> None:
    assert build_refused_queue() == Queue("push.refused", REJECTED)


def test_a_partition_never_changes_on_a_live_broker() -> None:
    name = "pushcluster.ingress.07"
    assert build_partition(7) == Topology((PUSH,), (Queue(name, INGRESS),), (Binding("push", name),))


def test_the_whole_topology_is_what_is_published_to_refused_messages_and_all_partitions() -> None:
    published, partitions = build_publish_targets(), [build_partition(number) for number in range(16)]
    assert build_topology() == Topology(
        published.exchanges,
        (*published.queues, build_refused_queue(), *(queue for each in partitions for queue in each.queues)),
        published.bindings + tuple(binding for each in partitions for binding in each.bindings),
    )


def test_queues_of_one_process_go_with_it_and_drop_the_oldest() -> None:
    name = f"pushcluster.gateway.{INCARNATION}"
    assert build_gateway_queue(INCARNATION) == (
        Queue(name, dropping_the_oldest(100_000, 64 * MIB), exclusive=True),
        Binding("push.broadcast", name),
    )
    assert build_subscription_queue("u") == Queue(
        "stomp-subscription-u", dropping_the_oldest(1_000, 4 * MIB), exclusive=True
    )
    assert build_reply_queue("pod.u") == Queue("replies.pod.u", dropping_the_oldest(10_000, 16 * MIB), exclusive=True)


def test_dispatchers_of_two_versions_rank_themselves_alike() -> None:
    assert [consumer_priority("demo-dispatcher-a", number) for number in (0, 1, 15)] == [13345, 6278, 5017]
