"""What kind, the nodes and DNS are told, and what is read back."""

import ipaddress
import json
import socket
from pathlib import Path

import pytest

from local_cluster.cluster import describe_other_cluster, parse_internal_ips, parse_nodes, taken_ports
from local_cluster.corefile import keep_queries_inside
from local_cluster.errors import CannotContinue
from local_cluster.kind_config import build_kind_config
from local_cluster.loading import identities, pinned_name, plan_loading
from local_cluster.network import (
    NodeAddress,
    as_script,
    build_cni_config,
    plan_host_walls,
    plan_host_walls_removal,
    plan_kernel_limits,
    plan_node_routes,
)
from local_cluster.settings import NODE_PORTS, POD_SUBNET, SERVICE_SUBNET, Places
from local_cluster.workflow import build_facts

_COREFILE = """\
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       ttl 30
    }
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
    }
    loop
    reload
}
"""


def test_every_port_of_the_cluster_is_bound_to_the_loopback_address() -> None:
    config = build_kind_config(NODE_PORTS)
    mappings = config["nodes"][0]["extraPortMappings"]
    assert {mapping["listenAddress"] for mapping in mappings} == {"127.0.0.1"}
    assert config["networking"]["apiServerAddress"] == "127.0.0.1"
    assert [(mapping["containerPort"], mapping["hostPort"]) for mapping in mappings[:2]] == [
        (30080, 18080),
        (30081, 18081),
    ]
    assert len(mappings) == NODE_PORTS.count


def test_there_are_a_control_plane_and_two_workers() -> None:
    assert [node["role"] for node in build_kind_config(NODE_PORTS)["nodes"]] == ["control-plane", "worker", "worker"]


def test_patches_are_documents_that_kubeadm_can_read() -> None:
    patches = [json.loads(patch) for patch in build_kind_config(NODE_PORTS)["kubeadmConfigPatches"]]
    assert [patch["kind"] for patch in patches] == ["ClusterConfiguration", "KubeletConfiguration"]


def test_dns_asks_nobody_outside_and_keeps_everything_else() -> None:
    assert keep_queries_inside(_COREFILE) == (
        ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa ip6.arpa {\n       pods insecure\n"
        "       ttl 30\n    }\n    cache 30 {\n       disable success cluster.local\n    }\n    reload\n}\n"
    )


def test_a_corefile_that_already_asks_nobody_stays_as_it_is() -> None:
    once = keep_queries_inside(_COREFILE)
    assert keep_queries_inside(once) == once


def test_pods_of_a_node_get_addresses_of_its_range() -> None:
    plugins = json.loads(build_cni_config("10.244.1.0/24"))["plugins"]
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]


def test_a_node_reaches_the_pods_of_every_other_node_through_that_node() -> None:
    nodes = [NodeAddress(f"n{n}", f"172.18.0.{n}", f"10.244.{n}.0/24") for n in range(3)]
    routes = [command for command in plan_node_routes(nodes[1], nodes) if command[1] == "route"]
    assert routes == [
        ["ip", "route", "replace", "10.244.0.0/24", "via", "172.18.0.0"],
        ["ip", "route", "replace", "10.244.2.0/24", "via", "172.18.0.2"],
    ]


def test_a_pods_packet_finds_no_way_out_by_the_default_route() -> None:
    node = NodeAddress("n", "172.18.0.2", "10.244.0.0/24")
    rules = [" ".join(command) for command in plan_node_routes(node, [node])]
    assert rules[-2:] == [
        f"ip rule add priority 100 from {POD_SUBNET} lookup main suppress_prefixlength 0",
        f"ip rule add priority 101 from {POD_SUBNET} unreachable",
    ]


def test_repeating_the_rules_does_not_add_them_twice() -> None:
    node = NodeAddress("n", "172.18.0.2", "10.244.0.0/24")
    script = as_script(plan_node_routes(node, [node])).splitlines()
    added = [index for index, line in enumerate(script) if "rule add" in line]
    removed = [index for index, line in enumerate(script) if "rule del" in line]
    assert len(added) == len(removed)
    assert max(removed) < min(added)
    assert all(script[index].endswith("|| true") for index in removed)


def test_packets_for_pods_and_services_die_on_this_machine() -> None:
    walls = plan_host_walls()
    assert {wall[4] for wall in walls} == {POD_SUBNET, SERVICE_SUBNET}
    assert all(wall[3] == "unreachable" for wall in walls)


def test_the_walls_yield_to_any_route_of_the_users_own() -> None:
    assert all(int(wall[wall.index("metric") + 1]) > 1000 for wall in plan_host_walls())


def test_what_is_put_up_is_taken_down() -> None:
    assert [wall[3:] for wall in plan_host_walls_removal()] == [wall[3:] for wall in plan_host_walls()]


def test_limits_of_the_kernel_are_raised_and_never_lowered() -> None:
    script = plan_kernel_limits()
    assert "[ $(cat /proc/sys/fs/inotify/max_user_instances) -ge 1024 ] || echo 1024 >" in script


def test_ranges_of_pods_and_services_do_not_overlap() -> None:
    assert not ipaddress.ip_network(POD_SUBNET).overlaps(ipaddress.ip_network(SERVICE_SUBNET))


def test_a_node_that_has_no_range_yet_is_left_out() -> None:
    items = [
        {"metadata": {"name": "a"}, "spec": {"podCIDR": "10.244.0.0/24"}},
        {"metadata": {"name": "b"}, "spec": {}},
    ]
    assert parse_nodes({"items": items}) == {"a": "10.244.0.0/24"}


def test_a_node_is_known_by_its_internal_address_and_not_by_its_name() -> None:
    addresses = [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "172.18.0.3"}]
    items = [{"metadata": {"name": "a"}, "status": {"addresses": addresses}}]
    assert parse_internal_ips({"items": items}) == {"a": "172.18.0.3"}


def test_a_port_that_something_listens_on_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert taken_ports([port]) == [port]
    assert taken_ports([port]) == []


def test_only_images_that_a_node_does_not_have_are_loaded() -> None:
    wanted = {"a": "1", "b": "2", "c": "3"}
    assert plan_loading(wanted, {"a": "1", "b": "old"}) == ["b", "c"]


def test_a_rebuilt_program_has_another_name_in_the_nodes() -> None:
    names = {pinned_name("pushcluster/gateway:0.1.0", f"sha256:{digit * 64}") for digit in "ab"}
    assert names == {"pushcluster/gateway:0.1.0-aaaaaaaaaaaa", "pushcluster/gateway:0.1.0-bbbbbbbbbbbb"}


def test_before_a_cluster_of_other_sources_is_replaced_it_is_said_what_is_lost_and_how_to_keep_it() -> None:
    assert describe_other_cluster([]).endswith("it is recreated.")
    line = describe_other_cluster(["demo/demo", "team/chat"])
    assert "PushCluster demo/demo, team/chat in it is lost" in line
    assert "PUSHCLUSTER_CLUSTER=keep" in line


def test_an_image_that_was_never_built_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_cluster.loading.image_id", {"a": "sha256:1"}.get)
    assert identities(["a"]) == {"a": "sha256:1"}
    with pytest.raises(CannotContinue, match="b: no such image"):
        identities(["a", "b"])


def test_the_facts_for_demo_and_tests_name_each_image_and_the_ports() -> None:
    places = Places(root=Path("/checkout"), cache=Path("/cache"))
    facts = build_facts(places, {"redis": "redis:8"}, "/usr/bin/kubectl")
    assert facts == {
        "kubeconfig": "build/kubeconfig",
        "kubectl": "/usr/bin/kubectl",
        "images": {"redis": "redis:8"},
        "node_ports": {"first": 30080, "host_first": 18080, "count": 20},
    }
