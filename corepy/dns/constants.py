"""Numbers and names of types, classes, opcodes and rcodes, spelled as in miekg/dns.

The tables are those of miekg/dns 1.1.72 (types.go, ztypes.go, msg.go). Log lines, metrics labels
and Corefile arguments must match CoreDNS's, so names are added when miekg/dns adds them. Unknown
numbers are written as in RFC 3597.
"""

from __future__ import annotations

from typing import Final

OPCODE_QUERY: Final = 0
OPCODE_IQUERY: Final = 1
OPCODE_STATUS: Final = 2
OPCODE_NOTIFY: Final = 4
OPCODE_UPDATE: Final = 5

CLASS_IN: Final = 1
CLASS_CS: Final = 2
CLASS_CH: Final = 3
CLASS_HS: Final = 4
CLASS_NONE: Final = 254
CLASS_ANY: Final = 255

TYPE_A: Final = 1
TYPE_NS: Final = 2
TYPE_MD: Final = 3
TYPE_MF: Final = 4
TYPE_CNAME: Final = 5
TYPE_SOA: Final = 6
TYPE_MB: Final = 7
TYPE_MG: Final = 8
TYPE_MR: Final = 9
TYPE_PTR: Final = 12
TYPE_HINFO: Final = 13
TYPE_MINFO: Final = 14
TYPE_MX: Final = 15
TYPE_TXT: Final = 16
TYPE_RP: Final = 17
TYPE_AFSDB: Final = 18
TYPE_RT: Final = 21
TYPE_SIG: Final = 24
TYPE_PX: Final = 26
TYPE_AAAA: Final = 28
TYPE_NXT: Final = 30
TYPE_SRV: Final = 33
TYPE_NAPTR: Final = 35
TYPE_KX: Final = 36
TYPE_DNAME: Final = 39
TYPE_OPT: Final = 41
TYPE_DS: Final = 43
TYPE_RRSIG: Final = 46
TYPE_NSEC: Final = 47
TYPE_DNSKEY: Final = 48
TYPE_NSEC3: Final = 50
TYPE_SVCB: Final = 64
TYPE_HTTPS: Final = 65
TYPE_TSIG: Final = 250
TYPE_IXFR: Final = 251
TYPE_AXFR: Final = 252
TYPE_ANY: Final = 255
TYPE_CAA: Final = 257
TRANSFERS: Final = frozenset((TYPE_AXFR, TYPE_IXFR))

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
YXDOMAIN: Final = 6
YXRRSET: Final = 7
NXRRSET: Final = 8
NOTAUTH: Final = 9
NOTZONE: Final = 10
BADVERS: Final = 16
BADCOOKIE: Final = 23

# Bits of the header's second word (RFC 1035 section 4.1.1, RFC 4035 section 3).
FLAG_QR: Final = 0x8000
FLAG_AA: Final = 0x0400
FLAG_TC: Final = 0x0200
FLAG_RD: Final = 0x0100
FLAG_RA: Final = 0x0080
FLAG_AD: Final = 0x0020
FLAG_CD: Final = 0x0010

HEADER_SIZE: Final = 12
"""Size of a message's header in bytes (RFC 1035 section 4.1.1)."""

MIN_SIZE: Final = 512
"""Size in bytes that every UDP client accepts (RFC 1035 section 4.2.1)."""

MAX_SIZE: Final = 65535
"""Size of the largest message in bytes (the length prefix of RFC 1035 section 4.2.2)."""

