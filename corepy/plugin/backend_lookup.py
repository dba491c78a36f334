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
from corepy.dns.names import lower
from corepy.dns.records import rr
from corepy.plugin.backend_chains import BoundedLookups, Chain, alias_among, targets_of
from corepy.plugin.backend_records import (
    Host,
    RRset,
    SRVTarget,
    fitting,
    grouped,
    is_name,
    joined,
    mx_rdata,
    parse_host,
    soa_rdata,
    srv_rdata,
    target_of,
    weigh,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin.protocols import RecordBackend, Service

NEGATIVE_TTL: Final = 30
"""Seconds for which a denial is valid, as in CoreDNS's etcd."""

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
        self._lookups = BoundedLookups(backend, request, zone)
        self._rcode = c.NOERROR
        self._is_truncated = False
        self._answer: list[bytes] = []
        self._authority: list[bytes] = []
        self._additional: list[bytes] = []
        self._is_empty = False  # whether the last name of a chain has no records of the type

    @property
    def has_lookups(self) -> bool:
        """Whether the result depends on replies of other servers."""
        return self._lookups.has_asked

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
            self._is_truncated = True
        reply = self._request.reply(
            self._rcode, answer, self._authority, additional, authoritative=True
        )
        if self._is_truncated:
            wire = bytearray(reply.wire)
            wire[2] |= c.FLAG_TC >> 8
            reply.wire = bytes(wire)
        return reply

    def _soa(self) -> bytes:
        if self._soa_record is not None:
            return self._soa_record
        server, mailbox = joined(SERVERS, self._zone), joined(_HOSTMASTER, self._zone)
        serial = self._backend.backend_serial(self._zone)
        rdata = soa_rdata(server, mailbox, serial, NEGATIVE_TTL)
        return rr(self._zone, c.TYPE_SOA, NEGATIVE_TTL, rdata)

    # -- the types

    async def _answer_type(self, qtype: int) -> bool:
        """Add the records for the name of the query; return whether the name exists."""
        name = self._request.name_wire
        if qtype == c.TYPE_PTR:
            return await self._answer_pointers()
        if qtype == c.TYPE_CNAME:
            return await self._answer_alias()
        if qtype in (c.TYPE_SRV, c.TYPE_MX):
            services = await self._lookups.services(name)
        else:
            services = await self._lookups.services_of_name(name)
        if services is None:
            return False
        if qtype in (*_ADDRESSES, c.TYPE_TXT):
            await self._answer_chain(name, services, qtype)
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
                self._rcode, self._is_empty = c.NOERROR, False  # also if other types have failed
                break

    async def _answer_chain(self, name: bytes, services: Sequence[Service], qtype: int) -> None:
        """Answer addresses or texts, those of the last name if the name is an alias."""
        chain = Chain(self._lookups, self._owner)
        await chain.follow(name, services, qtype)
        self._answer += chain.answer
        self._authority += chain.authority
        self._rcode = chain.rcode or self._rcode
        self._is_empty = chain.is_empty
        self._is_truncated |= chain.is_truncated

    async def _answer_alias(self) -> bool:
        """Answer CNAME: the first name at the key itself, else the alias that other types get."""
        name = self._request.name_wire
        exact = await self._lookups.services(name, exact=True)
        named = [it for it in exact or () if parse_host(it.host).rtype == c.TYPE_CNAME]
        if named:
            found: tuple[Service, bytes] | None = named[0], parse_host(named[0].host).rdata
        else:
            services = await self._lookups.services_of_name(name)
            if services is None:
                return exact is not None
            found = alias_among(targets_of(services, name, c.TYPE_A))
        if found is not None:
            self._answer.append(rr(self._owner, c.TYPE_CNAME, found[0].ttl, found[1]))
        return True

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
        chain = Chain(self._lookups, self._owner)
        for target in _once(host.rdata for _, host in hosts if is_name(host)):
            for qtype in _ADDRESSES:
                added += await chain.records_at(target, qtype)
        self._additional += dict.fromkeys(added)

    async def _answer_apex(self, qtype: int) -> None:
        """Answer SOA or NS for the name of the zone."""
        if qtype == c.TYPE_SOA:
            self._answer.append(self._soa())
            return
        services = await self._lookups.services(joined(SERVERS, self._zone)) or ()
        found = RRset(self._owner, c.TYPE_NS)
        hosts = []
        for service in grouped([it for it in services if it.host]):
            host = parse_host(service.host)
            if host.rtype:
                found.add(target_of(service, host), service.ttl)
                hosts.append((service, host))
        self._answer += found
        await self._add_addresses(hosts)


def _once(names: Iterable[bytes]) -> Iterable[bytes]:
    """Return names without those that differ only in case from an earlier one."""
    found: dict[bytes, bytes] = {}
    for name in names:
        found.setdefault(lower(name), name)
    return found.values()
