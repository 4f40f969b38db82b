"""What a mutant may be, and what it must not be."""

import ast
from textwrap import dedent

import pytest

from tests.mutation.mutants import Mutant, build_mutant, find_mutants


def changes(source: str, kind: str = "") -> list[tuple[str, str]]:
    mutants = find_mutants("module", dedent(source))
    return [(each.was, each.becomes) for each in mutants if kind in {"", each.kind}]


def in_function(source: str, kind: str = "") -> list[tuple[str, str]]:
    return changes(f"def f(a, b, c):\n    {source}\n", kind)


@pytest.mark.parametrize(
    ("kind", "was", "becomes"),
    [
        ("constant", "x = 1", ["x = 2"]),
        ("constant", "x = 65536", ["x = 131072"]),
        ("constant", "x = True", ["x = False"]),
        ("constant", "x = '/readyz'", ["x = '/readyz_'"]),
        ("comparison", "x = a < b", ["x = a <= b"]),
        ("comparison", "x = a is None", ["x = a is not None"]),
        ("and, or", "x = a and b", ["x = a or b"]),
        ("condition left out", "x = a and b", ["x = b", "x = a"]),
        ("not", "x = not a", ["x = a"]),
        ("operator", "x = a + b", ["x = a - b"]),
        ("operator", "x += a", ["x -= a"]),
        ("min, max, any, all", "x = min(a, b)", ["x = max(a, b)"]),
        ("order of arguments", "x = g(a, b)", ["x = g(b, a)"]),
        ("keyword", "x = g(kept=a, count=b)", ["x = g(kept=b, count=a)"]),
        ("attribute", "x = g(a.kept, a.count)", ["x = g(a.count, a.count)", "x = g(a.kept, a.kept)"]),
        ("value of a key", "x = {k: a, l: b}", ["x = {k: b, l: a}"]),
        ("key left out", "x = {k: a, l: b}", ["x = {l: b}", "x = {k: a}"]),
        ("element left out", "x = [a, b]", ["x = [b]", "x = [a]"]),
        ("if, else", "x = a if a > b else b", ["x = b if a > b else a"]),
        ("filter", "x = [e for e in a if e]", ["x = [e for e in a if True]"]),
        ("returned value", "return a", ["return None"]),
        ("removed", "self.since = None", ["pass"]),
        ("removed", "await a()", ["pass"]),
        ("removed", "raise a", ["pass"]),
    ],
)
def test_each_kind_changes_one_point(kind: str, was: str, becomes: list[str]) -> None:
    text = f"async def f(self, a, b, c):\n    {was}\n"
    found = [each for each in find_mutants("module", text) if each.kind == kind]
    assert [each.was for each in found] == [was] * len(becomes)
    assert [each.becomes for each in found] == becomes


def test_two_neighbouring_acts_change_places() -> None:
    source = "def f():\n    register()\n    leave()\n"
    assert changes(source, "order of statements") == [("register(); leave()", "leave(); register()")]


def test_a_default_of_an_argument_is_changed() -> None:
    assert changes("def f(*, cumulative=False):\n    ...\n") == [
        ("def f(*, cumulative=False):", "def f(*, cumulative=True):")
    ]


def test_one_of_the_caught_errors_is_left_out() -> None:
    source = """
        try:
            x = a
        except (OSError, ValueError):
            pass
    """
    assert changes(source, "caught") == [
        ("except (OSError, ValueError):", "except (ValueError,):"),
        ("except (OSError, ValueError):", "except (OSError,):"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        '"""Words."""',
        "import a.b",
        "_log.warning('lost', extra={'count': 1})",
        "x = f'{1}'",
        "x: Literal['a'] = y",
        "__slots__ = ('a', 'b')",
        "x = 'words for people'",
        "T = TypeVar('T', bound=int)",
        "@dataclass(frozen=True)\nclass A:\n    x: int",
        "if TYPE_CHECKING:\n    x = 1",
        "class A:\n    def __repr__(self):\n        return 'A'",
    ],
)
def test_what_no_test_could_see_is_left_alone(source: str) -> None:
    assert changes(source) == []


def test_the_words_of_an_error_stay_and_its_values_do_not() -> None:
    assert in_function("raise Close('gone')") == [("raise Close('gone')", "pass")]
    assert ("raise Close(Code.A)", "raise Close(Code.B)") in changes(
        "def f():\n    raise Close(Code.A)\ndef g():\n    return Code.B\n"
    )


def test_arguments_that_cannot_have_one_type_do_not_change_places() -> None:
    assert in_function("x = g(1, a)", "order of arguments") == []
    assert in_function("x = g(a, a)", "order of arguments") == []


def test_a_mutant_that_is_built_is_the_one_that_was_listed() -> None:
    source = dedent("""
        LIMIT = 8

        class Window:
            def full(self, more=0):
                if self.paused or more:
                    return True
                return len(self.entries) + more >= LIMIT
    """)
    mutants = find_mutants("module", source)
    assert len(mutants) > 8
    unchanged = ast.unparse(ast.parse(source))
    for mutant in mutants:
        text = ast.unparse(build_mutant(source, mutant.index))
        assert text != unchanged
        assert mutant.becomes in text or mutant.becomes == "pass"
        assert text.replace(mutant.becomes, mutant.was, 1) == unchanged or mutant.becomes == "pass"
    assert ast.unparse(build_mutant(source, None)) == unchanged


def test_a_key_stays_when_lines_move() -> None:
    source = "def f(a):\n    return a + 1\n"

    def keys(text: str) -> list[tuple[str, str, str, str, int]]:
        return [each.key for each in find_mutants("module", text)]

    assert keys(source) == keys('"""Words."""\n\nX = y\n\n\n' + source)


def test_two_mutants_that_read_the_same_have_numbers() -> None:
    found = [each for each in find_mutants("m", "def f(a):\n    a.x = g()\n    a.x = g()\n") if each.kind == "removed"]
    assert [each.number for each in found] == [1, 2]
    assert len({each.key for each in found}) == 2


def test_a_long_statement_is_shown_as_the_part_that_changes() -> None:
    values = ", ".join(f"'key{number}': value{number}" for number in range(40))
    mutants = [each for each in find_mutants("m", f"x = {{{values}}}") if each.kind == "value of a key"]
    assert len(mutants) == 39
    middle = mutants[20]
    assert "'key20': value20, 'key21': value21" in middle.was
    assert "'key20': value21, 'key21': value20" in middle.becomes
    assert max(len(middle.was), len(middle.becomes)) < 200


def test_a_function_that_keeps_its_results_is_marked() -> None:
    source = "@lru_cache(maxsize=None)\ndef f(a):\n    return a\n\ndef g(a):\n    return a\n"
    by_function: dict[str, Mutant] = {each.function: each for each in find_mutants("m", source)}
    assert by_function["f"].cached
    assert not by_function["g"].cached
