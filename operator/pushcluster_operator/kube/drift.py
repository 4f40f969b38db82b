"""Whether a live object still has what the operator applied: its fields contain the desired ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from pushcluster_operator.kube.manifest import Manifest


def is_drifted(desired: Manifest, live: Mapping[str, Any]) -> bool:
    """Return whether a field of `desired` is missing or different in `live`.

    Fields that others added do not matter (defaults, status, a restart annotation). A list in `desired` must be the
    same as a whole: one more entry is a difference. Among the owner references, only the desired one matters.
    """
    return any(_differs(key, value, live.get(key)) for key, value in desired.items())


def _differs(key: str, desired: Any, live: Any) -> bool:
    if live is None:
        # The API server drops empty values, so an absent field equals an empty one.
        return desired not in ("", [], {}, None)
    if isinstance(desired, Mapping):
        return not isinstance(live, Mapping) or any(_differs(k, v, live.get(k)) for k, v in desired.items())
    if isinstance(desired, list):
        return not isinstance(live, list) or _lists_differ(key, desired, live)
    return bool(desired != live)


def _lists_differ(key: str, desired: Sequence[Any], live: Sequence[Any]) -> bool:
    if key == "ownerReferences":
        by_uid = {owner.get("uid"): owner for owner in live}
        return any(_differs("", owner, by_uid.get(owner["uid"])) for owner in desired)
    return len(desired) != len(live) or any(_differs("", *pair) for pair in zip(desired, live, strict=True))
