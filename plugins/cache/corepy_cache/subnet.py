"""Which clients a reply is for that was asked for with a client subnet (RFC 7871).

Such a reply is kept for clients that send a subnet themselves, never for others:

* for the network that the upstream's SCOPE PREFIX-LENGTH names (section 7.3.1), 0 being all;
* where the scope is longer than the client's prefix, or the reply has none, for queries with
  exactly that prefix: the upstream may have chosen by it all the same;
* for a query with prefix 0, by which a client wants its address left out (section 7.1.2), for
  others of that kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.edns import OPTION_SUBNET, option, parse_options
from corepy.dns.errors import FormError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BITS: Final = {0: 0, 1: 32, 2: 128}
_EVERYBODY: Final = b"\0"
_LEFT_OUT: Final = b"\xff"
_EXACTLY: Final = 0x80
"""Set in the family's byte of a key that is for one prefix, not for all networks in it."""


class Subnet(NamedTuple):
    """A client's subnet: family (1 is IPv4, 2 is IPv6), prefix length, address cut to it."""

    family: int
    source: int
    address: bytes

    def network(self, bits: int) -> bytes:
        """Return the first `bits` of the address in as few bytes as hold them."""
        size = (bits + 7) // 8
        spare = size * 8 - bits
        number = int.from_bytes(self.address[:size], "big") >> spare << spare
        return number.to_bytes(size, "big")

    def own_key(self) -> bytes:
        """Return the key of replies for this prefix and no other."""
        if not self.source:
            return _LEFT_OUT
        return bytes((_EXACTLY | self.family, self.source)) + self.address

    def network_key(self, bits: int) -> bytes:
        """Return the key of replies for the network of `bits` that this prefix lies in."""
        if not bits:
            return _EVERYBODY
        return bytes((self.family, bits)) + self.network(bits)

    def option(self, scope: int) -> bytes:
        """Return the option of a reply for this client (section 7.2.1)."""
        data = bytes((0, self.family, self.source, scope)) + self.address
        return option(OPTION_SUBNET, data)

    def own_options(self, kept: bytes) -> bytes:
        """Return the options `kept` with a reply as this client gets them: with its own subnet."""
        return b"".join(
            self.option(data[3]) if code == OPTION_SUBNET else option(code, data)
            for code, data in parse_options(kept)
        )


def subnet_of(options: bytes) -> Subnet | None:
    """Return the subnet of a query's `options`; None if it is malformed or not the only option.

    Section 6: the address has as many bytes as its prefix needs; bits behind it, and the scope, are
    0.
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
    """Return the scope that a reply's `options` name, -1 if none; None if it is for others.

    Section 7.3: what does not repeat the query's subnet does not answer it.
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
    """The networks that replies of one cache are kept for, by what stands behind a question in a
    key.
    """

    def __init__(self) -> None:
        self._lengths: dict[int, set[int]] = {1: set(), 2: set()}
        """Prefix lengths seen, by family: those are looked up, the longest first."""

    def keys(self, subnet: Subnet) -> Iterator[bytes]:
        """Yield the keys of all that may answer a query with `subnet`, the best first."""
        yield subnet.own_key()
        lengths = self._lengths.get(subnet.family, ())
        for bits in sorted(lengths, reverse=True):
            if bits <= subnet.source:
                yield subnet.network_key(bits)
        yield _EVERYBODY

    def key(self, subnet: Subnet, scope: int) -> bytes:
        """Return the key to keep a reply with this scope under."""
        if scope < 0 or not subnet.source or scope > subnet.source:
            return subnet.own_key()
        if scope:
            self._lengths[subnet.family].add(scope)
        return subnet.network_key(scope)
