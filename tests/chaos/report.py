"""What the delivery checker said of each fault run, printed after the run and kept in build/chaos.md."""

from typing import Final

from demo.kubectl import BUILD
from tests.support.delivery_report import Report

COLUMNS: Final = (
    "attempted",
    "confirmed",
    "delivered",
    "lost",
    "duplicated",
    "unmarked",
    "reordered",
    "unexpected",
    "under_two_ids",
    "signalled_gaps",
    "unsignalled_gaps",
)
_ROWS: list[str] = []


def record(mode: str, fault: str, seen: str, seconds: float, report: Report) -> None:
    """Note one run."""
    counts = " | ".join(str(getattr(report, column)) for column in COLUMNS)
    _ROWS.append(f"| {mode} | {fault} | {seen} | {seconds:.0f} | {counts} |")


def table() -> list[str]:
    """Return the table as Markdown lines, and write it; no line when nothing ran."""
    if not _ROWS:
        return []
    heads = " | ".join(column.replace("_", " ") for column in COLUMNS)
    lines = ["", f"| mode | fault | seen by | s | {heads} |", "|---" * (4 + len(COLUMNS)) + "|", *_ROWS]
    BUILD.mkdir(exist_ok=True)
    (BUILD / "chaos.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines
