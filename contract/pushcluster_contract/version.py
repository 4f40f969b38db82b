"""The version of all programs. It stands here because the images contain no package metadata."""

from typing import Final

VERSION: Final = "0.3.0"
