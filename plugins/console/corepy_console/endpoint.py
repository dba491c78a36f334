"""Serves the page and its data (see `access` for the rules, `data` for the documents)."""

from __future__ import annotations

import json
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from corepy.http import HTTPRequest, HTTPResponse, claim, claim_unix
from corepy.net.sockets import BindError
from corepy.plugin import CommandError, LifecycleContext, hookimpl, plugin_logger
from corepy_console.access import Refusal
from corepy_console.data import Data, Question
from corepy_console.static_files import Static, static_files
from corepy_console.where import UNIX, is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.http import Claim
    from corepy_console.access import Access

TIMEOUT: Final = 40.0
"""Seconds for a response; an explanation may take as long as the command of the control socket."""

HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
JSON: Final = "application/json"
LOG: Final = plugin_logger("console")


class Console:
    """Serves the page for one generation."""

    def __init__(self, address: str, access: Access) -> None:
        """Serve at `address`, "host:port" or "unix:/PATH", for those whom `access` admits."""
        self.address = address
        self.access = access
        self._claim: Claim | None = None

    @hookimpl(tryfirst=True)  # tryfirst runs last at the start
    async def before_listen(self, context: LifecycleContext) -> None:
        """Bind the address; a failure does not prevent DNS service, as the page is for people."""
        try:
            if self.address.startswith(UNIX):
                self._claim = await claim_unix(self.address.removeprefix(UNIX))
            else:
                self._claim = await self._claim_address()
        except BindError as error:
            LOG.error("%s; there will be no console until the next reload", error)

    async def _claim_address(self) -> Claim:
        found = await claim(self.address)
        host = found.address.host
        if self.access.token is None and not is_loopback(host):
            await found.close()
            reason = f"cannot listen on {self.address} without a token: it is {host or 'any host'}"
            raise BindError(None, f"{reason}, not an address of the loopback interface")
        return found

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Serve the page."""
        if self._claim is None:
            return
        for path, file in static_files().items():
            self._claim.serve(path, partial(self._page, file))
        data = Data(context.run_command)
        self._serve("stats", lambda _: data.stats())
        self._serve("history", lambda _: data.history())
        self._serve("status", lambda _: data.status())
        self._serve("corefile", lambda _: data.corefile())
        self._serve("explain", lambda it: data.explain(Question.of(it.query)), acts=True)

    def _serve(
        self, name: str, find: Callable[[HTTPRequest], Awaitable[Any]], *, acts: bool = False
    ) -> None:
        assert self._claim is not None
        answer = partial(self._data, find, acts=acts)
        self._claim.serve(f"/api/{name}", answer, timeout=TIMEOUT, needs_client=acts)

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Release the address."""
        if self._claim is not None:
            await self._claim.close()

    def _page(self, file: Static, request: HTTPRequest) -> HTTPResponse:
        refusal = self.access.refusal_of_page(request)
        if refusal is not None:
            return _refused(refusal)
        return HTTPResponse(file.content, content_type=file.kind, headers=HEADERS)

    async def _data(
        self,
        find: Callable[[HTTPRequest], Awaitable[Any]],
        request: HTTPRequest,
        *,
        acts: bool,
    ) -> HTTPResponse:
        refusal = self.access.refusal_of_data(request, acts=acts)
        if refusal is not None:
            return _refused(refusal)
        try:
            found = await find(request)
        except CommandError as error:
            return _json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        return _json(found, HTTPStatus.OK)


def _json(value: Any, status: HTTPStatus) -> HTTPResponse:
    content = json.dumps(value, separators=(",", ":")).encode()
    return HTTPResponse(content, status, JSON, HEADERS)


def _refused(refusal: Refusal) -> HTTPResponse:
    extra = {
        HTTPStatus.UNAUTHORIZED: (("WWW-Authenticate", "Bearer"),),
        HTTPStatus.METHOD_NOT_ALLOWED: (("Allow", "GET, HEAD"),),
    }.get(refusal.status, ())
    content = json.dumps({"error": refusal.reason}).encode()
    return HTTPResponse(content, refusal.status, JSON, (*HEADERS, *extra))
