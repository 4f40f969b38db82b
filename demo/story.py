"""The steps that `make demo` shows. Each step is checked before the next one begins."""

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable
from typing import Final

import redis.asyncio
from websockets.exceptions import InvalidHandshake

from demo.expose import Access, expose
from demo.install import install_operator
from demo.kubectl import BUILD, ROOT, Cluster, CommandFailed, Kubectl
from demo.narrator import Narrator
from demo.publish import publish_amqp, publish_http
from demo.tokens import mint
from pushcluster_contract import routing
from pushcluster_contract.keys import Keys
from tests.support.stomp_client import StompClient

NAMESPACE: Final = "demo"
NAME: Final = "demo"
DESTINATION: Final = "/queue/demo"
ENV_FILE: Final = BUILD / "demo.env"
READY_WITHIN_S: Final = 180
ELSEWHERE_WITHIN_S: Final = 30
CLEANUP_WITHIN_S: Final = 30
ARRIVES_WITHIN_S: Final = 30
OWN_QUEUE_WITHIN_S: Final = 30


async def tell(cluster: Cluster) -> None:
    """Run every step on `cluster`. Raises CommandFailed or TimeoutError at the first step that fails."""
    narrator = Narrator(steps=9)
    kubectl = cluster.kubectl(NAMESPACE)
    narrator.step("A Kubernetes cluster is up: one control plane, two workers")
    narrator.command("kubectl get nodes")
    narrator.say(kubectl("get", "nodes"))
    await asyncio.to_thread(_start_operator, cluster, narrator)
    access = await asyncio.to_thread(_apply_push_cluster, cluster, kubectl, narrator)
    alice, bob = await _connect(access, narrator)
    last = await _send(access, alice, bob, narrator)
    await asyncio.to_thread(_show_route, kubectl, alice, narrator)
    await _lose_gateway(access, kubectl, alice, narrator)
    await _come_back(access, last, narrator)
    await bob.disconnect()
    _say_goodbye(access, narrator)


def _start_operator(cluster: Cluster, narrator: Narrator) -> None:
    narrator.step("The operator and its custom resource are installed")
    narrator.command("kubectl apply -f crds/ && kubectl apply -k manifests/base")
    install_operator(cluster)
    narrator.say(f"the operator is ready after {narrator.seconds:.0f} s")


def _apply_push_cluster(cluster: Cluster, kubectl: Kubectl, narrator: Narrator) -> Access:
    narrator.step("A PushCluster is applied and becomes Ready")
    narrator.command("kubectl apply -f manifests/samples/demo.yaml")
    kubectl("apply", "--filename", str(ROOT / "manifests" / "samples" / "demo.yaml"))
    _wait_ready(cluster, kubectl)
    seconds = narrator.seconds
    narrator.command("kubectl get pcl")
    narrator.say(kubectl("get", "pcl"))
    narrator.say(f"the PushCluster is Ready after {seconds:.0f} s")
    access = expose(cluster, kubectl, NAME)
    apply_page(cluster, kubectl, access)
    write_env(cluster, access)
    narrator.say(f"the sample page runs at {access.page_url}")
    return access


def _wait_ready(cluster: Cluster, kubectl: Kubectl) -> None:
    """Return when the PushCluster is Ready and runs the current images, also if the demo ran before with others."""

    def wait(resource: str, condition: str) -> None:
        kubectl("wait", resource, f"--for={condition}", f"--timeout={READY_WITHIN_S}s", within_s=READY_WITHIN_S + 10)

    wait(f"pcl/{NAME}", "condition=Ready")
    for part in ("gateway", "dispatcher"):
        deployment = f"deployment/{NAME}-{part}"
        wait(deployment, f"jsonpath={{.spec.template.spec.containers[0].image}}={cluster.images[part]}")
        kubectl("rollout", "status", deployment, f"--timeout={READY_WITHIN_S}s", within_s=READY_WITHIN_S + 10)
    wait(f"pcl/{NAME}", "condition=Ready")