TYPES: Final = {
    "None": 0, "A": 1, "NS": 2, "MD": 3, "MF": 4, "CNAME": 5, "SOA": 6, "MB": 7, "MG": 8, "MR":
    9, "NULL": 10, "PTR": 12, "HINFO": 13, "MINFO": 14, "MX": 15, "TXT": 16, "RP": 17, "AFSDB":
    18, "X25": 19, "ISDN": 20, "RT": 21, "NSAP-PTR": 23, "SIG": 24, "KEY": 25, "PX": 26, "GPOS":
    27, "AAAA": 28, "LOC": 29, "NXT": 30, "EID": 31, "NIMLOC": 32, "SRV": 33, "ATMA": 34,
    "NAPTR": 35, "KX": 36, "CERT": 37, "DNAME": 39, "OPT": 41, "APL": 42, "DS": 43, "SSHFP": 44,
    "IPSECKEY": 45, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48, "DHCID": 49, "NSEC3": 50,
    "NSEC3PARAM": 51, "TLSA": 52, "SMIMEA": 53, "HIP": 55, "NINFO": 56, "RKEY": 57, "TALINK":
    58, "CDS": 59, "CDNSKEY": 60, "OPENPGPKEY": 61, "CSYNC": 62, "ZONEMD": 63, "SVCB": 64,
    "HTTPS": 65, "SPF": 99, "UINFO": 100, "UID": 101, "GID": 102, "UNSPEC": 103, "NID": 104,
    "L32": 105, "L64": 106, "LP": 107, "EUI48": 108, "EUI64": 109, "NXNAME": 128, "TKEY": 249,
    "TSIG": 250, "IXFR": 251, "AXFR": 252, "MAILB": 253, "MAILA": 254, "ANY": 255, "URI": 256,
    "CAA": 257, "AVC": 258, "AMTRELAY": 260, "RESINFO": 261, "TA": 32768, "DLV": 32769,
    "Reserved": 65535,
}  # fmt: skip

CLASSES: Final = {"IN": 1, "CS": 2, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255}

OPCODES: Final = {"QUERY": 0, "IQUERY": 1, "STATUS": 2, "NOTIFY": 4, "UPDATE": 5}

# 16 is both BADSIG (TSIG) and BADVERS (EDNS); miekg/dns and so CoreDNS's logs print the first.
RCODES: Final = {
    "NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5,
    "YXDOMAIN": 6, "YXRRSET": 7, "NXRRSET": 8, "NOTAUTH": 9, "NOTZONE": 10, "DSOTYPENI": 11,
    "BADSIG": 16, "BADKEY": 17, "BADTIME": 18, "BADMODE": 19, "BADNAME": 20, "BADALG": 21,
    "BADTRUNC": 22, "BADCOOKIE": 23,
}  # fmt: skip

_TYPE_NAMES: Final = {number: name for name, number in TYPES.items()}
_CLASS_NAMES: Final = {number: name for name, number in CLASSES.items()}
_OPCODE_NAMES: Final = {number: name for name, number in OPCODES.items()}
_RCODE_NAMES: Final = {number: name for name, number in RCODES.items()}


def type_name(number: int) -> str:
    """Return a record type's mnemonic, or `TYPE` and its number (RFC 3597 section 5)."""
    return _TYPE_NAMES.get(number) or f"TYPE{number}"


def class_name(number: int) -> str:
    """Return a class's mnemonic, or `CLASS` and its number (RFC 3597 section 5)."""
    return _CLASS_NAMES.get(number) or f"CLASS{number}"


def opcode_name(number: int) -> str:
    """Return an opcode's mnemonic, or `OPCODE` and its number."""
    return _OPCODE_NAMES.get(number) or f"OPCODE{number}"


def rcode_name(number: int) -> str:
    """Return an rcode's mnemonic, or `RCODE` and its number (plugin/pkg/rcode)."""
    return _RCODE_NAMES.get(number) or f"RCODE{number}"


def type_number(name: str) -> int:
    """Return a record type's number for a name in any case, also `TYPE123`. Raise ValueError."""
    return _number(name, TYPES, "TYPE")


def class_number(name: str) -> int:
    """Return a class's number for a name in any case, also `CLASS123`. Raise ValueError."""
    return _number(name, CLASSES, "CLASS")


def _number(name: str, table: dict[str, int], prefix: str) -> int:
    upper = name.upper()
    number = table.get(upper)
    if number is not None:
        return number
    digits = upper.removeprefix(prefix)
    if digits != upper and digits.isascii() and digits.isdigit() and len(digits) <= 5:
        number = int(digits)
        if number <= 0xFFFF:
            return number
    raise ValueError(f"unknown DNS {prefix.lower()}: {name!r}")
