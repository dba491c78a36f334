"""The handler that refuses unsigned and invalid queries (CoreDNS: plugin/tsig/tsig.go).

The server verifies the signature of a query before it selects a server block, with the keys of all
blocks at the listener, and it signs the reply. The handler decides whether a missing or invalid
signature matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from corepy.dns.constants import NOTAUTH, REFUSED, opcode_name, rcode_name, type_name
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, ZoneMatcher

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from corepy.dns import Request
    from corepy.dns.reply import Reply
    from corepy.plugin.handler import Answer


class EveryNumber:
    """The types, or the opcodes, of `require all`."""

    def __contains__(self, number: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True


class TSIGHandler(FastHandler, ExplainedHandler):
    """Refuses the queries in its zones that have no valid signature, where one is required."""

    name: ClassVar[str] = "tsig"
    # No signed query is answered from the packet cache, and the refusals here have no deadline.
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(
        self, zones: Iterable[str], types: Container[int] = (), opcodes: Container[int] = ()
    ) -> None:
        """Take the zones, and the types and opcodes whose queries must be signed."""
        self.zones = ZoneMatcher(zones)
        self.types = types
        self.opcodes = opcodes
        self.denies_clients = bool(types) or bool(opcodes)

    def begin_dns(self, request: Request) -> Answer:
        """Refuse the query, or return the next handler's answer."""
        tsig = request.identity.tsig
        if tsig is None and not self._requires(request):
            return self.next.begin_dns(request)
        if self.zones.find(request.name_wire) is None:
            return self.next.begin_dns(request)
        if tsig is None:
            return request.error(REFUSED, "the query must be signed (TSIG)")
        if not tsig.is_valid:
            problem = "no key of this server" if tsig.error is None else rcode_name(tsig.error)
            return request.error(NOTAUTH, f"the signature of the query: {problem}, key {tsig.key}")
        return self.next.begin_dns(request)

    def _requires(self, request: Request) -> bool:
        """Return whether the type or the opcode of a query requires a signature."""
        return request.qtype in self.types or (
            bool(self.opcodes) and request.opcode in self.opcodes
        )

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return what the handler makes of the query's signature."""
        if self.zones.find(request.name_wire) is None:
            return {"state": "passed: the name is outside its zones"}
        tsig = request.identity.tsig
        if tsig is not None:
            error = "BADKEY" if tsig.error is None else rcode_name(tsig.error)
            return {"state": "signed" if tsig.is_valid else error, "key": tsig.key}
        if not self._requires(request):
            return {"state": "unsigned"}
        by_type = request.qtype in self.types
        found = type_name(request.qtype) if by_type else opcode_name(request.opcode)
        return {"state": "refused: unsigned", "required for": found}
