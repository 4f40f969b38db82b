"""The list of harmless mutants cannot hide one that is not on it."""

import tomllib

import pytest

from tests.mutation.harmless import FIELDS, FILE, build_entry, find_stale, parse_harmless
from tests.mutation.mutants import find_mutants
from tests.mutation.targets import find_targets

SOURCE = 'def f(a):\n    a.name = "x"\n    a.name = "x"\n    return min(a, 1)\n'
MUTANTS = find_mutants("some.module", SOURCE)


def written(reason: str) -> str:
    return build_entry(MUTANTS[0], "removed").replace('reason = ""', f'reason = "{reason}"')


def test_an_entry_with_a_reason_names_its_mutant() -> None:
    assert parse_harmless(written("Nobody reads it.")) == {MUTANTS[0].key: "Nobody reads it."}


def test_every_entry_that_is_offered_can_be_read_again() -> None:
    entries = tomllib.loads("\n".join(build_entry(each, each.kind) for each in MUTANTS))["harmless"]
    keys = [(*(entry[field] for field in FIELDS[:4]), entry.get("number", 1)) for entry in entries]
    assert keys == [each.key for each in MUTANTS]
    assert {key[-1] for key in keys} == {1, 2}


@pytest.mark.parametrize("reason", ["", "  "])
def test_an_entry_without_a_reason_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match="no reason is given"):
        parse_harmless(written(reason))


def test_an_entry_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_harmless(written("One.") + written("Another."))


def test_an_entry_that_fits_no_mutant_any_more_is_found() -> None:
    reasons = parse_harmless(written("Nobody reads it."))
    assert find_stale(reasons, MUTANTS) == []
    assert find_stale(reasons, find_mutants("some.module", SOURCE.replace("name", "title"))) == [MUTANTS[0].key]


def test_each_entry_of_the_list_fits_a_mutant_of_today() -> None:
    """Else `make test-mutation` refuses to run, and somebody else finds that out."""
    mutants = [mutant for each in find_targets() for mutant in find_mutants(each.name, each.source)]
    assert find_stale(parse_harmless(FILE.read_text(encoding="utf-8")), mutants) == []
