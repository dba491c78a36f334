"""Turns the bytes of a query into the bytes of its reply, for UDP and TCP alike."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from corepy.dns import ANONYMOUS, FormError, Request, accept, finish, form_error, signed
from corepy.dns.constants import NOTIMP
from corepy.plugin import ProxyPolicy, TSIGKeys
from corepy.plugin.handler import REFUSED, SERVFAIL
from corepy.server.contain.failure_report import (
    InvalidReplyError,
    report_background,
    report_failure,
)
from corepy.server.listen.packet_cache import PacketCache, is_enabled
from corepy.server.listen.router import RoutingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.dns import Identity, Reply, RequestContext
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.chain_runner import ChainRunner
    from corepy.server.listen.packet_cache import MemoryPool
    from corepy.server.listen.router import Router, ZoneRoute


class QueryPipeline:
    """Answers the queries that arrive at one socket, with the current router."""

    def __init__(self, unrouted: RequestContext, memory_pool: MemoryPool) -> None:
        """`unrouted` is the context of queries that no server block answers."""
        self.label = unrouted.server
        self.packets = PacketCache(memory_pool)
        self._with_packet_cache = is_enabled()
        self._unrouted = unrouted
        self._family = unrouted.family  # of the socket
        self._contexts: dict[ZoneRoute, RequestContext]
        self._secrets: Mapping[bytes, bytes] = {}
        self._refuses_earlier = False
        self._select: Callable[[Request], ZoneRoute | None]
        self.router: Router

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and the keys of `config` for later queries, and empty the packet cache."""
        self.router = router
        keys = config.get(TSIGKeys)
        self._secrets = keys.secrets
        self._refuses_earlier = keys.refuses_earlier
        family = 0 if config.get(ProxyPolicy).uses_headers else self._family
        self._unrouted = replace(
            self._unrouted, echoed_options=router.echoed_options, family=family
        )
        self._select = self._filter if router.has_filters else router.route
        self._contexts = router.contexts(self._unrouted, with_packet_cache=self._with_packet_cache)
        self.packets.clear()

    def begin(
        self,
        message: bytes,
        received: float,
        peer: object,
        local: object,
        runner: ChainRunner,
        identity: Identity = ANONYMOUS,
    ) -> bytes | None:
        """Return the reply to `message`: empty if none is sent, None if `runner` delivers it later.

        No reply is sent to a message that is not a query, and to a query that a plugin drops.
        `identity` is that of the connection, shared by its queries.
        """
        request = accept(message)
        if type(request) is not Request:
            if request and self._secrets:
                return self._sign_refusal(message, request)  # type: ignore[arg-type]  # bytes
            return request or b""  # type: ignore[return-value]  # `accept` returned bytes or None
        request.received = received
        request.peer = request.client = peer
        request.local = local
        if request.identity is not identity:  # also of a query with a TSIG record
            try:
                self._identify(request, identity)
            except FormError:
                return form_error(message)
        try:
            route = self._select(request)
        except RoutingError as error:
            return self._drop(request, error.reply)
        if route is None or route.entry is None:
            return self._drop(request, request.error(REFUSED))
        request.context = self._contexts[route]
        reply = runner.start(route.entry, request)
        if reply is None:
            return None
        if reply.series is not None:
            runner.deliver(request, reply)
            return None
        return self.complete(request, reply)

    def _identify(self, request: Request, identity: Identity) -> None:
        """Give a request the identity of its connection, and verify its signature.

        Raises FormError for a signature of an impossible size.
        """
        if identity.client is not None:
            request.client = identity.client
        tsig = request.identity.tsig
        if tsig is not None:
            signer = None
            if self._secrets:
                from corepy.dns.tsig_mac import LATEST, verify

                latest = LATEST if self._refuses_earlier else None
                # time of day: the client's is part of the signature
                tsig, signer = verify(tsig, self._secrets, time.time, latest)
            identity = replace(identity, tsig=tsig, signer=signer)
        request.identity = identity

    def _sign_refusal(self, message: bytes, refusal: bytes) -> bytes:
        """Return NOTIMP with the signature of a signed query; other refusals are not signed.

        Clients that send signed updates expect one (RFC 8945 section 5.3).
        """
        if refusal[3] & 15 != NOTIMP:
            return refusal
        from corepy.dns.tsig import split_tsig
        from corepy.dns.tsig_mac import verify

        try:
            tsig = split_tsig(message)[1]
            if tsig is not None:
                verified, signer = verify(tsig, self._secrets, time.time)
                if verified.is_valid:
                    return signer.sign(refusal)
        except FormError:
            return refusal
        return refusal

    def _filter(self, request: Request) -> ZoneRoute | None:
        """Return the route for `request` from a router with filters, which read the context."""
        request.context = self._unrouted
        return self.router.route(request)

    def _drop(self, request: Request, reply: Reply) -> bytes:
        request.context = self._unrouted
        if self.router.dropped is not None:
            try:
                self.router.dropped(request=request, reply=reply)
            except BaseException as error:
                report_background(error, "the hook dropped failed", kind="hook")
        return signed(request, finish(request, reply))

    def complete(self, request: Request, reply: Reply) -> bytes:
        """Return the bytes to send; SERVFAIL if the reply cannot be serialized.

        They are empty if a plugin has dropped the query: the listener sends nothing. They are empty
        for a series that has been sent, too; a series that this transport cannot send is refused.
        """
        context = request.context
        route = context.route
        observing_handlers = route.observing_handlers
        try:
            if observing_handlers:
                wire = reply.wire
                if reply.answered_by is None:
                    reply.answered_by = route.entry.name
                for handler in observing_handlers:
                    handler.observe(request, reply)
                    if reply.wire is not wire or type(reply.hit_counters) is not tuple:
                        raise InvalidReplyError("changed a reply that it only observes", handler)
            if reply.is_dropped:
                return b""
            if reply.series is not None:
                if reply.series.is_ended:
                    return b""
                reply = request.error(REFUSED)
            sent = finish(request, reply)
            if request.identity is not ANONYMOUS:
                sent = signed(request, sent)
        except BaseException as error:
            report_failure(request, error)
            return signed(request, finish(request, request.error(SERVFAIL)))
        if reply.deadline is not None and context.uses_deadlines and context.router is self.router:
            self.packets.admit(request, reply, sent)
        return sent
