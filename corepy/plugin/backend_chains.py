"""Follows the names of a record backend to addresses and texts, for `backend_lookup`.

A target in the zone is looked up in the backend, another one through the server. All look-ups for
one query have common bounds, so neither a loop nor a fan of aliases costs more than they permit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import is_subdomain, lower
from corepy.dns.rdata import plain_sections
from corepy.dns.records import rr
from corepy.plugin.backend_records import (
    Host,
    RRset,
    grouped,
    is_name,
    joined,
    parse_host,
    record_parts,
    txt_rdata,
)
from corepy.plugin.lookup import lookup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin.protocols import RecordBackend, Service

LONGEST_CHAIN: Final = 10
"""Aliases that are followed for one name, as in CoreDNS."""

MOST_INTERNAL: Final = 100
"""Names that are looked up in the backend for one query."""

MOST_OUTSIDE: Final = 16
"""Names that are looked up through the server for one query."""

APEX: Final = b"\4apex\3dns\0"


class BoundedLookups:
    """The look-ups for one query, in the backend and through the server."""

    def __init__(self, backend: RecordBackend, request: Request, zone: bytes) -> None:
        self._backend = backend
        self._request = request
        self._zone = zone
        self._internal = MOST_INTERNAL
        self._outside = MOST_OUTSIDE
        self.has_asked = False
        """Whether a name was looked up through the server."""

    def is_inside(self, name: bytes) -> bool:
        """Return whether a name in lower case is in the zone."""
        return is_subdomain(name, self._zone)

    async def services(self, name: bytes, *, exact: bool = False) -> Sequence[Service] | None:
        """Return the services of a name in lower case; None if it does not exist."""
        if self._internal <= 0:
            return ()
        self._internal -= 1
        request = self._request
        if name != request.name_wire:
            request = request.derive(name_wire=name)
        return await self._backend.services_at(request, exact=exact)

    async def services_of_name(self, name: bytes) -> Sequence[Service] | None:
        """Return the services of a name; the zone's own are in a place of their own.

        Without services there, they are all that are in the zone, as in SkyDNS.
        """
        if name == self._zone:
            services = await self.services(joined(APEX, name))
            if services is not None:
                return services
        return await self.services(name)

    async def ask(self, name: bytes, qtype: int) -> Reply | None:
        """Return this server's reply about a name out of the zone, None without one."""
        if self._outside <= 0:
            return None
        self._outside -= 1
        self.has_asked = True
        reply = await lookup(self._request, name, qtype)
        return None if reply is None or reply.is_dropped else reply


class Chain:
    """The records of a name for one type, and of the names that it is an alias of."""

    def __init__(self, lookups: BoundedLookups, owner: bytes, depth: int = 0) -> None:
        """`owner` is the name in its case, `depth` the number of chains that this one is for."""
        self._lookups = lookups
        self._owner = owner
        self._depth = depth
        self._has_failed = False  # whether a target could not be looked up
        self.rcode = c.NOERROR
        self.answer: list[bytes] = []
        self.authority: list[bytes] = []
        self.is_truncated = False
        self.is_empty = False
        """Whether the last name has no records of the type."""

    async def follow(self, name: bytes, services: Sequence[Service] | None, qtype: int) -> None:
        """Add the records of a name with these services, and of the names that it leads to."""
        owner, seen = self._owner, {name}
        while services is not None:
            targets = targets_of(services, name, qtype)
            alias = alias_among(targets)
            if alias is None:
                found = await self._flattened(owner, targets, qtype)
                self.is_empty = not found
                self.answer += found
                if self._has_failed and not found:
                    self.rcode = c.SERVFAIL
                return
            if len(seen) > LONGEST_CHAIN:
                return
            service, target = alias
            self.answer.append(rr(owner, c.TYPE_CNAME, service.ttl, target))
            name, owner = lower(target), target
            if name in seen:
                return
            seen.add(name)
            if not self._lookups.is_inside(name):
                await self._complete(name, qtype)
                return
            services = await self._lookups.services_of_name(name)
        self.rcode = c.NXDOMAIN

    async def _complete(self, target: bytes, qtype: int) -> None:
        """Add the records of a target that is out of the zone."""
        rest = await self._lookups.ask(target, qtype)
        if rest is None or rest.rcode == c.REFUSED:
            return  # the client has the alias, and asks a server that knows the target
        answer, authority, _ = plain_sections(rest.wire)
        known = {_identity(record) for record in self.answer}
        self.answer += [record for record in answer if _identity(record) not in known]
        if rest.rcode or not answer:
            self.authority += authority
        self.rcode = rest.rcode if rest.rcode <= 15 else c.SERVFAIL
        self.is_truncated = rest.tc

    async def _flattened(
        self, owner: bytes, targets: Iterable[tuple[Service, Host]], qtype: int
    ) -> list[bytes]:
        """Return the records of a name with several services, all with its name as the owner."""
        found = RRset(owner, qtype)
        for service, host in targets:
            if qtype == c.TYPE_TXT and service.text:
                found.add(txt_rdata(service.text), service.ttl)
            elif host.rtype == qtype:
                found.add(host.rdata, service.ttl)
            elif host.rtype == c.TYPE_CNAME:
                for record in await self.records_at(host.rdata, qtype):
                    parts = record_parts(record)
                    if parts.rtype == qtype:
                        found.add(parts.rdata, min(service.ttl, parts.ttl))
        return list(found)

    async def records_at(self, target: bytes, qtype: int) -> list[bytes]:
        """Return the answer for a target, which may begin with aliases; empty without one."""
        name = lower(target)
        if not self._lookups.is_inside(name):
            reply = await self._lookups.ask(name, qtype)
            self._has_failed |= reply is None or reply.rcode not in (c.NOERROR, c.NXDOMAIN)
            return [] if reply is None else plain_sections(reply.wire)[0]
        if self._depth == LONGEST_CHAIN:
            return []
        inner = Chain(self._lookups, target, self._depth + 1)
        await inner.follow(name, await self._lookups.services_of_name(name), qtype)
        self._has_failed |= inner.rcode == c.SERVFAIL
        return inner.answer


def targets_of(services: Sequence[Service], name: bytes, qtype: int) -> list[tuple[Service, Host]]:
    """Return the services that answer a type at a name, with their hosts.

    The host is ignored if it is at or below `name`, whose services include its own. Names are
    followed for TXT only if no service has a text.
    """
    texts = [it for it in services if it.text] if qtype == c.TYPE_TXT else []
    if texts:
        return [(service, Host(0, b"")) for service in grouped(texts)]
    found = []
    for service in grouped([it for it in services if it.host]):
        host = parse_host(service.host)
        if not (is_name(host) and is_subdomain(lower(host.rdata), name)):
            found.append((service, host))
    return found


def alias_among(targets: Sequence[tuple[Service, Host]]) -> tuple[Service, bytes] | None:
    """Return the service of a name that is an alias, and the target; None if it is not."""
    names = {lower(host.rdata) if is_name(host) else b"" for _, host in targets}
    if len(names) != 1 or b"" in names:
        return None
    service = min((service for service, _ in targets), key=lambda it: it.ttl)
    return service, targets[0][1].rdata


def _identity(record: bytes) -> tuple[bytes, int, bytes]:
    """Return the parts of a record that distinguish it from others, whatever its TTL is."""
    parts = record_parts(record)
    return lower(parts.owner), parts.rtype, parts.rdata
