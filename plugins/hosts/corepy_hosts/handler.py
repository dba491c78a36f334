"""The handler that answers from a hosts table (CoreDNS: plugin/hosts/hosts.go)."""

from __future__ import annotations

from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.names import from_text, to_text
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, in_thread
from corepy_hosts.reverse import address_of
from corepy_hosts.table import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.dns import Request
    from corepy.plugin import Fallthrough, ZoneMatcher
    from corepy.plugin.handler import Answer
    from corepy_hosts.hosts_file import HostsFile
    from corepy_hosts.table import Addresses

_ARPA: Final = b"\x04arpa\x00"
_OPCODE: Final = 0x78
_ANSWER: Final = c.FLAG_QR | c.FLAG_AA
_COPIED: Final = c.FLAG_RD | c.FLAG_CD
_QNAME: Final = b"\xc0\x0c"

_HOSTMASTER: Final = from_text("nobody.invalid.")
_TIMES: Final = (1, 3600, 1200, 604800)
"""Serial, refresh, retry and expire of the SOA record, from RFC 6303 section 3."""

_pack_header = Struct("!HHHHHH").pack
_pack_record = Struct("!2sHHIH").pack
_pack_soa = Struct("!IIIII").pack


class Hosts(FastHandler, ExplainedHandler):
    """Answers A, AAAA and PTR queries for names and addresses in a hosts file.

    The reply depends only on the query and the file. A change of the file clears the packet caches,
    so the packet cache may repeat replies.

    Replies are not stored: from a name's packed addresses a reply is one `bytes.join`.
    """

    name: ClassVar[str] = "hosts"
    cacheability = Cacheability.SAFE

    def __init__(
        self,
        file: HostsFile,
        zones: ZoneMatcher,
        fallthrough: Fallthrough,
        *,
        ttl: int,
        passes_unsupported: bool = False,
    ) -> None:
        """Answer for names in `zones`, and for addresses in any; `ttl` in seconds.

        Names without an entry go to the next handler if `fallthrough` contains them. With
        `passes_unsupported`, so do queries of other types for names with an entry.
        """
        self.file = file
        self._zones = zones
        self._fallthrough = fallthrough
        self._passes_unsupported = passes_unsupported
        self._ttl = ttl
        self._a = _pack_record(_QNAME, c.TYPE_A, c.CLASS_IN, ttl, 4)
        self._aaaa = _pack_record(_QNAME, c.TYPE_AAAA, c.CLASS_IN, ttl, 16)
        soa = b"".join((_QNAME, _HOSTMASTER, _pack_soa(*_TIMES, ttl)))
        self._soa = _pack_record(_QNAME, c.TYPE_SOA, c.CLASS_IN, ttl, len(soa)) + soa

    @property
    def inputs(self) -> bytes | None:
        """A digest of the file; None while names of a changed file are removed from caches."""
        return self.file.inputs

    def begin_dns(self, request: Request) -> Answer:
        """Answer at once, or pass the query on."""
        if request.qclass != c.CLASS_IN or request.wire[2] & _OPCODE:
            return self.next.begin_dns(request)
        name, qtype = request.name_wire, request.qtype
        if qtype == c.TYPE_PTR:
            names = self.file.value.names_of(name)
            return self._pointers(request, names) if names else self.next.begin_dns(request)
        if self._zones.find(name) is None:
            return self.next.begin_dns(request)
        if qtype != c.TYPE_A and qtype != c.TYPE_AAAA and self._passes(name):
            return self.next.begin_dns(request)
        found = self.file.value.find(name)
        if found is not None:
            return self._addresses(request, found)
        if name.endswith(_ARPA) and self.file.value.names_of(name):
            return self._no_data(request)
        if self._fallthrough.passes(name):
            return self.next.begin_dns(request)
        return request.error(c.SERVFAIL)

    def _passes(self, name: bytes) -> bool:
        """Return whether a query of another type than A, AAAA and PTR is passed on."""
        return self._passes_unsupported and self._fallthrough.passes(name)

    def _addresses(self, request: Request, found: Addresses) -> Reply:
        qtype, (v4, v6) = request.qtype, found
        if qtype == c.TYPE_A or (qtype == c.TYPE_ANY and v4):
            size, fixed, addresses = 4, self._a, v4
        elif qtype in (c.TYPE_AAAA, c.TYPE_ANY):
            size, fixed, addresses = 16, self._aaaa, v6
        else:
            addresses = b""
        if not addresses:
            return self._no_data(request)
        if len(addresses) == size:
            return _reply(request, (fixed, addresses), 1)
        count = len(addresses) // size
        records = (fixed + addresses[at : at + size] for at in range(0, len(addresses), size))
        return _reply(request, records, count)

    def _pointers(self, request: Request, names: list[bytes]) -> Reply:
        records: list[bytes] = []
        size = 0
        for name in names:
            record = _pack_record(_QNAME, c.TYPE_PTR, c.CLASS_IN, self._ttl, len(name)) + name
            size += len(record)
            if size > MOST_BYTES:
                break
            records.append(record)
        return _reply(request, records, len(records))

    def _no_data(self, request: Request) -> Reply:
        """Return a reply that denies the type of an existing name (RFC 2308 section 2.2).

        The owner of the SOA record is the name itself: with *fallthrough*, another server has the
        names around it.
        """
        return _reply(request, (self._soa,), 0, authority=1)

    async def has_names_below(self, name: bytes) -> bool:
        """Return whether the file has an entry for a name below `name` (`OwnNames`)."""
        found: bool = await in_thread(partial(self.file.value.has_names_below, name))
        return found

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the file has an entry for the name, and how many it has."""
        table, name = self.file.value, request.name_wire
        state: dict[str, str | int] = {"state": "no entry"}
        if request.qtype != c.TYPE_PTR and self._zones.find(name) is None:
            state = {"state": "the name is outside its zones"}
        elif address_of(name) is not None and (names := table.names_of(name)):
            state = {"state": "has names", "first": to_text(names[0])}
        elif found := table.find(name):
            v4, v6 = found
            state = {"state": "has addresses", "IPv4": len(v4) // 4, "IPv6": len(v6) // 16}
        return state | {"file": str(self.file.path), "entries": table.entries}


def _reply(request: Request, records: Iterable[bytes], answers: int, authority: int = 0) -> Reply:
    flags = _ANSWER | request.flags & _COPIED
    header = _pack_header(request.id, flags, 1, answers, authority, 0)
    return Reply(b"".join((header, request.question, *records)))
