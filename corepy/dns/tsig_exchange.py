"""TSIG at the client: signs a query of this server, and verifies the reply (RFC 8945 section 5.3).

A zone transfer is verified as a series of messages, of which some may be unsigned.
"""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import HEADER_SIZE, rcode_name
from corepy.dns.form_error import FormError
from corepy.dns.names import to_text
from corepy.dns.tsig import BADKEY, BADSIG, split_tsig
from corepy.dns.tsig_mac import ALGORITHMS, timers, variables, with_prior, with_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns.tsig import TSIG, TSIGKey

FUDGE: Final = 300
"""Seconds by which the clocks may differ (RFC 8945 section 10 recommends it)."""

MOST_UNSIGNED: Final = 99
"""Messages of a series between two signed ones (RFC 8945 section 5.3.1)."""


class TSIGError(Exception):
    """The reply to a signed query is not authentic, or reports an error of the signature.

    The message contains the reason, and nothing secret.
    """


class SignedExchange:
    """Signs one query with `sign`, then verifies each message of the reply with `verify`.

    Only what `verify` has returned is authentic, and in a series only after the next signed
    message. So the last message must be signed: `finish` checks that.
    """

    # time of day: it is part of the signatures
    def __init__(self, key: TSIGKey, clock: Callable[[], float] = time.time) -> None:
        """Sign with `key`; `clock` is the time of day in seconds."""
        self._key = key
        self._clock = clock
        self._digest, _ = ALGORITHMS[key.algorithm]
        self._is_first = True
        self._unsigned = 0
        self._hash: hmac.HMAC

    def sign(self, query: bytes) -> bytes:
        """Return a query with its TSIG record."""
        key, times = self._key, timers(int(self._clock()), FUDGE)
        signed = query + variables(key.name, key.algorithm, times)
        mac = hmac.digest(key.secret, signed, self._digest)
        self._begin(mac)
        return with_record(query, key.name, key.algorithm, times, mac)

    def verify(self, message: bytes) -> bytes:
        """Return a message of the reply without its TSIG record, in the order of arrival.

        Raises TSIGError, and FormError for a message that cannot be read.
        """
        if len(message) < HEADER_SIZE:
            raise FormError("message is shorter than a header")
        plain, tsig = split_tsig(message)
        if tsig is None:
            self._skip(message)
        else:
            self._check(tsig)
        self._is_first = False
        return plain

    def finish(self) -> None:
        """Raise TSIGError if the last message was not signed."""
        if self._unsigned:
            raise TSIGError("the last message of the reply is not signed")

    def _begin(self, prior: bytes) -> None:
        """Begin what the next MAC covers: the MAC of the query, or of the last signed message."""
        self._hash = hmac.new(self._key.secret, with_prior(prior), self._digest)
        self._unsigned = 0

    def _skip(self, message: bytes) -> None:
        """Let the next MAC cover an unsigned message."""
        if self._is_first:
            raise TSIGError(f"the reply {rcode_name(message[3] & 15)} is not signed")
        self._unsigned += 1
        if self._unsigned > MOST_UNSIGNED:
            raise TSIGError(f"more than {MOST_UNSIGNED} messages of the reply are not signed")
        self._hash.update(message)

    def _check(self, tsig: TSIG) -> None:
        """Raise TSIGError unless the signed message is authentic, and reports no error."""
        key = self._key
        if tsig.stated_error in (BADKEY, BADSIG) and not tsig.mac:
            name = rcode_name(tsig.stated_error)
            raise TSIGError(f"the server reports {name} for the key {to_text(key.name)}")
        if (tsig.key_name, tsig.algorithm) != (key.name, key.algorithm):
            raise TSIGError("the reply is signed with another key or algorithm")
        times = timers(tsig.time_signed, tsig.fudge)
        self._hash.update(tsig.message)
        if self._is_first:
            last = variables(key.name, key.algorithm, times, tsig.stated_error, tsig.other)
        else:
            last = times
        self._hash.update(last)
        if not hmac.compare_digest(self._hash.digest(), tsig.mac):
            raise TSIGError("the signature of the reply is wrong")
        if tsig.stated_error:
            name = rcode_name(tsig.stated_error)
            raise TSIGError(f"the server reports {name} for the key {to_text(key.name)}")
        if abs(self._clock() - tsig.time_signed) > tsig.fudge:
            raise TSIGError("the reply was signed at another time: compare the clocks")
        self._begin(tsig.mac)
