"""Who imports whom: the layers of pyproject.toml hold, and nothing imports in a circle."""

import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).parent / "lint-imports"
PACKAGES = {
    "pushcluster_contract": "contract",
    "pushcluster_runtime": "runtime",
    "pushcluster_operator": "operator",
    "pushcluster_gateway": "gateway_image",
    "pushcluster_dispatcher": "dispatcher_image",
    "pushcluster_page": "page",
}
"""Package to its folder."""


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type checking count: what has to be read together belongs together."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 200
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("pushcluster_gateway/stomp/frames.py", "pushcluster_gateway.session.hub"),
        ("pushcluster_gateway/transport/outbox.py", "pushcluster_gateway.session.acks"),
        ("pushcluster_gateway/session/hub.py", "pushcluster_gateway.registry.lease"),
        ("pushcluster_gateway/broker/copies.py", "pushcluster_gateway.registry.lease"),
        ("pushcluster_operator/spec/reader.py", "pushcluster_operator.kube.labels"),
        ("pushcluster_operator/status/pods.py", "pushcluster_operator.sweep.removals"),
        ("pushcluster_dispatcher/log/entries.py", "pushcluster_dispatcher.ingress.ledger"),
        ("pushcluster_runtime/backoff.py", "pushcluster_runtime.redis.wire"),
    ],
)
def test_a_lower_package_that_imports_a_higher_one_is_refused(lower: str, higher: str, tmp_path: Path) -> None:
    for package, folder in PACKAGES.items():
        shutil.copytree(ROOT / folder / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    module = tmp_path / lower
    module.write_text(f"import {higher}\n{module.read_text()}")
    result = subprocess.run(
        [LINT, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"is not allowed to import {higher.rsplit('.', 1)[0]}" in result.stdout
