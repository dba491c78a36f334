"""The handler with unreliable answers (CoreDNS: plugin/erratic/erratic.go, autopath.go)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.dns.series import messages_of
from corepy.plugin import ExplainedHandler, FastHandler, hookimpl
from corepy_erratic.zone import LONGEST, zone_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer

_ADDRESSES: Final = {
    c.TYPE_A: ip_address("192.0.2.53").packed,
    c.TYPE_AAAA: ip_address("2001:db8::53").packed,
}
_LARGE: Final = 30
"""Number of A records in a large reply, which exceeds 512 bytes."""

_READY: Final = range(3, 5)
"""Numbers of queries received with which the plugin is ready (plugin/erratic/ready.go)."""

_TC: Final = c.FLAG_TC >> 8
_SEARCH_PATH: Final = (from_text("a.example.org."), from_text("b.example.org."), b"\0")


@dataclass(frozen=True, slots=True)
class Effects:
    """One in so many queries is affected, the first one included; 0 means none."""

    drop: int = 0
    delay: int = 0
    truncate: int = 0
    duration: float = 0.0
    """Seconds of a delay."""

    large: bool = False
    """Whether replies with an A record have many of them."""


DROP_ONLY: Final = Effects(drop=2)
"""The effects without any option."""


class Erratic(FastHandler, ExplainedHandler):
    """Answers every query for A, AAAA and AXFR, and drops, delays or truncates some replies."""

    name: ClassVar[str] = "erratic"
    inputs = b""

    def __init__(self, effects: Effects = DROP_ONLY) -> None:
        self.effects = effects
        self._received = 0

    def begin_dns(self, request: Request) -> Answer:
        """Return a reply, perhaps later, perhaps a dropped one; no query is passed on."""
        effects, number = self.effects, self._received
        self._received += 1
        if _is_hit(number, effects.drop):
            return request.drop()
        is_truncated = _is_hit(number, effects.truncate)
        if request.qtype == c.TYPE_AXFR:
            reply = _transfer(request, is_whole=not is_truncated)
        else:
            reply = self._reply(request, is_truncated=is_truncated)
        if _is_hit(number, effects.delay) and effects.duration > 0:
            return _late(reply, effects.duration)
        return reply

    def _reply(self, request: Request, *, is_truncated: bool) -> Reply:
        address = _ADDRESSES.get(request.qtype)
        if address is None:
            return request.error(c.SERVFAIL)
        record = rr(request.question[:-4], request.qtype, 0, address, request.qclass)
        count = _LARGE if self.effects.large and request.qtype == c.TYPE_A else 1
        reply = request.reply(answer=[record] * count, authoritative=True)
        if is_truncated:
            wire = reply.wire
            reply.patch(b"".join((wire[:2], bytes((wire[2] | _TC,)), wire[3:])))
        return reply

    def search_path(self, request: Request) -> Sequence[bytes]:
        """Return a search path of two domains and none, the same for every client."""
        return _SEARCH_PATH

    @hookimpl
    def ready(self) -> bool:
        """Return whether 3 or 4 queries were received, so that the state changes in a test."""
        return self._received in _READY

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the number of queries received, on which the effects depend."""
        return {"queries": self._received}


def _transfer(request: Request, *, is_whole: bool) -> Reply:
    """Return a small zone with the name in the query; its last record is missing if truncated.

    As in CoreDNS, a query over UDP is answered as well.
    """
    name = request.question[:-4]
    if len(name) > LONGEST:
        return request.error(c.SERVFAIL, "the name leaves no room for one below it")
    if request.context.takes_series:
        return request.reply_series(_messages(request, name, is_whole=is_whole))
    return request.reply(answer=zone_records(name, is_whole=is_whole), authoritative=True)


def _messages(request: Request, name: bytes, *, is_whole: bool) -> Iterator[Reply]:
    """Yield the messages; a client that pipelines its queries gets no record made in advance."""
    yield from messages_of(request, zone_records(name, is_whole=is_whole))


def _is_hit(number: int, amount: int) -> bool:
    return amount > 0 and number % amount == 0


async def _late(reply: Reply, seconds: float) -> Reply:
    await asyncio.sleep(seconds)
    return reply
