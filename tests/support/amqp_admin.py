"""What tests ask of the broker beside AMQP: vhosts, queues, bindings, and cutting connections."""

import asyncio
import base64
import json
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class AmqpAdmin:
    """RabbitMQ's management API."""

    url: str
    user: str
    password: str = field(repr=False)

    async def create_vhost(self, vhost: str) -> None:
        """Make a vhost in which `user` may do everything."""
        await self._call("PUT", "vhosts", vhost, body={})
        await self._call("PUT", "permissions", vhost, self.user, body=_EVERYTHING)

    async def delete_vhost(self, vhost: str) -> None:
        """Remove a vhost with its queues and connections."""
        await self._call("DELETE", "vhosts", vhost)

    async def create_user(self, vhost: str, user: str, password: str, *, write: str, configure: str = "^$") -> None:
        """Make a user who may write to the exchanges that the regular expression `write` matches, and read nothing."""
        await self._call("PUT", "users", user, body={"password": password, "tags": ""})
        permissions = {"configure": configure, "write": write, "read": "^$"}
        await self._call("PUT", "permissions", vhost, user, body=permissions)

    async def declare_queue(self, vhost: str, queue: str, settings: Mapping[str, object]) -> None:
        """Declare a queue as the API's own terms have it: durable, arguments, …."""
        await self._call("PUT", "queues", vhost, queue, body=settings)

    async def set_policy(self, vhost: str, pattern: str, **definition: object) -> None:
        """Give the quorum queues whose names match the regular expression these settings, such as `max_length`."""
        settings = {name.replace("_", "-"): value for name, value in definition.items()}
        body = {"pattern": pattern, "definition": settings, "apply-to": "quorum_queues"}
        await self._call("PUT", "policies", vhost, "test", body=body)

    async def queues(self, vhost: str) -> dict[str, int]:
        """Return name → messages, ready and unacknowledged together, of every queue."""
        listed = await self._call("GET", "queues", vhost, query="disable_stats=true&enable_queue_totals=true")
        return {queue["name"]: queue.get("messages", 0) for queue in listed}

    async def bindings(self, vhost: str) -> list[tuple[str, str, str]]:
        """Return (exchange, routing key, queue) of every binding but those of the default exchange, sorted."""
        listed = await self._call("GET", "bindings", vhost)
        return sorted((b["source"], b["routing_key"], b["destination"]) for b in listed if b["source"])

    async def _call(self, method: str, *path: str, body: object = None, query: str = "") -> Any:
        return await asyncio.to_thread(self._call_now, method, path, body, query)

    def _call_now(self, method: str, path: Sequence[str], body: object, query: str) -> Any:
        where = "/".join(urllib.parse.quote(part, safe="") for part in path)
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url}/api/{where}?{query}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Basic {credentials}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            text = reply.read()
        return json.loads(text) if text else None


_EVERYTHING: Final = {"configure": ".*", "write": ".*", "read": ".*"}
