r"""Formats messages as text in dig's format; for tools, not for the hot path.

`corepy.dns.presentation` formats the data of records; it is imported only then.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.compress import first_records
from corepy.dns.edns import OPTION_EDE, OPTION_NSID, Edns, parse_options
from corepy.dns.form_error import FormError
from corepy.dns.names import to_text
from corepy.dns.rdata import split
from corepy.dns.survey import strip_opt
from corepy.dns.wire import NameReader, counts, read_name, skip_questions, ttl_offsets, walk

MOST_SHOWN: Final = 256
"""Maximum number of records that `shortened` keeps."""

SECTIONS = ("answer", "authority", "additional")

_FLAGS = (
    ("qr", c.FLAG_QR), ("aa", c.FLAG_AA), ("tc", c.FLAG_TC), ("rd", c.FLAG_RD),
    ("ra", c.FLAG_RA), ("ad", c.FLAG_AD), ("cd", c.FLAG_CD),
)  # fmt: skip

_EDE_NAMES = (
    "Other", "Unsupported DNSKEY Algorithm", "Unsupported DS Digest Type", "Stale Answer",
    "Forged Answer", "DNSSEC Indeterminate", "DNSSEC Bogus", "Signature Expired",
    "Signature Not Yet Valid", "DNSKEY Missing", "RRSIGs Missing", "No Zone Key Bit Set",
    "NSEC Missing", "Cached Error", "Not Ready", "Blocked", "Censored", "Filtered", "Prohibited",
    "Stale NXDOMAIN Answer", "Not Authoritative", "Not Supported", "No Reachable Authority",
    "Network Error", "Invalid Data",
)  # fmt: skip


class Record(NamedTuple):
    """One record, with all parts as text except the TTL."""

    name: str
    ttl: int
    class_: str
    type: str
    data: str

    def __str__(self) -> str:
        return f"{self.name}\t{self.ttl}\t{self.class_}\t{self.type}\t{self.data}"


def flag_names(flags: int) -> list[str]:
    """Return the names that dig uses for the flags set in the second word of a header."""
    return [name for name, bit in _FLAGS if flags & bit]


def shortened(wire: bytes) -> bytes:
    """Return a message with at most `MOST_SHOWN` records; raise FormError.

    Formatting tens of thousands of names takes seconds.
    """
    return first_records(wire, MOST_SHOWN, ttl_offsets(wire))


def records_of(wire: bytes) -> dict[str, list[Record]]:
    """Return the records of a message by section, without OPT; raise FormError."""
    from corepy.dns.presentation import rdata_to_text

    found: dict[str, list[Record]] = {section: [] for section in SECTIONS}
    reader = NameReader(wire)
    for section, rtype, rclass, ttl, rdata, length, owner, _ in walk(wire):
        if rtype == c.TYPE_OPT:
            continue
        record = Record(
            to_text(reader.read(owner)[0]),
            int.from_bytes(wire[ttl : ttl + 4], "big"),
            c.class_name(rclass),
            c.type_name(rtype),
            rdata_to_text(rtype, _expanded(wire, rtype, rdata, length, reader)),
        )
        found[SECTIONS[section - 1]].append(record)
    return found


def _expanded(wire: bytes, rtype: int, start: int, length: int, reader: NameReader) -> bytes:
    """Return rdata with its names decompressed, or unchanged if it is malformed."""
    try:
        prefix, names, tail, _ = split(wire, rtype, start, length, reader)
    except FormError:
        return wire[start : start + length]
    return b"".join((prefix, *names, tail))


def option_texts(options: bytes) -> list[str]:
    """Return EDNS options (the rdata of OPT), each as a line; raise FormError."""
    return [_option_text(code, data) for code, data in parse_options(options)]


def _option_text(code: int, data: bytes) -> str:
    if code == OPTION_EDE and len(data) >= 2:
        number = data[0] << 8 | data[1]
        name = _EDE_NAMES[number] if number < len(_EDE_NAMES) else "unknown"
        text = data[2:].rstrip(b"\0").decode("utf-8", "replace")
        return f"EDE: {number} ({name})" + (f": ({_printable(text)})" if text else "")
    if code == OPTION_NSID:
        return f'NSID: {data.hex()} ("{_printable(data.decode("ascii", "replace"))}")'
    return f"OPT={code}: {data.hex()}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def to_dig(wire: bytes) -> str:
    """Return a message in dig's format, with a final line end; raise FormError.

    For a very large message, only the first records are included, with the number of the others.
    """
    plain, edns, offsets = strip_opt(wire)
    questions, *numbers = counts(plain)
    hidden = sum(numbers) - MOST_SHOWN
    flags = int.from_bytes(wire[2:4], "big")
    rcode = flags & 15 | (edns.extended_rcode << 4 if edns else 0)
    lines = [
        f";; ->>HEADER<<- opcode: {c.opcode_name(flags >> 11 & 15)},"
        f" status: {c.rcode_name(rcode)}, id: {int.from_bytes(wire[:2], 'big')}",
        f";; flags: {' '.join(flag_names(flags))}; QUERY: {questions}, ANSWER: {numbers[0]},"
        f" AUTHORITY: {numbers[1]}, ADDITIONAL: {numbers[2] + (edns is not None)}",
    ]
    lines += _opt_lines(edns)
    lines += _question_lines(plain, questions)
    for section, records in records_of(first_records(plain, MOST_SHOWN, offsets)).items():
        if records:
            lines += ["", f";; {section.upper()} SECTION:", *map(str, records)]
    if hidden > 0:
        lines += ["", f";; {hidden} more records are not shown"]
    return "\n".join([*lines, "", f";; MSG SIZE: {len(wire)}", ""])


def _opt_lines(edns: Edns | None) -> list[str]:
    if edns is None:
        return []
    flags = " do" if edns.do else ""
    lines = ["", ";; OPT PSEUDOSECTION:"]
    lines.append(f"; EDNS: version: {edns.version}, flags:{flags}; udp: {edns.udp_size}")
    return lines + [f"; {text}" for text in option_texts(edns.options)]


def _question_lines(wire: bytes, number: int) -> list[str]:
    if number != 1:
        return []
    end = skip_questions(wire, 1)
    name = to_text(read_name(wire, c.HEADER_SIZE)[0])
    qtype, qclass = (int.from_bytes(wire[at : at + 2], "big") for at in (end - 4, end - 2))
    return ["", ";; QUESTION SECTION:", f";{name}\t\t{c.class_name(qclass)}\t{c.type_name(qtype)}"]
