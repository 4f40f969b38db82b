"""A changed constant is followed to the statements that use it."""

from textwrap import dedent

import pytest

from tests.mutation.names import Names

NAMES = Names(
    {
        "limits": dedent("""\
            FRAME = 8
            HEADERS = 2
            ALL = FRAME + HEADERS
            """),
        "parser": dedent("""\
            from limits import ALL, FRAME
            def parse(data):
                if len(data) > FRAME:
                    data = None
                return data
            class Window:
                size: int = 0
                def __init__(self, most=ALL):
                    self.most = most
            def build():
                return Window()
            """),
    }
)


@pytest.mark.parametrize(
    ("line", "name"),
    [(("limits", 1), "FRAME"), (("parser", 2), "parse"), (("parser", 7), "size"), (("parser", 8), "Window")],
)
def test_what_runs_at_import_has_a_name(line: tuple[str, int], name: str) -> None:
    assert NAMES.defined[line] == name


def test_the_default_of_a_field_belongs_to_its_class_too() -> None:
    assert NAMES.classes == {("parser", 7): "Window"}


def test_uses_are_statements_and_not_the_function_around_them() -> None:
    assert NAMES.find_uses("FRAME") >= {("limits", 3), ("parser", 3)}
    assert ("parser", 2) not in NAMES.find_uses("FRAME")


def test_what_is_made_of_a_name_at_import_is_followed() -> None:
    assert NAMES.find_uses("HEADERS") == {("limits", 3), ("parser", 8), ("parser", 11)}
    assert NAMES.find_uses("size") == set()
