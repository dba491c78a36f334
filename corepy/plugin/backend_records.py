"""Makes records of the services of a record backend (CoreDNS: plugin/etcd/msg).

Pure functions on `corepy.plugin.protocols.Service`. Names are in wire form.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import MAX_NAME, InvalidName, from_text, parent_offsets
from corepy.dns.records import rr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy.plugin.protocols import Service

NO_PORT: Final = -1
"""The port of a service that makes no SRV record."""

DEFAULT_WEIGHT: Final = 100
"""The weight of a service that has none, and the sum of the weights of a priority."""

LARGEST_TEXT: Final = 32768
"""Bytes of a text; a reply has at most 65535."""

LONGEST_TTL: Final = 0x7FFFFFFF
"""Seconds (RFC 2181 section 8)."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
_CHUNK: Final = 255
_pack_srv: Final = Struct("!HHH").pack
_pack_mx: Final = Struct("!H").pack
_pack_soa: Final = Struct("!IIIII").pack
_unpack_fixed: Final = Struct("!HHIH").unpack_from


class Host(NamedTuple):
    """What the host of a service is: an address, or a name."""

    rtype: int
    """A, AAAA, or CNAME for a name; 0 for a service without a usable host."""

    rdata: bytes
    """The address, or the name in wire form, in its case."""


@lru_cache(maxsize=4096)
def parse_host(text: str) -> Host:
    """Return the host in the text of `Service.host`.

    An IPv6 address that contains an IPv4 address is that one, as for Go's net.ParseIP.
    """
    if not text:
        return Host(0, b"")
    for family, rtype in ((socket.AF_INET, c.TYPE_A), (socket.AF_INET6, c.TYPE_AAAA)):
        try:
            packed = socket.inet_pton(family, text)
        except (OSError, ValueError):  # ValueError: a NUL or a surrogate
            continue
        if packed.startswith(_MAPPED) and len(packed) == 16:
            return Host(c.TYPE_A, packed[12:])
        return Host(rtype, packed)
    try:
        return Host(c.TYPE_CNAME, from_text(text))
    except InvalidName:
        return Host(0, b"")


def is_name(host: Host) -> bool:
    """Return whether a host is a name, not an address."""
    return host.rtype == c.TYPE_CNAME


def grouped(services: Sequence[Service]) -> Sequence[Service]:
    """Return the services that are answered together (msg.Group).

    The services with the shortest keys choose the group: if they have one group in common, the
    services of other groups are left out. Those without a group are always answered.
    """
    if not any(service.group for service in services):
        return services
    depths = [len(parent_offsets(service.key)) for service in services]
    top = min(depths)
    chosen = {it.group for it, depth in zip(services, depths, strict=True) if depth == top} - {""}
    if len(chosen) != 1:
        return services
    return [service for service in services if not service.group or service.group in chosen]


def target_of(service: Service, host: Host) -> bytes:
    """Return the target of an SRV, MX or NS record: the host's name, or one made of the key.

    The name for an address is the key without its first `stripped_labels` labels. A number that
    leaves nothing of the key is ignored. The name of a host is never shortened: external-dns writes
    the number for names, too, where CoreDNS cuts the host's name.
    """
    if host.rtype == c.TYPE_CNAME:
        return host.rdata
    offsets = parent_offsets(service.key)
    if 0 < service.stripped_labels < len(offsets) - 1:
        return service.key[offsets[service.stripped_labels] :]
    return service.key


class RRset:
    """The records of a set, each once, all with the lowest TTL (RFC 2181 section 5.2)."""

    __slots__ = ("_rdatas", "owner", "rtype", "ttl")

    def __init__(self, owner: bytes, rtype: int) -> None:
        self.owner = owner
        self.rtype = rtype
        self.ttl = LONGEST_TTL
        self._rdatas: dict[bytes, None] = {}

    def __bool__(self) -> bool:
        return bool(self._rdatas)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the records in wire form."""
        return (rr(self.owner, self.rtype, self.ttl, rdata) for rdata in self._rdatas)

    def add(self, rdata: bytes, ttl: int) -> None:
        """Add a record."""
        self._rdatas[rdata] = None
        self.ttl = min(self.ttl, ttl)


class SRVTarget(NamedTuple):
    """The parts of an SRV record that distinguish it from others."""

    priority: int
    port: int
    target: bytes


def weigh(targets: Iterable[tuple[SRVTarget, int]]) -> dict[SRVTarget, int]:
    """Return the weight of each target: its share of those of its priority, in percent.

    The weights of a target that appears several times, such as with several addresses, are added
    up; in CoreDNS the shares of the duplicates are lost. A weight of 0 is `DEFAULT_WEIGHT`.
    """
    weights: dict[SRVTarget, int] = {}
    sums: dict[int, int] = {}
    for target, weight in targets:
        weights[target] = weights.get(target, 0) + (weight or DEFAULT_WEIGHT)
        sums[target.priority] = sums.get(target.priority, 0) + (weight or DEFAULT_WEIGHT)
    return {it: max(1, 100 * own // sums[it.priority]) for it, own in weights.items()}


def srv_rdata(target: SRVTarget, weight: int) -> bytes:
    """Return the data of an SRV record (RFC 2782)."""
    return _pack_srv(target.priority, weight, target.port) + target.target


def mx_rdata(preference: int, exchange: bytes) -> bytes:
    """Return the data of an MX record (RFC 1035 section 3.3.9)."""
    return _pack_mx(preference) + exchange


def txt_rdata(text: str) -> bytes:
    """Return the data of a TXT record, in strings of at most 255 bytes (RFC 1035 section 3.3.14).

    A text that is longer than `LARGEST_TEXT` is cut.
    """
    data = text.encode("utf-8", "surrogateescape")[:LARGEST_TEXT]
    chunks = (data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK))
    return b"".join(bytes((len(chunk),)) + chunk for chunk in chunks)


def soa_rdata(server: bytes, mailbox: bytes, serial: int, minimum: int) -> bytes:
    """Return the data of an SOA record with CoreDNS's timers (plugin/backend_lookup.go)."""
    return server + mailbox + _pack_soa(serial & 0xFFFFFFFF, 7200, 1800, 86400, minimum)


def joined(prefix: bytes, name: bytes) -> bytes:
    """Return `name` below the labels of the wire name `prefix`; `name` itself if it is too long."""
    whole = prefix[:-1] + name
    return whole if len(whole) <= MAX_NAME else name


class RecordParts(NamedTuple):
    """The parts of an uncompressed record."""

    owner: bytes
    rtype: int
    ttl: int
    rdata: bytes


def record_parts(record: bytes) -> RecordParts:
    """Split a record that `corepy.dns.rdata.plain_sections` has returned."""
    end = 0
    while record[end]:
        end += record[end] + 1
    rtype, _, ttl, _ = _unpack_fixed(record, end + 1)
    return RecordParts(record[: end + 1], rtype, ttl, record[end + 11 :])


def fitting(records: Sequence[bytes], owner: bytes, room: int) -> tuple[Sequence[bytes], int]:
    """Return the first records that fit into `room` bytes of a message, and the room left.

    `owner` is the name in the question, to which owners are compressed.
    """
    for number, record in enumerate(records):
        size = len(record)
        if record.startswith(owner):
            size += 2 - len(owner)
        if size > room:
            return records[:number], room
        room -= size
    return records, room
