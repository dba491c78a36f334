"""The handler that searches the domains of a search path (CoreDNS: plugin/autopath/autopath.go).

A resolver with a search path queries `www.example.org.ns.svc.cluster.local`, then the name with the
next domain, and so on. The handler recognizes the first of these queries by its domain, and makes
the others itself, of the handlers below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.names import MAX_NAME, is_subdomain, to_text
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    LifecycleContext,
    ZoneMatcher,
    hookimpl,
)
from corepy.plugin.protocols import SearchPathSource
from corepy_autopath.alias import alias_ttl, aliased, renamed
from corepy_autopath.metrics import SUCCESSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import BlockHandlers
    from corepy.plugin.handler import Answer

_NO_NAME: Final = b"\xff"
"""A suffix that no name has: each one ends in a zero byte."""

_ANY_NAME: Final = b"\0"


class AutoPath(FastHandler, ExplainedHandler):
    """Answers a query for a name in the first domain of a search path by searching all of them."""

    name: ClassVar[str] = "autopath"
    inputs = b""

    def __init__(
        self,
        zones: Sequence[str],
        path: Sequence[bytes] = (),
        *,
        source: str = "",
        block_handlers: BlockHandlers | None = None,
    ) -> None:
        """Search `path` for queries in `zones`; without a path, no query is changed.

        `source` is the directive whose handler in `block_handlers`, a `SearchPathSource`, knows the
        paths of the clients; it is used instead of `path`. With a fixed path, the effect depends
        only on the query.
        """
        self._zones = ZoneMatcher(zones)
        self._path = tuple(path)
        self._first = self._path[0] if path else _NO_NAME
        self._source_name = source
        self._source: SearchPathSource | None = None
        self._block_handlers = block_handlers
        self.cacheability = Cacheability.UNSAFE if source else Cacheability.SAFE

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of the queries that are searched."""
        return self._zones.zones

    @property
    def path(self) -> tuple[bytes, ...]:
        """The suffixes in the order of the search, empty without a file."""
        return self._path

    @property
    def source(self) -> str:
        """The directive that knows the search paths of the clients, "" with a file."""
        return self._source_name

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Find the handler that knows the search paths; raises `StartupError` if it does not."""
        if self._source_name and self._block_handlers is not None:
            self._source = self._block_handlers.require(self._source_name, SearchPathSource)
            self._first = _ANY_NAME

    @hookimpl
    def rehearse(self, context: LifecycleContext) -> None:
        """Find the handler that knows the search paths."""
        self.before_listen(context)

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer, or that to the first existing name of the search."""
        if request.name_wire.endswith(self._first):
            path = self._path_for(request)
            if path:
                return self._search(request, path)
        return self.next.begin_dns(request)

    def _path_for(self, request: Request) -> Sequence[bytes]:
        """Return the suffixes to search for a query, none if it is to be passed on."""
        if request.qclass != c.CLASS_IN or request.opcode or request.qtype in c.TRANSFERS:
            return ()
        name = request.name_wire
        if self._zones.find(name) is None or (request.do and request.cd):
            return ()
        path = self._path if self._source is None else self._source.search_path(request)
        # The domain itself has no name to search for; CoreDNS answers SERVFAIL.
        if not path or name == path[0] or not is_subdomain(name, path[0]):
            return ()
        return path

    async def _search(self, request: Request, path: Sequence[bytes]) -> Reply:
        """Return the reply for the first existing name, or that for the query's own.

        As the resolver of glibc does, the search continues after SERVFAIL of a name server. It ends
        if a handler has failed: its failure would be repeated for each name.
        """
        owner = request.question[:-4]
        base = owner[: len(owner) - len(path[0])]
        passed: list[Reply] = []
        for suffix in dict.fromkeys(path):
            name = base + suffix
            if len(name) > MAX_NAME:
                continue  # a resolver cannot query it either
            asked = request.derive(name_wire=name) if passed else request
            reply = await self.next.serve_dns(asked)
            passed.append(reply)
            if not _is_denial(reply):
                found = None if _is_failure(reply) else self._found(request, name, passed)
                return _bounded(found or passed[0], passed)
        return _bounded(passed[0], passed)

    def _found(self, request: Request, name: bytes, passed: Sequence[Reply]) -> Reply | None:
        """Return the reply to the query from the one for `name`; None if it cannot be made."""
        found, denials = passed[-1], passed[:-1]
        if found.rcode == c.NOERROR:
            if denials:
                try:
                    found = aliased(request, name, found, alias_ttl(found, denials))
                except FormError:
                    return None
            value = SUCCESSES.labels(request.context.server)
            value.inc()
            found.hit_counters += (value,)
            return found
        return renamed(request, found) if denials else found

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the query is searched, and the domains."""
        path = self._path_for(request)
        if not path:
            return {"state": "not searched"}
        return {"state": "searched", "search path": " ".join(map(to_text, path))}


def _is_denial(reply: Reply) -> bool:
    """Return whether the search goes on after a reply: the name does not exist, or is unknown."""
    if reply.rcode == c.NXDOMAIN:
        return True
    return reply.rcode == c.SERVFAIL and reply.error is None and not reply.is_momentary


def _is_failure(reply: Reply) -> bool:
    """Return whether a reply is no answer, or none to other questions."""
    if reply.is_dropped or reply.is_momentary or reply.series is not None:
        return True
    return reply.rcode == c.SERVFAIL


def _bounded(reply: Reply, passed: Sequence[Reply]) -> Reply:
    """Return `reply`, which may be repeated as long as all that the search has met."""
    if len(passed) == 1:
        return reply
    deadlines = [it.deadline for it in passed]
    if None in deadlines:
        reply.deadline = None
        return reply
    own = () if reply in passed else reply.hit_counters
    reply.hit_counters = sum((it.hit_counters for it in passed), own)
    reply.deadline = min(it for it in deadlines if it is not None)
    return reply
