"""What became of the mutants: a table by module, and the score. No I/O."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.mutation.mutants import Mutant

REQUIRED_PERCENT: Final = 95.0


class Fate(Enum):
    KILLED = "killed"
    HARMLESS = "harmless"
    SURVIVED = "survived"
    UNSEEN = "survived: no unit test runs it"


@dataclass(frozen=True)
class Verdict:
    """A mutant and its fate; `by` is the test that killed it, or how else it ended."""

    mutant: Mutant
    fate: Fate
    by: str = ""


def compute_score(verdicts: Iterable[Verdict]) -> float:
    """Return how many percent died of those that are not harmless."""
    fates = Counter(each.fate for each in verdicts)
    counted = sum(fates.values()) - fates[Fate.HARMLESS]
    return 100.0 * fates[Fate.KILLED] / counted if counted else 100.0


def build_table(verdicts: Sequence[Verdict]) -> str:
    """Return a line for each module, and the sum."""
    width = max(len(each.mutant.module) for each in verdicts)
    columns = ("mutants", "killed", "harmless", "survived", "not run")
    lines = [f"{'module':{width}}" + "".join(f"{each:>10}" for each in columns)]
    by_module: dict[str, list[Verdict]] = {}
    for each in verdicts:
        by_module.setdefault(each.mutant.module, []).append(each)
    lines.extend(_line(module, width, by_module[module]) for module in sorted(by_module))
    return "\n".join((*lines, _line("all", width, verdicts)))


def _line(name: str, width: int, verdicts: Sequence[Verdict]) -> str:
    fates = Counter(each.fate for each in verdicts)
    numbers = (len(verdicts), fates[Fate.KILLED], fates[Fate.HARMLESS], fates[Fate.SURVIVED], fates[Fate.UNSEEN])
    return f"{name:{width}}" + "".join(f"{each or '':>10}" for each in numbers)
