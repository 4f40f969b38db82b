"""Publishes as a back end would: over AMQP 0-9-1 with a publisher confirm, and over HTTP."""

import aiohttp
import pika
from pika.exceptions import AMQPError

from demo.expose import Access
from demo.kubectl import CommandFailed
from pushcluster_contract import headers, topology


class NotAccepted(CommandFailed):
    """The message was not accepted; the text says why."""


def publish_amqp(url: str, user: str, destination: str, body: str, *, message_id: str | None = None) -> None:
    """Publish one message to `user`. Return when a majority of the ingress queue has it on disk.

    Raises NotAccepted.
    """
    try:
        _publish(url, user, destination, body, message_id)
    except AMQPError as error:
        raise NotAccepted(f"RabbitMQ did not accept the message for {user}: {error!r}") from error


def _publish(url: str, user: str, destination: str, body: str, message_id: str | None) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            topology.PUSH_EXCHANGE,
            routing_key=user,
            body=body.encode(),
            properties=pika.BasicProperties(
                content_type="text/plain",
                delivery_mode=pika.DeliveryMode.Persistent,
                message_id=message_id,
                headers={headers.DESTINATION: destination},
            ),
        )
    finally:
        connection.close()


async def publish_http(access: Access, user: str, destination: str, body: str) -> str:
    """Publish one message to `user` through the dispatcher's API. Return its answer. Raises NotAccepted."""
    url = f"{access.api_url}/v1/users/{user}/messages"
    try:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {access.api_key}"}) as session,
            session.post(url, params={"destination": destination}, data=body.encode()) as answer,
        ):
            text = f"{answer.status} {await answer.text()}"
    except aiohttp.ClientError as error:
        raise NotAccepted(f"the API at {access.api_url} does not answer: {error!r}") from error
    if answer.status != 202:
        raise NotAccepted(f"the API did not accept the message for {user}: {text}")
    return text
