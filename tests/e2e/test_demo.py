"""`make demo`'s story ends well, and leaves what the README promises."""

import re
import shlex
import sys
from pathlib import Path

import jwt

from demo.kubectl import Cluster, CommandFailed, run
from demo.story import ENV_FILE, NAME, NAMESPACE

ADDRESSES = ("WS_URL", "AMQP_URL", "REDIS_URL", "PAGE_URL")


def test_the_demo_tells_its_story_and_writes_its_environment(cluster: Cluster) -> None:
    kubectl = cluster.kubectl(NAMESPACE)
    stood_before = _exists(cluster)
    try:
        output = run([sys.executable, "-m", "demo"], within_s=500)
        assert re.search(r"entry gone from Redis \d+\.\d s after the pod", output)
        assert "alice got 'sent while alice was away' (recovered:true)" in output
        environment = _read(ENV_FILE)
        assert {"KUBECONFIG", "NAMESPACE", "PUSHCLUSTER", *ADDRESSES} <= set(environment)
        assert all("@127.0.0.1:" in environment[a] or "//127.0.0.1:" in environment[a] for a in ADDRESSES)
        assert ENV_FILE.stat().st_mode & 0o777 == 0o600
        token = run(["make", "-s", "demo-token", "USER=alice"], within_s=60).strip()
        key = kubectl.secret(f"{NAME}-jwt")["hs256.key"]
        assert jwt.decode(token, key, algorithms=["HS256"])["sub"] == "alice"
    finally:
        if not stood_before:
            kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def _exists(cluster: Cluster) -> bool:
    try:
        cluster.kubectl(NAMESPACE)("get", "pcl", NAME)
    except CommandFailed:
        return False
    return True


def _read(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)}
