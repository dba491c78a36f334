"""Queries of *search_guard* itself, on the occasion of a client's query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.plugin import DEPENDS_ON_CLIENT, PREFERS_FRESH, lookup, plugin_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.dns import Reply, Request

_SECONDS: Final = 10.0
_log = plugin_logger("search_guard")


class Asker:
    """Sends queries down the chain, or through the whole server.

    They carry nothing of the client but its address: no EDNS options, no DO, no CD. A reply that
    other clients would not get counts as none. An expired one of a cache is no proof, so a cache
    is to ask for a new one.
    """

    def __init__(
        self, below: Callable[[Request], Awaitable[Reply]], clock: Callable[[], float]
    ) -> None:
        """`below` asks the handlers below; `clock` returns monotonic seconds."""
        self._below = below
        self._clock = clock

    async def below(self, request: Request, name: bytes) -> Reply | None:
        """Return the reply of the handlers below to a query for the addresses of `name`."""
        return await self._ask(self._below, self._derive(request, name, c.TYPE_A))

    async def server(self, request: Request, name: bytes) -> Reply | None:
        """Return this server's reply to a query for the SOA record of `name`."""

        async def ask(asked: Request) -> Reply | None:
            return await lookup(asked, name)

        return await self._ask(ask, self._derive(request, name, c.TYPE_SOA))

    def _derive(self, request: Request, name: bytes, qtype: int) -> Request:
        plain = request.edns is None
        asked = request.derive(
            name_wire=name,
            qtype=qtype,
            flags_clear=c.FLAG_CD,
            do=None if plain else False,
            options=None if plain else b"",
        )
        asked.metadata = {PREFERS_FRESH: True}
        asked.received = self._clock()
        return asked

    async def _ask(
        self, ask: Callable[[Request], Awaitable[Reply | None]], asked: Request
    ) -> Reply | None:
        try:
            async with asyncio.timeout(_SECONDS):
                reply = await ask(asked)
        except Exception as error:  # a handler below may raise anything
            _log.debug("asking for %s %s failed: %r", asked.name, asked.type, error)
            return None
        return None if DEPENDS_ON_CLIENT in asked.metadata else reply
