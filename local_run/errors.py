"""Why the data plane could not start or did not stay up, in a sentence that says what to do."""

from pushcluster_contract.errors import PushClusterError


class LocalRunError(PushClusterError):
    """Whoever started the run can mend it; the message says how."""


class DockerError(LocalRunError):
    """The docker command failed; the message holds the command and what it wrote to stderr."""


class PortTaken(DockerError):
    """Somebody else took a host port between the moment it was found free and the start of the container."""


class ImageMissing(LocalRunError):
    """An image that the run needs is not in the docker engine."""
