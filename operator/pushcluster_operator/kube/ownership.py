"""Which fields of a live object the operator has set, by the API server's own record (`metadata.managedFields`).

Server-side apply removes a field that the applier no longer wants, if the record says that the applier set it by
*Apply*. A field that was set by *Update* (create, merge) stays, although the same manager did it. `fold_updates` turns
such a record into one of Apply.

The form of `fieldsV1`: `f:<name>` is a field, `k:<JSON>` the entry of a list with these keys, `v:<JSON>` a value of a
set, `.` the thing itself. (https://kubernetes.io/docs/reference/using-api/server-side-apply/)
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pushcluster_operator.kube.manifest import Manifest

FIELD_MANAGER: Final = "pushcluster-operator"
_APPLY: Final = "Apply"

Fields = Mapping[str, Any]
"""What `fieldsV1` holds."""


def find_leftovers(desired: Manifest, live: Mapping[str, Any]) -> list[str]:
    """Return the paths of fields that the operator has set in the live object, and that `desired` no longer has."""
    return [
        ".".join(path)
        for entry in live["metadata"].get("managedFields") or ()
        if _is_ours(entry)
        for path in _missing(entry.get("fieldsV1") or {}, desired, ())
    ]


def is_set_by_operator(live: Mapping[str, Any]) -> bool:
    """Return whether the operator has set a field of the live object."""
    return any(_is_ours(entry) for entry in live["metadata"].get("managedFields") or ())


def fold_updates(live: Mapping[str, Any]) -> list[Manifest] | None:
    """Return the record in which all that the operator has set was set by Apply. None if that is so already."""
    entries: list[Manifest] = list(live["metadata"].get("managedFields") or ())
    updates = [entry for entry in entries if _is_ours(entry) and entry.get("operation") != _APPLY]
    if not updates:
        return None
    applied = next((entry for entry in entries if _is_ours(entry) and entry.get("operation") == _APPLY), None)
    first = applied or updates[0]
    fields = dict(first.get("fieldsV1") or {})
    for entry in updates:
        fields = _union(fields, entry.get("fieldsV1") or {})
    kept = [entry for entry in entries if not _is_ours(entry)]
    return [*kept, {**first, "operation": _APPLY, "fieldsV1": fields}]


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and not entry.get("subresource")


def _missing(fields: Fields, value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, below in fields.items():
        if name == ".":
            continue
        kind, _, text = name.partition(":")
        found, child = _look_up(kind, text, value)
        if not found:
            yield (*path, text)
        else:
            yield from _missing(below, child, (*path, text))


def _look_up(kind: str, text: str, value: Any) -> tuple[bool, Any]:
    """Return whether the value has what a name of `fieldsV1` stands for, and that."""
    match kind:
        case "f":
            return (text in value, value.get(text)) if isinstance(value, Mapping) else (False, None)
        case "k" if isinstance(value, list):
            keys = json.loads(text)
            # A key that the value leaves out has its default in the record, such as the protocol of a port.
            entry = next((each for each in value if all(each.get(k, v) == v for k, v in keys.items())), None)
            return entry is not None, entry
        case "v" if isinstance(value, list):
            return json.loads(text) in value, None
        case "i":
            return True, None  # an index says nothing about what was meant
        case _:
            return False, None


def _union(first: Fields, second: Fields) -> dict[str, Any]:
    return {name: _union(first.get(name, {}), second.get(name, {})) for name in (*first, *second)}
