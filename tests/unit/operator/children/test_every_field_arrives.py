"""Every field of the spec reaches the one place that it is meant for: a program's settings, or a child's manifest.

A new field needs a value in `every_field.py` and a line in `ARRIVES`.
"""

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from local_run.pods import Children, PodIdentity, read_environment
from pushcluster_contract.tokens import CA_FILE, HS256_KEY, JWKS_FILE
from pushcluster_dispatcher.settings import Settings as DispatcherSettings
from pushcluster_gateway.settings import Settings as GatewaySettings
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec import quantities
from pushcluster_runtime.settings import EnvironmentVariables
from tests.unit.operator.every_field import SPECS
from tests.unit.operator.objects import children, container, credentials, pod_spec
from tests.unit.operator.schema import LEAVES, Path_


@dataclass(frozen=True)
class Built:
    """What became of a spec."""

    children: dict[str, Manifest]

    def of(self, component: str) -> Manifest:
        kind = "Deployment" if component in {"gateway", "dispatcher"} else "StatefulSet"
        return self.children[f"{kind}/demo-{component}"]

    def environment(self, component: str) -> EnvironmentVariables:
        """Return a container's variables as the kubelet sets them, Secrets included."""
        pod = PodIdentity(f"{component}-0", "uid-of-the-pod", "team")
        return EnvironmentVariables(
            read_environment(container(self.of(component)), pod, Children(tuple(self.children.values())))
        )

    @property
    def gateway(self) -> GatewaySettings:
        return GatewaySettings.parse(self.environment("gateway"))

    @property
    def dispatcher(self) -> DispatcherSettings:
        return DispatcherSettings.from_environment(self.environment("dispatcher"))

    def resources(self, component: str, kind: str, name: str) -> str:
        return str(container(self.of(component))["resources"][kind][name])

    def image(self, component: str) -> str:
        return str(container(self.of(component))["image"])

    def replicas(self, component: str) -> int:
        return int(self.of(component)["spec"]["replicas"])

    def storage(self, component: str) -> str:
        (claim,) = self.of(component)["spec"]["volumeClaimTemplates"]
        return str(claim["spec"]["resources"]["requests"]["storage"])

    def kept(self, component: str) -> str:
        return str(self.of(component)["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"])

    def setting(self, component: str, file: str, separator: str, name: str) -> str:
        """Return one line of a store's configuration."""
        lines = self.children[f"ConfigMap/demo-{component}"]["data"][file].splitlines()
        return str(dict(line.split(separator, 1) for line in lines)[name])

    def key_file(self, file: str) -> tuple[str, str]:
        """Return the Secret and its key from which a gateway gets this file."""
        (volume,) = pod_spec(self.of("gateway"))["volumes"]
        ((secret, key),) = [
            (source["secret"]["name"], item["key"])
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
            if item["path"] == file
        ]
        return secret, key


ARRIVES: dict[str, Callable[[Built], Any]] = {
    "routing.mode": lambda built: same(str(built.gateway.routing_mode), str(built.dispatcher.mode)),
    "gateway.replicas": lambda built: built.replicas("gateway"),
    "gateway.maxConnections": lambda built: built.gateway.max_connections,
    "gateway.maxSessionsPerUser": lambda built: built.gateway.max_sessions_per_user,
    "gateway.handshakesPerSecond": lambda built: built.gateway.handshakes_per_second,
    "gateway.drain.seconds": lambda built: same(
        built.gateway.drain_seconds, pod_spec(built.of("gateway"))["terminationGracePeriodSeconds"] - 15
    ),
    "gateway.auth.mode": lambda built: str(built.gateway.auth.mode),
    "gateway.auth.secretRef.name": lambda built: built.key_file(HS256_KEY)[0],
    "gateway.auth.algorithm": lambda built: str(built.gateway.auth.algorithm),
    "gateway.auth.jwks.url": lambda built: built.gateway.auth.jwks_url,
    "gateway.auth.jwks.secretRef.name": lambda built: built.key_file(JWKS_FILE)[0],
    "gateway.auth.jwks.secretRef.key": lambda built: built.key_file(JWKS_FILE)[1],
    "gateway.auth.jwks.caSecretRef.name": lambda built: built.gateway.auth.jwks_own_ca and built.key_file(CA_FILE)[0],
    "gateway.auth.jwks.caSecretRef.key": lambda built: built.key_file(CA_FILE)[1],
    # A gateway takes an address with http:// only when it is told to.
    "gateway.auth.jwks.allowHttp": lambda built: built.gateway.auth.jwks_url.startswith("http://"),
    "gateway.auth.jwks.refreshSeconds": lambda built: built.gateway.auth.jwks_refresh_s,
    "gateway.auth.issuer": lambda built: built.gateway.auth.issuer,
    "gateway.auth.audiences": lambda built: sorted(built.gateway.auth.audiences),
    "gateway.auth.userClaim": lambda built: built.gateway.auth.user_claim,
    "gateway.auth.requireExpiry": lambda built: built.gateway.auth.require_expiry,
    "gateway.allowedOrigins": lambda built: list(built.gateway.allowed_origins),
    "gateway.image": lambda built: built.image("gateway"),
    "gateway.resources.requests.cpu": lambda built: built.resources("gateway", "requests", "cpu"),
    "gateway.resources.requests.memory": lambda built: built.resources("gateway", "requests", "memory"),
    "gateway.resources.limits.cpu": lambda built: built.resources("gateway", "limits", "cpu"),
    "gateway.resources.limits.memory": lambda built: built.resources("gateway", "limits", "memory"),
    "dispatcher.replicas": lambda built: built.replicas("dispatcher"),
    "dispatcher.api.enabled": lambda built: built.dispatcher.api is not None,
    "dispatcher.image": lambda built: built.image("dispatcher"),
    "dispatcher.resources.requests.cpu": lambda built: built.resources("dispatcher", "requests", "cpu"),
    "dispatcher.resources.requests.memory": lambda built: built.resources("dispatcher", "requests", "memory"),
    "dispatcher.resources.limits.cpu": lambda built: built.resources("dispatcher", "limits", "cpu"),
    "dispatcher.resources.limits.memory": lambda built: built.resources("dispatcher", "limits", "memory"),
    "rabbitmq.managed.replicas": lambda built: built.replicas("rabbitmq"),
    "rabbitmq.managed.storage": lambda built: built.storage("rabbitmq"),
    "rabbitmq.managed.memory": lambda built: same(
        built.resources("rabbitmq", "limits", "memory"),
        quantities.canonical(
            f"{int(built.setting('rabbitmq', 'rabbitmq.conf', ' = ', 'total_memory_available_override_value')) >> 20}Mi"
        ),
    ),
    "rabbitmq.managed.image": lambda built: built.image("rabbitmq"),
    "redis.managed.storage": lambda built: built.storage("redis"),
    "redis.managed.maxMemory": lambda built: f"{int(built.setting('redis', 'redis.conf', ' ', 'maxmemory')) >> 20}Mi",
    "redis.managed.image": lambda built: built.image("redis"),
    "delivery.offline.ttlSeconds": lambda built: built.dispatcher.retention.offline_ttl_ms / 1_000,
    "delivery.offline.maxPerDestination": lambda built: built.dispatcher.retention.max_entries,
    "delivery.resume.windowSeconds": lambda built: same(
        built.gateway.resume_window_seconds, built.dispatcher.retention.resume_window_ms / 1_000
    ),
    "delivery.idempotency.windowSeconds": lambda built: built.dispatcher.retention.idempotency_window_ms / 1_000,
    "deletionPolicy": lambda built: same(built.kept("rabbitmq"), built.kept("redis")),
}
"""Where each field arrives, as a reader of what was built."""


