"""The operator's client of the session registry in Redis: leases, counts and removals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import RedisError

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys, parse_lease
from pushcluster_operator.status.redis_memory import RedisMemory
from pushcluster_operator.sweep.removals import GatewayLease
from pushcluster_runtime.redis.client import ScriptRunner, connect, translated
from pushcluster_runtime.redis.incarnation_removal import remove_incarnation

MAX_CONNECTIONS: Final = 2
MAX_TIME_DIGITS: Final = 16
"""Of a time in ms since the epoch."""
MAX_FORGOTTEN: Final = 1_000
"""Fields that `forget_without_broker` removes with one command. The next sweep removes the others."""


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """The registry at one moment."""

    leases: tuple[GatewayLease, ...]
    now_ms: int
    """Redis's own time, since the epoch."""
    append_only: bool
    """Whether Redis keeps an append-only file. Without one, it loses everything when it ends."""
    memory: RedisMemory
    run_id: str = ""
    """Another one means that Redis was started anew, or is another Redis."""
    without_broker: Mapping[Incarnation, int] = field(default_factory=dict)
    """Since when gateways have had no connection to RabbitMQ, ms since the epoch by Redis TIME."""


class RegistryClient:
    """One cluster's registry. Every method may raise Unavailable, of which TooOld is a subclass."""

    def __init__(self, cluster: str, url: str) -> None:
        self.url = url
        self._keys = Keys(cluster)
        self._client = connect(url, name="pushcluster-operator", max_connections=MAX_CONNECTIONS)
        self._scripts = ScriptRunner(self._client)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def read(self) -> RegistrySnapshot:
        """Return the leases, what gateways say of RabbitMQ, and what Redis reports of itself, all from one moment."""
        try:
            with translated():
                async with self._client.pipeline(transaction=True) as pipeline:
                    pipeline.zrange(self._keys.gateways, 0, -1, withscores=True)
                    pipeline.time()
                    pipeline.info("persistence")
                    pipeline.info("memory")
                    pipeline.info("server")
                    pipeline.hgetall(self._keys.without_broker)
                    replies = await pipeline.execute()
        except RedisError as error:
            raise Unavailable(f"Redis refuses to show its leases: {error}") from error
        members, (seconds, microseconds), persistence, memory, server, without_broker = replies
        holders = ((parse_lease(member), int(expires_ms)) for member, expires_ms in members)
        leases = tuple(GatewayLease(holder, expires_ms) for holder, expires_ms in holders if holder is not None)
        append_only = bool(persistence["aof_enabled"])
        used = int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])
        now_ms = seconds * 1_000 + microseconds // 1_000
        return RegistrySnapshot(
            leases,
            now_ms,
            append_only,
            RedisMemory(used, int(memory["maxmemory"])),
            str(server["run_id"]),
            parse_without_broker(without_broker),
        )

    async def count_sessions(self, incarnations: list[Incarnation]) -> int:
        """Return how many sessions these gateway processes hold together."""
        if not incarnations:
            return 0
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for incarnation in incarnations:
                    pipeline.scard(self._keys.gateway(incarnation))
                return sum(await pipeline.execute())

    async def forget_without_broker(self, incarnations: Sequence[Incarnation]) -> None:
        """Remove what these gateway processes said of RabbitMQ, of the first MAX_FORGOTTEN of them.

        One that lives after all says it again when it renews its lease.
        """
        with translated():
            await self._client.hdel(self._keys.without_broker, *map(str, incarnations[:MAX_FORGOTTEN]))

    async def remove(self, incarnation: Incarnation) -> int:
        """Remove every session that still belongs to this gateway process, and return their number."""
        try:
            return await remove_incarnation(self._client, self._scripts, self._keys, incarnation)
        except RedisError as error:
            raise Unavailable(f"Redis refuses to remove sessions: {error}") from error


def parse_without_broker(fields: Mapping[bytes, bytes]) -> dict[Incarnation, int]:
    """Return the hash `Keys.without_broker`. What no gateway wrote is passed over."""
    parsed = {}
    for name, value in fields.items():
        incarnation = parse_lease(name)
        if incarnation is not None and value.isdigit() and len(value) <= MAX_TIME_DIGITS:
            parsed[incarnation] = int(value)
    return parsed
