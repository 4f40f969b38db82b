"""What several parts of a PushCluster's spec share: containers' resources and images."""

from dataclasses import dataclass
from typing import Final, Self

from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec import quantities
from pushcluster_operator.spec.reader import Reader

_IMAGE: Final = r"[A-Za-z0-9][A-Za-z0-9._:/@-]*"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one container requests and may use, as canonical quantities."""

    cpu_request: str
    memory_request: str
    memory_limit: str
    cpu_limit: str | None = None

    @classmethod
    def read(cls, reader: Reader, default: Self) -> Self:
        """Return `{requests, limits}`. Raise InvalidSpec if a request is more than its limit."""
        requests, limits = reader.child("requests"), reader.child("limits")
        resources = cls(
            cpu_request=requests.quantity("cpu", default.cpu_request),
            memory_request=requests.quantity("memory", default.memory_request),
            memory_limit=limits.quantity("memory", default.memory_limit),
            cpu_limit=limits.optional_quantity("cpu"),
        )
        for part in (requests, limits, reader):
            part.finish()
        pairs = (
            ("memory", resources.memory_request, resources.memory_limit),
            ("cpu", resources.cpu_request, resources.cpu_limit),
        )
        for name, request, limit in pairs:
            if limit is not None and quantities.parse(request) > quantities.parse(limit):
                raise InvalidSpec(
                    f"{reader.path}.requests.{name} ({request}) is more than limits.{name} ({limit}); "
                    "lower the request or raise the limit"
                )
        return resources


def read_image(reader: Reader) -> str | None:
    """Return `image`. None means the image that the operator was installed with."""
    return reader.optional_text("image", pattern=_IMAGE, maximum=512, rule="the name of a container image")
