"""From the bytes of a query to the bytes of its reply: what all listeners of an endpoint share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns import Request, accept, finish
from corepy.plugin.handler import REFUSED, SERVFAIL
from corepy.server.failure import report_background, report_failure
from corepy.server.packet_cache import PacketCache, is_enabled

if TYPE_CHECKING:
    from corepy.dns import Reply
    from corepy.server.packet_cache import Room
    from corepy.server.query import Runner
    from corepy.server.router import Router


class Answerer:
    """Answers the queries that come to one socket, by the router of the moment."""

    def __init__(self, label: str, proto: str, room: Room) -> None:
        """`label` names the server and `proto` the transport in requests."""
        self.label = label
        self.packets = PacketCache(room)
        self._proto = proto
        self._keeps = is_enabled()
        self.router: Router

    def swap(self, router: Router) -> None:
        """Answer by `router` from the next query on."""
        self.router = router
        self.packets.clear()

    def begin(
        self, message: bytes, received: float, peer: object, local: object, runner: Runner
    ) -> bytes | None:
        """Return the reply to `message`; None if there is none, or `runner` will deliver it."""
        request = accept(message)
        if type(request) is not Request:
            return request  # type: ignore[return-value]  # bytes or None are all that is left
        request.received = received
        request.peer = peer
        request.local = local
        request.proto = self._proto
        request.server = self.label
        site = self.router.route(request)
        if site is None or site.entry is None:
            return self._drop(request)
        request.site = site
        request.zone = site.zone
        request.repeats = self._keeps and site.obstacle is None
        request.router = self.router
        reply = runner.start(site.entry, request)
        return None if reply is None else self.complete(request, reply)

    def _drop(self, request: Request) -> bytes:
        reply = request.error(REFUSED)
        if self.router.dropped is not None:
            try:
                self.router.dropped(request=request, reply=reply)
            except BaseException as error:
                report_background(error, "the hook dropped failed", kind="hook")
        return finish(request, reply)

    def complete(self, request: Request, reply: Reply) -> bytes:
        """Return the bytes to send; a reply that a plugin made unsendable becomes SERVFAIL."""
        site = request.site
        try:
            for onlooker in site.onlookers:
                onlooker.observe(request, reply)
            sent = finish(request, reply)
        except BaseException as error:
            report_failure(request, error)
            return finish(request, request.error(SERVFAIL))
        if reply.deadline is not None and request.repeats and request.router is self.router:
            self.packets.admit(request, reply, sent)
        return sent
