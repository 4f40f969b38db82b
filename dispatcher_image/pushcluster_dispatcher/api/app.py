"""The application: routes, keys in front of them, and problem documents for whatever goes wrong."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from pushcluster_contract.api_keys import ApiKeys, Scope
from pushcluster_dispatcher.api.problems import Problem, translate
from pushcluster_dispatcher.api.routes import Routes, Services
from pushcluster_dispatcher.metrics import Metrics

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(services: Services, keys: ApiKeys, metrics: Metrics) -> web.Application:
    """Return the application to serve."""
    table = Routes(services).table()
    scopes = {(route.method, route.path): route.scope for route in table}

    @web.middleware
    async def answer(request: web.Request, handler: _Next) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            _authorize(request, keys, scopes)
            response = await handler(request)
        except Exception as error:
            response = translate(request, error)
        metrics.api_requests.labels(str(response.status)).inc()
        return response

    app = web.Application(middlewares=[answer])
    for route in table:
        # aiohttp's own pattern would not take a user id with a brace in it.
        app.router.add_route(route.method, route.path.replace("}", ":[^/]+}"), route.handler)
    return app


def _authorize(request: web.Request, keys: ApiKeys, scopes: dict[tuple[str, str], Scope | None]) -> None:
    """Raise Problem unless the request's key allows it; what is not there is told to those with a key alone."""
    resource = request.match_info.route.resource
    known = resource is not None and (request.method, resource.canonical) in scopes
    scope = scopes[request.method, resource.canonical] if known and resource is not None else None
    if known and scope is None:
        return
    allowed = keys.scopes_of(request.headers.get("Authorization", ""))
    if allowed is None:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "the request needs the header Authorization: Bearer <key>",
            {"WWW-Authenticate": "Bearer"},
        )
    if scope is not None and scope not in allowed:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"this key may {', '.join(sorted(allowed))}; the request needs one that may {scope}",
            {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        )
