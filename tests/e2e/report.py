"""Figures that the end-to-end tests measure, printed after the run and kept in build/clean-up.md."""

from demo.kubectl import BUILD

_SECONDS: dict[str, tuple[float, float]] = {}


def record_clean_up(case: str, seconds: float, *, bound_s: float) -> None:
    """Note the seconds from pod gone to entry gone in one clean-up case."""
    _SECONDS[case] = (seconds, bound_s)


def clean_up_table() -> list[str]:
    """Return the table as Markdown lines, and write it; no line when no case ran."""
    if not _SECONDS:
        return []
    rows = [f"| {case} | {seconds:.1f} | {bound:.0f} |" for case, (seconds, bound) in _SECONDS.items()]
    lines = ["", "| how the gateway ended | s from pod gone to entry gone | bound, s |", "|---|---|---|", *rows]
    BUILD.mkdir(exist_ok=True)
    (BUILD / "clean-up.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines
