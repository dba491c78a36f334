"""TSIG signatures (RFC 8945): verifies those of queries, and signs replies.

Imported only by a listener with keys.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import CLASS_ANY, NOTAUTH, TYPE_TSIG
from corepy.dns.form_error import FormError
from corepy.dns.names import from_text
from corepy.dns.tsig import BADKEY, BADSIG, BADTIME, BADTRUNC, TSIG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

ALGORITHMS: Final = {
    from_text(f"hmac-{digest}."): (digest, size)
    for digest, size in (
        ("sha1", 20),
        ("sha224", 28),
        ("sha256", 32),
        ("sha384", 48),
        ("sha512", 64),
    )
}
"""The digests of hashlib and their sizes in bytes, by the algorithm's wire name.

These are those of miekg/dns 1.1.72 (tsig.go); HMAC-MD5 is left out there as well.
"""

SHORTEST_MAC: Final = 10
"""Bytes of the shortest MAC, and at least half of the digest (RFC 8945 section 5.2.2.1)."""

LATEST: Final[dict[bytes, int]] = {}
"""The latest time of signing of each key, for `TSIGKeys.refuses_earlier`.

All listeners of the process share it, also those of later generations: a query that was sent over
one transport could be repeated over another.
"""

_UNSIGNED: Final = frozenset((BADSIG, BADKEY))
"""Errors that are sent without a signature (RFC 8945 section 5.3.2)."""

_pack_fixed = Struct("!HHIH").pack  # type, class, TTL, rdlength
_pack_timers = Struct("!HIH").pack  # time signed (16 + 32 bits), fudge
_pack_length = Struct("!H").pack
_FIXED_SIZE: Final = 10
_RDATA_SIZE: Final = 16
"""Bytes of rdata besides the algorithm's name, the MAC and the other data."""


def verify(
    tsig: TSIG,
    secrets: Mapping[bytes, bytes],
    clock: Callable[[], float],
    latest: MutableMapping[bytes, int] | None = None,
) -> tuple[TSIG, ReplySigner]:
    """Return `tsig` with its verdict, and the signer of the reply.

    `secrets` are keyed by the wire name of the key in lower case; `clock` is the time of day in
    seconds. The checks and their order are those of RFC 8945 section 5.2; a MAC that is shorter
    than its digest is refused with BADTRUNC. `latest` is updated with the latest time of signing of
    each key; with it, a query that was signed before that time is refused with BADTIME (section
    5.2.3). Raises FormError for a MAC of an impossible size.
    """
    secret, algorithm = secrets.get(tsig.key_name), ALGORITHMS.get(tsig.algorithm)
    if secret is None or algorithm is None:
        error = BADKEY
    else:
        error = _verified(tsig, secret, *algorithm, clock())
        if not error and latest is not None:
            if tsig.time_signed < latest.get(tsig.key_name, 0):
                error = BADTIME
            else:
                latest[tsig.key_name] = tsig.time_signed
    verified = replace(tsig, error=error)
    return verified, ReplySigner(verified, secret, clock)


def _verified(tsig: TSIG, secret: bytes, digest: str, size: int, now: float) -> int:
    """Return the TSIG error, 0 for a valid signature."""
    mac = tsig.mac
    if not max(SHORTEST_MAC, size // 2) <= len(mac) <= size:
        raise FormError("the MAC of a TSIG record has an impossible size")
    signed = tsig.message + _variables(tsig, tsig.time_signed, tsig.stated_error, tsig.other)
    if not hmac.compare_digest(hmac.digest(secret, signed, digest)[: len(mac)], mac):
        return BADSIG
    if abs(now - tsig.time_signed) > tsig.fudge:
        return BADTIME
    return BADTRUNC if len(mac) < size else 0


def _variables(tsig: TSIG, time_signed: int, error: int, other: bytes) -> bytes:
    """Return the fields of a TSIG record that are signed."""
    return variables(tsig.key_name, tsig.algorithm, timers(time_signed, tsig.fudge), error, other)


def variables(
    key_name: bytes, algorithm: bytes, times: bytes, error: int = 0, other: bytes = b""
) -> bytes:
    """Return the fields of a TSIG record that are signed (RFC 8945 section 4.3.3).

    `times` is the result of `timers`.
    """
    return b"".join(
        (
            key_name,
            _pack_length(CLASS_ANY) + bytes(4),
            algorithm,
            times,
            _pack_length(error) + _pack_length(len(other)) + other,
        )
    )


def timers(time_signed: int, fudge: int) -> bytes:
    """Return the time of signing and the fudge, both in seconds, as in a TSIG record."""
    return _pack_timers(time_signed >> 32, time_signed & 0xFFFFFFFF, fudge)


def with_prior(mac: bytes) -> bytes:
    """Return the MAC of an earlier message as the next one covers it (RFC 8945 section 4.3.1)."""
    return _pack_length(len(mac)) + mac


def with_record(
    message: bytes,
    key_name: bytes,
    algorithm: bytes,
    times: bytes,
    mac: bytes,
    error: int = 0,
    other: bytes = b"",
) -> bytes:
    """Return a message with a TSIG record that has these fields (RFC 8945 section 4.2)."""
    rdata = b"".join(
        (
            algorithm,
            times,
            with_prior(mac),
            message[:2],
            _pack_length(error) + _pack_length(len(other)) + other,
        )
    )
    record = key_name + _pack_fixed(TYPE_TSIG, CLASS_ANY, 0, len(rdata)) + rdata
    additional = (message[10] << 8 | message[11]) + 1
    return b"".join((message[:10], additional.to_bytes(2, "big"), message[12:], record))


class ReplySigner:
    """Signs the messages of a reply to a signed query.

    After a failed verification, only NOTAUTH gets a record, which states the error: the handler
    that rejects the query decides whether the failure matters. The record of BADKEY and BADSIG is
    not signed.
    """

    __slots__ = ("_clock", "_digest", "_prior", "_secret", "_tsig", "reserved")

    def __init__(self, tsig: TSIG, secret: bytes | None, clock: Callable[[], float]) -> None:
        """`tsig` is the verified record of the query, `secret` the secret of its key."""
        self._tsig = tsig
        self._clock = clock
        self._secret = b""
        self._digest = ""
        size = 0
        if secret is not None and tsig.error not in _UNSIGNED:
            self._digest, size = ALGORITHMS[tsig.algorithm]
            self._secret = secret
        self._prior: tuple[bytes, bool] = tsig.mac, True
        """The MAC that the next one covers, and whether the next message is the first one."""

        other = 6 if tsig.error == BADTIME else 0
        names = len(tsig.key_name) + len(tsig.algorithm)
        self.reserved = names + _FIXED_SIZE + _RDATA_SIZE + size + other
        """The number of bytes that `sign` adds."""

    def applies_to(self, message: bytes) -> bool:
        """Return whether `sign` adds anything to this message."""
        return not self._tsig.error or message[3] & 15 == NOTAUTH

    def sign(self, message: bytes) -> bytes:
        """Return a complete message with its TSIG record.

        The first message is signed with the MAC of the query and all variables, the later ones of
        a series with the MAC of the previous message and the timers (RFC 8945 section 5.3.1).
        """
        tsig, now, other, error = self._tsig, int(self._clock()), b"", self._tsig.error or 0
        if error == BADTIME:  # RFC 8945 section 5.2.3: the client's time, and the server's
            now, other = tsig.time_signed, now.to_bytes(6, "big")
        mac = b""
        if self._digest:
            prior, is_first = self._prior
            last = _variables(tsig, now, error, other) if is_first else timers(now, tsig.fudge)
            mac = hmac.digest(self._secret, with_prior(prior) + message + last, self._digest)
            self._prior = mac, False
        times = timers(now, tsig.fudge)
        return with_record(message, tsig.key_name, tsig.algorithm, times, mac, error, other)
