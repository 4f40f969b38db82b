import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.routing import Copy, RoutingMode, plan_copies, session_key
from pushcluster_contract.topology import build_topology, consumer_priority, ingress_queue

QUEUE = Destination("queue", "demo")
TOPIC = Destination("topic", "demo")
GATEWAY_1 = Incarnation("uid-1", "0" * 16)
GATEWAY_2 = Incarnation("uid-2", "0" * 16)
A, B, C = "a" * 26, "b" * 26, "c" * 26


def test_the_routing_key_in_mode_session_is_name_user_session() -> None:
    assert session_key("demo", A) == f"demo-user{A}"


def test_session_mode_sends_to_each_session_with_the_destination_and_falls_back_to_its_gateway() -> None:
    assert plan_copies(RoutingMode.SESSION, QUEUE, {A: GATEWAY_1, B: GATEWAY_2}) == (
        Copy("amq.topic", f"demo-user{A}", Copy("", f"pushcluster.gateway.{GATEWAY_1}")),
        Copy("amq.topic", f"demo-user{B}", Copy("", f"pushcluster.gateway.{GATEWAY_2}")),
    )


def test_session_mode_sends_one_copy_to_a_gateway_that_holds_several_such_sessions() -> None:
    assert plan_copies(RoutingMode.SESSION, QUEUE, {A: GATEWAY_1, B: GATEWAY_2, C: GATEWAY_1}) == (
        Copy("", f"pushcluster.gateway.{GATEWAY_1}"),
        Copy("amq.topic", f"demo-user{B}", Copy("", f"pushcluster.gateway.{GATEWAY_2}")),
    )
    crowd = {f"{n:026}".translate(str.maketrans("0189", "wxyz")): GATEWAY_1 for n in range(256)}
    assert len(plan_copies(RoutingMode.SESSION, TOPIC, crowd)) == 1


def test_session_mode_sends_to_the_gateway_of_a_session_without_a_queue() -> None:
    assert plan_copies(RoutingMode.SESSION, QUEUE, {A: GATEWAY_1, B: GATEWAY_2}, {A}) == (
        Copy("", f"pushcluster.gateway.{GATEWAY_1}"),
        Copy("amq.topic", f"demo-user{B}", Copy("", f"pushcluster.gateway.{GATEWAY_2}")),
    )


def test_gateway_mode_sends_once_to_each_gateway_that_holds_such_a_session() -> None:
    assert plan_copies(RoutingMode.GATEWAY, QUEUE, {A: GATEWAY_1, B: GATEWAY_1}) == (
        Copy("", f"pushcluster.gateway.{GATEWAY_1}"),
    )
    assert len(plan_copies(RoutingMode.GATEWAY, TOPIC, {B: GATEWAY_1, C: GATEWAY_2})) == 2


def test_broadcast_mode_sends_one_copy_whoever_is_where() -> None:
    assert plan_copies(RoutingMode.BROADCAST, QUEUE, {}) == (Copy("push.broadcast", ""),)


@pytest.mark.parametrize("mode", [RoutingMode.SESSION, RoutingMode.GATEWAY])
def test_nobody_subscribed_means_no_copy(mode: RoutingMode) -> None:
    assert plan_copies(mode, QUEUE, {}) == ()


def test_the_topology_has_16_ingress_partitions_that_refuse_rather_than_lose() -> None:
    topology = build_topology()
    ingress = [queue for queue in topology.queues if queue.name.startswith("pushcluster.ingress.")]
    assert [queue.name for queue in ingress] == [ingress_queue(n) for n in range(16)]
    for queue in ingress:
        assert queue.arguments["x-overflow"] == "reject-publish"
        assert queue.arguments["x-single-active-consumer"] is True
        assert queue.arguments["x-delivery-limit"] == -1
    assert {binding.queue for binding in topology.bindings if binding.exchange == "push"} == {q.name for q in ingress}


def test_partitions_spread_over_dispatchers_and_each_order_of_preference_is_fixed() -> None:
    pods = ["demo-dispatcher-a", "demo-dispatcher-b", "demo-dispatcher-c"]
    owners = [max(pods, key=lambda pod: consumer_priority(pod, n)) for n in range(16)]
    assert set(owners) == set(pods)
    assert all(0 <= consumer_priority(pod, n) < 32_768 for pod in pods for n in range(16))
