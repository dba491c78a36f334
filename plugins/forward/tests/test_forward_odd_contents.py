"""The table of odd contents: flags, TTLs and records that clients get as the upstream sent them, and
what *cache* makes of them. See `corepy.testing.outcomes` for how to read it.
"""

import pytest

from corepy.testing.behaviours import ADDRESS, group
from corepy.testing.behaviours.contents import FOREIGN_SOA, SOA
from corepy.testing.outcomes import CONFIGS, check, relayed

ALIAS = "@ 60 CNAME alias"

RELAYED = "a forwarder relays what it got (CoreDNS, forward.go)"
NO_ANSWER = (
    "no record of the name and type asked for, so nothing to repeat (RFC 2181 section 5.4.1)"
)

TABLE = {
    "aa": relayed(RELAYED, ADDRESS, flags="aa ra", kept="success 60"),
    "no-ra": relayed(RELAYED, ADDRESS, flags="", kept="success 60"),
    "ad-unasked": relayed(
        "RFC 6840 section 5.8: only for those who set AD or DO, which a cache minds",
        ADDRESS, flags="ra ad", kept="success 60",
    ),
    "z-bit": relayed(RELAYED, ADDRESS, flags="ra z", kept="success 60"),
    "short-lived": relayed(
        "CoreDNS keeps no reply for less than 5 seconds unless told to",
        "@ 2 A 192.0.2.77", kept="success 5",
    ),
    "ttl-0": relayed(
        "CoreDNS keeps no reply for less than 5 seconds unless told to",
        "@ 0 A 192.0.2.1", kept="success 5",
    ),
    "ttl-highest": relayed(
        "CoreDNS keeps no reply for more than an hour unless told to",
        "@ 2147483647 A 192.0.2.1", kept="success 3600",
    ),
    "ttl-sign-bit": relayed(
        "RFC 2181 section 8: a cache takes it for 0; a forwarder relays it",
        "@ 2147483708 A 192.0.2.1", kept="success 5",
    ),
    "mixed-ttls": relayed(
        "RFC 2181 section 5.2: the lowest TTL of a set is that of all, which a cache minds",
        "@ 600 A 192.0.2.1", "@ 20 A 192.0.2.2", kept="success 20",
    ),
    "same-record-twice": relayed(RELAYED, ADDRESS, ADDRESS, kept="success 60"),
    "empty": relayed("without SOA no NODATA (RFC 2308 section 5), CoreDNS: 5 seconds", kept="success 5"),
    "nodata": relayed("RFC 2308 section 5", authority=(SOA,), kept="denial 60"),
    "nodata-with-foreign-soa": relayed(
        "CoreDNS (typify.go) does not compare the SOA's owner", authority=(FOREIGN_SOA,), kept="denial 60"
    ),
    "nodata-minimum-10": relayed(
        "RFC 2308 section 5: the lower of SOA's TTL and MINIMUM",
        authority=("example. 60 SOA ns.example. admin.example. 10",), kept="denial 10",
    ),
    "nodata-behind-cname": relayed(
        "RFC 2308 section 2.2", ALIAS, authority=(SOA,), kept="denial 60"
    ),
    "nxdomain": relayed("RFC 2308 section 5", authority=(SOA,), rcode="NXDOMAIN", kept="denial 60"),
    "nxdomain-without-soa": relayed(
        "RFC 2308 section 5: not kept",
        rcode="NXDOMAIN",
    ),
    "nxdomain-with-foreign-soa": relayed(
        "CoreDNS (typify.go) does not compare the SOA's owner",
        authority=(FOREIGN_SOA,), rcode="NXDOMAIN", kept="denial 60",
    ),
    "nxdomain-behind-cname": relayed(
        "RFC 2308 section 2.1", ALIAS, authority=(SOA,), rcode="NXDOMAIN", kept="denial 60"
    ),
    "nxdomain-with-answer": relayed(
        "it contradicts itself, CoreDNS keeps none either", ADDRESS, authority=(SOA,), rcode="NXDOMAIN"
    ),
    "referral": relayed(
        "CoreDNS keeps a delegation for 5 seconds",
        authority=("example. 60 NS ns.example.",), additional=("ns.example. 60 A 192.0.2.53",),
        kept="success 5",
    ),
    "cname": relayed("RFC 1034 section 3.6.2", ALIAS, "alias 30 A 192.0.2.1", kept="success 30"),
    "cname-behind-its-target": relayed(
        "the order of records means nothing (RFC 1034 section 3.6)",
        "alias 30 A 192.0.2.1", ALIAS, kept="success 30",
    ),
    "cname-to-nothing": relayed(NO_ANSWER, ALIAS),
    "cname-to-itself": relayed(NO_ANSWER, "@ 60 CNAME @"),
    "cname-loop": relayed(NO_ANSWER, ALIAS, "alias 60 CNAME @"),
    "cname-twice": relayed(
        "RFC 2181 section 10.1: nobody can tell which holds",
        ALIAS, "@ 60 CNAME beside", "alias 60 A 192.0.2.1",
    ),
    "dname": relayed(
        "RFC 6672 section 3.3: the CNAME that comes with it is followed",
        "example. 60 DNAME example.test.", "@ 60 CNAME host.example.test.",
        "host.example.test. 60 A 192.0.2.1", kept="success 60",
    ),
    "record-of-another-name": relayed(NO_ANSWER, "other.test. 60 A 198.51.100.66"),
    "record-of-another-type": relayed(NO_ANSWER, "@ 60 TXT surprise"),
    "record-of-another-class": relayed(NO_ANSWER, "@ 60 CLASS3 A 192.0.2.1"),
    "more-than-asked-for": relayed(
        "kept for this question only, nothing is learnt of the others (RFC 2181 section 5.4.1)",
        ADDRESS, "other.test. 60 A 198.51.100.66", authority=("other.test. 60 NS ns.other.test.",),
        additional=("ns.other.test. 60 A 198.51.100.67",), kept="success 60",
    ),
    "unknown-types": relayed(
        "RFC 3597 section 3: they are relayed untouched",
        ADDRESS, "@ 60 TYPE65280 \\# 00ff", additional=("@ 60 TYPE65281 \\# ",), kept="success 60",
    ),
    "record-without-rdata": relayed(
        "miekg/dns takes rdata of no bytes for every type; " + RELAYED,
        "@ 60 TYPE1 \\# ", kept="success 60",
    ),
    "uncompressed": relayed(RELAYED, ALIAS, "alias 60 A 192.0.2.1", kept="success 60"),
    "owners-in-another-case": relayed(
        "RFC 4343 section 3: case means nothing", ADDRESS, kept="success 60"
    ),
}  # fmt: skip


def test_the_table_is_complete():
    assert set(TABLE) == group("contents")


@pytest.mark.parametrize("config", CONFIGS)
def test_outcomes(config, tmp_path):
    check(TABLE, config, tmp_path)
