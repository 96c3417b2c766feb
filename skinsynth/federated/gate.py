"""A gate before the SuperLink: other machines reach what SuperNodes need, and nothing else.

Flower 1.41 serves all its interfaces at one port, and the one that starts runs and registers SuperNodes asks nobody who
they are: whoever reaches the port could hand a program to every hospital, or let in a hospital of their own.
"""

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import flwr
from flwr.superlink import extensions
from flwr.superlink.cli import flower_superlink
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]

FLOWER = "1.41.0"  # the version whose hook for middleware was tried
OPEN = "/v1/fleet/"  # what SuperNodes call; their keys are asked for behind it


class Gate:
    """ASGI middleware: paths outside `OPEN` answer 403 unless the caller is this machine itself."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _open(scope.get("path", "")) or _from_here(scope):
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse("only from the SuperLink's own machine", status_code=403)(scope, receive, send)


def gated_superlink() -> None:
    """Flower's own `flower-superlink`, its flags and all, behind the gate; RuntimeError under another Flower."""
    if flwr.__version__ != FLOWER:
        raise RuntimeError(f"the gate was tried with Flower {FLOWER}, but this is {flwr.__version__}: install that one")
    extensions.get_middleware = lambda: (Middleware(Gate),)
    flower_superlink()


def _open(path: str) -> bool:
    return path.startswith(OPEN) and ".." not in path


def _from_here(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
