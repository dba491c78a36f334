"""The handler: exchanges in flight, and the replies that clients get (CoreDNS: grpc.go)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from corepy.dns import Reply, names
from corepy.dns.constants import FORMERR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, TRANSFERS
from corepy.dns.edns import (
    EDE_NETWORK_ERROR,
    EDE_NOT_SUPPORTED,
    UDP_SIZE,
    end_to_end,
    forwarded_options,
    opt_record,
)
from corepy.dns.form_error import FormError
from corepy.net.connection_limit import Shares, client_of
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    Fallthrough,
    FastHandler,
    ZoneMatcher,
    handlers_below,
    hookimpl,
)
from corepy.plugin.protocols import AttemptObserver, UpstreamAttempt
from corepy.plugin.shared_task import shared_result
from corepy_grpc.metrics import SHARED
from corepy_grpc.observing import PROTOCOL, report_attempts
from corepy_grpc.policies import POLICIES
from corepy_grpc.upstream import Target, Upstream, UpstreamError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from corepy.dns import Request
    from corepy.plugin import BlockConfig, LifecycleContext
    from corepy.plugin.handler import Answer

TIMEOUT: Final = 5.0
"""Seconds for all upstreams together."""

MOST_WAITING: Final = 2000
"""Queries of one directive that may wait at the same time; shared between clients."""

_OPCODE: Final = 0x7800
_FLAGS: Final = 0x0100 | 0x0020 | 0x0010  # RD, AD and CD, which are those of the client
_QR: Final = 0x80
_NO_EDNS: Final = b"\0\1\0\0\0\0\0\0"
_WITH_EDNS: Final = b"\0\1\0\0\0\0\0\1"
_NO_TRANSFERS: Final = EDE_NOT_SUPPORTED, "zone transfers are not forwarded"


@dataclass(slots=True)
class Settings:
    """The options of the directive."""

    zone: str = "."
    targets: list[Target] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    policy: str = "random"
    context: ssl.SSLContext | None = None
    server_name: str = ""
    fallthrough: Fallthrough = field(default_factory=Fallthrough)


class Outcome(NamedTuple):
    """The end of an exchange."""

    reply: Reply | None
    """That of an upstream, which may answer another question; None if the name was not found."""

    attempts: list[UpstreamAttempt]
    """One for each upstream that was asked."""

    reason: str = ""
    """Why there is no reply."""


class GRPC(FastHandler, ExplainedHandler):
    """Forwards the queries for a zone to upstreams over gRPC."""

    name: ClassVar[str] = "grpc"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, settings: Settings, config: BlockConfig) -> None:
        """Take the settings of the directive and the configuration of its server block."""
        self.settings = settings
        self._config = config
        self._observers: Sequence[AttemptObserver] = ()
        self._zone = names.lower(names.from_text(settings.zone))
        self._excluded = ZoneMatcher(settings.excluded)
        self._policy = POLICIES[settings.policy]()
        self._upstreams = [
            Upstream(target, settings.context, settings.server_name) for target in settings.targets
        ]
        self._flights: dict[bytes, asyncio.Task[Outcome]] = {}
        self._shares = Shares()
        self._waiting = 0
        self._has_next = False

    def matches(self, name: bytes) -> bool:
        """Return whether a name, in wire form and lower case, is forwarded.

        The zone itself is, even if it is excluded (isAllowedDomain).
        """
        if not names.is_subdomain(name, self._zone):
            return False
        return name == self._zone or self._excluded.find(name) is None

    def begin_dns(self, request: Request) -> Answer:
        """Ask the upstreams, or the next handler about a name that is not forwarded."""
        if not self.matches(request.name_wire):
            return self.next.begin_dns(request)
        if request.flags & _OPCODE:
            return request.error(NOTIMP)
        if request.qtype in TRANSFERS:
            return request.error(REFUSED, None, _NO_TRANSFERS)
        return self._answer(request)

    async def _answer(self, request: Request) -> Reply:
        outcome = await self._share_of(request)
        may_pass = self._has_next and self.settings.fallthrough.passes(request.name_wire)
        if outcome is None:
            reply = request.error(SERVFAIL, f"more than {MOST_WAITING} queries wait")
            reply.is_momentary = True
            return reply
        if self._observers and request.metadata:
            report_attempts(self._observers, request, outcome.attempts)
        if outcome.reason:
            if may_pass:
                return await self.next.serve_dns(request)
            return request.error(SERVFAIL, outcome.reason, (EDE_NETWORK_ERROR, ""))
        reply = self._reply_for(request, outcome.reply)
        if reply.rcode == NXDOMAIN and may_pass:
            return await self.next.serve_dns(request)
        return reply

    async def _share_of(self, request: Request) -> Outcome | None:
        """Return the outcome of an exchange; None if too many queries wait."""
        client = client_of(request.client)
        if not self._shares.take(client, MOST_WAITING - self._waiting):
            return None
        self._waiting += 1
        try:
            return await shared_result(self._flight(request))
        finally:
            self._waiting -= 1
            self._shares.give_back(client)

    def _flight(self, request: Request) -> asyncio.Task[Outcome]:
        """Return the exchange for a query, which may be in flight already."""
        body = query_body(request)
        task = self._flights.get(body)
        if task is None:
            task = self._flights[body] = asyncio.create_task(self._exchange(body))
            task.add_done_callback(lambda _: self._flights.pop(body, None))
        else:
            SHARED.value += 1
        return task

    async def _exchange(self, body: bytes) -> Outcome:
        """Ask one upstream after the other; each may take an equal share of the time left."""
        deadline = monotonic() + TIMEOUT
        attempts: list[UpstreamAttempt] = []
        upstreams = self._policy(self._upstreams)
        for index, upstream in enumerate(upstreams):
            sent = monotonic()
            seconds = (deadline - sent) / (len(upstreams) - index)
            try:
                reply, reason = await upstream.ask(b"\0\0" + body, seconds), ""
            except UpstreamError as error:
                reply, reason = None, str(error)
            attempts.append(UpstreamAttempt(upstream.target, PROTOCOL, sent, monotonic(), reason))
            if not reason:
                return Outcome(reply, attempts)
        return Outcome(None, attempts, "; ".join(attempt.error for attempt in attempts))

    def _reply_for(self, request: Request, reply: Reply | None) -> Reply:
        """Return the reply for one of the clients that share an exchange."""
        if reply is None:
            return request.error(NXDOMAIN)
        if not is_answer(request, reply.wire):
            return request.error(FORMERR, "grpc: reply to another question")
        reply = reply.copy()
        if reply.options:
            asked = b"" if request.edns is None else request.edns.options
            reply.options = end_to_end(reply.options, asked)
        head, end = reply.wire[:12], request.question_end
        asked_as = request.wire[12:end]
        if not reply.wire.startswith(asked_as, 12):
            reply.patch(head + asked_as + reply.wire[end:])
        return reply

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the upstreams that the query may be sent to."""
        if not self.matches(request.name_wire):
            return {"state": "not forwarded"}
        return {
            "upstreams": ", ".join(upstream.address for upstream in self._upstreams),
            "policy": self.settings.policy,
        }

    def queries_upstream(self, request: Request) -> bool:
        """Return whether the name is forwarded."""
        return self.matches(request.name_wire)

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Find out whether a handler is below, without which nothing falls through.

        Find the observers of attempts, too.
        """
        self._observers = self._config.handlers.of_kind(AttemptObserver)
        self._has_next = next(handlers_below(self), None) is not None

    @hookimpl
    def status(self) -> dict[str, Any]:
        """Return the state of the upstreams, for an operator."""
        problem = f"all upstreams for {self.settings.zone} are down"
        is_down = all(upstream.is_down for upstream in self._upstreams)
        return {
            "zone": self.settings.zone,
            "problems": [problem] if is_down else [],
            "upstreams": [upstream.status() for upstream in self._upstreams],
        }

    @hookimpl
    def shutdown(self) -> None:
        """End the exchanges and close the connections."""
        for task in self._flights.values():
            task.cancel()
        for upstream in self._upstreams:
            upstream.close()


def query_body(request: Request) -> bytes:
    """Return the query to send, without its ID: that of the client without hop-by-hop options.

    The name is in lower case, so that clients with random letter case share an exchange.
    """
    flags = (request.flags & _FLAGS).to_bytes(2, "big")
    edns = request.edns
    if edns is None:
        return flags + _NO_EDNS + request.asked
    try:
        options = forwarded_options(edns.options)
    except FormError:
        options = b""
    opt = opt_record(UDP_SIZE, edns.do, options=options)
    return flags + _WITH_EDNS + request.asked + opt


def is_answer(request: Request, wire: bytes) -> bool:
    """Return whether a message is a response to the question of `request`."""
    if len(wire) < 12 or not wire[2] & _QR or wire[4:6] != b"\0\1":
        return False
    end = request.question_end
    asked = request.asked
    return wire[12 : end - 4].lower() == asked[:-4] and wire[end - 4 : end] == asked[-4:]
