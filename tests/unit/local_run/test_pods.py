"""Reading the operator's children for a machine without Kubernetes."""

from typing import Any

import pytest

from local_run.errors import LocalRunError
from local_run.pods import (
    Children,
    PodIdentity,
    only_container,
    read_data_directories,
    read_environment,
    read_files,
    service_addresses,
)

POD = PodIdentity("demo-gateway-0", "uid-1", "team")
NO_CHILDREN = Children(())


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": name}, "data": data}


def workload(**pod: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "demo"}, "spec": {"template": {"spec": pod}}}


def variables(*entries: dict[str, Any], children: Children = NO_CHILDREN) -> dict[str, str]:
    return read_environment({"env": list(entries)}, POD, children)


def test_a_variable_is_filled_as_the_kubelet_would_fill_it() -> None:
    children = Children((secret("demo-api", key="c2VjcmV0"),))
    assert variables(
        {"name": "PLAIN", "value": "1"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "demo-api", "key": "key"}}},
        children=children,
    ) == {"PLAIN": "1", "NAME": "demo-gateway-0", "UID": "uid-1", "NAMESPACE": "team", "KEY": "secret"}


def test_two_dollar_signs_are_one_as_for_the_kubelet() -> None:
    assert variables({"name": "TEXT", "value": "$$(PLAIN) $5 $$$$ $"}) == {"TEXT": "$(PLAIN) $5 $$ $"}


@pytest.mark.parametrize("value", ["$(PLAIN)", "$$$(PLAIN)"])
def test_a_reference_to_another_variable_is_an_error_and_not_left_as_it_is(value: str) -> None:
    with pytest.raises(LocalRunError, match="TEXT"):
        variables({"name": "TEXT", "value": value})


def test_a_source_that_is_not_understood_is_an_error_and_not_left_out() -> None:
    with pytest.raises(LocalRunError, match="NODE"):
        variables({"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})


def test_a_secret_that_nobody_makes_is_named() -> None:
    with pytest.raises(LocalRunError, match="Secret elsewhere"):
        variables({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "elsewhere", "key": "key"}}})


def test_a_pod_with_two_containers_is_refused() -> None:
    with pytest.raises(LocalRunError, match="2 containers"):
        only_container(workload(containers=[{}, {}]))


def test_mounted_configuration_becomes_files_and_a_selected_key_only_its_own_path() -> None:
    config = {"kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a.conf": "A", "b.conf": "B"}}
    children = Children((config, secret("keys", cookie="Y29va2ll", other="b3RoZXI=")))
    mounts = [
        {"name": "conf", "mountPath": "/etc/app"},
        {"name": "keys", "mountPath": "/run/keys"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    volumes = [
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "cookie", "path": "my-cookie"}]}},
        {"name": "tmp", "emptyDir": {}},
    ]
    pod = workload(containers=[{"volumeMounts": mounts}], volumes=volumes)
    assert read_files(pod, children) == {
        "/etc/app/a.conf": b"A",
        "/etc/app/b.conf": b"B",
        "/run/keys/my-cookie": b"cookie",
    }


def test_only_claims_outlive_the_container() -> None:
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}]
    store = workload(containers=[{"volumeMounts": mounts}])
    store["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}}]
    assert read_data_directories(store) == ("/data",)


def test_a_services_address_leads_to_the_containers_port() -> None:
    labels = {"pushcluster.dev/component": "redis"}
    store = workload(containers=[{"ports": [{"name": "redis", "containerPort": 6379}]}])
    store |= {"kind": "StatefulSet", "metadata": {"name": "demo-redis", "labels": labels}}
    service = {
        "kind": "Service",
        "metadata": {"name": "demo-redis", "namespace": "team", "labels": labels},
        "spec": {"ports": [{"port": 16379, "targetPort": "redis"}]},
    }
    assert service_addresses(Children((store, service)), "redis") == {"demo-redis.team.svc:16379": 6379}
