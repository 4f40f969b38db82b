"""The document that a run leaves: sections of text, tables and pictures, as Markdown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Cell = str | int | float


@dataclass(frozen=True, slots=True)
class Table:
    """Columns with a title each, and rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def render(self) -> str:
        """Return it as a Markdown table, numbers to the right; raises ValueError for a row of another length."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells, the table {len(self.columns)} columns")
        lines = ["| " + " | ".join(self.columns) + " |"]
        lines.append("|" + "|".join(self._rule(n) for n in range(len(self.columns))) + "|")
        lines += ["| " + " | ".join(map(format_cell, row)) + " |" for row in self.rows]
        return "\n".join(lines)

    def _rule(self, column: int) -> str:
        cells = [row[column] for row in self.rows]
        return "---:" if cells and not any(isinstance(cell, str) for cell in cells) else "---"


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over common positions."""

    file: str
    """Beside the document, with its ending."""
    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Sequence[tuple[str, Sequence[float]]]
    """Label and values, one for each position."""


@dataclass(frozen=True, slots=True)
class Section:
    """One figure."""

    title: str
    aim: str
    """What must be reached, in words; empty: nothing was asked for."""
    reached: bool | None
    """None: there is nothing to reach."""
    text: str
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    profile: str = ""
    """The top lines of a profile, where an aim was missed."""

    def render(self) -> str:
        """Return it as Markdown."""
        parts = [f"## {self.title}"]
        if self.aim:
            verdict = {True: "reached", False: "**missed**", None: "measured"}[self.reached]
            parts.append(f"Aim: {self.aim}. {verdict.capitalize() if self.reached is not False else verdict}.")
        parts.append(self.text)
        parts += [table.render() for table in self.tables]
        parts += [f"![{plot.title}]({plot.file})" for plot in self.plots]
        if self.profile:
            parts.append(f"```\n{self.profile.strip()}\n```")
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Document:
    """Everything that one run found."""

    title: str
    introduction: str
    facts: Sequence[tuple[str, str]]
    """Machine, versions, command."""
    sections: Sequence[Section] = field(default_factory=list)

    def render(self) -> str:
        """Return it as Markdown."""
        summary = Table(
            ("figure", "aim", "result"),
            [(s.title, s.aim or "none", _verdict(s.reached)) for s in self.sections],
        )
        parts = [f"# {self.title}", self.introduction, Table(("", ""), self.facts).render(), summary.render()]
        return "\n\n".join([*parts, *(section.render() for section in self.sections)]) + "\n"


def format_cell(value: Cell) -> str:
    """Return a number with as many digits as mean something, thousands parted; text as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _verdict(reached: bool | None) -> str:  # noqa: FBT001 - three answers
    return {True: "reached", False: "missed", None: "measured"}[reached]
