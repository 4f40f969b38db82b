"""A local run gets what Kubernetes would get: the same builders, with addresses of this machine."""

import itertools
import os
from typing import Any

import pytest

from local_run.errors import LocalRunError
from local_run.plan import LocalCluster, plan_dispatcher, plan_gateway, plan_page
from pushcluster_contract import env
from pushcluster_operator.children import Images
from pushcluster_operator.errors import InvalidSpec

IMAGES = Images("gateway", "dispatcher", "rabbitmq:x", "redis:x")
ORIGIN = "http://127.0.0.1:28080"
KEYS = "/tmp/keys"
HERE = {"page_origin": ORIGIN, "keys_directory": KEYS}
HOST_PORTS = {"redis": {6379: 16379}, "rabbitmq": {5672: 15672, 15692: 15692}}


def cluster(**spec: Any) -> LocalCluster:
    body = {"kind": "PushCluster", "metadata": {"name": "demo", "namespace": "team"}, "spec": spec}
    return LocalCluster.from_body(body, IMAGES, os.urandom)


def hosts(of: LocalCluster) -> dict[str, str]:
    return {
        inside: outside
        for component, ports in HOST_PORTS.items()
        for inside, outside in of.hosts(component, ports).items()
    }


def test_a_misspelt_field_of_the_file_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"gateway\.replica is not a field of PushCluster; did you mean replicas"):
        cluster(gateway={"replica": 1})


def test_a_gateway_listens_here_and_reaches_the_stores_here() -> None:
    demo = cluster(gateway={"maxConnections": 7})
    ports = itertools.count(20_000)
    gateway = plan_gateway(demo, demo.pod("gateway", 1, "uid-1"), hosts(demo), ports.__next__, **HERE)
    environment = gateway.process.env
    assert gateway.url == "ws://127.0.0.1:20000/ws"
    assert gateway.process.ready_url == "http://127.0.0.1:20001/readyz"
    assert environment[env.LISTEN_HOST] == "127.0.0.1"
    assert environment[env.WS_PORT] == "20000"
    assert environment[env.ADMIN_PORT] == "20001"
    assert environment[env.AMQP_URL].endswith("@127.0.0.1:15672/team.demo")
    assert environment[env.REDIS_URL].endswith("@127.0.0.1:16379/0")
    assert environment[env.POD_NAME] == "demo-gateway-1"
    assert environment[env.POD_UID] == "uid-1"
    assert environment[env.MAX_CONNECTIONS] == "7"
    assert environment[env.CLUSTER] == "team.demo"


def test_no_address_inside_kubernetes_is_left_in_any_environment() -> None:
    demo = cluster()
    ports = itertools.count(20_000).__next__
    gateway = plan_gateway(demo, demo.pod("gateway", 0, "uid"), hosts(demo), ports, **HERE)
    dispatcher = plan_dispatcher(demo, demo.pod("dispatcher", 0, "uid"), hosts(demo), ports)
    for program in (gateway, dispatcher):
        assert [value for value in program.process.env.values() if ".svc" in value] == []


def allowed_origins(demo: LocalCluster) -> str:
    pod = demo.pod("gateway", 0, "uid")
    program = plan_gateway(demo, pod, hosts(demo), itertools.count(20_000).__next__, **HERE)
    return program.process.env[env.ALLOWED_ORIGINS]


def test_the_page_may_connect_beside_the_origins_of_the_yaml() -> None:
    limited = cluster(gateway={"allowedOrigins": ["https://app.example.com"]})
    assert allowed_origins(limited) == f"https://app.example.com {ORIGIN}"
    assert allowed_origins(cluster()) == ""


def test_page_and_gateways_agree_on_the_claim_that_names_the_user() -> None:
    demo = cluster(gateway={"auth": {"userClaim": "email"}})
    page = plan_page(demo, "ws://127.0.0.1:1/ws", "http://127.0.0.1:2", "/stompjs", 8080)
    assert page is not None
    assert page.process.env["PAGE_USER_CLAIM"] == "email"


def test_gateway_page_and_api_share_their_keys() -> None:
    demo = cluster()
    ports = itertools.count(20_000).__next__
    gateway = plan_gateway(demo, demo.pod("gateway", 0, "uid"), hosts(demo), ports, **HERE)
    dispatcher = plan_dispatcher(demo, demo.pod("dispatcher", 0, "uid"), hosts(demo), ports)
    page = plan_page(demo, "ws://127.0.0.1:1/ws", dispatcher.url, "/stompjs", 8080)
    assert page is not None
    assert page.process.env["PAGE_JWT_KEY"] == demo.jwt_key == demo.auth_files["hs256.key"].decode()
    assert gateway.process.env[env.AUTH_KEYS_DIRECTORY] == KEYS
    assert page.process.env["PAGE_API_KEY"] == dispatcher.process.env[env.API_KEY] == demo.api_key


def test_a_key_that_lives_in_kubernetes_is_replaced_by_a_new_one() -> None:
    demo = cluster(gateway={"auth": {"secretRef": {"name": "our-own"}}})
    assert demo.jwt_key is not None
    assert len(demo.jwt_key) >= 32


def test_an_issuer_is_asked_from_here_as_from_a_pod() -> None:
    demo = cluster(gateway={"auth": {"algorithm": "ES256", "jwks": {"url": "https://issuer.example/jwks.json"}}})
    gateway = plan_gateway(demo, demo.pod("gateway", 0, "uid"), hosts(demo), itertools.count(20_000).__next__, **HERE)
    assert gateway.process.env[env.JWKS_URL] == "https://issuer.example/jwks.json"
    assert demo.auth_files == {}
    assert demo.jwt_key is None


def test_public_keys_that_live_in_kubernetes_alone_are_named() -> None:
    jwks = {"secretRef": {"name": "issuer", "key": "jwks.json"}}
    demo = cluster(gateway={"auth": {"algorithm": "ES256", "jwks": jwks}})
    with pytest.raises(LocalRunError, match="Secret issuer"):
        _ = demo.auth_files


@pytest.mark.parametrize(
    "spec",
    [
        {"gateway": {"auth": {"mode": "Trusted"}}},
        {"gateway": {"auth": {"algorithm": "RS256", "jwks": {"url": "https://issuer.example/jwks.json"}}}},
        {"dispatcher": {"api": {"enabled": False}}},
    ],
)
def test_there_is_no_page_without_tokens_or_api(spec: dict[str, Any]) -> None:
    assert plan_page(cluster(**spec), "ws://127.0.0.1:1/ws", "http://127.0.0.1:2", "/stompjs", 8080) is None


def test_redis_runs_with_the_operators_configuration() -> None:
    store = cluster().store("redis")
    assert store.image == "redis:x"
    assert store.ports == (6379,)
    assert [store.entrypoint, *store.command] == ["redis-server", "/etc/pushcluster/redis/redis.conf"]
    assert b"appendfsync always" in store.files["/etc/pushcluster/redis/redis.conf"]
    assert store.files["/run/pushcluster/redis/auth.conf"].startswith(b"requirepass ")
    assert store.volumes == ("/data",)


def test_rabbitmq_runs_with_the_operators_definitions_under_the_pods_own_name() -> None:
    store = cluster().store("rabbitmq")
    assert store.ports[0] == 5672
    assert b"team.demo" in store.files["/run/pushcluster/rabbitmq/definitions.json"]
    assert store.hostname == "demo-rabbitmq-0.demo-rabbitmq-nodes.team.svc"
    assert store.volumes == ("/var/lib/rabbitmq",)


def test_a_back_end_gets_the_producers_url() -> None:
    demo = cluster()
    url = demo.producer_url(hosts(demo))
    assert url.startswith("amqp://producer:")
    assert url.endswith("@127.0.0.1:15672/team.demo")
    assert demo.connection_urls(hosts(demo))[0].startswith("amqp://pushcluster:")


def test_secrets_stay_out_of_the_repr() -> None:
    demo = cluster()
    gateway = plan_gateway(demo, demo.pod("gateway", 0, "uid"), hosts(demo), itertools.count(20_000).__next__, **HERE)
    assert str(demo.jwt_key) not in repr(gateway)
