"""Each limit has a test that sends one more than it allows: here is which, so that none is forgotten."""

import dataclasses
from pathlib import Path

import pytest

from pushcluster_gateway.limits import Limits

TESTS = Path(__file__).parents[2]

JUDGED_BY = {
    "max_handshake_bytes": "test_a_request_that_opens_no_websocket_is_told_why_and_counted",
    "handshake_timeout_s": "test_a_request_that_does_not_end_is_refused_when_its_time_is_over_and_not_before",
    "connect_timeout_s": "test_connect_must_come_in_time",
    "min_connect_s": "test_a_silent_client_has_its_whole_time_for_its_connect_and_not_a_moment_more",
    "max_unauthenticated_bytes": "test_so_much_may_come_before_connected_and_one_byte_more_is_refused",
    "max_all_unauthenticated_bytes": "test_the_first_of_too_many_bytes_gives_way_and_an_honest_client_gets_in",
    "close_timeout_s": "test_a_client_that_does_not_answer_a_close_is_cut_when_its_time_is_over_and_not_before",
    "max_frame_bytes": "test_a_message_in_many_fragments_has_the_same_limit",
    "max_read_bytes": "test_what_waits_is_bounded_by_one_read_and_what_was_unfinished_before_it",
    "max_head_bytes": "test_a_head_of_just_the_limit_is_taken_and_one_byte_more_is_not",
    "max_headers": "test_before_connect",
    "max_subscriptions": "test_after_connect",
    "max_queues": "test_one_session_has_a_bounded_number_of_queues",
    "subscribe_burst": "test_one_subscribe_too_many_waits_for_its_token_and_nothing_is_refused",
    "subscribes_per_s": "test_one_subscribe_too_many_waits_for_its_token_and_nothing_is_refused",
    "own_queue_after_s": "test_a_subscription_that_lasts_gets_its_own_queue_and_then_tells_redis",
    "max_subscription_id_chars": "test_after_connect",
    "max_transactions": "test_one_transaction_too_many_is_refused",
    "max_transaction_frames": "test_one_frame_too_many_in_transactions_is_refused",
    "max_calls_in_flight": "test_one_call_too_many_under_way_stops_the_reading_until_one_has_ended",
    "max_unacked_messages": "test_so_many_messages_wait_for_their_ack_and_one_more_waits_for_space_in_the_window",
    "max_refused_copies": "test_one_refused_message_more_than_the_bound_counts_as_handled_without_a_copy",
    "refused_copies_per_s": "test_after_a_minute_so_many_copies_are_there_again",
    "max_outbox_bytes": "test_a_client_that_reads_nothing_holds_a_bounded_outbox_and_is_closed",
    "max_all_outboxes_bytes": "test_clients_that_go_dark_together_hold_no_more_than_the_budget_and_miss_nothing",
    "max_outbox_messages": "test_it_is_full_at_its_messages",
    "max_control_bytes": "test_a_client_that_asks_for_receipts_and_takes_none_is_not_read_any_more",
    "slow_consumer_s": "test_a_socket_is_stalled_when_it_takes_nothing_for_too_long",
    "page_entries": "test_it_reads_page_by_page_until_a_short_one_and_then_is_live",
    "max_page_reads": "test_one_subscription_more_waits_for_the_end_of_a_page",
    "page_bytes": "test_one_byte_more_than_a_page_holds_waits_for_the_next_page",
    "walk_round_s": "test_one_session_is_not_looked_at_more_often_than_once_a_round",
    "min_kept_delivered_s": "test_a_redis_full_of_delivered_messages_frees_itself_and_loses_nothing_that_waits",
    "lost_gateway_s": "test_from_when_on_gateways_are_taken_for_lost",
    "leaving_session_s": "test_a_connect_at_the_session_limit_waits_once_and_for_the_whole_time",
    "server_heart_beat_ms": "test_a_heart_beat_is_due_after_its_part_of_the_interval_and_not_before",
    "client_heart_beat_ms": "test_a_client_that_promised_heart_beats_and_is_silent_is_given_up",
    "heart_beat_grace": "test_a_client_that_promised_heart_beats_and_is_silent_is_given_up",
    "ping_interval_s": "test_a_ping_goes_out_after_its_interval_and_a_client_without_a_pong_after_one_more",
}


VALUES = {
    "max_handshake_bytes": 16 * 1024,
    "handshake_timeout_s": 10,
    "connect_timeout_s": 10,
    "min_connect_s": 1,
    "max_unauthenticated_bytes": 20 * 1024,
    "max_all_unauthenticated_bytes": 32 * 1024 * 1024,
    "close_timeout_s": 5,
    "max_frame_bytes": 64 * 1024,
    "max_read_bytes": 256 * 1024,
    "max_head_bytes": 16 * 1024,
    "max_headers": 64,
    "max_subscriptions": 32,
    "max_queues": 8,
    "subscribe_burst": 96,
    "subscribes_per_s": 10,
    "own_queue_after_s": 4,
    "max_subscription_id_chars": 128,
    "max_transactions": 16,
    "max_transaction_frames": 1_000,
    "max_calls_in_flight": 64,
    "max_unacked_messages": 1_000,
    "max_refused_copies": 60,
    "refused_copies_per_s": 1,
    "max_outbox_bytes": 256 * 1024,
    "max_all_outboxes_bytes": 128 * 1024 * 1024,
    "max_outbox_messages": 1_000,
    "max_control_bytes": 64 * 1024,
    "slow_consumer_s": 30,
    "page_entries": 100,
    "max_page_reads": 4,
    "page_bytes": 256 * 1024,
    "walk_round_s": 120,
    "min_kept_delivered_s": 180,
    "lost_gateway_s": 60,
    "leaving_session_s": 1,
    "server_heart_beat_ms": 10_000,
    "client_heart_beat_ms": 25_000,
    "heart_beat_grace": 2.5,
    "ping_interval_s": 25,
}


def test_a_running_gateway_has_these_limits() -> None:
    """Clients rely on them, and so does the memory that a pod asks for: a change is a decision, and stands here too."""
    assert dataclasses.asdict(Limits()) == VALUES


def test_every_limit_has_its_test() -> None:
    assert set(JUDGED_BY) == {field.name for field in dataclasses.fields(Limits)}


@pytest.mark.parametrize("name", sorted(set(JUDGED_BY.values())))
def test_the_test_exists(name: str) -> None:
    assert any(f"def {name}(" in file.read_text() for file in TESTS.rglob("test_*.py"))
