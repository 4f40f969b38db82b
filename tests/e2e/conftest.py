"""One kind cluster and one operator for all tests; each module's PushCluster has a namespace of its own."""

import secrets
from collections.abc import Iterator

import pytest

from demo.install import install_operator
from demo.kubectl import Cluster, CommandFailed
from tests.e2e import report
from tests.e2e.push_cluster import PushCluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The local kind cluster with the operator installed and ready."""
    try:
        cluster = Cluster.load()
        kubectl = cluster.kubectl("default")
        # A run that was killed leaves its namespaces behind, and node ports in them that this run needs.
        kubectl("delete", "namespace", "--selector", "pushcluster.dev/test=e2e", "--timeout=120s", within_s=130)
        install_operator(cluster)
    except CommandFailed as error:
        pytest.fail(f"The local cluster is not usable; `make test-e2e` makes one. {error}", pytrace=False)
    return cluster


@pytest.fixture(scope="session")
def shared(cluster: Cluster) -> Iterator[PushCluster]:
    """A Ready PushCluster with two gateways, for tests that leave it as they found it."""
    with PushCluster.create(cluster, f"e2e-{secrets.token_hex(3)}", {"gateway": {"replicas": 2}}, slot=1) as pc:
        yield pc


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace with restricted Pod Security, deleted at the end."""
    name = f"e2e-{secrets.token_hex(3)}"
    with PushCluster.namespace(cluster, name):
        yield name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the clean-up table after the run."""
    for line in report.clean_up_table():
        terminalreporter.write_line(line)
