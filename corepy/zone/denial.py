"""The NSEC and NSEC3 records of a zone, which prove that a name or type does not exist."""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from corepy.dns import constants as c
from corepy.zone.canonical import canonical_key, sorted_in_portions
from corepy.zone.rrset import Node, find_set, key_of, rdatas_of, sets_with_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NSEC_KEY: Final = key_of(c.TYPE_NSEC)
NSEC3_KEY: Final = key_of(c.TYPE_NSEC3)

MOST_ITERATIONS: Final = 500
"""Maximum iterations of an NSEC3 hash: each denial computes several hashes (RFC 9276)."""

_TYPE_NSEC3PARAM: Final = 51
_SHA1: Final = 1
_TO_HEX: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghijklmnopqrstuv"
)

Proof = tuple[bytes, Node]
"""A name and its node, whose NSEC or NSEC3 set, with its signatures, is part of a proof."""


class Denial(Protocol):
    """The records that deny names and types of one zone.

    `ancestor` is the closest encloser: the longest existing ancestor of a name (RFC 4592 section
    3.3.1). The results are what goes into the authority section.
    """

    key: bytes
    """The key of the sets in the proofs."""

    def no_name(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """Deny a name, and the wildcard that would match it (NXDOMAIN)."""

    def no_data(self, name: bytes) -> Iterator[Proof]:
        """Deny a type of an existing name."""

    def no_wildcard_data(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """Deny a type of the wildcard that matches a name."""

    def no_closer(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """Prove that a wildcard is the closest match of a name."""

    def no_ds(self, cut: bytes) -> Iterator[Proof]:
        """Deny the DS records of a delegation."""


class NSECDenial:
    """Denial by NSEC records (RFC 4035 section 3.1.3)."""

    __slots__ = ("_keys", "_names", "_nodes")

    key = NSEC_KEY

    def __init__(self, names: Sequence[bytes], nodes: Mapping[bytes, Node]) -> None:
        """Take the owners of NSEC records in canonical order."""
        self._names = names
        self._keys = [canonical_key(name) for name in names]
        self._nodes = nodes

    def _covering(self, name: bytes) -> Proof:
        """Return the owner that precedes a name or is the name; of the first, the last owner."""
        owner = self._names[bisect_right(self._keys, canonical_key(name)) - 1]
        return owner, self._nodes[owner]

    def no_name(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 4035 section 3.1.3.2)."""
        yield self._covering(name)
        yield self._covering(b"\1*" + ancestor)

    def no_data(self, name: bytes) -> Iterator[Proof]:
        """See `Denial`; the record of an empty non-terminal is the one before it."""
        yield self._covering(name)

    def no_wildcard_data(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 4035 section 3.1.3.4)."""
        yield self._covering(b"\1*" + ancestor)
        yield self._covering(name)

    def no_closer(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 4035 section 3.1.3.3)."""
        yield self._covering(name)

    def no_ds(self, cut: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 4035 section 3.1.4)."""
        yield self._covering(cut)


class NSEC3Parameters(NamedTuple):
    """How names are hashed (RFC 5155 section 4); only SHA-1 is defined."""

    iterations: int
    salt: bytes

    @classmethod
    def from_rdata(cls, rdata: bytes) -> NSEC3Parameters | None:
        """Return those of an NSEC3 or NSEC3PARAM record; None for an unknown algorithm."""
        if len(rdata) < 5 or rdata[0] != _SHA1:
            return None
        return cls(rdata[2] << 8 | rdata[3], rdata[5 : 5 + rdata[4]])

    def hash(self, name: bytes) -> bytes:
        """Return the hash of a name in lower case, as a label in lower case without its length.

        RFC 5155 section 5, and RFC 4648 section 7 for its text form.
        """
        salt = self.salt
        digest = hashlib.sha1(name + salt, usedforsecurity=False).digest()
        for _ in range(self.iterations):
            digest = hashlib.sha1(digest + salt, usedforsecurity=False).digest()
        return base64.b32encode(digest).translate(_TO_HEX)


class NSEC3Denial:
    """Denial by NSEC3 records (RFC 5155 section 7.2)."""

    __slots__ = ("_hashes", "_nodes", "_origin", "parameters")

    key = NSEC3_KEY

    def __init__(
        self, parameters: NSEC3Parameters, origin: bytes, hashed_nodes: Mapping[bytes, Node]
    ) -> None:
        """Take the nodes of all NSEC3 records, of which those with `parameters` are used."""
        self.parameters = parameters
        self._origin = origin
        self._nodes = hashed_nodes
        self._hashes = sorted_in_portions(
            [
                name[1 : 1 + name[0]]
                for name, node in hashed_nodes.items()
                # Others are no hashes of names in the zone (RFC 5155 section 3).
                if name[1 + name[0] :] == origin and _has_parameters(node, parameters)
            ]
        )

    @property
    def is_complete(self) -> bool:
        """Whether the zone's origin has a record, as it must have if the others are usable."""
        return self._matching(self._origin) is not None

    def _owner(self, digest: bytes) -> bytes:
        return bytes((len(digest),)) + digest + self._origin

    def _matching(self, name: bytes) -> Proof | None:
        owner = self._owner(self.parameters.hash(name))
        node = self._nodes.get(owner)
        return None if node is None else (owner, node)

    def _covering(self, name: bytes) -> Proof:
        """Return the record whose interval contains the hash of a name; the last one wraps."""
        digest = self.parameters.hash(name)
        owner = self._owner(self._hashes[bisect_right(self._hashes, digest) - 1])
        return owner, self._nodes[owner]

    def _closest_encloser(self, ancestor: bytes) -> tuple[bytes, Proof]:
        """Return the longest ancestor that has a record, and this record.

        With opt-out, insecure delegations and empty non-terminals above them have none (RFC 5155
        section 7.2.1: closest provable encloser). The origin has one.
        """
        found = self._matching(ancestor)
        while found is None:
            ancestor = ancestor[ancestor[0] + 1 :]
            found = self._matching(ancestor)
        return ancestor, found

    def _no_closer(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """Prove the closest encloser, and that the next name towards `name` does not exist."""
        encloser, found = self._closest_encloser(ancestor)
        yield found
        yield self._covering(next_closer(name, encloser))

    def no_name(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 5155 section 7.2.2)."""
        encloser, _ = self._closest_encloser(ancestor)
        yield from self._no_closer(name, encloser)
        yield self._covering(b"\1*" + encloser)

    def no_data(self, name: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 5155 sections 7.2.3 and 7.2.4)."""
        found = self._matching(name)
        if found is not None:
            yield found
        else:
            yield from self._no_closer(name, name)

    def no_wildcard_data(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 5155 section 7.2.5)."""
        yield from self._no_closer(name, ancestor)
        found = self._matching(b"\1*" + ancestor)
        if found is not None:
            yield found

    def no_closer(self, name: bytes, ancestor: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 5155 section 7.2.6)."""
        yield self._covering(next_closer(name, ancestor))

    def no_ds(self, cut: bytes) -> Iterator[Proof]:
        """See `Denial` (RFC 5155 section 7.2.7)."""
        yield from self.no_data(cut)


def next_closer(name: bytes, ancestor: bytes) -> bytes:
    """Return the name that is one label longer than `ancestor`, above or equal to `name`.

    RFC 5155 section 1.3. `name` is below `ancestor`.
    """
    at = 0
    while (after := at + name[at] + 1) < len(name) - len(ancestor):
        at = after
    return name[at:]


def denial_of(
    origin: bytes,
    nodes: Mapping[bytes, Node],
    hashed_nodes: Mapping[bytes, Node],
    names: Sequence[bytes],
) -> Denial | None:
    """Return the denial of a zone, None if it has no records for it.

    `names` are in canonical order. NSEC3 records are used if an NSEC3PARAM record with known
    parameters announces them (RFC 5155 section 7.3), else NSEC records.
    """
    for packed in sets_with_type(nodes[origin], _TYPE_NSEC3PARAM):
        for rdata in rdatas_of(packed):
            parameters = NSEC3Parameters.from_rdata(rdata)
            if parameters is not None and not rdata[1]:
                denial = NSEC3Denial(parameters, origin, hashed_nodes)
                if denial.is_complete:
                    return denial
    if find_set(nodes[origin], NSEC_KEY) is None:
        return None
    owners = [name for name in names if find_set(nodes[name], NSEC_KEY) is not None]
    return NSECDenial(owners, nodes)


def _has_parameters(node: Node, parameters: NSEC3Parameters) -> bool:
    packed = find_set(node, NSEC3_KEY)
    return packed is not None and any(
        NSEC3Parameters.from_rdata(rdata) == parameters for rdata in rdatas_of(packed)
    )
