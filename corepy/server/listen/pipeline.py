"""Turns the bytes of a query into the bytes of its reply, for UDP and TCP alike."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from corepy.dns import (
    ANONYMOUS,
    FormError,
    Identity,
    Request,
    RequestContext,
    accept,
    finish,
    form_error,
    signed,
)
from corepy.dns.constants import NOTIMP
from corepy.plugin import Denial, ProxyPolicy, TSIGKeys, denied_reply
from corepy.plugin.handler import REFUSED, SERVFAIL
from corepy.server.contain.failure_report import (
    InvalidReplyError,
    report_background,
    report_failure,
)
from corepy.server.listen.packet_cache import PacketCache, is_enabled
from corepy.server.listen.router import CLASS_IN, RoutingError
from corepy.server.traffic.traffic import EXTENDED, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.dns import Reply
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.chain_runner import ChainRunner
    from corepy.server.listen.packet_cache import MemoryPool
    from corepy.server.listen.router import Router, ZoneRoute


class QueryPipeline:
    """Answers the queries that arrive at one socket, with the current router."""

    def __init__(
        self,
        unrouted: RequestContext,
        memory_pool: MemoryPool,
        traffic: Traffic | None = None,
        *,
        asks_gates: bool = False,
    ) -> None:
        """`unrouted` is the context of queries that no server block answers.

        With `asks_gates`, the listener asks the gates of its router before it calls `begin`.
        """
        self.label = unrouted.server
        self.traffic = traffic or Traffic()
        self._at_once = self.traffic.at_once
        self._rcodes = self.traffic.rcodes
        self.packets = PacketCache(memory_pool, self.traffic.hit_counts)
        self._with_packet_cache = is_enabled()
        self._asks_gates = asks_gates
        self.unrouted = unrouted
        """The context of queries that no server block answers."""
        self.idle_timeout = 0
        """The timeout that replies state from the next `swap` on (`RequestContext`)."""
        self._family = unrouted.family  # of the socket
        self._contexts: dict[ZoneRoute, RequestContext]
        self._secrets: Mapping[bytes, bytes] = {}
        self._refuses_earlier = False
        self._select: Callable[[Request], ZoneRoute | None]
        self._only: ZoneRoute | None = None  # the route of all queries of class IN
        self.router: Router

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and the keys of `config` for later queries, and empty the packet cache."""
        self.router = router
        keys = config.get(TSIGKeys)
        self._secrets = keys.secrets
        self._refuses_earlier = keys.refuses_earlier
        family = 0 if config.get(ProxyPolicy).uses_headers else self._family
        self.unrouted = replace(
            self.unrouted,
            echoed_options=router.echoed_options,
            family=family,
            idle_timeout=self.idle_timeout,
            is_gated=self._asks_gates and bool(router.gates),
        )
        self._select = self._filter if router.has_filters else router.route
        self._only = None if router.has_filters else router.only_root
        self._contexts = router.contexts(self.unrouted, with_packet_cache=self._with_packet_cache)
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
            if request is None:
                return b""
            self.traffic.count_refusal(request)  # type: ignore[arg-type]  # bytes
            if self._secrets:
                return self._sign_refusal(message, request)  # type: ignore[arg-type]  # bytes
            return request  # type: ignore[return-value]  # `accept` returned bytes
        request.received = received
        request.peer = request.client = peer
        request.local = local
        if request.identity is not identity:  # also of a query with a TSIG record
            try:
                self._identify(request, identity)
            except FormError:
                refusal = form_error(message)
                self.traffic.count_refusal(refusal)
                return refusal
        route = self._only
        if route is None or request.qclass != CLASS_IN:
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
        sent = self._make(request, reply)
        sampler = self._at_once
        sampler.left = left = sampler.left - 1
        if left <= 0:
            self.traffic.look_at_once(request, reply, sent)
        return sent

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
                # time of day: the client's is part of the signature
                verified, signer = verify(tsig, self._secrets, time.time)
                if verified.is_valid:
                    return signer.sign(refusal)
        except FormError:
            return refusal
        return refusal

    def _filter(self, request: Request) -> ZoneRoute | None:
        """Return the route for `request` from a router with filters, which read the context."""
        request.context = self.unrouted
        return self.router.route(request)

    def _drop(self, request: Request, reply: Reply) -> bytes:
        request.context = self.unrouted
        if self.router.dropped is not None:
            try:
                self.router.dropped(request=request, reply=reply)
            except BaseException as error:
                report_background(error, "the hook dropped failed", kind="hook")
        sent = signed(request, finish(request, reply))
        self._rcodes[sent[3] & 15] += 1
        self._at_once.left -= 1
        if self._at_once.left <= 0:
            self.traffic.look_at_once(request, reply, sent)
        return sent

    def deny(self, message: bytes, received: float, peer: object, denial: Denial) -> bytes:
        """Return the reply to a query that a gate has denied; empty if none is sent."""
        sampler, is_dropped = self._at_once, denial is Denial.DROP
        if is_dropped:
            self.traffic.unanswered += 1
            if sampler.left > 1:
                sampler.left -= 1
                return b""
        request = accept(message)
        if type(request) is not Request:
            return b""
        request.context, request.received, request.client = self.unrouted, received, peer
        reply = denied_reply(request, denial)
        sent = b"" if is_dropped else finish(request, reply)
        if sent:
            self._rcodes[sent[3] & 15] += 1
        sampler.left -= 1
        if sampler.left <= 0:
            self.traffic.look_at_once(request, reply, sent)
        return sent

    def complete(self, request: Request, reply: Reply) -> bytes:
        """Return the bytes to send for a reply that its chain had to wait for; see `_make`."""
        sent = self._make(request, reply)
        self.traffic.count_late(request, reply, sent)
        return sent

    def _make(self, request: Request, reply: Reply) -> bytes:
        """Return the bytes to send, and count them; SERVFAIL if the reply cannot be serialized.

        They are empty if a plugin has dropped the query: the listener sends nothing. They are empty
        for a series that has been sent, too; a series that this transport cannot send is refused.
        """
        try:
            context = request.context
            route = context.route
            observing_handlers = route.observing_handlers
            if observing_handlers:
                wire = reply.wire
                if reply.answered_by is None:
                    reply.answered_by = route.entry.name
                for handler in observing_handlers:
                    handler.observe(request, reply)
                    if reply.wire is not wire or type(reply.hit_counters) is not tuple:
                        raise InvalidReplyError("changed a reply that it only observes", handler)
            if reply.is_dropped:
                self.traffic.unanswered += 1
                return b""
            if reply.series is not None:
                if reply.series.is_ended:
                    self._rcodes[reply.wire[3] & 15] += 1
                    return b""
                reply = request.error(REFUSED)
            sent = finish(request, reply)
            if request.identity is not ANONYMOUS:
                sent = signed(request, sent)
        except BaseException as error:
            return self._fail(request, error)
        self._rcodes[EXTENDED if reply.extended_rcode else sent[3] & 15] += 1
        if reply.deadline is not None and context.uses_deadlines and context.router is self.router:
            self.packets.admit(request, reply, sent)
        return sent

    def _fail(self, request: Request, error: BaseException) -> bytes:
        """Return SERVFAIL after an exception; a plugin may have replaced parts of the request."""
        context: Any = request.context
        identity: Any = request.identity
        if not isinstance(context, RequestContext):
            request.context = self.unrouted
        if not isinstance(identity, Identity):
            request.identity = ANONYMOUS
        report_failure(request, error)
        self._rcodes[SERVFAIL] += 1
        return signed(request, finish(request, request.error(SERVFAIL)))
