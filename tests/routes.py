"""Every route of the application, for tests that walk all of them."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.routing import APIRoute

from service.access import GRANTS, Permission
from service.api.callers import open_to_all, require

KEY = "a" * 20
NEEDS = {require(permission): permission for permission in Permission}
PLACES = {  # what stands in place of parameters
    "index": "0",
    "study": "1.2",
    "name": "nobody",
    "token_id": "99999",
    "calibration_id": "99999",
    "number": "1",
    "sha256": "0" * 64,
    "kind": "Task",
    "series": "1.3",
    "instance": "1.4",
    "frames": "1",
    "trail:path": "00282000",
    "workitem": "1.5",
    "aet": "TEST",
}


def routes(app: Any) -> Iterator[tuple[APIRoute, str]]:
    """Every route with every method it takes."""
    for route in _walk(app.routes):
        for method in sorted(route.methods - {"HEAD"}):
            yield route, method


def address(route: APIRoute, key: str = KEY) -> str:
    """Address of a route with something in place of its parameters."""
    path = route.path.replace("{key}", key)
    for name, value in PLACES.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, f"say what {path} is asked with"
    return f"{path}?wait=false" if path.endswith("/events") else path  # a stream that ends


def needed(route: APIRoute) -> Permission | None:
    """Permission a route asks for; fails where it neither asks nor says that it does not."""
    called = [dependency.call for dependency in route.dependant.dependencies]
    found = [NEEDS[call] for call in called if call in NEEDS]
    if not found:
        assert open_to_all in called, f"{route.path} asks nobody and does not say so"
        return None
    return max(found, key=_rarity)


def _rarity(permission: Permission) -> int:
    return -sum(permission in granted for granted in GRANTS.values())


def _walk(found: Iterable[Any]) -> Iterator[APIRoute]:
    """Routes, also those of routers that the application holds as a whole."""
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from _walk(route.original_router.routes)
