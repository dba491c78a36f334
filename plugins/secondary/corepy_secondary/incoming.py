"""`IncomingTransfer`: makes a zone of the messages of a transfer (RFC 5936, RFC 1995).

It reads messages and does no I/O. The messages may come from a server that lies, so every message
is checked, and no version of a zone is changed: the new one is built when the transfer is complete.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import (
    CLASS_IN,
    HEADER_SIZE,
    NOERROR,
    TYPE_A,
    TYPE_AAAA,
    TYPE_IXFR,
    TYPE_SOA,
    rcode_name,
    type_name,
)
from corepy.dns.form_error import FormError
from corepy.dns.names import to_text
from corepy.dns.presentation.codec import write
from corepy.dns.presentation.record_error import NoTextForm
from corepy.dns.presentation.table import FIELDS
from corepy.dns.rdata import LAYOUTS, split
from corepy.dns.wire import ANSWER, NameReader, counts, read_ttl, skip_questions, walk
from corepy.zone import SOA, OutOfZone, ZoneBuilder, is_newer
from corepy.zone.rrset import rdatas_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.zone import Zone

_SIZES: Final = {TYPE_A: 4, TYPE_AAAA: 16}
_META_TYPES: Final = frozenset((0, 41, *range(128, 256), 0xFFFF))
"""Types that are not allowed in a zone (RFC 6895 section 3.1)."""

_QR_OPCODE_TC: Final = 0xFA
_QR: Final = 0x80


class TransferError(Exception):
    """A server does not send a usable zone; the message contains the reason."""


class RefusedTransfer(TransferError):
    """The server has answered with an rcode instead of a zone."""


class _State(Enum):
    FIRST = 1
    """The SOA record of the new version is expected."""

    SECOND = 2
    """The second record shows whether the zone or the changes follow."""

    WHOLE = 3
    """Records of the zone, up to the SOA record."""

    REMOVED = 4
    """Records to remove, up to the SOA record of the next version."""

    ADDED = 5
    """Records to add, up to the SOA record of the same version, or of the end."""

    DONE = 6


class IncomingTransfer:
    """The state of one transfer; `feed` its messages, then `build` the zone."""

    def __init__(self, query: bytes, origin: bytes, base: Zone | None = None) -> None:
        """Read the reply to `query`: AXFR, or IXFR from the version `base`.

        With `base`, the new version must have a newer serial.
        """
        self._query = query
        self._end = skip_questions(query, 1)
        self._is_incremental = query[self._end - 4 : self._end - 2] == TYPE_IXFR.to_bytes(2, "big")
        self._origin = origin
        self._base = base
        self._builder: ZoneBuilder | None = None
        self._state = _State.FIRST
        self._first = b"", 0
        """The rdata and the TTL of the first SOA record."""
        self._soa = b""
        """The rdata of the SOA record in the builder."""
        self.is_whole = True
        """Whether the records were those of the whole zone, not changes."""
        self.left_out = 0
        """The number of records that are not in the zone."""

    @property
    def is_complete(self) -> bool:
        """Whether all messages were read."""
        return self._state is _State.DONE

    def feed(self, message: bytes) -> bool:
        """Read the next message; return whether the transfer is complete.

        Raises TransferError, FormError, and `corepy.zone.ZoneError`.
        """
        self._check_message(message)
        for owner, rtype, rclass, ttl, rdata in _records(message):
            if self._state is _State.DONE:
                raise TransferError("there are records after the end of the zone")
            _check_record(rtype, rclass, rdata)
            self._take(owner, rtype, ttl, rdata)
        if self._state is _State.SECOND and self._is_up_to_date():
            self._state = _State.DONE
        return self.is_complete

    def build(self) -> Zone | None:
        """Return the new version, None if the server has the version `base`.

        Raises TransferError, and `corepy.zone.ZoneError`.
        """
        if not self.is_complete:
            raise TransferError("the transfer has ended before the zone")
        if self._builder is None:
            return None
        zone = self._builder.build()
        if self._base is not None and not is_newer(zone.serial, self._base.serial):
            problem = f"the serial does not increase: {self._base.serial} to {zone.serial}"
            raise TransferError(problem)
        return zone

    def _check_message(self, message: bytes) -> None:
        """Raise an error unless the message is a part of the reply."""
        query, end = self._query, self._end
        if len(message) < HEADER_SIZE:
            raise FormError("message is shorter than a header")
        if message[:2] != query[:2] or message[2] & _QR_OPCODE_TC != _QR:
            raise TransferError("the message is not a reply to the query")
        rcode = message[3] & 15
        if rcode != NOERROR:
            raise RefusedTransfer(f"the server answered {rcode_name(rcode)}")
        number = counts(message)[0]
        question = message[HEADER_SIZE:end].lower()
        # RFC 5936 section 2.2.1: only the first message must have the question.
        if number > 1 or (number and question != query[HEADER_SIZE:end].lower()):
            raise TransferError("the message answers another question")

    def _take(self, owner: bytes, rtype: int, ttl: int, rdata: bytes) -> None:
        """Process one record."""
        is_soa = rtype == TYPE_SOA and owner.lower() == self._origin
        if self._state is _State.FIRST:
            self._begin(owner, ttl, rdata, is_soa=is_soa)
        elif self._state is _State.SECOND:
            self._decide(owner, rtype, ttl, rdata, is_soa=is_soa)
        elif is_soa:
            self._next_part(ttl, rdata)
        elif self._state is _State.REMOVED:
            assert self._builder is not None
            if not self._builder.remove(owner, rtype, rdata):
                record = f"{to_text(owner)} {type_name(rtype)}"
                raise TransferError(f"a change removes a record that the zone has not: {record}")
        else:
            self._add(owner, rtype, ttl, rdata)

    def _begin(self, owner: bytes, ttl: int, rdata: bytes, *, is_soa: bool) -> None:
        if not is_soa:
            problem = f"the transfer does not begin with the SOA record of {to_text(self._origin)}"
            raise TransferError(f"{problem}, but with a record of {to_text(owner)}")
        self._first = rdata, ttl
        self._state = _State.SECOND

    def _decide(self, owner: bytes, rtype: int, ttl: int, rdata: bytes, *, is_soa: bool) -> None:
        """Find out from the second record what follows (RFC 1995 section 4)."""
        base, (first, first_ttl) = self._base, self._first
        if is_soa and self._is_incremental and base is not None:
            is_change = _serial(rdata) == base.serial != _serial(first)
        else:
            is_change = False
        if is_change and base is not None:
            self._builder = ZoneBuilder(self._origin, base)
            self._soa = rdatas_of(base.soa_set)[0]
            self._state, self.is_whole = _State.REMOVED, False
            self._remove_soa()
            return
        self._builder = ZoneBuilder(self._origin)
        self._state = _State.WHOLE
        self._add_soa(first, first_ttl)
        if is_soa:
            self._next_part(ttl, rdata)
        else:
            self._add(owner, rtype, ttl, rdata)

    def _next_part(self, ttl: int, rdata: bytes) -> None:
        """Process a SOA record after the second record."""
        serial, last = _serial(rdata), _serial(self._first[0])
        if self._state is _State.REMOVED:
            self._add_soa(rdata, ttl)
            self._state = _State.ADDED
        elif serial != _serial(self._soa):
            problem = f"serial {_serial(self._soa)} is followed by {serial}"
            raise TransferError(f"the SOA records do not fit together: {problem}")
        elif self._state is _State.WHOLE or serial == last:
            self._state = _State.DONE
        else:
            self._remove_soa()
            self._state = _State.REMOVED

    def _add(self, owner: bytes, rtype: int, ttl: int, rdata: bytes) -> None:
        assert self._builder is not None
        try:
            self._builder.add(owner, ttl, rtype, rdata)
        except OutOfZone:  # RFC 5936 section 3.5 leaves it to the client
            self.left_out += 1

    def _add_soa(self, rdata: bytes, ttl: int) -> None:
        assert self._builder is not None
        self._builder.add(self._origin, ttl, TYPE_SOA, rdata)
        self._soa = rdata

    def _remove_soa(self) -> None:
        assert self._builder is not None
        if not self._builder.remove(self._origin, TYPE_SOA, self._soa):
            raise TransferError("a change removes a SOA record that the zone has not")

    def _is_up_to_date(self) -> bool:
        """Return whether the first SOA record is the only one (RFC 1995 section 2)."""
        base, serial = self._base, _serial(self._first[0])
        if not self._is_incremental or base is None:
            return False
        if is_newer(base.serial, serial):
            raise TransferError(f"the serial goes back from {base.serial} to {serial}")
        return serial == base.serial


def _serial(rdata: bytes) -> int:
    return SOA.from_rdata(rdata).serial


def _records(message: bytes) -> Iterator[tuple[bytes, int, int, int, bytes]]:
    """Yield owner, type, class, TTL and rdata of the answer section, without compression."""
    reader = NameReader(message)
    for section, rtype, rclass, ttl, rdata, length, owner, _ in walk(message):
        if section != ANSWER:
            return
        prefix, names, tail, _ = split(message, rtype, rdata, length, reader)
        data = b"".join((prefix, *names, tail)) if names else prefix + tail
        yield reader.read(owner)[0], rtype, rclass, read_ttl(message, ttl), data


def _check_record(rtype: int, rclass: int, rdata: bytes) -> None:
    """Raise an error unless a record can be in a zone, and its rdata is valid for its type."""
    size = _SIZES.get(rtype)
    if rclass != CLASS_IN or rtype in _META_TYPES:
        raise TransferError(f"a record of type {type_name(rtype)} and class {rclass} is in no zone")
    if size is not None:
        if len(rdata) != size:
            raise TransferError(f"the data of a record of type {type_name(rtype)} is malformed")
    elif rtype in FIELDS and (rtype not in LAYOUTS or not rdata):
        try:
            write(FIELDS[rtype], rdata)
        except NoTextForm:
            return
        except FormError as error:
            problem = f"the data of a record of type {type_name(rtype)} is malformed: {error}"
            raise TransferError(problem) from None
