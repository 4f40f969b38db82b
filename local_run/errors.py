"""Reasons why the data plane could not start or stay up. Each message says what to do."""

from pushcluster_contract.errors import PushClusterError


class LocalRunError(PushClusterError):
    """The person who started the run can fix this; the message says how."""


class DockerError(LocalRunError):
    """The docker command failed. The message holds the command and what it wrote to stderr."""


class PortTaken(DockerError):
    """Somebody took a host port after it was found free and before the container started."""


class BeingRemoved(DockerError):
    """Somebody else removes these containers at this moment: another run, or their owner's reaper."""


class ImageMissing(LocalRunError):
    """An image that the run needs is not in the docker engine."""
