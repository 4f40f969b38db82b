"""Requests to the API server as they go over the wire, and its answers as errors by who can mend them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.kube.client import RESOURCES, KubeClient
from pushcluster_runtime.admin import serve
from tests.unit.operator.objects import children

SERVICE = children()["Service/demo-gateway"]


@dataclass(slots=True)
class Server:
    """Answers what it is told and remembers what it was asked."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str], str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else None
        content_type = request.headers.get("Content-Type", "")
        self.requests.append((request.method, request.path, dict(request.query), content_type, body))
        status, answer = self.answers.pop(0) if self.answers else (200, {})
        if isinstance(answer, str):
            return web.Response(text=answer, content_type="text/html", status=status)
        return web.json_response(answer, status=status)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def kube(server: Server) -> AsyncIterator[KubeClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner, port = await serve(app, "127.0.0.1", 0)
    kube = KubeClient(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")))
    yield kube
    await kube.close()
    await runner.cleanup()


async def test_an_apply_is_server_side_forced_and_fenced_by_the_uid(kube: KubeClient, server: Server) -> None:
    await kube.apply(SERVICE, "uid-9")
    ((method, path, query, content_type, body),) = server.requests
    assert (method, path) == ("PATCH", "/api/v1/namespaces/team/services/demo-gateway")
    assert query == {"fieldManager": "pushcluster-operator", "force": "true"}
    assert content_type == "application/apply-patch+yaml"
    assert body["metadata"]["uid"] == "uid-9"
    assert body["spec"] == SERVICE["spec"]
    assert "uid" not in SERVICE["metadata"]


async def test_a_new_object_takes_no_fields_from_others(kube: KubeClient, server: Server) -> None:
    await kube.apply(SERVICE, None)
    assert server.requests[0][2] == {"fieldManager": "pushcluster-operator"}


async def test_a_merge_is_fenced_by_the_uid(kube: KubeClient, server: Server) -> None:
    await kube.merge(SERVICE, "uid-9")
    assert server.requests[0][4]["metadata"]["uid"] == "uid-9"


async def test_a_record_of_fields_is_replaced_only_in_the_object_that_was_read(
    kube: KubeClient, server: Server
) -> None:
    live = {**SERVICE, "metadata": {**SERVICE["metadata"], "resourceVersion": "7"}}
    await kube.set_managed_fields(live, [{"manager": "pushcluster-operator"}])
    method, path, _query, content_type, body = server.requests[0]
    assert (method, content_type) == ("PATCH", "application/json-patch+json")
    assert path.endswith(f"/services/{SERVICE['metadata']['name']}")
    assert body == [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "replace", "path": "/metadata/managedFields", "value": [{"manager": "pushcluster-operator"}]},
    ]


async def test_a_list_asks_for_what_is_now_and_reads_every_page(kube: KubeClient, server: Server) -> None:
    pages = [
        {"kind": "PodList", "items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "more"}},
        {"kind": "PodList", "items": [{"metadata": {"name": "b"}}], "metadata": {}},
    ]
    server.answers = [(200, page) for page in pages]
    items = await kube.list_objects("Pod", "team", "x=y")
    assert [(item["kind"], item["metadata"]["name"]) for item in items] == [("Pod", "a"), ("Pod", "b")]
    queries = [query for _, _, query, _, _ in server.requests]
    assert queries == [
        {"limit": "500", "labelSelector": "x=y"},
        {"limit": "500", "labelSelector": "x=y", "continue": "more"},
    ]
    # A resourceVersion, even "0", would allow the answer to be an old one.
    assert not any("resourceVersion" in query for query in queries)


async def test_all_namespaces_are_listed_at_once(kube: KubeClient, server: Server) -> None:
    server.answers = [(200, {"kind": "PushClusterList", "items": []})]
    assert await kube.list_objects("PushCluster", None) == []
    assert server.requests[0][1] == "/apis/pushcluster.dev/v1alpha1/pushclusters"


async def test_a_status_is_merged_into_its_subresource(kube: KubeClient, server: Server) -> None:
    await kube.merge_status("PushCluster", "team", "demo", {"x": 1})
    method, path, _, content_type, body = server.requests[0]
    assert (method, path) == ("PATCH", "/apis/pushcluster.dev/v1alpha1/namespaces/team/pushclusters/demo/status")
    assert (content_type, body) == ("application/merge-patch+json", {"status": {"x": 1}})


async def test_a_deletion_is_fenced_by_the_uid(kube: KubeClient, server: Server) -> None:
    await kube.delete("Service", "team", "demo-gateway", "uid-9")
    assert server.requests[0][4]["preconditions"] == {"uid": "uid-9"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, Conflict),
        (409, Conflict),
        (410, Conflict),
        (403, Refused),
        (422, Refused),
        (401, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_answers_become_errors_by_who_can_mend_them(
    kube: KubeClient, server: Server, status: int, error: type[Exception]
) -> None:
    server.answers = [(status, {"kind": "Status", "message": "the reason"})]
    with pytest.raises(error, match="the reason"):
        await kube.list_objects("Pod", "team")


@pytest.mark.parametrize("answer", ["<html>maintenance</html>", "", [], {}, {"items": []}, {"kind": "PodList"}])
async def test_an_answer_that_is_not_a_list_is_not_taken_for_an_empty_one(
    kube: KubeClient, server: Server, answer: Any
) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(Unavailable, match="the answer is no"):
        await kube.list_objects("Pod", "team")


async def test_an_html_page_of_a_proxy_is_not_taken_for_an_object(kube: KubeClient, server: Server) -> None:
    server.answers = [(200, "<html>maintenance</html>")]
    with pytest.raises(Unavailable, match="not a JSON object"):
        await kube.get("Secret", "team", "x")


async def test_a_missing_object_is_none_and_deleting_it_is_no_error(kube: KubeClient, server: Server) -> None:
    server.answers = [(404, {}), (404, {})]
    assert await kube.get("Secret", "team", "x") is None
    await kube.delete("Service", "team", "x", "uid")


async def test_an_api_server_that_is_not_there_is_unavailable() -> None:
    kube = KubeClient(client.ApiClient(client.Configuration(host="http://127.0.0.1:1")))
    with pytest.raises(Unavailable, match="does not answer GET"):
        await kube.get("Secret", "team", "x")
    await kube.close()


@pytest.mark.parametrize("child", children().values(), ids=lambda child: str(child["kind"]))
def test_every_child_has_a_place(child: dict[str, Any]) -> None:
    assert RESOURCES[child["kind"]].api_version == child["apiVersion"]
