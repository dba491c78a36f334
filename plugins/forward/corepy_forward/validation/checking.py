"""Checks the signatures of record sets with the keys of a zone (RFC 4035 section 5.3)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.edns import (
    EDE_DNSSEC_BOGUS,
    EDE_RRSIGS_MISSING,
    EDE_SIGNATURE_EXPIRED,
    EDE_SIGNATURE_NOT_YET_VALID,
)
from corepy.dns.form_error import FormError
from corepy.dns.names import is_subdomain, labels_of, parent_offsets
from corepy.dns.wire import read_name
from corepy.zone.signatures import signed_data
from corepy_forward.validation.verdicts import Bogus, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy_forward.validation.public_keys import ZoneKey
    from corepy_forward.validation.record_sets import RecordSet
    from corepy_forward.validation.work import Work

MOST_SIGNATURES: Final = 8
"""Signatures of one set that are considered: one per algorithm, two during a key rollover."""

MOST_KEYS: Final = 4
"""Keys of a zone with one tag and algorithm that are tried (CVE-2023-50387)."""

_MOST_REMEMBERED: Final = 4096
_FIXED: Final = 18
_unpack: Final = Struct("!HBBIIIH").unpack_from


class Signature(NamedTuple):
    """The fields of an RRSIG record (RFC 4034 section 3.1)."""

    covered: int
    algorithm: int
    labels: int
    ttl: int
    expiration: int
    inception: int
    tag: int
    signer: bytes
    """In lower case."""
    head: bytes
    """The part of the rdata that is signed, in canonical form."""
    signature: bytes

    @classmethod
    def read(cls, rdata: bytes) -> Signature:
        """Parse rdata of at least 19 bytes; raises FormError."""
        signer, end = read_name(rdata, _FIXED)
        signer = signer.lower()
        covered, algorithm, labels, ttl, expiration, inception, tag = _unpack(rdata)
        return cls(
            covered, algorithm, labels, ttl, expiration, inception, tag,
            signer, rdata[:_FIXED] + signer, rdata[end:],
        )  # fmt: skip


def signers_of(record_set: RecordSet) -> list[bytes]:
    """Return the zones at or above the owner that the signatures name, the deepest first."""
    found = set()
    for rdata in record_set.signatures[:MOST_SIGNATURES]:
        try:
            signer = read_name(rdata, _FIXED)[0].lower()
        except FormError:
            continue
        if is_subdomain(record_set.owner, signer):
            found.add(signer)
    return sorted(found, key=len, reverse=True)


class Proven(NamedTuple):
    """What a valid signature proves about a set."""

    encloser: bytes
    """The owner; for an expanded wildcard, the name that the wildcard is below."""
    ttl: int
    """The seconds for which the set may be kept (RFC 4035 section 5.3.3)."""
    original_ttl: int
    expires: int
    """The expiration in seconds since 1970."""

    def is_expanded(self, owner: bytes) -> bool:
        """Whether the owner was made from a wildcard (RFC 4035 section 5.3.4)."""
        return self.encloser != owner


class Checker:
    """Checks signatures, and remembers the valid ones: many replies have the same SOA and NSEC."""

    def __init__(self) -> None:
        self._valid: dict[bytes, None] = {}

    async def prove(
        self, record_set: RecordSet, zone: bytes, keys: Sequence[ZoneKey], now: float, work: Work
    ) -> Proven:
        """Return the facts from the first valid signature by a key of the zone; raises Bogus."""
        problem: Bogus | None = None
        for signature, proven, data in _candidates(record_set, zone, now):
            if isinstance(proven, Bogus):
                problem = problem or proven
                continue
            if await self._signing_key(signature, data, keys, work) is not None:
                return proven
            problem = problem or _no_key(record_set, signature, keys)
        if problem is not None:
            raise problem.copy()  # this frame refers to the other one, and would be freed late
        raise Bogus(
            f"{record_set.title} of {shown(record_set.owner)} has no signature by {shown(zone)}",
            EDE_RRSIGS_MISSING,
        )

    async def signers(
        self, record_set: RecordSet, zone: bytes, keys: Sequence[ZoneKey], now: float, work: Work
    ) -> list[tuple[ZoneKey, Proven]]:
        """Return the keys that have signed a set, each with the facts from its signature.

        Raises Bogus only if the set is malformed, or causes too much work.
        """
        found = []
        for signature, proven, data in _candidates(record_set, zone, now):
            if not isinstance(proven, Bogus):
                key = await self._signing_key(signature, data, keys, work)
                if key is not None:
                    found.append((key, proven))
        return found

    async def _signing_key(
        self, signature: Signature, data: bytes, keys: Sequence[ZoneKey], work: Work
    ) -> ZoneKey | None:
        fitting = (
            it for it in keys if it.tag == signature.tag and it.algorithm == signature.algorithm
        )
        for key, _ in zip(fitting, range(MOST_KEYS), strict=False):
            if await self._has_signed(key, data, signature.signature, work):
                return key
        return None

    async def _has_signed(self, key: ZoneKey, data: bytes, signature: bytes, work: Work) -> bool:
        sizes = len(signature).to_bytes(2, "big") + len(key.rdata).to_bytes(2, "big")
        digest = hashlib.sha256(b"".join((sizes, signature, key.rdata, data))).digest()
        if digest in self._valid:
            return True
        work.count_check()
        await work.pause()
        if not key.has_signed(data, signature):
            work.count_failure()
            return False
        if len(self._valid) >= _MOST_REMEMBERED:
            del self._valid[next(iter(self._valid))]
        self._valid[digest] = None
        return True


def _candidates(
    record_set: RecordSet, zone: bytes, now: float
) -> Iterator[tuple[Signature, Proven | Bogus, bytes]]:
    """Yield the signatures by a zone, the facts if they are valid, and the data they sign."""
    signed: dict[tuple[bytes, int], bytes] = {}
    for rdata in record_set.signatures[:MOST_SIGNATURES]:
        try:
            signature = Signature.read(rdata)
            if signature.signer != zone:
                continue
            proven = _proven(record_set, signature, now)
            if isinstance(proven, Bogus):
                yield signature, proven, b""
                continue
            form = _signed_owner(record_set.owner, signature.labels), signature.ttl
            if form not in signed:
                signed[form] = signed_data(
                    form[0], record_set.rtype, signature.ttl, record_set.rdatas
                ).records
        except FormError as error:
            raise Bogus(
                f"{record_set.title} of {shown(record_set.owner)} is malformed: {error}"
            ) from None
        yield signature, proven, signature.head + signed[form]


def _label_count(owner: bytes) -> int:
    labels = labels_of(owner)
    return len(labels) - (labels[:1] == [b"*"])


def _signed_owner(owner: bytes, labels: int) -> bytes:
    """Return the owner as it was signed: for an expanded wildcard, the wildcard."""
    if labels >= _label_count(owner):
        return owner
    return b"\1*" + owner[parent_offsets(owner)[-1 - labels] :]


def _proven(record_set: RecordSet, signature: Signature, now: float) -> Proven | Bogus:
    """Return the facts that a signature proves if it is valid; Bogus if its fields forbid it."""
    owner, moment = record_set.owner, int(now)
    count = _label_count(owner)
    if signature.labels > count or not is_subdomain(owner, signature.signer):
        return Bogus(f"{_title(record_set)} is for another name")
    left = _signed_difference(signature.expiration, moment)
    if left < 0:
        text = f"{_title(record_set)} expired at {_date(moment + left)}"
        return Bogus(text, EDE_SIGNATURE_EXPIRED)
    age = _signed_difference(moment, signature.inception)
    if age < 0:
        begin = _date(moment - age)
        text = f"{_title(record_set)} is valid from {begin}; it is {_date(moment)} here"
        return Bogus(text, EDE_SIGNATURE_NOT_YET_VALID)
    encloser = owner
    if signature.labels < count:
        encloser = owner[parent_offsets(owner)[-1 - signature.labels] :]
        if not is_subdomain(encloser, signature.signer):
            return Bogus(f"{_title(record_set)} has too few labels")
    ttl = min(record_set.ttl, signature.ttl, left)
    return Proven(encloser, ttl, signature.ttl, moment + left)


def _title(record_set: RecordSet) -> str:
    return f"the signature of {record_set.title} of {shown(record_set.owner)}"


def _signed_difference(later: int, earlier: int) -> int:
    """Return the seconds between two times of RFC 1982's arithmetic (RFC 4034 section 3.1.5)."""
    return ((later - earlier + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def _date(moment: int) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return str(moment)


def _no_key(record_set: RecordSet, signature: Signature, keys: Iterable[ZoneKey]) -> Bogus:
    title = f"{record_set.title} of {shown(record_set.owner)}"
    number = f"key {signature.tag}, algorithm {signature.algorithm}"
    if any(it.tag == signature.tag and it.algorithm == signature.algorithm for it in keys):
        text = f"the signature of {title} by {number}, of {shown(signature.signer)} is invalid"
        return Bogus(text, EDE_DNSSEC_BOGUS)
    return Bogus(f"{title} is signed by {number}, that {shown(signature.signer)} does not have")
