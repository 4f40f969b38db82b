"""The document that a run writes: sections of text, tables and pictures, as Markdown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Cell = str | int | float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, and a title for each column."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def render(self) -> str:
        """Return a Markdown table with numbers to the right. Raises ValueError if a row has another length."""
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
    """File name with its extension; the file is written beside the document."""
    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Sequence[tuple[str, Sequence[float]]]
    """Each line is a label and its values, one for each position."""


@dataclass(frozen=True, slots=True)
class Section:
    """One figure."""

    title: str
    aim: str
    """What must be reached, in words. Empty: there is no aim."""
    reached: bool | None
    """None: there is no aim."""
    text: str
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    profile: str = ""
    """The top lines of a profile, where an aim or its better value was missed."""

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
    """Everything that one run measured."""

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
    """Return a number with its significant digits and separated thousands. Text stays as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _verdict(reached: bool | None) -> str:  # noqa: FBT001 - three answers
    return {True: "reached", False: "missed", None: "measured"}[reached]
