"""The modules to mutate follow from the contracts that keep them free of I/O, wherever they stand."""

from pathlib import Path

import pytest

from tests.mutation.targets import PROGRAMS, ROOT, Target, find_targets, imported


def test_every_program_has_targets_and_tests() -> None:
    targets = find_targets()
    for package, tests in PROGRAMS.items():
        assert [each for each in targets if each.tests == tests], package
        assert (ROOT / tests).is_dir()


def test_what_decides_is_a_target_and_what_wires_or_talks_is_none() -> None:
    names = {each.name for each in find_targets()}
    assert "pushcluster_contract.routing" in names
    assert {f"pushcluster_operator.{each}" for each in ("children.gateway", "status.conditions", "kube.plan")} <= names
    assert {f"pushcluster_gateway.{each}" for each in ("session.delivery", "stomp.parser", "registry.store")} <= names
    assert {f"pushcluster_dispatcher.{each}" for each in ("ingress.ledger", "messages")} <= names
    assert not {each for each in names if each.rpartition(".")[2] in {"server", "main", "client", "metrics"}}


def test_a_name_that_fits_nothing_any_more_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no module is called"):
        find_targets(tmp_path)


def test_tests_named_after_the_module_are_its_own_also_in_a_folder() -> None:
    target = Target("pushcluster_gateway.session.acks", Path("acks.py"), "tests/unit/gateway")
    assert target.is_own("tests/unit/gateway/test_acks.py::test_a")
    assert target.is_own("tests/unit/gateway/session/test_acks_model.py::test_a[1]")
    assert not target.is_own("tests/unit/gateway/test_packs.py::test_a")
    assert not target.is_own("tests/unit/dispatcher/test_acks.py::test_a")


def test_what_is_imported_for_types_alone_does_not_count() -> None:
    source = "from typing import TYPE_CHECKING\nfrom a.b import c\nif TYPE_CHECKING:\n    import pika\n"
    assert imported(source) == {"typing", "typing.TYPE_CHECKING", "a", "a.b", "a.b.c"}
