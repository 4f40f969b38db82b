"""Quantities take the form in which the API server gives them back."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec import quantities


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1Ki", "1Ki"),
        ("0.9765625Ki", "1k"),
        ("1000m", "1"),
        ("0.05", "50m"),
        ("1.0005", "1001m"),
        ("1000", "1k"),
        ("1000k", "1M"),
        ("1000M", "1G"),
        ("1000G", "1T"),
        ("1000T", "1P"),
        ("1024Gi", "1Ti"),
        ("1024Ti", "1Pi"),
        ("1024", "1024"),
        ("0", "0"),
    ],
)
def test_canonical_forms(text: str, canonical: str) -> None:
    assert quantities.canonical(text) == canonical


@pytest.mark.parametrize(
    ("suffix", "unit"),
    [
        ("m", Fraction(1, 1000)),
        *(("", 1), ("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12), ("P", 10**15)),
        *(("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("Ti", 2**40), ("Pi", 2**50)),
    ],
)
def test_each_suffix_is_its_unit(suffix: str, unit: Fraction) -> None:
    assert quantities.parse(f"7{suffix}") == 7 * unit


@given(st.integers(0, 10**6), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"]))
def test_the_canonical_form_is_the_same_number_and_stays_as_it_is(number: int, suffix: str) -> None:
    canonical = quantities.canonical(f"{number}{suffix}")
    assert quantities.parse(canonical) == quantities.parse(f"{number}{suffix}")
    assert quantities.canonical(canonical) == canonical


def test_bytes_are_whole() -> None:
    assert quantities.to_bytes("1.5Ki") == 1536
    assert quantities.to_bytes("1500m") == 2
    assert quantities.parse("1500m") == Fraction(3, 2)


@pytest.mark.parametrize("text", ["", "Mi", "-1", "1e3", "1 Gi", "1Ei"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is not a number"):
        quantities.parse(text)
