"""The score and the table count what they say, and a sample is the same again."""

from tests.mutation.__main__ import choose
from tests.mutation.mutants import find_mutants
from tests.mutation.report import Fate, Verdict, build_table, compute_score

MUTANTS = [
    *find_mutants("some.acks", "\n".join(f"x{number} = {number}" for number in range(30))),
    *find_mutants("some.wheel", "x = 1 < y < 2"),
]
KILLED, HARMLESS, SURVIVED, UNSEEN = Fate.KILLED, Fate.HARMLESS, Fate.SURVIVED, Fate.UNSEEN


def verdicts(*fates: Fate) -> list[Verdict]:
    return [Verdict(mutant, fate) for mutant, fate in zip(MUTANTS, fates, strict=False)]


def test_the_score_leaves_out_what_is_harmless() -> None:
    assert compute_score(verdicts(KILLED, KILLED, KILLED, SURVIVED)) == 75.0
    assert compute_score(verdicts(KILLED, KILLED, KILLED, UNSEEN, HARMLESS, HARMLESS)) == 75.0
    assert compute_score(verdicts(HARMLESS)) == 100.0


def test_the_table_has_a_line_for_each_module_and_their_sum() -> None:
    seen = [*verdicts(KILLED, HARMLESS, SURVIVED, UNSEEN, UNSEEN), Verdict(MUTANTS[-1], KILLED)]
    lines = [line.split() for line in build_table(seen).splitlines()]
    assert lines == [
        ["module", "mutants", "killed", "harmless", "survived", "not", "run"],
        ["some.acks", "5", "1", "1", "1", "2"],
        ["some.wheel", "1", "1"],
        ["all", "6", "2", "1", "1", "2"],
    ]


def test_a_seed_chooses_the_same_mutants_again() -> None:
    assert choose(MUTANTS, [], 7, 10) == choose(MUTANTS, [], 7, 10)
    assert choose(MUTANTS, [], 7, 10) != choose(MUTANTS, [], 8, 10)
    assert len(set(choose(MUTANTS, [], 7, 10))) == 10


def test_a_pattern_chooses_all_mutants_of_its_modules() -> None:
    assert choose(MUTANTS, ["*.wheel"], 1, 2) == MUTANTS[30:]
    assert choose(MUTANTS, [], 1, None) == MUTANTS
