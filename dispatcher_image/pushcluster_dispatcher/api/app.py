"""The application: routes, keys in front of them, and a problem document for every error."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from pushcluster_contract.api_keys import ApiKeys, Scope
from pushcluster_dispatcher.api.connections import ApiServer, CutCause, Screen, check_head, trust
from pushcluster_dispatcher.api.problems import Problem, translate
from pushcluster_dispatcher.api.requests import check_target
from pushcluster_dispatcher.api.routes import ApiServices, Route, Routes
from pushcluster_dispatcher.metrics import Metrics

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_server(services: ApiServices, keys: ApiKeys, metrics: Metrics, *, shutdown_timeout_s: float) -> ApiServer:
    """Return the API's server. It is not started yet."""
    app = _build_app(services, keys, metrics)

    def count_cut(cut: CutCause) -> None:
        metrics.api_connections_cut.labels(cut.value).inc()

    return ApiServer(
        app,
        _build_screen(keys, metrics),
        on_cut=count_cut,
        on_pause=metrics.api_pauses.inc,
        shutdown_timeout_s=shutdown_timeout_s,
    )


def _build_app(services: ApiServices, keys: ApiKeys, metrics: Metrics) -> web.Application:
    table = Routes(services).table()
    scopes = {(method, route.path): route.scope for route in table for method in _methods(route)}

    @web.middleware
    async def answer(request: web.Request, handler: _Next) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            check_head(request)
            _authorize(request, keys, scopes)
            check_target(request)
            response = await handler(request)
        except Exception as error:
            response = translate(request, error)
        metrics.api_requests.labels(str(response.status)).inc()
        return response

    app = web.Application(middlewares=[answer])
    for route in table:
        # aiohttp's own pattern would not take a user id with a brace in it.
        for method in _methods(route):
            app.router.add_route(method, route.path.replace("}", ":[^/]+}"), route.handler)
    return app


def _methods(route: Route) -> tuple[str, ...]:
    """Return the methods of a route. HEAD goes with GET (RFC 9110, section 9.1)."""
    return ("GET", "HEAD") if route.method == "GET" else (route.method,)


def _build_screen(keys: ApiKeys, metrics: Metrics) -> Screen:
    """Return a screen for requests with the header `Expect`, which aiohttp answers before any middleware runs.

    It asks no client without a key for a body, and refuses other expectations (RFC 9110, section 10.1.1).
    """

    def screen(request: web.BaseRequest) -> web.Response | None:
        expectation = request.headers.get("Expect")
        if expectation is None:
            return None
        authorization = request.headers.get("Authorization", "")
        if keys.scopes_of(authorization) is None:
            problem = _no_key(authorization)
        elif request.version >= HttpVersion11 and expectation.lower() != "100-continue":
            problem = Problem(
                HTTPStatus.EXPECTATION_FAILED, "the only supported value of the header Expect is 100-continue"
            )
        else:
            return None
        metrics.api_requests.labels(str(problem.status.value)).inc()
        return translate(request, problem)

    return screen


def _no_key(authorization: str) -> Problem:
    """Return what is wrong: there is no key, or the key is not valid (RFC 6750, section 3.1)."""
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        detail = (
            "this key is not valid, or no longer valid; the cluster's API Secret (<cluster>-api) has the valid keys"
        )
        return Problem(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
    detail = "the request needs the header Authorization: Bearer <key>"
    return Problem(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})


def _authorize(request: web.Request, keys: ApiKeys, scopes: dict[tuple[str, str], Scope | None]) -> None:
    """Raise Problem unless the request's key allows it. Only those with a key learn which paths exist."""
    resource = request.match_info.route.resource
    known = resource is not None and (request.method, resource.canonical) in scopes
    scope = scopes[request.method, resource.canonical] if known and resource is not None else None
    if known and scope is None:
        return
    authorization = request.headers.get("Authorization", "")
    allowed = keys.scopes_of(authorization)
    if allowed is None:
        raise _no_key(authorization)
    trust(request)
    if scope is not None and scope not in allowed:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"this key may only {', '.join(sorted(allowed))}; the request needs a key that may {scope}",
            {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        )
