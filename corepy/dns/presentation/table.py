"""The fields of every record type, as defined in the RFCs.

The types are those with a presentation format in miekg/dns 1.1.72; they are defined in RFC 1035
section 3.3 unless a line names another RFC. Types without an entry have only the generic form (RFC
3597): NULL, whose rdata is arbitrary, ATMA and UNSPEC, whose fields are not defined in any RFC, and
all newer types.
"""

from __future__ import annotations

from typing import Final

from corepy.dns.constants import TYPES
from corepy.dns.presentation import compound, dnssec, location, svcb
from corepy.dns.presentation.fields import AAAA, NAME, SECONDS, U8, U16, U32, U48, A, Kind
from corepy.dns.presentation.strings import (
    BASE64,
    HEX,
    OPTIONAL_BASE64,
    OPTIONAL_STRING,
    STRING,
    STRINGS,
    TEXT,
)

Fields = tuple[tuple[str, Kind], ...]
"""Each field's name, as in the RFCs, and its kind."""

_DS: Final = (
    ("key tag", U16), ("algorithm", dnssec.ALGORITHM), ("digest type", U8), ("digest", HEX),
)  # fmt: skip
_DNSKEY: Final = (
    ("flags", U16), ("protocol", U8), ("algorithm", dnssec.ALGORITHM), ("public key", BASE64),
)  # fmt: skip
_RRSIG: Final = (
    ("type covered", dnssec.TYPE), ("algorithm", dnssec.ALGORITHM), ("labels", U8),
    ("original TTL", SECONDS), ("expiration", dnssec.TIME), ("inception", dnssec.TIME),
    ("key tag", U16), ("signer's name", NAME), ("signature", BASE64),
)  # fmt: skip
_TLSA: Final = (
    ("usage", U8), ("selector", U8), ("matching type", U8), ("certificate data", HEX),
)  # fmt: skip
_SVCB: Final = (("priority", U16), ("target", NAME), ("parameter list", svcb.PARAMS))
_TEXTS: Final = (("text", STRINGS),)