def same(*values: Any) -> Any:
    """Return the value that all places show."""
    assert all(value == values[0] for value in values), values
    return values[0]


def find(spec: dict[str, Any], path: Path_) -> Any:
    """Return what a spec says in a field; None if it leaves it out."""
    try:
        return functools.reduce(operator.getitem, path, spec)
    except KeyError:
        return None


def test_every_field_has_a_place_where_it_arrives() -> None:
    assert {".".join(path) for path in LEAVES} == ARRIVES.keys()


def test_every_field_is_set_to_something_else_than_its_default() -> None:
    for path, schema in LEAVES.items():
        values = [value for spec in SPECS.values() if (value := find(spec, path)) is not None]
        assert values, path
        only_one_is_allowed = "minimum" in schema and schema["minimum"] == schema["maximum"]
        assert only_one_is_allowed or any(value != schema.get("default") for value in values), path


@pytest.mark.parametrize("name", SPECS)
def test_no_two_fields_have_the_same_value(name: str) -> None:
    values = [find(SPECS[name], path) for path, schema in LEAVES.items() if "enum" not in schema]
    numbers_and_texts = [value for value in values if isinstance(value, int | str) and not isinstance(value, bool)]
    assert len(numbers_and_texts) == len(set(numbers_and_texts))


@pytest.mark.parametrize("name", SPECS)
def test_what_a_field_says_arrives_at_its_place(name: str) -> None:
    built = Built(children(SPECS[name]))
    said = {".".join(path): value for path in LEAVES if (value := find(SPECS[name], path)) is not None}
    assert {field: ARRIVES[field](built) for field in said} == said


def test_programs_know_who_they_are_and_reach_the_stores_with_the_internal_users_password() -> None:
    built, secrets = Built(children()), credentials()
    gateway, dispatcher = built.gateway, built.dispatcher
    assert same(gateway.cluster, dispatcher.cluster) == "team.demo"
    assert (gateway.pod_name, gateway.pod_uid, dispatcher.pod_name) == ("gateway-0", "uid-of-the-pod", "dispatcher-0")
    assert same(gateway.amqp_url, dispatcher.amqp_url) == (
        f"amqp://pushcluster:{secrets.rabbitmq_password}@demo-rabbitmq.team.svc:5672/team.demo"
    )
    assert same(gateway.redis_url, dispatcher.redis_url) == (
        f"redis://:{secrets.redis_password}@demo-redis.team.svc:6379/0"
    )


@pytest.mark.parametrize("component", ["gateway", "dispatcher"])
def test_probes_and_services_find_the_ports_on_which_the_programs_listen(component: str) -> None:
    built = Built(children())
    ports = {port["name"]: port["containerPort"] for port in container(built.of(component))["ports"]}
    assert same(built.gateway.admin_port, built.dispatcher.admin_port) == ports["admin"]
    (service,) = built.children[f"Service/demo-{component}"]["spec"]["ports"]
    api = built.dispatcher.api
    assert api is not None
    assert ports[service["targetPort"]] == (built.gateway.ws_port if component == "gateway" else api.port)


@pytest.mark.parametrize("component", ["gateway", "dispatcher"])
def test_a_program_that_only_waits_for_its_services_is_unready_and_not_restarted(component: str) -> None:
    probes = container(Built(children()).of(component))
    paths = [probes[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert paths == ["/healthz", "/healthz", "/readyz"]


@pytest.mark.parametrize("component", ["gateway", "dispatcher"])
def test_replicas_prefer_different_nodes_and_start_on_one_node_all_the_same(component: str) -> None:
    (spread,) = pod_spec(Built(children()).of(component))["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
