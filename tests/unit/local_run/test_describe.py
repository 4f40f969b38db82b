"""What the command line decides by itself."""

import socket
from pathlib import Path

import pytest

from local_run.__main__ import ports_from
from local_run.errors import LocalRunError
from local_run.images import CANDIDATES, named_image
from local_run.plane import LocalPlane


def test_ports_are_the_same_at_the_next_run_and_pass_over_those_in_use() -> None:
    first = next(port for port in range(40_000, 50_000, 10) if all(map(_can_listen, range(port, port + 3))))
    with socket.create_server(("127.0.0.1", first + 1)):
        allocate = ports_from(first)
        assert [allocate(), allocate()] == [first, first + 2]


def _can_listen(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_the_last_clusters_images_are_used_when_it_wrote_them_down(tmp_path: Path) -> None:
    written = tmp_path / "cluster.json"
    written.write_text('{"images": {"redis": "redis:9"}}')
    assert named_image("redis", written) == "redis:9"
    assert named_image("rabbitmq", written) is None
    assert named_image("redis", tmp_path / "missing.json") is None
    assert set(CANDIDATES) == {"redis", "rabbitmq"}


HEAD = "apiVersion: pushcluster.dev/v1alpha1\nkind: PushCluster\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: Other\n", "one PushCluster, but contains none"),
        (f"{HEAD}---\nkind: Secret\n---\n{HEAD}", "one PushCluster, but contains 2"),
        ("a: [", "cannot read"),
        (b"\xff\xfe", "cannot read"),
        ("apiVersion: pushcluster.dev/v1\nkind: PushCluster\n", "'pushcluster.dev/v1'; .* pushcluster.dev/v1alpha1"),
        (HEAD, "metadata.name"),
        (f"{HEAD}metadata:\n", "metadata.name"),
        (f"{HEAD}metadata: demo\n", "metadata.name"),
        (f"{HEAD}metadata: {{name: 5}}\n", "metadata.name"),
    ],
)
def test_a_file_that_is_no_pushcluster_is_a_sentence(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LocalRunError, match=complaint):
        LocalPlane.from_file(file)
