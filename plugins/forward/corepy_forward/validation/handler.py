"""`ValidatingForward`: a `forward` line that validates the replies of its upstreams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy.dns import constants as c
from corepy.dns.edns import forwarded_options
from corepy.plugin import hookimpl
from corepy_forward.handler import Forward
from corepy_forward.observing import report_attempts
from corepy_forward.validation.chain import Chain
from corepy_forward.validation.outcomes import Outcomes

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import BlockConfig
    from corepy.plugin.handler import Answer
    from corepy_forward.pool import Pool
    from corepy_forward.settings import Settings
    from corepy_forward.validation.anchors import TrustAnchors
    from corepy_forward.validation.outcomes import Outcome

_OPCODE = 0x7800


class ValidatingForward(Forward):
    """Validates replies with DNSSEC, from the trust anchors of its line down.

    Its queries have DO and CD, so that upstreams send the signatures, and also the data that they
    consider bogus (RFC 4035 section 3.2.2, RFC 6840 section 5.9).
    """

    def __init__(
        self,
        settings: Settings,
        config: BlockConfig,
        with_metadata: bool,
        anchors: TrustAnchors,
    ) -> None:
        """See `Forward`; `anchors` are the trust anchors."""
        super().__init__(settings, config, with_metadata)
        self.chain = Chain(self._current_pool, anchors)
        self._outcomes = Outcomes(self._current_pool, self.chain)

    def _current_pool(self) -> Pool:
        return self.pool or self.open_static()

    def begin_dns(self, request: Request) -> Answer:
        """Return an awaitable of the validated reply; other classes than IN are not validated."""
        is_query = request.qclass == c.CLASS_IN and not request.flags & _OPCODE
        if not is_query or request.qtype in c.TRANSFERS or not self.queries_upstream(request):
            return super().begin_dns(request)
        return self._serve(request)

    async def _serve(self, request: Request) -> Reply:
        places = self._current_pool().places
        if not places.take(request):
            return self._clients.reject(request)
        try:
            options = b"" if request.edns is None else forwarded_options(request.edns.options)
            outcome = await self._outcomes.get(request, options)
        finally:
            places.leave(request)
        self._note(request, outcome)
        reply = outcome.reply(request)
        return await self.next.serve_dns(request) if self._wants_next(reply) else reply

    def _note(self, request: Request, outcome: Outcome) -> None:
        """Report the last exchange to the observers, and store the upstream in the query."""
        exchange = outcome.exchange
        if exchange is None:
            return
        if self._clients.observers and request.metadata:
            report_attempts(self._clients.observers, request, exchange)
        if self.with_metadata and exchange.upstream is not None:
            request.metadata["forward/upstream"] = exchange.upstream.address

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the upstreams, and where the validation begins, for `corepy explain`."""
        state = super().explain_state(request, reply)
        if "upstreams" in state:
            state["validation"] = self.chain.anchors.explain(request.name_wire)
        return state

    @hookimpl
    def status(self) -> dict[str, Any] | None:
        """Return the state of the upstreams, and the number of zones whose facts are cached."""
        status = super().status()
        return None if status is None else {**status, "validated_zones": len(self.chain)}
