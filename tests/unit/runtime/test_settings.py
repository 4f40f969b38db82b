from enum import StrEnum

import pytest

from pushcluster_contract.errors import InvalidInput
from pushcluster_runtime.settings import EnvironmentVariables


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"^NAME is not set$"):
        EnvironmentVariables({}).text("NAME")


def test_an_empty_variable_counts_as_missing() -> None:
    assert EnvironmentVariables({"NAME": " "}).text("NAME", "default") == "default"


@pytest.mark.parametrize("raw", ["0", "11", "1.5", "one", "-3"])
def test_a_number_out_of_bounds_is_refused_with_what_it_may_be(raw: str) -> None:
    with pytest.raises(InvalidInput, match=r"^N must be a whole number from 1 to 10, not '"):
        EnvironmentVariables({"N": raw}).integer("N", low=1, high=10)


@pytest.mark.parametrize("raw", ["1", "10"])
def test_the_bounds_of_a_number_are_allowed(raw: str) -> None:
    assert EnvironmentVariables({"N": raw}).integer("N", low=1, high=10) == int(raw)


def test_a_missing_number_takes_its_default() -> None:
    assert EnvironmentVariables({}).integer("N", 7, low=1, high=10) == 7


def test_a_boolean_is_true_or_false_and_nothing_else() -> None:
    environment = EnvironmentVariables({"A": "true", "B": "false", "C": "yes"})
    assert environment.boolean("A", default=False) is True
    assert environment.boolean("B", default=True) is False
    assert environment.boolean("MISSING", default=True) is True
    with pytest.raises(InvalidInput, match="C must be true or false, not 'yes'"):
        environment.boolean("C", default=True)


def test_a_wrong_choice_is_answered_with_all_choices() -> None:
    with pytest.raises(InvalidInput, match=r"^C must be one of red, blue, not 'green'$"):
        EnvironmentVariables({"C": "green"}).choice("C", Colour)
    assert EnvironmentVariables({"C": "blue"}).choice("C", Colour) is Colour.BLUE
    assert EnvironmentVariables({}).choice("C", Colour, Colour.RED) is Colour.RED


@pytest.mark.parametrize(("raw", "is_port"), [("0", True), ("65535", True), ("65536", False), ("-1", False)])
def test_a_port_is_a_number_from_0_to_65535(raw: str, is_port: bool) -> None:
    environment = EnvironmentVariables({"P": raw})
    if is_port:
        assert environment.port("P", 1) == int(raw)
    else:
        with pytest.raises(InvalidInput, match="from 0 to 65535"):
            environment.port("P", 1)
    assert EnvironmentVariables({}).port("P", 1) == 1


def test_a_secret_is_required_and_stands_without_the_blanks_around_it() -> None:
    assert EnvironmentVariables({"S": " key\n"}).secret("S") == "key"
    with pytest.raises(InvalidInput, match=r"^S is not set$"):
        EnvironmentVariables({"S": ""}).secret("S")


def test_a_missing_boolean_takes_its_default() -> None:
    assert EnvironmentVariables({}).boolean("B", default=False) is False


def test_a_default_has_to_keep_the_bounds_too() -> None:
    with pytest.raises(InvalidInput):
        EnvironmentVariables({}).integer("N", 11, low=1, high=10)
