"""`make help` leaves nothing out."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_help_lists_every_command_with_what_it_does() -> None:
    targets = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = subprocess.run(
        ["make", "--directory", ROOT, "--no-print-directory", "help"], capture_output=True, check=True
    )
    lines = dict(line.split(maxsplit=2)[1:] for line in shown.stdout.decode().splitlines())
    assert list(lines) == targets
    assert all(len(text.split()) > 2 for text in lines.values())
