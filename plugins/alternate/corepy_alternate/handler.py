"""The handler of *alternate* (github.com/coredns/alternate: alternate.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from corepy.dns import Reply
from corepy.dns.constants import rcode_name
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler
from corepy_alternate.metrics import ASKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from corepy.dns import Request
    from corepy.plugin import Handler
    from corepy.plugin.handler import Answer


class Alternate(FastHandler, ExplainedHandler):
    """Replaces the replies of the handlers below that have certain rcodes.

    The alternate upstreams get the query as it is here. No plugin below changes it, so it makes no
    difference whether a line has the word `original`.
    """

    name: ClassVar[str] = "alternate"
    cacheability = Cacheability.SAFE

    def __init__(self, rules: Mapping[int, int], embedded: Sequence[Handler]) -> None:
        """`rules` has the index of the handler in `embedded` to ask for each rcode."""
        self._rules = dict(rules)
        self.embedded = tuple(embedded)

    @property
    def inputs(self) -> bytes | None:
        """The inputs of the embedded handlers."""
        found = [it.inputs for it in self.embedded]
        return None if None in found else repr(found).encode()

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's reply, or that of alternate upstreams."""
        answer = self.next.begin_dns(request)
        if type(answer) is not Reply:
            return self._wait(request, answer)
        handler = self._alternate(request, answer)
        return answer if handler is None else handler.begin_dns(request)

    async def _wait(self, request: Request, answer: Any) -> Reply:
        reply: Reply = await answer
        handler = self._alternate(request, reply)
        return reply if handler is None else await handler.serve_dns(request)

    def _alternate(self, request: Request, reply: Reply) -> Handler | None:
        """Return the handler to ask after `reply`; None if it is final."""
        index = self._rules.get(reply.rcode)
        if index is None or reply.is_dropped or reply.series is not None:
            return None
        ASKED.labels(request.context.server, rcode_name(reply.rcode)).inc()
        return self.embedded[index]

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the rcodes whose replies are replaced."""
        rcodes = ", ".join(map(rcode_name, self._rules))
        return {"replaces": rcodes}
