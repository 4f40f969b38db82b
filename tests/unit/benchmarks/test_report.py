import pytest

from benchmarks.report import Cell, Document, Plot, Section, Table, format_cell


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (0, "0"),
        (1234567, "1,234,567"),
        (1234.5, "1,234"),
        (123.4, "123"),
        (12.345, "12.3"),
        (0.01234, "0.0123"),
        (0.0, "0"),
        (-5432.1, "-5,432"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value: Cell, text: str) -> None:
    assert format_cell(value) == text


def test_a_table_puts_numbers_to_the_right() -> None:
    table = Table(("what", "a second"), [("gateway", 250_000), ("bare", 1.5)])
    assert table.render() == "| what | a second |\n|---|---:|\n| gateway | 250,000 |\n| bare | 1.5 |"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the table 2 columns"):
        Table(("a", "b"), [(1,)]).render()


@pytest.mark.parametrize(("reached", "words"), [(True, "Reached."), (False, "**missed**."), (None, "Measured.")])
def test_a_section_says_whether_its_aim_was_reached(reached: bool | None, words: str) -> None:
    text = Section("Speed", "fast", reached, "How.", profile="line 1\n").render()
    assert text == f"## Speed\n\nAim: fast. {words}\n\nHow.\n\n```\nline 1\n```"


def test_without_an_aim_a_section_names_none() -> None:
    plot = Plot("a.png", "A", "x", "y", [1], [("line", [2])])
    assert Section("Speed", "", None, "How.", plots=[plot]).render() == "## Speed\n\nHow.\n\n![A](a.png)"


def test_the_document_begins_with_facts_and_a_summary() -> None:
    document = Document("Benchmarks", "Why.", [("machine", "2 cores")], [Section("Speed", "fast", False, "How.")])
    text = document.render()
    assert text.startswith(
        "# Benchmarks\n\nWhy.\n\n|  |  |\n|---|---|\n| machine | 2 cores |\n\n| figure | aim | result |"
    )
    assert "| Speed | fast | missed |" in text
    assert text.endswith("How.\n")