def apply_page(cluster: Cluster, kubectl: Kubectl, access: Access) -> None:
    """Run the sample page beside the PushCluster `demo` and wait until it is ready."""
    kubectl("apply", "--filename", str(ROOT / "manifests" / "samples" / "page.yaml"))
    kubectl("set", "image", "deployment/demo-page", f"page={cluster.images['page']}")
    kubectl("set", "env", "deployment/demo-page", f"PAGE_WS_URL={access.ws_url}")
    selector = kubectl.get("service", "demo-page")["spec"]["selector"]
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "demo-page-host"},
            "spec": {
                "type": "NodePort",
                "selector": selector,
                "ports": [{"port": 8080, "targetPort": 8080, "nodePort": access.page_node_port}],
            },
        }
    )
    kubectl("rollout", "status", "deployment/demo-page", "--timeout=90s", within_s=100)


def write_env(cluster: Cluster, access: Access) -> None:
    """Write build/demo.env in shell syntax. Every address is on 127.0.0.1 and can be reached from this machine."""
    values = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "NAMESPACE": NAMESPACE,
        "PUSHCLUSTER": NAME,
        "WS_URL": access.ws_url,
        "AMQP_URL": access.amqp_url,
        "PRODUCER_AMQP_URL": access.producer_amqp_url,
        "REDIS_URL": access.redis_url,
        "API_URL": access.api_url,
        "API_KEY": access.api_key,
        "PAGE_URL": access.page_url,
    }
    ENV_FILE.touch(mode=0o600)
    ENV_FILE.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()), encoding="utf-8")


