"""The handler of *search_guard*: denies names for which there is a proof, and learns from replies.

The usual query pays for one `bytes.endswith`: its name is not below a search domain.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import constants as c
from corepy.dns.edns import forwarded_options
from corepy.dns.form_error import FormError
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    LifecycleContext,
    apply_step,
    hookimpl,
)
from corepy.plugin.protocols import OwnNames
from corepy_search_guard.metrics import DENIALS
from corepy_search_guard.proof import is_denial, is_existence
from corepy_search_guard.prover import Prover
from corepy_search_guard.samples import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from corepy.dns import Reply, Request
    from corepy.plugin.block_handlers import BlockHandlers
    from corepy.plugin.handler import Answer
    from corepy.plugin.metrics import Value
    from corepy_search_guard.domains import Domain, Match, SearchDomains
    from corepy_search_guard.proof import Proof

_OPCODE: Final = 0x78
_TYPES: Final = frozenset((c.TYPE_A, c.TYPE_AAAA))
"""The types that resolvers ask for with a search list (getaddrinfo)."""

_FILTERED: Final = frozenset((c.TYPE_AAAA, c.TYPE_SVCB, c.TYPE_HTTPS))
"""Types that filters answer with NODATA, whether or not the name exists."""

PURGE: Final = "cache/purge"
"""The command of `corepy cache purge`, which all plugins receive."""

MOST_REPEATED: Final = 4096
"""Questions that are remembered, to find out which ones are repeated."""


class SearchGuard(FastHandler, ExplainedHandler):
    """One *search_guard* directive.

    A name that is proven absent stays so until the proof expires, for every client. If the
    handler discards one earlier, it clears the packet caches, too, so their replies agree.
    """

    name: ClassVar[str] = "search_guard"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(
        self,
        domains: SearchDomains,
        external: Iterable[bytes],
        max_ttl: int,
        clock: Callable[[], float] = time.monotonic,
        samples: int = AT_ONCE,
        block_handlers: BlockHandlers | None = None,
    ) -> None:
        """`external` are labels of top-level domains; `max_ttl` is in seconds.

        `clock` returns monotonic seconds on the time scale of `request.received`. `samples` is the
        parameter of `Samples`. Those of `block_handlers` that are `OwnNames` can prevent proofs.
        """
        self.domains = domains
        self._clock = clock
        self._block_handlers = block_handlers
        self.prover = Prover(
            lambda request: self.next.serve_dns(request), clock, external, max_ttl, samples
        )
        self._asked: set[bytes] = set()
        self._counters: dict[tuple[str, Domain], Value] = {}

    def begin_dns(self, request: Request) -> Answer:
        """Deny a name that is proven absent, or pass the query on."""
        name = request.name_wire
        if not name.endswith(self.domains.tails):
            return self.next.begin_dns(request)
        match = self.domains.find(name)
        if match is None or request.qclass != c.CLASS_IN or request.wire[2] & _OPCODE:
            return self.next.begin_dns(request)
        is_search = _is_search(request)
        if is_search:
            now = request.received or self._clock()
            proof = self.prover.deny(match, name, now)
            if proof is not None:
                return self._deny(request, match.domain, proof, now)
        learn = partial(self._learn, match, is_search)
        return apply_step(self.next.begin_dns(request), learn, request)

    def _deny(self, request: Request, domain: Domain, proof: Proof, now: float) -> Reply:
        counter = self._counter(request.context.server, domain)
        counter.value += 1
        reply = proof.deny(request, now)
        if request.asked in self._asked:
            reply.since, reply.deadline = proof.since, proof.until
            reply.hit_counters = (counter,)
        else:  # most names are looked up once: these would displace others in the packet cache
            if len(self._asked) >= MOST_REPEATED:
                self._asked.clear()
            self._asked.add(request.asked)
        return reply

    def _counter(self, server: str, domain: Domain) -> Value:
        counter = self._counters.get((server, domain))
        if counter is None:
            counter = self._counters[server, domain] = DENIALS.labels(server, domain.text)
        return counter

    def _learn(
        self, match: Match, is_search: bool, request: Request, reply: Reply | None
    ) -> Reply | None:
        """Take a reply from below, on its way up, as evidence."""
        if reply is None or type(reply.wire) is not bytes or len(reply.wire) < c.HEADER_SIZE:
            return reply  # the server reports it
        if is_existence(reply):
            if request.qtype in _FILTERED and not reply.ancount:
                return reply
            self.prover.note_existence(match, request)
        elif is_search and is_denial(reply):
            self.prover.note_denial(match, request)
        return reply

    def explain_state(
        self, request: Request, reply: Reply | None = None
    ) -> Mapping[str, str | int]:
        """Return whether the name is denied, with the proof, or the reason why not."""
        match = self.domains.find(request.name_wire)
        if match is None:
            return {"state": "not an external name below a search domain"}
        found: dict[str, str | int] = {"state": "no proof", "search domain": match.domain.text}
        now = self._clock()
        proof = self.prover.find(match, now)
        existing = self.prover.existing(match, now)
        if not _is_search(request):
            found["state"] = "passed on: not a query that a search list produces"
        elif proof is not None:
            found |= {"state": "denied", "proof": f"NXDOMAIN of {proof.text}"}
            found["seconds left"] = proof.left(now)
        elif self.prover.is_refused(match.domain):
            found["state"] = "passed on: the server of the domain denies names that exist"
        elif existing:
            found["state"] = f"passed on: {existing} exists"
        return found

    @hookimpl
    def before_listen(self) -> None:
        """Find the handlers of the block that have names of their own."""
        if self._block_handlers is not None:
            self.prover.own_names = self._block_handlers.of_kind(OwnNames)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Store the function that clears the packet caches."""
        self.prover.forget = context.forget

    @hookimpl
    def rehearse(self, context: LifecycleContext) -> None:
        """Send no queries if none may leave the process."""
        self.before_listen()
        self.prover.is_offline = context.offline

    @hookimpl
    def names_changed(self) -> None:
        """Forget all proofs: a name below one of them may be among those that have changed."""
        self.prover.forget_proofs()

    @hookimpl
    def command(self, name: str) -> None:
        """Forget all proofs at `corepy cache purge`, which an operator uses after a change."""
        if name == PURGE:
            self.prover.forget_proofs()
            self.prover.forget()

    @hookimpl
    async def shutdown(self) -> None:
        """Cancel the attempts to obtain proofs."""
        await self.prover.stop()


def _is_search(request: Request) -> bool:
    """Return whether a stub resolver may have made the query with its search list.

    Such a query has RD, neither DO nor CD, and no option on which the reply may depend. A
    validating client would have to reject a denial without its NSEC records.
    """
    flags, edns = request.flags, request.edns
    if request.qtype not in _TYPES or not flags & c.FLAG_RD or flags & c.FLAG_CD:
        return False
    if edns is None or not (edns.do or edns.options):
        return True
    try:
        return not edns.do and not forwarded_options(edns.options)
    except FormError:
        return False
