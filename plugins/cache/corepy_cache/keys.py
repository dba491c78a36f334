"""The keys of entries: which clients share a cached reply.

A key has the name, type and class, and the flags if they are unusual. A reply to a query with a
client subnet (RFC 7871) is cached for clients that send a subnet themselves, never for others:

* for the network in the upstream's SCOPE PREFIX-LENGTH (section 7.3.1); 0 means all;
* if the scope is longer than the client's prefix, or the reply has none, for queries with exactly
  that prefix: the upstream may still have used it;
* for a query with prefix 0, by which a client hides its address (section 7.1.2), for other
  queries with prefix 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.edns import OPTION_SUBNET, option, parse_options
from corepy.dns.form_error import FormError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.dns import Request

_BITS: Final = {0: 0, 1: 32, 2: 128}
_EVERYBODY: Final = b"\0"
_LEFT_OUT: Final = b"\xff"
_EXACTLY: Final = 0x80
"""Flag in the family byte of a key for one exact prefix, not for the networks in it."""

_UNUSUAL: Final = tuple(bytes((bits,)) for bits in range(8))
"""Key suffixes, by CD (1), missing RD (2) and DO (4)."""


def key_of(request: Request) -> bytes:
    """Return the key of a reply: name, type, class and, unless they are usual, CD, RD and DO.

    The key is compared in full, not as a hash. A name contains its length, so no two different
    questions have the same key. RD is part of the key, unlike in CoreDNS. Otherwise one client
    could distribute an upstream's reply to a query without RD to all others.
    """
    wire, key, edns = request.wire, request.asked, request.edns
    with_do = edns is not None and edns.do
    if wire[2] & 1 and not wire[3] & c.FLAG_CD and not with_do:
        return key
    return key + _UNUSUAL[wire[3] >> 4 & 1 | ~wire[2] << 1 & 2 | with_do << 2]


def subnet_key_of(request: Request, suffix: bytes) -> bytes:
    """Return the key of a reply for the clients of one subnet; see `Networks`.

    CD, RD and DO always precede `suffix`, so the key differs from all keys of `key_of`.
    """
    wire = request.wire
    flags = _UNUSUAL[wire[3] >> 4 & 1 | ~wire[2] << 1 & 2 | request.do << 2]
    return request.asked + flags + suffix


def name_of(key: bytes) -> bytes:
    """Return the name at the start of a store's key."""
    at = 0
    while n := key[at]:
        at += n + 1
    return key[: at + 1]


class Subnet(NamedTuple):
    """A client's subnet: family (1 is IPv4, 2 is IPv6), prefix length, address cut to it."""

    family: int
    source: int
    address: bytes

    def network(self, bits: int) -> bytes:
        """Return the first `bits` of the address in the minimum number of bytes."""
        size = (bits + 7) // 8
        spare = size * 8 - bits
        number = int.from_bytes(self.address[:size], "big") >> spare << spare
        return number.to_bytes(size, "big")

    def own_key(self) -> bytes:
        """Return the key of replies for exactly this prefix."""
        if not self.source:
            return _LEFT_OUT
        return bytes((_EXACTLY | self.family, self.source)) + self.address

    def network_key(self, bits: int) -> bytes:
        """Return the key of replies for the network of length `bits` that contains this prefix."""
        if not bits:
            return _EVERYBODY
        return bytes((self.family, bits)) + self.network(bits)

    def option(self, scope: int) -> bytes:
        """Return the option of a reply for this client (section 7.2.1)."""
        data = bytes((0, self.family, self.source, scope)) + self.address
        return option(OPTION_SUBNET, data)

    def own_options(self, kept: bytes) -> bytes:
        """Return the cached options, with the client's own subnet in the subnet option."""
        return b"".join(
            self.option(data[3]) if code == OPTION_SUBNET else option(code, data)
            for code, data in parse_options(kept)
        )


def subnet_of(options: bytes) -> Subnet | None:
    """Return the subnet in a query's `options`; None if malformed or not the only option.

    Section 6: the address has the minimum number of bytes for its prefix; unused bits and the scope
    are 0.
    """
    (code, data), *others = parse_options(options)
    if code != OPTION_SUBNET or others or len(data) < 4 or data[0]:
        return None
    _, family, source, scope = data[:4]
    subnet = Subnet(family, source, data[4:])
    if scope or source > _BITS.get(family, -1) or subnet.network(source) != subnet.address:
        return None
    return subnet


def scope_of(options: bytes, subnet: Subnet) -> int | None:
    """Return the scope in a reply's `options`, -1 if missing, None if the subnet differs.

    Section 7.3: a reply must repeat the query's subnet.
    """
    try:
        found = [data for code, data in parse_options(options) if code == OPTION_SUBNET]
    except FormError:
        return None
    if not found:
        return -1
    data = found[0]
    if len(found) > 1 or data[:3] != bytes((0, subnet.family, subnet.source)):
        return None
    return data[3] if data[4:] == subnet.address else None


class Networks:
    """The networks for which one cache has replies, as key suffixes."""

    def __init__(self) -> None:
        self._lengths: dict[int, set[int]] = {1: set(), 2: set()}
        """The prefix lengths in use, by family; lookups try them in descending order."""

    def keys(self, subnet: Subnet) -> Iterator[bytes]:
        """Yield the keys of all entries that may answer a query with `subnet`, the best first."""
        yield subnet.own_key()
        lengths = self._lengths.get(subnet.family, ())
        for bits in sorted(lengths, reverse=True):
            if bits <= subnet.source:
                yield subnet.network_key(bits)
        yield _EVERYBODY

    def learn(self, key: bytes) -> None:
        """Let `keys` find an entry that another process has stored under `key`."""
        suffix = key[len(name_of(key)) + 5 :]
        if len(suffix) > 1 and suffix[0] in self._lengths:
            self._lengths[suffix[0]].add(suffix[1])

    def key(self, subnet: Subnet, scope: int) -> bytes:
        """Return the key under which to cache a reply with this scope."""
        if scope < 0 or not subnet.source or scope > subnet.source:
            return subnet.own_key()
        if scope:
            self._lengths[subnet.family].add(scope)
        return subnet.network_key(scope)
