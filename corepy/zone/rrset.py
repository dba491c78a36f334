"""Record sets and nodes as bytes, from which a reply is joined without creating objects.

A *packed set* begins with its key of four bytes and the number of its records. The key is the type
and, for RRSIG records, the type covered: signatures of different types are different sets. The
records follow as they are in a reply to a query for their owner: the owner is the pointer to the
question.

A *node* is everything that one name owns: a packed set, a tuple of several, or b"" for an empty
non-terminal (RFC 8499). Most names have one set, and a tuple around it would take 64 bytes more.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Node = bytes | tuple[bytes, ...]

EMPTY: Final = b""
"""The node of an empty non-terminal."""

QNAME: Final = b"\xc0\x0c"
"""The compression pointer to the name in the question (RFC 1035 section 4.1.4)."""

HEAD: Final = 6
"""Bytes of a packed set before its first record."""

LARGEST: Final = 65535 - 12 - 255 - 4
"""Bytes of records that fit into a message beside its header and any question."""

LARGEST_RDATA: Final = 64_000
"""Bytes of rdata that fit into a message with its owner, also in a transfer with a TSIG record."""

_FIXED: Final = 12
"""Bytes of a record before its rdata."""

pack_head = Struct("!HHH").pack
_unpack_head = Struct("!HHH").unpack_from
_pack_record = Struct("!2sHHIH").pack
_unpack_ttl = Struct("!I").unpack_from


def key_of(rtype: int, covered: int = 0) -> bytes:
    """Return the first four bytes of a packed set: its type, and the type that an RRSIG covers."""
    return rtype.to_bytes(2, "big") + covered.to_bytes(2, "big")


def covered_by(rtype: int, rdata: bytes) -> int:
    """Return the type that a record covers if it is an RRSIG record, else 0."""
    return rdata[0] << 8 | rdata[1] if rtype == c.TYPE_RRSIG else 0


def pack_set(rtype: int, covered: int, ttl: int, rdatas: Sequence[bytes]) -> bytes:
    """Return a packed set; raise ValueError if it does not fit into a message."""
    parts = [pack_head(rtype, covered, len(rdatas))]
    for rdata in rdatas:
        parts.append(_pack_record(QNAME, rtype, c.CLASS_IN, ttl, len(rdata)))
        parts.append(rdata)
    packed = b"".join(parts)
    if len(packed) > LARGEST:
        raise ValueError("the record set does not fit into a message")
    return packed


def pack_one(rtype: int, covered: int, ttl: int, rdata: bytes) -> bytes:
    """Return a packed set of one record: a faster `pack_set`."""
    head = pack_head(rtype, covered, 1)
    return head + _pack_record(QNAME, rtype, c.CLASS_IN, ttl, len(rdata)) + rdata


def with_rdata(packed: bytes, rdata: bytes) -> bytes:
    """Return a packed set with one more record; raise ValueError if it does not fit a message.

    It copies bytes and unpacks none, so that a set of thousands of records is built in little time.
    """
    if len(packed) + _FIXED + len(rdata) > LARGEST:
        raise ValueError("the record set does not fit into a message")
    head = pack_head(type_of(packed), covered_type_of(packed), count_of(packed) + 1)
    fixed = _pack_record(QNAME, type_of(packed), c.CLASS_IN, ttl_of(packed), len(rdata))
    return b"".join((head, packed[HEAD:], fixed, rdata))


def type_of(packed: bytes) -> int:
    """Return the type of a packed set."""
    return packed[0] << 8 | packed[1]


def covered_type_of(packed: bytes) -> int:
    """Return the type that a packed set of RRSIG records covers, 0 for another type."""
    return packed[2] << 8 | packed[3]


def count_of(packed: bytes) -> int:
    """Return the number of records of a packed set."""
    return packed[4] << 8 | packed[5]


def ttl_of(packed: bytes) -> int:
    """Return the TTL of a packed set in seconds: that of all its records (RFC 2181 section 5.2)."""
    ttl: int = _unpack_ttl(packed, HEAD + 6)[0]
    return ttl


def rdatas_of(packed: bytes) -> list[bytes]:
    """Return the rdata of each record of a packed set."""
    found, at, end = [], HEAD, len(packed)
    while at < end:
        start = at + _FIXED
        at = start + (packed[start - 2] << 8 | packed[start - 1])
        found.append(packed[start:at])
    return found


def first_rdata_of(packed: bytes) -> bytes:
    """Return the rdata of the first record of a packed set."""
    start = HEAD + _FIXED
    return packed[start : start + (packed[start - 2] << 8 | packed[start - 1])]


def with_owner(packed: bytes, owner: bytes) -> bytes:
    """Return the records of a packed set in wire form, with `owner` as the name of each.

    `owner` is a name in wire form, which may end in a compression pointer.
    """
    if owner == QNAME:
        return packed[HEAD:]
    if packed[4:6] == b"\0\1":
        return owner + packed[HEAD + 2 :]
    parts, at, end = [], HEAD, len(packed)
    while at < end:
        start = at
        at += _FIXED + (packed[at + 10] << 8 | packed[at + 11])
        parts.append(packed[start + 2 : at])
    return owner + owner.join(parts)


def with_ttl(packed: bytes, ttl: int) -> bytes:
    """Return a packed set with another TTL in seconds."""
    covered = covered_type_of(packed)
    return pack_set(type_of(packed), covered, ttl, rdatas_of(packed))


def records_of(packed: bytes, owner: bytes) -> list[bytes]:
    """Return each record of a packed set in wire form, without compression."""
    rtype, _, _ = _unpack_head(packed)
    ttl = ttl_of(packed)
    return [
        owner + _pack_record(b"", rtype, c.CLASS_IN, ttl, len(it))[2:] + it
        for it in rdatas_of(packed)
    ]


def sets_of(node: Node) -> tuple[bytes, ...]:
    """Return the packed sets of a node."""
    if isinstance(node, tuple):
        return node
    return (node,) if node else ()


def node_of(sets: Sequence[bytes]) -> Node:
    """Return the node of some packed sets."""
    if len(sets) == 1:
        return sets[0]
    return tuple(sets) if sets else EMPTY


def find_set(node: Node, key: bytes) -> bytes | None:
    """Return the packed set of a node with a key of `key_of`, None if there is none."""
    if isinstance(node, bytes):
        return node if node[:4] == key else None
    for packed in node:
        if packed[:4] == key:
            return packed
    return None


def sets_with_type(node: Node, rtype: int) -> Iterator[bytes]:
    """Yield the packed sets of a node with a type: several for RRSIG."""
    for packed in sets_of(node):
        if type_of(packed) == rtype:
            yield packed
