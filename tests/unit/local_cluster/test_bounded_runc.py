"""Containers ask only for what this machine's root has."""

import json
from pathlib import Path

import pytest

from local_cluster.bounded_runc import CAPABILITIES, bound_process, bounding_set, option, rewrite

_WITHOUT_RESOURCE = bounding_set("Name:\tx\nCapBnd:\t000001fffeffffff\n")


def test_the_bounding_set_is_read_bit_by_bit() -> None:
    assert set(CAPABILITIES) - _WITHOUT_RESOURCE == {"CAP_SYS_RESOURCE"}
    assert bounding_set("CapBnd:\t0000000000000021\n") == {"CAP_CHOWN", "CAP_KILL"}


def test_only_capabilities_out_of_reach_are_dropped() -> None:
    asked = {"capabilities": {"bounding": ["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"], "effective": []}, "cwd": "/"}
    assert bound_process(asked, _WITHOUT_RESOURCE) == {
        "capabilities": {"bounding": ["CAP_SYS_ADMIN"], "effective": []},
        "cwd": "/",
    }


def test_a_lower_oom_score_is_given_up_where_it_may_not_be_set_and_kept_where_it_may() -> None:
    asked = {"oomScoreAdj": -999}
    assert bound_process(asked, _WITHOUT_RESOURCE) == {"oomScoreAdj": 0}
    assert bound_process(asked, frozenset(CAPABILITIES)) == asked
    assert bound_process({"oomScoreAdj": 500}, _WITHOUT_RESOURCE) == {"oomScoreAdj": 500}


def test_the_value_of_an_option_is_what_follows_it() -> None:
    assert option(["create", "--bundle", "/b", "id"], "--bundle", "-b") == "/b"
    assert option(["create", "id"], "--bundle", "-b") is None


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_new_containers_bundle_is_rewritten(tmp_path: Path, command: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"process": {"capabilities": {"bounding": ["CAP_SYS_RESOURCE"]}}, "root": {}}))
    rewrite(["--root", "/r", command, "--bundle", str(tmp_path), "id"], _WITHOUT_RESOURCE)
    assert json.loads(config.read_text()) == {"process": {"capabilities": {"bounding": []}}, "root": {}}


def test_a_process_added_to_a_container_is_rewritten(tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"capabilities": {"bounding": ["CAP_SYS_RESOURCE"]}}))
    rewrite(["exec", "--process", str(process), "id"], _WITHOUT_RESOURCE)
    assert json.loads(process.read_text()) == {"capabilities": {"bounding": []}}


def test_other_calls_of_runc_pass_untouched(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("as it was")
    rewrite(["delete", "--bundle", str(tmp_path), "id"], _WITHOUT_RESOURCE)
    assert config.read_text() == "as it was"
