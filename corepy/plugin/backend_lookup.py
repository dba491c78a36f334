"""Answers queries from a record backend (CoreDNS: plugin/backend_lookup.go).

A backend has services, not records: `BackendLookup` makes the records of one reply of them. Where
CoreDNS's replies contradict an RFC or each other, this follows the RFC:

* A name whose only service is another name is an alias; aliases in the zone are followed, others
  are completed by the server's own reply. The alias stays in the answer if its target has no
  records (RFC 6604).
* A name with several services has no CNAME record beside other records (RFC 1034 section 3.6.2):
  the addresses of all of them are answered as those of the name.
* A name above an existing one exists (RFC 8020), and so does the name of the zone.
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
    SRVTarget,
    fitting,
    grouped,
    joined,
    mx_rdata,
    parse_host,
    record_parts,
    soa_rdata,
    srv_rdata,
    target_of,
    txt_rdata,
    weigh,
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

NEGATIVE_TTL: Final = 30
"""Seconds for which a denial is valid, as in CoreDNS's etcd."""

APEX: Final = b"\4apex\3dns\0"
SERVERS: Final = b"\2ns\3dns\0"
_HOSTMASTER: Final = b"\nhostmaster\0"

_ADDRESSES: Final = (c.TYPE_A, c.TYPE_AAAA)
_ANY: Final = (c.TYPE_CNAME, c.TYPE_A, c.TYPE_AAAA, c.TYPE_TXT, c.TYPE_MX, c.TYPE_SRV)
"""The types of which ANY gets the first one that exists (RFC 8482 section 4.1)."""


