"""Each statement that runs notes its line, and nothing else changes."""

from textwrap import dedent

from tests.mutation import hits

SOURCE = dedent('''\
    """Words."""
    LIMIT = 3
    def f(x):
        """More words."""
        if x > LIMIT:
            return "more"
        elif x == LIMIT:
            return "full"
        try:
            return g(x)
        except NameError:
            return "caught"
        finally:
            x = 0
''')


def run(x: int) -> tuple[str, list[int]]:
    notes = bytearray(20)
    variables: dict[str, object] = {hits.NAME: notes}
    exec(compile(hits.build_noting(SOURCE), "f", "exec"), variables)
    assert hits.take(notes) == [2, 3]
    answer = variables["f"](x)  # type: ignore[operator]
    return answer, hits.take(notes)


def test_the_lines_that_ran_are_noted() -> None:
    assert run(4) == ("more", [5, 6])
    assert run(3) == ("full", [5, 7, 8])
    assert run(2) == ("caught", [5, 7, 9, 10, 12, 14])


def test_notes_that_were_taken_are_gone() -> None:
    notes = bytearray(b"\0\1\0\1")
    assert hits.take(notes) == [1, 3]
    assert hits.take(notes) == []


def test_docstrings_stay_where_they_are() -> None:
    variables: dict[str, object] = {hits.NAME: bytearray(20)}
    exec(compile(hits.build_noting(SOURCE), "f", "exec"), variables)
    assert (variables["__doc__"], variables["f"].__doc__) == ("Words.", "More words.")
