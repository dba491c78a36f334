"""`SignedFile`: keeps the signed form of a zone up to date (CoreDNS: plugin/sign/signer.go)."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import TYPE_RRSIG, TYPE_SOA
from corepy.dns.names import to_text
from corepy.dns.presentation import RecordError, entries, read_entry
from corepy.plugin import in_thread, plugin_logger
from corepy.plugin.errors import describe
from corepy.plugin.reading import file_version, read_head
from corepy.plugin.writing import PUBLIC, replace_file
from corepy.zone import SOA, ZoneError, is_newer, read_zone
from corepy.zone.signatures import Validity
from corepy.zone.writer import record_to_text
from corepy_sign.signing import signed_zone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.dns.presentation import Record
    from corepy.plugin.reading import FileVersion
    from corepy.zone import Zone
    from corepy.zone.signing_keys import SigningKey

LOG = plugin_logger("sign")

HOUR: Final = 3600
DAY: Final = 24 * HOUR
BEFORE: Final = 3 * HOUR
LEAST_VALID: Final = 7 * DAY
RESIGNED: Final = 6 * DAY
VALID: Final = 32 * DAY
INCEPTION_JITTER: Final = 18 * HOUR
EXPIRATION_JITTER: Final = 5 * DAY
"""Seconds (CoreDNS: plugin/sign/sign.go)."""

RETRY: Final = 600
"""Seconds after which a file that could not be signed is tried again, even if it is unchanged."""

MOST_RECORDS: Final = 100
HEAD: Final = 256 * 1024
"""Records, and bytes, of a signed file in which the signature of the SOA record is searched."""

_LEAST_RRSIG: Final = 18
_SERIAL_MASK: Final = 0xFFFFFFFF


def time_of_day() -> int:
    """Return the seconds since 1970: signatures are valid for periods of the calendar."""
    return int(time.time())  # time of day: serials and signatures state it


def _shown(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@dataclass(slots=True)
class SignedFile:
    """One zone: the file to sign, the keys, and the file to write."""

    source: Path
    origin: bytes
    folder: Path = Path("/var/lib/coredns")
    keys: list[SigningKey] = field(default_factory=list)
    inception_jitter: int = field(default_factory=lambda: secrets.randbelow(INCEPTION_JITTER))
    expiration_jitter: int = field(default_factory=lambda: secrets.randbelow(EXPIRATION_JITTER))
    problem: str = ""
    """Why the zone could not be signed at the last attempt."""
    is_stopped: bool = False
    """Whether the file must not be written any more: after a reload, others write it."""
    _seen: FileVersion | None = None
    """The version of the source at the last attempt."""
    _is_checked: bool = False
    _tried: int = 0
    _serial: int = 0
    """That of the last zone written, in case the signed file is removed; 0 before the first one."""

    @property
    def path(self) -> Path:
        """The file to write. A slash in the name of the zone (RFC 2317) is written as %2f."""
        return self.folder / f"db.{to_text(self.origin).replace('/', '%2f')}signed"

    async def refresh(self) -> None:
        """Sign the zone if necessary, and log that."""
        first, self._is_checked = not self._is_checked, True
        reason: str | None = await in_thread(self.reason)
        if reason is None:
            if first:
                message = "skipping zone %s: the signatures in %s are valid"
                LOG.info(message, to_text(self.origin), self.path)
            return
        LOG.info("signing zone %s: %s", to_text(self.origin), reason)
        started = time.monotonic()
        try:
            zone: Zone = await in_thread(self.sign)
        except Exception as error:
            self._fail(error)
            return
        self.problem = ""
        tags = ", ".join(str(key.tag) for key in self.keys)
        message = "signed zone %s in %s: serial %d, %d records, key tags %s, in %.1fs"
        elapsed = time.monotonic() - started
        name = to_text(self.origin)
        LOG.info(message, name, self.path, zone.serial, zone.records, tags, elapsed)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, ZoneError):
            self.problem = str(error)
        elif isinstance(error, OSError):
            at = error.filename or self.path
            self.problem = f"{at}: {error.strerror or error}"
        else:
            self.problem = describe(error)
        LOG.error("cannot sign zone %s: %s", to_text(self.origin), self.problem)

    def reason(self) -> str | None:
        """Return why the zone must be signed, None if it need not; in a thread."""
        now = time_of_day()
        version = file_version(self.source)
        if self.problem and version == self._seen and 0 <= now - self._tried < RETRY:
            return None
        signed = file_version(self.path)
        if signed is None:
            return f"{self.path} does not exist"
        if self._seen is not None and version is not None and version != self._seen:
            return f"{self.source} has changed"
        if version is not None and self._seen is None:
            if signed.modified_ns < version.modified_ns < (now + 1) * 10**9:
                return f"{self.source} is newer than {self.path}"
            self._seen = version
        return reason_to_sign(self.path, [key.tag for key in self.keys], now)

    def sign(self) -> Zone:
        """Write the signed zone and return it; in a thread. Raises OSError and `ZoneError`."""
        now = time_of_day()
        self._tried, self._seen = now, file_version(self.source)
        validity = Validity(
            now - BEFORE - self.inception_jitter, now + VALID + self.expiration_jitter
        )
        unsigned = read_zone(self.source, self.origin).zone
        serial = next_serial(now, serial_of(self.path) or self._serial)
        zone = signed_zone(unsigned, self.keys, serial, validity)
        self._write(zone)
        self._serial = serial
        return zone

    def _write(self, zone: Zone) -> None:
        """Write the file, or leave the old one in an error or when stopped."""
        text = (f"{line}\n".encode() for line in zone_lines(zone))
        try:
            replace_file(self.path, text, mode=PUBLIC, is_valid=lambda: not self.is_stopped)
        except OSError as error:
            if error.filename is not None:  # a temporary one
                error.filename = error.filename2 or self.folder
            raise


def next_serial(now: int, before: int) -> int:
    """Return the serial of a zone signed at `now`, in seconds since 1970, after one with `before`.

    It is the Unix time, or the serial after `before` if the time is not newer: *file* ignores a
    zone with the same serial, and secondary servers one with an older serial (RFC 1982). 0 stands
    for no serial, and is not used.
    """
    serial = now & _SERIAL_MASK
    if before and not is_newer(serial, before):
        serial = before + 1 & _SERIAL_MASK
    return serial or 1


def serial_of(path: Path) -> int:
    """Return the serial of a signed file, 0 if its first records have no SOA record."""
    with contextlib.suppress(OSError, RecordError):
        for record in _first_records(_head(path)):
            if record.rtype == TYPE_SOA:
                return SOA.from_rdata(record.rdata).serial
    return 0


def zone_lines(zone: Zone) -> Iterator[str]:
    """Yield the lines of a signed zone: the SOA record and its signatures are the first."""

    def is_first(record: Record) -> bool:
        return record.rtype == TYPE_SOA or _covers_soa(record)

    apex = [record for record in zone if record.owner == zone.origin and is_first(record)]
    yield from map(record_to_text, apex)
    yield from (
        record_to_text(record)
        for record in zone
        if record.owner != zone.origin or not is_first(record)
    )


def _covers_soa(record: Record) -> bool:
    return record.rtype == TYPE_RRSIG and record.rdata[:2] == TYPE_SOA.to_bytes(2, "big")


def reason_to_sign(path: Path, tags: list[int], now: int) -> str | None:
    """Return why the zone in a signed file must be signed again, None if it need not.

    Only the signatures of the SOA record are examined. `tags` are those of the keys, `now` is in
    seconds since 1970.
    """
    try:
        head = _head(path)
    except OSError as error:
        return f"cannot read {path}: {error.strerror or error}"
    found = set()
    try:
        for record in _first_records(head):
            if _covers_soa(record) and len(record.rdata) > _LEAST_RRSIG:
                expiration, inception = (
                    int.from_bytes(record.rdata[at : at + 4], "big") for at in (8, 12)
                )
                problem = _problem_of(inception, expiration, now)
                if problem is not None:
                    return problem
                found.add(record.rdata[16] << 8 | record.rdata[17])
    except RecordError as error:
        return f"{path} is not a zone file: {error}"
    if not found:
        return f"no signature of the SOA record is among the first {MOST_RECORDS} records of {path}"
    return None if found == set(tags) else f"the keys of {path} are others"


def _head(path: Path) -> str:
    """Return the beginning of a signed file; raises OSError."""
    return read_head(path, HEAD).decode("utf-8", "replace")


def _first_records(text: str) -> Iterator[Record]:
    """Yield the first records of a signed file, whose lines have all fields.

    The last line may be cut off.
    """
    whole = text[: text.rfind("\n") + 1]
    for number, entry in enumerate(entries(whole)):
        if number >= MOST_RECORDS:
            return
        yield read_entry(entry, None, 0, b"\0")


def _problem_of(inception: int, expiration: int, now: int) -> str | None:
    """Return why a signature must be renewed; the times are in seconds since 1970."""
    if inception > now:
        return f"the inception {_shown(inception)} of its signature is in the future"
    if now - inception > RESIGNED:
        return f"the inception {_shown(inception)} of its signature is more than 6 days ago"
    if expiration - now < LEAST_VALID:
        return f"the expiration {_shown(expiration)} of its signature is less than 7 days ahead"
    return None