_FIELDS: Final[dict[str, Fields]] = {
    "A": (("address", A),),
    "NS": (("name server", NAME),),
    "MD": (("mail agent", NAME),),
    "MF": (("mail agent", NAME),),
    "CNAME": (("target", NAME),),
    "SOA": (
        ("primary server", NAME), ("mailbox", NAME), ("serial", U32), ("refresh", SECONDS),
        ("retry", SECONDS), ("expire", SECONDS), ("minimum", SECONDS),
    ),
    "MB": (("host", NAME),),
    "MG": (("mailbox", NAME),),
    "MR": (("mailbox", NAME),),
    "PTR": (("target", NAME),),
    "HINFO": (("CPU", STRING), ("operating system", STRING)),
    "MINFO": (("responsible mailbox", NAME), ("error mailbox", NAME)),
    "MX": (("preference", U16), ("mail exchange", NAME)),
    "TXT": _TEXTS,
    "RP": (("mailbox", NAME), ("text name", NAME)),  # RFC 1183
    "AFSDB": (("subtype", U16), ("host", NAME)),  # RFC 1183
    "X25": (("address", STRING),),  # RFC 1183
    "ISDN": (("address", STRING), ("subaddress", OPTIONAL_STRING)),  # RFC 1183
    "RT": (("preference", U16), ("intermediate host", NAME)),  # RFC 1183
    "NSAP-PTR": (("owner", NAME),),  # RFC 1348
    "SIG": _RRSIG,  # RFC 2535
    "KEY": (
        ("flags", dnssec.KEY_FLAGS), ("protocol", dnssec.KEY_PROTOCOL),
        ("algorithm", dnssec.ALGORITHM), ("public key", dnssec.KEY),
    ),  # RFC 2535
    "PX": (("preference", U16), ("RFC 822 name", NAME), ("X.400 name", NAME)),  # RFC 2163
    "GPOS": (
        ("longitude", location.DECIMAL), ("latitude", location.DECIMAL),
        ("altitude", location.DECIMAL),
    ),  # RFC 1712, whose examples have the latitude first
    "AAAA": (("address", AAAA),),  # RFC 3596
    "LOC": (("position", location.POSITION),),  # RFC 1876
    "NXT": (("next name", NAME), ("type", dnssec.OLD_TYPES)),  # RFC 2535
    "EID": (("endpoint", HEX),),
    "NIMLOC": (("locator", HEX),),
    "SRV": (("priority", U16), ("weight", U16), ("port", U16), ("target", NAME)),  # RFC 2782
    "NAPTR": (
        ("order", U16), ("preference", U16), ("flags", STRING), ("services", STRING),
        ("regular expression", STRING), ("replacement", NAME),
    ),  # RFC 3403
    "KX": (("preference", U16), ("exchanger", NAME)),  # RFC 2230
    "CERT": (
        ("certificate type", dnssec.CERT_TYPE), ("key tag", U16),
        ("algorithm", dnssec.NAMED_ALGORITHM), ("certificate", BASE64),
    ),  # RFC 4398
    "DNAME": (("target", NAME),),  # RFC 6672
    "APL": (("prefix", location.PREFIXES),),  # RFC 3123
    "DS": _DS,  # RFC 4034
    "SSHFP": (("algorithm", U8), ("fingerprint type", U8), ("fingerprint", HEX)),  # RFC 4255
    "IPSECKEY": (
        ("precedence", U8), ("gateway type", compound.IPSEC_GATEWAY),
        ("public key", OPTIONAL_BASE64),
    ),  # RFC 4025
    "RRSIG": _RRSIG,  # RFC 4034
    "NSEC": (("next name", NAME), ("type", dnssec.TYPES)),  # RFC 4034
    "DNSKEY": _DNSKEY,  # RFC 4034
    "DHCID": (("digest", BASE64),),  # RFC 4701
    "NSEC3": (
        ("hash algorithm", U8), ("flags", U8), ("iterations", U16), ("salt", dnssec.SALT),
        ("next hashed owner", dnssec.HASHED_OWNER), ("type", dnssec.TYPES),
    ),  # RFC 5155
    "NSEC3PARAM": (
        ("hash algorithm", U8), ("flags", U8), ("iterations", U16), ("salt", dnssec.SALT),
    ),  # RFC 5155
    "TLSA": _TLSA,  # RFC 6698
    "SMIMEA": _TLSA,  # RFC 8162
    "HIP": (
        ("algorithm", compound.HOST_IDENTITY), ("rendezvous server", compound.NAMES),
    ),  # RFC 8005
    "NINFO": _TEXTS,
    "RKEY": _DNSKEY,
    "TALINK": (("previous name", NAME), ("next name", NAME)),
    "CDS": _DS,  # RFC 7344
    "CDNSKEY": _DNSKEY,  # RFC 7344
    "OPENPGPKEY": (("public key", BASE64),),  # RFC 7929
    "CSYNC": (("serial", U32), ("flags", U16), ("type", dnssec.TYPES)),  # RFC 7477
    "ZONEMD": (
        ("serial", U32), ("scheme", U8), ("hash algorithm", U8), ("digest", HEX),
    ),  # RFC 8976
    "SVCB": _SVCB,  # RFC 9460
    "HTTPS": _SVCB,  # RFC 9460
    "SPF": _TEXTS,  # RFC 7208
    "UINFO": (("text", STRING),),
    "UID": (("number", U32),),
    "GID": (("number", U32),),
    "NID": (("preference", U16), ("node ID", compound.LOCATOR)),  # RFC 6742
    "L32": (("preference", U16), ("locator", A)),  # RFC 6742
    "L64": (("preference", U16), ("locator", compound.LOCATOR)),  # RFC 6742
    "LP": (("preference", U16), ("name", NAME)),  # RFC 6742
    "EUI48": (("address", compound.eui(6)),),  # RFC 7043
    "EUI64": (("address", compound.eui(8)),),  # RFC 7043
    "TKEY": (
        ("algorithm", NAME), ("inception", dnssec.TIME), ("expiration", dnssec.TIME), ("mode", U16),
        ("error", compound.ERROR), ("key", compound.SIZED), ("other data", compound.SIZED),
    ),  # RFC 2930
    "TSIG": (
        ("algorithm", NAME), ("time signed", U48), ("fudge", U16), ("MAC", compound.SIZED),
        ("original ID", U16), ("error", compound.ERROR), ("other data", compound.SIZED),
    ),  # RFC 8945
    "URI": (("priority", U16), ("weight", U16), ("target", TEXT)),  # RFC 7553
    "CAA": (("flags", U8), ("tag", compound.TAG), ("value", TEXT)),  # RFC 8659
    "AVC": _TEXTS,
    "AMTRELAY": (("precedence", U8), ("discovery", compound.RELAY)),  # RFC 8777
    "RESINFO": _TEXTS,  # RFC 9606
    "TA": _DS,
    "DLV": _DS,  # RFC 4431
}  # fmt: skip

FIELDS: Final[dict[int, Fields]] = {TYPES[name]: fields for name, fields in _FIELDS.items()}
"""The fields of each type by its number."""