async def connect(access: Access, user: str, key: str = "") -> StompClient:
    """Connect `user` through the Service. Retry, as a client would, while the Service or a stopping gateway refuses.

    The token is signed with `key`, or with the key that `access` has. Raises TimeoutError after 30 s, and StompError if
    a gateway refuses the token.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            return await StompClient.connect(access.ws_url, token=mint(key or access.jwt_key, user))
        except (OSError, EOFError, TimeoutError, ConnectionError, InvalidHandshake) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{user} cannot connect to {access.ws_url}: {error!r}") from error
            await asyncio.sleep(0.5)


async def connect_elsewhere(access: Access, user: str, gateway: str) -> StompClient:
    """Connect `user` to another gateway than this one. Raises CommandFailed if every connection comes to `gateway`.

    After a second gateway has become ready, the Service may still use only the first one for a while.
    """
    deadline = time.monotonic() + ELSEWHERE_WITHIN_S
    while time.monotonic() < deadline:
        client = await connect(access, user)
        if client.gateway != gateway:
            return client
        await client.disconnect()
        await asyncio.sleep(0.1)
    raise CommandFailed(f"for {ELSEWHERE_WITHIN_S} s, every connection went to gateway {gateway}")


async def connect_apart(access: Access, first: str, second: str) -> tuple[StompClient, StompClient]:
    """Connect two users to different gateways. Raises CommandFailed if every connection goes to the same gateway."""
    one = await connect(access, first)
    return one, await connect_elsewhere(access, second, one.gateway)


async def _connect(access: Access, narrator: Narrator) -> tuple[StompClient, StompClient]:
    narrator.step("alice and bob connect to different gateways and subscribe to /user/queue/demo")
    alice, bob = await connect_apart(access, "alice", "bob")
    for name, client in (("alice", alice), ("bob", bob)):
        await client.subscribe(f"/user{DESTINATION}", id="sub-0")
        narrator.say(f"{name:5} session {client.session} on gateway {client.gateway}")
    return alice, bob


async def _send(access: Access, alice: StompClient, bob: StompClient, narrator: Narrator) -> str:
    """Return the message-id of the message that alice got."""
    narrator.step("A message for alice reaches alice only; the first message that bob gets is his own")
    narrator.say("AMQP: publish to exchange `push`, routing key `alice`, header destination=/queue/demo")
    await asyncio.to_thread(publish_amqp, access.producer_amqp_url, "alice", DESTINATION, "for alice alone")
    message = await alice.next_message(within_s=ARRIVES_WITHIN_S)
    _expect(message.body, b"for alice alone")
    last = message["message-id"]
    narrator.say(f"alice got {message.text!r}, message-id {last}")
    narrator.command("curl -X POST -H 'Authorization: Bearer …' …/v1/users/bob/messages?destination=/queue/demo")
    narrator.say(await publish_http(access, "bob", DESTINATION, "for bob alone"))
    message = await bob.next_message(within_s=ARRIVES_WITHIN_S)
    _expect(message.body, b"for bob alone")
    narrator.say(f"bob got {message.text!r} first; alice's message did not reach him")
    return last


def _show_route(kubectl: Kubectl, alice: StompClient, narrator: Narrator) -> None:
    narrator.step("The way to alice: Redis knows her session, and the routing key of her queue is computed from it")
    key = routing.session_key("demo", alice.session)
    vhost = f"{NAMESPACE}.{NAME}"
    line = f"rabbitmqctl -q -p {vhost} list_bindings source_name routing_key destination_name"
    narrator.command(f"kubectl exec {NAME}-rabbitmq-0 -- {line}")

    def bindings() -> list[list[str]]:
        table = kubectl("exec", f"{NAME}-rabbitmq-0", "--container", "rabbitmq", "--", *shlex.split(line))
        return [row.split("\t") for row in table.splitlines() if f"\t{key}\t" in row]

    # A subscription gets its own queue a few seconds after its RECEIPT. Until then the gateway's queue serves it.
    deadline = time.monotonic() + OWN_QUEUE_WITHIN_S
    while not (rows := bindings()):
        if time.monotonic() > deadline:
            raise CommandFailed(f"no binding with routing key {key} within {OWN_QUEUE_WITHIN_S} s")
        time.sleep(1)
    for source, routing_key, queue in rows:
        narrator.say(f"exchange {source}  routing key {routing_key}  queue {queue}")


async def _lose_gateway(access: Access, kubectl: Kubectl, alice: StompClient, narrator: Narrator) -> None:
    narrator.step(f"alice's gateway {alice.gateway} is killed; the operator removes her stale session entry")
    command = ("delete", "pod", alice.gateway, "--grace-period=0", "--force")
    narrator.command(f"kubectl {' '.join(command)}")
    client: redis.asyncio.Redis = redis.asyncio.from_url(access.redis_url)
    try:
        sessions = Keys(access.cluster).sessions("alice")
        narrator.say(f"before: HGET {sessions} {alice.session} = {await _entry(client, sessions, alice.session)}")
        await asyncio.to_thread(kubectl, *command)
        gone = time.monotonic()

        async def entry_is_gone() -> bool:
            return await _entry(client, sessions, alice.session) is None

        await _until(entry_is_gone, f"alice's entry {alice.session} leaves Redis", CLEANUP_WITHIN_S)
        narrator.say(f"after: entry gone from Redis {time.monotonic() - gone:.1f} s after the pod")
    finally:
        await client.aclose()
    await publish_http(access, "alice", DESTINATION, "sent while alice was away")
    narrator.say("meanwhile, a message was sent to alice, who is not connected")


async def _come_back(access: Access, last: str, narrator: Narrator) -> None:
    narrator.step("alice reconnects and gets the message that was sent while she was away")
    again = await connect(access, "alice")
    await again.subscribe(f"/user{DESTINATION}", id="sub-0", last_message_id=last)
    message = await again.next_message(within_s=ARRIVES_WITHIN_S)
    _expect(message.body, b"sent while alice was away")
    narrator.say(f"alice, now on gateway {again.gateway}, resumed after message-id {last}")
    narrator.say(f"alice got {message.text!r} (recovered:{message.headers.get('recovered')})")
    await again.disconnect()


def _say_goodbye(access: Access, narrator: Narrator) -> None:
    narrator.step("Every step succeeded. The cluster stays up for you")
    narrator.say(f"two inboxes in a browser   {access.page_url}")
    narrator.say("addresses and credentials  source build/demo.env")
    narrator.say("a token for a client       make -s demo-token USER=alice")
    narrator.say("more gateways              kubectl -n demo scale pcl/demo --replicas=3")
    narrator.say("the operator's status      kubectl -n demo describe pcl demo")
    narrator.say("remove the cluster         make demo-down")


async def _entry(client: "redis.asyncio.Redis", key: str, sid: str) -> str | None:
    value = await client.hget(key, sid)
    return value.decode() if isinstance(value, bytes) else value


async def _until(holds: Callable[[], Awaitable[bool]], what: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not await holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.1)


def _expect(body: bytes, expected: bytes) -> None:
    if body != expected:
        raise CommandFailed(f"expected {expected!r}, got {body!r}")
