"""Records as text, and templates that make them, against dnspython."""

from __future__ import annotations

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from corepy.corefile import CorefileError
from corepy.dns import Reply, finish
from corepy.dns import constants as c
from corepy.dns.presentation import RecordError, rdata_from_text, rdata_to_text
from corepy.dns.rdata import check_records
from corepy.dns.reply_validation import reply_problem
from corepy.testing import make_request, set_up
from corepy.testing.fuzzing import Source, briefly

TYPES = (
    "A", "AAAA", "NS", "CNAME", "SOA", "MX", "TXT", "SRV", "PTR", "NAPTR", "CAA", "DS", "DNSKEY", "RRSIG",
    "NSEC", "NSEC3", "NSEC3PARAM", "TLSA", "SSHFP", "SVCB", "HTTPS", "LOC", "URI", "CERT", "APL", "HINFO",
    "DNAME", "RP", "AFSDB", "CSYNC", "OPENPGPKEY", "EUI48", "EUI64", "ZONEMD", "SPF", "IPSECKEY", "HIP",
)  # fmt: skip
WORDS = (
    "0", "1", "255", "256", "65535", "65536", "4294967295", "4294967296", "-1", "192.0.2.1", "2001:db8::1",
    "::", "1.2.3", "example.org.", "example.org", ".", "a\\.b.c.", "\\000.x.", "\\999.", '"text"', '""',
    '"a;b"', '"\\"q\\""', "text", "AB==", "YWJj", "abcdef", "00", "A NS", "TYPE1", "TYPE65534", "8", "13",
    "20300401101520", "alpn=h2,h3", 'alpn="h2,h3"', "port=53", "ipv4hint=1.2.3.4", "mandatory=port", "key65=x",
    "no-default-alpn", "issue", "-", "\\# 4 01020304", "\\# 0", "\\#", "1:192.0.2.0/24", "!2:::/0", "52 N 4 E 1m",
    "00-11-22-33-44-55", "00-11-22-33-44-55-66-77", "RSASHA256", "PKIX", "(", ")", ";", "x" * 300, "ns. root. 1 2 3 4 5",
)  # fmt: skip
TEMPLATES = (
    "{{ .Name }}", "{{ .Type }}", "60 IN", "IN", "A", "AAAA", "TXT", "SRV", "SVCB", "HTTPS", "{{ .Group.x }}",
    "{{ range .Match }}{{ . }}{{ end }}", "{{ if eq .Type `A` }}a{{ else }}b{{ end }}", "{{ len .Name }}",
    "{{ index .Match 0 }}", "{{ index .Match 9 }}", "{{ .Zone }}", "{{ printf `%05d` 12 }}", "{{ slice .Name 1 }}",
    "{{ slice .Name 9 2 }}", "{{ .Meta `a/b` }}", "{{ .Nothing }}", "{{", "}}", "{{ 1 | printf `%d %s` }}",
    "{{ define `x` }}{{ template `x` }}{{ end }}", "{{ parseInt .Name 36 64 }}", "{{ html .Name }}", "{{- ` ` -}}",
    "{{ printf `%99999999d` 1 }}", "{{ range $i, $x := .Match }}{{ $i }}{{ end }}", "{{ .Question.Name }}",
    "{{ range 99999999 }}x{{ end }}", "{{ .Message.Len }}", "{{ .Class }}", "{{ not true }}", "{{ $x := 1 }}{{ $x }}",
)  # fmt: skip
NAMES = ("a.example.", "A.B.c.", ".", "\\000.x.", "x.", "1.2.0.192.in-addr.arpa.")


def check(data: bytes) -> None:
    source = Source(data)
    if source.one_in(2):
        check_template(source)
    else:
        rtype = source.pick(TYPES)
        words = [source.pick(WORDS) for _ in range(source.number(0, 7))]
        check_record(rtype, " ".join(words))


def check_record(name: str, text: str) -> None:
    """What both read is the same, and what we write is read again, by both."""
    rtype = c.type_number(name)
    try:
        ours = rdata_from_text(rtype, text)
    except RecordError as error:
        message = str(error)
    else:
        check_same(rtype, text, ours)
        return
    assert message


def check_same(rtype: int, text: str, ours: bytes) -> None:
    assert len(ours) <= 65535
    written = rdata_to_text(rtype, ours)
    assert rdata_from_text(rtype, written) == ours
    theirs = by_dnspython(rtype, text)
    if theirs is not None:
        assert ours == theirs
        if not written.startswith("\\#"):
            assert by_dnspython(rtype, written) in (ours, None)


def by_dnspython(rtype: int, text: str) -> bytes | None:
    try:
        return dns.rdata.from_text(
            dns.rdataclass.IN,
            dns.rdatatype.RdataType.make(rtype),
            text,
            dns.name.root,
            relativize=False,
        ).to_wire()
    except (dns.exception.DNSException, ValueError, OverflowError, IndexError):
        return None


def check_template(source: Source) -> None:
    """It is refused with a place, or answers every query with a message that can be read."""
    words = [
        source.pick(TEMPLATES + WORDS if source.one_in(2) else TEMPLATES)
        for _ in range(source.number(1, 7))
    ]
    if source.one_in(2):
        words = ["{{ .Name }} 60 IN {{ .Type }}", *words]
    text = " ".join(words).replace("\\", "\\\\").replace('"', '\\"')
    rcode = source.pick(("", "rcode NXDOMAIN\n", "fallthrough\n"))
    section = source.pick(("answer", "authority", "additional"))
    try:
        handler = set_up(
            f'template ANY ANY . {{\nmatch "(?P<x>.*)"\n{section} "{text}"\n{rcode}}}'
        ).handlers[0]
    except CorefileError:
        return
    asked = make_request(source.pick(NAMES), source.pick(TYPES), edns=1232)
    coroutine = handler.serve_dns(asked)
    try:
        coroutine.send(None)
    except StopIteration as end:
        reply = end.value
        assert isinstance(reply, Reply)
        assert reply_problem(asked, reply) is None
        sent = finish(asked, reply)
        Reply.from_wire(sent)
        # Not dnspython's reader: it refuses a digest whose length is not its algorithm's.
        check_records(sent)
    else:
        raise AssertionError("it waits")


SEEDS = {
    "a digest of a length that dnspython refuses": bytes.fromhex(
        "012efcfcfcfcfcfcfcfcfcfce1feff5555"
    ),
    "rdata of svcb": bytes.fromhex("00 13 04 01 0d 2522"),
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_record_or_template() -> None:
    briefly(check)
