"""The version of all programs: images hold no package metadata to ask."""

from typing import Final

VERSION: Final = "0.2.0"
