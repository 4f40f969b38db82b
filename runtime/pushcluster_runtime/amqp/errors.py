"""Translate AMQP errors into the contract's: Unavailable passes with time, InvalidInput can never be sent."""

from pika.adapters.utils.connection_workflow import AMQPConnectionWorkflowFailed, AMQPConnectorPhaseErrorBase
from pika.exceptions import AMQPChannelError, AMQPConnectionError, AMQPError, ChannelClosed, ConnectionClosed

from pushcluster_contract.errors import InvalidInput, Unavailable


def translate(error: AMQPError) -> Exception:
    """Return Unavailable if the channel or connection is lost, and InvalidInput for a value that AMQP cannot carry."""
    if isinstance(error, AMQPChannelError | AMQPConnectionError):
        return unavailable(describe(error))
    return InvalidInput(f"AMQP cannot carry this: {describe(error)}")


def unavailable(reason: str) -> Unavailable:
    """Return the error for a channel or connection that is gone."""
    return Unavailable(f"RabbitMQ: {reason}")


def describe(error: BaseException) -> str:
    """Return the reason that the broker or the system gave. pika wraps some of them in errors without a text."""
    if isinstance(error, ConnectionClosed | ChannelClosed):
        return f"{error.reply_code} {error.reply_text}"
    if isinstance(error, AMQPConnectionWorkflowFailed):
        return describe(error.exceptions[-1])
    if isinstance(error, AMQPConnectorPhaseErrorBase):
        return describe(error.exception)
    if isinstance(error, AMQPConnectionError) and error.args and isinstance(error.args[0], BaseException):
        return describe(error.args[0])
    return str(error) or type(error).__name__
