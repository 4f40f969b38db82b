"""Kubernetes objects as plain JSON, and functions for all kinds of them."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""An object as the API server takes and returns it."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Kind and name: they identify an object within its namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def key_of(manifest: Mapping[str, Any]) -> ObjectKey:
    """Return the object's kind and name."""
    return ObjectKey(manifest["kind"], manifest["metadata"]["name"])


def digest(*values: object) -> str:
    """Return 16 hex digits that change when any of the JSON values changes."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def encode_data(values: Mapping[str, str]) -> dict[str, str]:
    """Return a Secret's `data`. `stringData` is write-only, so it could not be compared with the live Secret.

    Surrogates in the values stand for bytes that are not UTF-8 (PEP 383).
    """
    return {key: base64.b64encode(value.encode(errors="surrogateescape")).decode() for key, value in values.items()}


def decode_data(secret: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts in a Secret's `data`. Values that are not UTF-8 are left out."""
    texts: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            texts[key] = base64.b64decode(value).decode()
        except ValueError:
            continue
    return texts
