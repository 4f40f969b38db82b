"""Plans what a local run starts: from a PushCluster's YAML, with the operator's own builders.

Pure, except for the functions that callers pass in: `allocate` finds free ports, `entropy` makes secrets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from local_run.containers import ContainerSpec, rabbitmq_is_ready, redis_is_ready
from local_run.pods import (
    Children,
    Manifest,
    PodIdentity,
    only_container,
    read_data_directories,
    read_environment,
    read_files,
    read_ports,
    service_addresses,
)
from local_run.processes import ProcessSpec
from pushcluster_contract import env
from pushcluster_contract.tokens import HS256_KEY
from pushcluster_operator.children import Credentials, Images, PushCluster, build_children
from pushcluster_operator.kube.credentials import API_KEY, Entropy
from pushcluster_operator.kube.manifest import encode_data
from pushcluster_operator.kube.names import Names

HOST: Final = "127.0.0.1"
PAGE_USERS: Final = ("alice", "bob")


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A PushCluster and its children, as they would be in Kubernetes."""

    cluster: PushCluster
    children: Children

    @classmethod
    def from_body(cls, body: Mapping[str, Any], images: Images, entropy: Entropy) -> "LocalCluster":
        """Build the children with new secrets. Raises InvalidSpec."""
        cluster = PushCluster.from_body(body)
        credentials = Credentials.recover(Names.of(cluster.identity), {}, entropy)
        children: list[Manifest] = list(build_children(cluster, credentials, images))
        if (referenced := cluster.spec.gateway.auth.secret_name) is not None:
            # The author's own key exists only in Kubernetes. Here a new key replaces it.
            secret = {"kind": "Secret", "metadata": {"name": referenced}}
            children.append({**secret, "data": encode_data({HS256_KEY: credentials.jwt_key})})
        return cls(cluster, Children(tuple(children)))

    @property
    def names(self) -> Names:
        """The children's names."""
        return Names.of(self.cluster.identity)

    @property
    def jwt_key(self) -> str | None:
        """The key that signs tokens. None if somebody else signs them, or if the gateways trust the login header."""
        key = self.auth_files.get(HS256_KEY)
        return None if key is None else key.decode()

    @property
    def auth_files(self) -> Mapping[str, bytes]:
        """The files from which gateways check tokens, by name."""
        files = read_files(self.children.of_component("Deployment", "gateway"), self.children)
        return {path.rpartition("/")[2]: data for path, data in files.items()}

    @property
    def user_claim(self) -> str:
        """The claim of a token that says who the user is."""
        return self.cluster.spec.gateway.auth.user_claim

    @property
    def api_key(self) -> str | None:
        """The bearer key of the HTTP API. None if the API is off."""
        secret = self.children.named("Secret", self.names.api)
        return self.children.values("Secret", self.names.api)[API_KEY] if secret else None

    def store(self, component: str) -> ContainerSpec:
        """Return the container of `redis` or `rabbitmq`."""
        workload = self.children.of_component("StatefulSet", component)
        container = only_container(workload)
        pod = self._pod(f"{workload['metadata']['name']}-0", "")
        words: list[str] = [*container["command"], *container.get("args", ())]
        return ContainerSpec(
            name=component,
            image=container["image"],
            ports=read_ports(container),
            is_ready=rabbitmq_is_ready if component == "rabbitmq" else self._redis_is_ready,
            entrypoint=words[0],
            command=tuple(words[1:]),
            env=read_environment(container, pod, self.children),
            files=read_files(workload, self.children),
            volumes=read_data_directories(workload),
            hostname=f"{pod.name}.{workload['spec']['serviceName']}.{pod.namespace}.svc",
        )

    def hosts(self, component: str, host_ports: Mapping[int, int]) -> dict[str, str]:
        """Return a mapping: a store's address as pods write it → as this machine reaches it."""
        addresses = service_addresses(self.children, component)
        return {inside: f"{HOST}:{host_ports[port]}" for inside, port in addresses.items()}

    def program(self, component: str, pod: PodIdentity, hosts: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a `gateway` or `dispatcher` pod, with addresses of this machine."""
        container = self._container("Deployment", component)
        environment = read_environment(container, pod, self.children)
        return {name: _reached(value, hosts) for name, value in environment.items()}

    def producer_url(self, hosts: Mapping[str, str]) -> str:
        """Return the AMQP URL that a back end publishes with."""
        return _reached(self.children.values("Secret", self.names.producer)["url"], hosts)

    def connection_urls(self, hosts: Mapping[str, str]) -> tuple[str, str]:
        """Return the AMQP and Redis URLs of the cluster's own programs, which may do everything."""
        secret = self.children.values("Secret", self.names.connections)
        return _reached(secret["amqp-url"], hosts), _reached(secret["redis-url"], hosts)

    def pod(self, component: str, ordinal: int, uid: str) -> PodIdentity:
        """Return the identity of a gateway's or dispatcher's pod."""
        return self._pod(f"{self.cluster.identity.name}-{component}-{ordinal}", uid)

    def _pod(self, name: str, uid: str) -> PodIdentity:
        return PodIdentity(name, uid, self.cluster.identity.namespace)

    def _container(self, kind: str, component: str) -> Manifest:
        return only_container(self.children.of_component(kind, component))

    def _redis_is_ready(self, port: int) -> bool:
        return redis_is_ready(port, self.children.values("Secret", self.names.redis)["password"])


@dataclass(frozen=True, slots=True)
class Program:
    """One program and how to reach it."""

    process: ProcessSpec
    url: str
    """A gateway's `ws://…/ws`, a dispatcher's API or the page, without a slash at the end."""
    admin_url: str
    """/healthz, /readyz and /metrics; the page's own address for the page."""


def plan_gateway(
    cluster: LocalCluster,
    pod: PodIdentity,
    hosts: Mapping[str, str],
    allocate: Callable[[], int],
    *,
    page_origin: str,
    keys_directory: str,
) -> Program:
    """Return one gateway, which reads `auth_files` from `keys_directory` on this machine.

    If the YAML limits the origins, the sample page's own origin is added.
    """
    environment = cluster.program("gateway", pod, hosts) | {env.AUTH_KEYS_DIRECTORY: keys_directory}
    if environment[env.ALLOWED_ORIGINS]:
        environment[env.ALLOWED_ORIGINS] += f" {page_origin}"
    return _plan_program("gateway", pod, environment, env.WS_PORT, "ws://{}/ws", allocate)


def plan_dispatcher(
    cluster: LocalCluster, pod: PodIdentity, hosts: Mapping[str, str], allocate: Callable[[], int]
) -> Program:
    """Return one dispatcher."""
    return _plan_program(
        "dispatcher", pod, cluster.program("dispatcher", pod, hosts), env.API_PORT, "http://{}", allocate
    )


def plan_page(cluster: LocalCluster, ws_url: str, api_url: str, stompjs_dir: str, port: int) -> Program | None:
    """Return the sample page. None if the cluster makes no tokens or has no API, because the page needs both."""
    if cluster.jwt_key is None or cluster.api_key is None:
        return None
    url = f"http://{HOST}:{port}"
    environment = {
        "PAGE_HOST": HOST,
        "PAGE_PORT": str(port),
        "PAGE_WS_URL": ws_url,
        "PAGE_API_URL": api_url,
        "PAGE_API_KEY": cluster.api_key,
        "PAGE_JWT_KEY": cluster.jwt_key,
        "PAGE_USER_CLAIM": cluster.user_claim,
        "PAGE_USERS": ",".join(PAGE_USERS),
        "PAGE_STOMPJS_DIR": stompjs_dir,
    }
    return Program(ProcessSpec("page", "pushcluster_page", f"{url}/healthz", environment), url, url)


def _plan_program(
    component: str,
    pod: PodIdentity,
    environment: Mapping[str, str],
    port_variable: str,
    url: str,
    allocate: Callable[[], int],
) -> Program:
    port, admin_port = allocate(), allocate()
    here = {env.LISTEN_HOST: HOST, env.ADMIN_PORT: str(admin_port), port_variable: str(port)}
    admin_url = f"http://{HOST}:{admin_port}"
    process = ProcessSpec(pod.name, f"pushcluster_{component}", f"{admin_url}/readyz", {**environment, **here})
    return Program(process, url.format(f"{HOST}:{port}"), admin_url)


def _reached(value: str, hosts: Mapping[str, str]) -> str:
    for inside, outside in hosts.items():
        value = value.replace(inside, outside)
    return value
