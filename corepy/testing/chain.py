"""Tests one plugin at a time: its setup on Corefile text, its handler without sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from corepy import corefile
from corepy.dns import Reply, Request, RequestContext
from corepy.loading.registry import load
from corepy.plugin import (
    BlockConfig,
    Cacheability,
    ChainLink,
    Controller,
    CorefileError,
    Diagnostic,
    Handler,
    ListenHosts,
)
from corepy.server.build import handler_chain
from corepy.server.build.embedding import Embedder
from corepy.testing.client import query
from corepy.testing.installed import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def controller_for(text: str, zone: str = ".", hosts: Sequence[str] = ("",)) -> Controller:
    """Return a controller for the directive at the start of `text`.

    The directive is in a server block for `zone` that listens on `hosts`.
    """
    block = corefile.parse(f"{zone} {{\n{text}\n}}\n").blocks[0]
    config = BlockConfig(corefile.server_keys(block, 53))
    config.set(ListenHosts(tuple(hosts)))
    directive = next(iter(block.directives))
    return Controller(directive, block, config, embedder=Embedder(installed()))


def set_up(text: str, zone: str = ".", hosts: Sequence[str] = ("",)) -> Controller:
    """Run the installed plugin's `setup` on `text` and return the controller.

    Raises `CorefileError` if `setup` does.
    """
    controller = controller_for(text, zone, hosts)
    load(installed()[controller.directive]).setup(controller)
    return controller


def refusal(text: str, zone: str = ".", hosts: Sequence[str] = ("",)) -> Diagnostic:
    """Return the diagnostic with which the installed plugin's `setup` rejects `text`.

    Raises AssertionError if `setup` accepts `text`, and ValueError for several diagnostics.
    """
    try:
        set_up(text, zone, hosts)
    except CorefileError as error:
        (diagnostic,) = error.diagnostics
        return diagnostic
    raise AssertionError(f"not refused: {text!r}")


def make_request(
    name: str,
    qtype: str = "A",
    *,
    peer: tuple[str, int] = ("127.0.0.1", 40000),
    protocol: str = "udp",
    zone: str = "",
    **question: Any,
) -> Request:
    """Return a request like one from a listener; see `corepy.testing.query` for `question`."""
    request = Request.from_wire(query(name, qtype, **question))
    request.peer = request.client = peer
    request.local = ("127.0.0.1", 53)
    request.context = RequestContext(
        protocol,
        "udp" if protocol == "udp" else "tcp",
        "dns://:53",
        zone,
        takes_series=protocol in ("tcp", "tls"),
    )
    return request


class Recorder(Handler):
    """A next handler that records its requests and answers with a given function."""

    name: ClassVar[str] = "recorder"
    cacheability = Cacheability.SAFE

    def __init__(self, answer: Callable[[Request], Reply] | None = None) -> None:
        """Take the function that answers; without it, every reply is an empty NOERROR."""
        self.requests: list[Request] = []
        self._answer = answer or (lambda request: request.error(0))

    async def serve_dns(self, request: Request) -> Reply:
        """Record the request and answer it."""
        self.requests.append(request)
        return self._answer(request)


def link(handlers: Sequence[Handler], *, guarded: bool = False) -> Handler:
    """Chain `handlers`, at least one, in this order and return the first.

    With `guarded`, as in a server: a handler gets only valid replies from the one below it.
    """
    top = handler_chain.link(list(handlers))
    assert top is not None
    if not guarded:
        for handler in handlers:
            while isinstance(handler.next, ChainLink):
                handler.next = handler.next.next
    return top


def run_chain(request: Request, *handlers: Handler) -> Reply:
    """Return the reply of `handlers`, chained in this order; runs them in a new event loop."""
    top = link(handlers)

    async def run() -> Reply:
        return await top.serve_dns(request)

    return asyncio.run(run())