class BackendLookup:
    """One look-up; `reply` returns its result."""

    def __init__(
        self, backend: RecordBackend, request: Request, zone: bytes, soa: bytes | None = None
    ) -> None:
        """Look up the name in `request`, which is in `zone`.

        `soa` is the SOA record of the zone, by default that of CoreDNS's backends.
        """
        self._backend = backend
        self._request = request
        self._zone = zone
        self._soa_record = soa
        self._owner = request.question[:-4]
        self._rcode = c.NOERROR
        self._flags = 0
        self._answer: list[bytes] = []
        self._authority: list[bytes] = []
        self._additional: list[bytes] = []
        self._internal = MOST_INTERNAL
        self._outside = MOST_OUTSIDE
        self._depth = 0
        self._is_empty = False  # whether the last name of a chain has no records of the type
        self._has_failed = False  # whether a target could not be looked up
        self.has_lookups = False
        """Whether the result depends on replies of other servers."""

    async def reply(self) -> Reply | None:
        """Return the reply, None if the name does not exist in the backend.

        The caller answers it with `denial`, or passes the query on.
        """
        qtype = self._request.qtype
        is_apex = self._request.name_wire == self._zone
        if is_apex and qtype in (c.TYPE_SOA, c.TYPE_NS):
            await self._answer_apex(qtype)
        elif not await self._answer_type(qtype):
            return None
        return self._made()

    def denial(self) -> Reply:
        """Return the reply for a name that does not exist; the name of the zone always does."""
        self._rcode = c.NXDOMAIN if self._request.name_wire != self._zone else c.NOERROR
        return self._made()

    def _made(self) -> Reply:
        denies = not self._answer or self._is_empty or self._rcode == c.NXDOMAIN
        if denies and not self._authority and self._rcode != c.SERVFAIL:
            self._authority.append(self._soa())
        room = c.MAX_SIZE - c.HEADER_SIZE - len(self._request.question)
        room -= sum(map(len, self._authority))
        answer, room = fitting(self._answer, self._owner, room)
        additional, _ = fitting(self._additional, self._owner, room)
        if len(answer) < len(self._answer):
            self._flags |= c.FLAG_TC
        reply = self._request.reply(
            self._rcode, answer, self._authority, additional, authoritative=True
        )
        if self._flags:
            wire = bytearray(reply.wire)
            wire[2] |= self._flags >> 8
            reply.wire = bytes(wire)
        return reply

    def _soa(self) -> bytes:
        if self._soa_record is not None:
            return self._soa_record
        server, mailbox = joined(SERVERS, self._zone), joined(_HOSTMASTER, self._zone)
        serial = self._backend.backend_serial(self._zone)
        rdata = soa_rdata(server, mailbox, serial, NEGATIVE_TTL)
        return rr(self._zone, c.TYPE_SOA, NEGATIVE_TTL, rdata)

    # -- services

    async def _services(self, name: bytes, *, exact: bool = False) -> Sequence[Service] | None:
        """Return the services of a name in lower case; None if it does not exist."""
        if self._internal <= 0:
            return ()
        self._internal -= 1
        request = self._request
        if name != request.name_wire:
            request = request.derive(name_wire=name)
        return await self._backend.services_at(request, exact=exact)

    async def _services_of_name(self, name: bytes) -> Sequence[Service] | None:
        """Return the services of a name; the zone's own are in a place of their own.

        Without services there, they are all that are in the zone, as in SkyDNS.
        """
        if name == self._zone:
            services = await self._services(joined(APEX, name))
            if services is not None:
                return services
        return await self._services(name)

    async def _answer_type(self, qtype: int) -> bool:
        """Add the records for the name of the query; return whether the name exists."""
        name = self._request.name_wire
        if qtype == c.TYPE_PTR:
            return await self._answer_pointers()
        if qtype == c.TYPE_CNAME:
            return await self._answer_alias()
        if qtype in (c.TYPE_SRV, c.TYPE_MX):
            services = await self._services(name)
        else:
            services = await self._services_of_name(name)
        if services is None:
            return False
        if qtype in (*_ADDRESSES, c.TYPE_TXT):
            await self._follow(name, services, qtype)
        elif qtype == c.TYPE_SRV:
            await self._answer_srv(services)
        elif qtype == c.TYPE_MX:
            await self._answer_mx(services)
        elif qtype == c.TYPE_ANY:
            await self._answer_any()
        return True

    async def _answer_any(self) -> None:
        for qtype in _ANY:
            await self._answer_type(qtype)
            if self._answer:
                break

    # -- addresses, texts and aliases

    async def _follow(self, name: bytes, services: Sequence[Service] | None, qtype: int) -> None:
        """Add the records of a name, and of the names that it is an alias of."""
        owner, seen = self._owner, {name}
        while services is not None:
            targets = _targets(services, name, qtype)
            alias = _alias_among(targets)
            if alias is None:
                found = await self._flattened(owner, targets, qtype)
                self._is_empty = not found
                self._answer += found
                if self._has_failed and not found:
                    self._rcode = c.SERVFAIL
                return
            if len(seen) > LONGEST_CHAIN:
                return
            service, target = alias
            self._answer.append(rr(owner, c.TYPE_CNAME, service.ttl, target))
            name, owner = lower(target), target
            if name in seen:
                return
            seen.add(name)
            if not is_subdomain(name, self._zone):
                await self._complete(name, qtype)
                return
            services = await self._services_of_name(name)
        if name != self._request.name_wire:
            self._rcode = c.NXDOMAIN

    async def _complete(self, target: bytes, qtype: int) -> None:
        """Add the records of a target that is out of the zone."""
        rest = await self._ask(target, qtype)
        if rest is None or rest.rcode == c.REFUSED:
            return  # the client has the alias, and asks a server that knows the target
        answer, authority, _ = plain_sections(rest.wire)
        known = {_identity(record) for record in self._answer}
        self._answer += [record for record in answer if _identity(record) not in known]
        if rest.rcode or not answer:
            self._authority += authority
        self._rcode = rest.rcode if rest.rcode <= 15 else c.SERVFAIL
        if rest.tc:
            self._flags |= c.FLAG_TC

    async def _ask(self, name: bytes, qtype: int) -> Reply | None:
        """Return this server's reply about a name out of the zone, None without one."""
        if self._outside <= 0:
            return None
        self._outside -= 1
        self.has_lookups = True
        reply = await lookup(self._request, name, qtype)
        return None if reply is None or reply.is_dropped else reply

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
                for record in await self._records_at(host.rdata, qtype):
                    parts = record_parts(record)
                    if parts.rtype == qtype:
                        found.add(parts.rdata, min(service.ttl, parts.ttl))
        return list(found)

    async def _records_at(self, target: bytes, qtype: int) -> list[bytes]:
        """Return the answer for a target, which may begin with aliases; empty without one."""
        name = lower(target)
        if not is_subdomain(name, self._zone):
            reply = await self._ask(name, qtype)
            self._has_failed |= reply is None or reply.rcode not in (c.NOERROR, c.NXDOMAIN)
            return [] if reply is None else plain_sections(reply.wire)[0]
        if self._depth == LONGEST_CHAIN:
            return []
        inner = BackendLookup(self._backend, self._request, self._zone)
        inner._owner, inner._depth = target, self._depth + 1
        inner._internal, inner._outside = self._internal, self._outside
        await inner._follow(name, await inner._services_of_name(name), qtype)
        self._internal, self._outside = inner._internal, inner._outside
        self.has_lookups |= inner.has_lookups
        self._has_failed |= inner._rcode == c.SERVFAIL
        return inner._answer

    async def _answer_alias(self) -> bool:
        """Answer CNAME: the first name at the key itself, else the alias that other types get."""
        name = self._request.name_wire
        exact = await self._services(name, exact=True)
        named = [it for it in exact or () if parse_host(it.host).rtype == c.TYPE_CNAME]
        if named:
            found: tuple[Service, bytes] | None = named[0], parse_host(named[0].host).rdata
        else:
            services = await self._services_of_name(name)
            if services is None:
                return exact is not None
            found = _alias_among(_targets(services, name, c.TYPE_A))
        if found is not None:
            self._answer.append(rr(self._owner, c.TYPE_CNAME, found[0].ttl, found[1]))
        return True

    # -- the other types

    async def _answer_pointers(self) -> bool:
        """Answer PTR with the names at the reverse name."""
        services = await self._backend.services_of_address(self._request)
        if services is None:
            return False
        found = RRset(self._owner, c.TYPE_PTR)
        for service in services:
            host = parse_host(service.host)
            if host.rtype == c.TYPE_CNAME:
                found.add(host.rdata, service.ttl)
        self._answer += found
        return True

    async def _answer_srv(self, services: Sequence[Service]) -> None:
        hosts = [
            (service, host)
            for service in grouped([it for it in services if it.host])
            if (host := parse_host(service.host)).rtype and service.port >= 0
        ]
        targets = [
            (SRVTarget(service.priority, service.port, target_of(service, host)), service)
            for service, host in hosts
        ]
        weights = weigh((target, service.weight) for target, service in targets)
        found = RRset(self._owner, c.TYPE_SRV)
        for target, service in targets:
            found.add(srv_rdata(target, weights[target]), service.ttl)
        self._answer += found
        await self._add_addresses(hosts)

    async def _answer_mx(self, services: Sequence[Service]) -> None:
        hosts = [
            (service, host)
            for service in grouped([it for it in services if it.host])
            if (host := parse_host(service.host)).rtype and service.is_mail
        ]
        found = RRset(self._owner, c.TYPE_MX)
        for service, host in hosts:
            found.add(mx_rdata(service.priority, target_of(service, host)), service.ttl)
        self._answer += found
        await self._add_addresses(hosts)

    async def _add_addresses(self, hosts: Sequence[tuple[Service, Host]]) -> None:
        """Add the addresses of the targets of records to the additional section, each once."""
        own: dict[tuple[bytes, int], RRset] = {}
        for service, host in hosts:
            if host.rtype != c.TYPE_CNAME:
                key = target_of(service, host), host.rtype
                own.setdefault(key, RRset(*key)).add(host.rdata, service.ttl)
        added = [record for found in own.values() for record in found]
        for target in _once(host.rdata for _, host in hosts if _is_name(host)):
            for qtype in _ADDRESSES:
                added += await self._records_at(target, qtype)
        self._additional += dict.fromkeys(added)

    async def _answer_apex(self, qtype: int) -> None:
        """Answer SOA or NS for the name of the zone."""
        if qtype == c.TYPE_SOA:
            self._answer.append(self._soa())
            return
        services = await self._services(joined(SERVERS, self._zone)) or ()
        found = RRset(self._owner, c.TYPE_NS)
        hosts = []
        for service in grouped([it for it in services if it.host]):
            host = parse_host(service.host)
            if host.rtype:
                found.add(target_of(service, host), service.ttl)
                hosts.append((service, host))
        self._answer += found
        await self._add_addresses(hosts)


def _is_name(host: Host) -> bool:
    return host.rtype == c.TYPE_CNAME


def _targets(services: Sequence[Service], name: bytes, qtype: int) -> list[tuple[Service, Host]]:
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
        if not (_is_name(host) and is_subdomain(lower(host.rdata), name)):
            found.append((service, host))
    return found


def _alias_among(targets: Sequence[tuple[Service, Host]]) -> tuple[Service, bytes] | None:
    """Return the service of a name that is an alias, and the target; None if it is not."""
    names = {lower(host.rdata) if _is_name(host) else b"" for _, host in targets}
    if len(names) != 1 or b"" in names:
        return None
    service = min((service for service, _ in targets), key=lambda it: it.ttl)
    return service, targets[0][1].rdata


def _identity(record: bytes) -> tuple[bytes, int, bytes]:
    """Return the parts of a record that distinguish it from others, whatever its TTL is."""
    parts = record_parts(record)
    return lower(parts.owner), parts.rtype, parts.rdata


def _once(names: Iterable[bytes]) -> Iterable[bytes]:
    """Return names without those that differ only in case from an earlier one."""
    found: dict[bytes, bytes] = {}
    for name in names:
        found.setdefault(lower(name), name)
    return found.values()
