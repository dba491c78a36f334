r"""Records of each kind through *template*: the bytes that clients get, against dnspython.

Most of these lines were SERVFAIL, or lost fields, when dnslib read them. The codec itself is tested
in tests/test_dns_presentation.py, with all types.
"""

import dns.rdata
import pytest

from corepy.dns import constants as c
from corepy.dns.rdata import split
from corepy.dns.wire import walk
from corepy.testing import Recorder, make_request, run_chain, set_up
from corepy_template.writer import record_of

DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

RECORDS = [
    ("A", "192.0.2.1"),
    ("AAAA", "2001:db8::1"),
    ("NS", "ns.example."),
    ("CNAME", "target.example."),
    ("DNAME", "target.example."),
    ("PTR", "host.example."),
    ("SOA", "ns.example. host.example. 1 2h 1h 2w 5m"),
    ("MX", "10 mail.example."),
    ("RP", "admin.example. txt.example."),
    ("AFSDB", "1 afs.example."),
    ("RT", "10 relay.example."),
    ("KX", "10 kx.example."),
    ("PX", "10 map822.example. mapx400.example."),
    ("NSAP-PTR", "foo.example."),
    ("LP", "10 l64.example."),
    ("SRV", "10 60 5060 sip.example."),
    ("NAPTR", r'100 10 "u" "E2U+sip" "!^.*$!sip:\\1@example.org!" .'),
    ("HINFO", '"PC Intel" Linux'),
    ("TXT", r'"a b" c "quote \" byte \255"'),
    ("SPF", '"v=spf1 -all"'),
    ("NINFO", '"zone status" ok'),
    ("AVC", '"app-name:WOLFGANG|app-class:OAM"'),
    ("RESINFO", "qnamemin exterr=15,16,17"),
    ("X25", '"311061700956"'),
    ("ISDN", '"150862028003217" "004"'),
    ("ISDN", "150862028003217"),
    ("GPOS", "-32.6882 116.8652 10.0"),
    ("LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"),
    ("LOC", "42 21 54 N 71 06 18 W -24m 30m"),
    ("CAA", '0 issue "ca.example.net; account=230123"'),
    ("URI", '10 1 "ftp://ftp1.example.com/public"'),
    ("APL", "1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8"),
    ("EUI48", "00-00-5e-00-53-2a"),
    ("EUI64", "00-00-5e-ef-10-00-00-2a"),
    ("NID", "10 0014:4fff:ff20:ee64"),
    ("L32", "10 10.1.2.0"),
    ("L64", "10 2001:0db8:1140:1000"),
    ("DS", f"60485 8 2 {DIGEST}"),
    ("DS", f"60485 ECDSAP256SHA256 2 {DIGEST[:32]} {DIGEST[32:]}"),
    ("CDS", "0 0 0 00"),
    ("DLV", f"60485 RSASHA256 2 {DIGEST}"),
    ("DNSKEY", "257 3 RSASHA256 AQID BA=="),
    ("CDNSKEY", "0 3 0 AA=="),
    ("KEY", "256 3 8 AQIDBA=="),
    ("RRSIG", "A 8 3 86400 20300401101520 20300401001520 12345 example. q83vEjRWeJC6"),
    ("SIG", "A 8 3 86400 20300401101520 20300401001520 12345 example. q83vEjRWeJC6"),
    ("NSEC", "host.example. A MX RRSIG NSEC TYPE1234"),
    ("NSEC3", "1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s MX DNSKEY RRSIG"),
    ("NSEC3", "1 0 0 - 2VPTU5TIMAMQTTGL4LUU9KG21E0AOR3S"),
    ("NSEC3PARAM", "1 0 12 aabbccdd"),
    ("CSYNC", "66 3 A NS AAAA"),
    ("ZONEMD", f"2018031500 1 1 {DIGEST}{DIGEST[:32]}"),
    ("TLSA", f"3 1 1 {DIGEST}"),
    ("SMIMEA", f"3 1 1 {DIGEST}"),
    ("SSHFP", f"4 2 {DIGEST}"),
    ("CERT", "PKIX 12345 RSASHA256 q83vEjRWeJC6"),
    ("OPENPGPKEY", "q83v EjRW eJC6"),
    ("DHCID", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="),
    ("IPSECKEY", "10 3 2 gateway.example. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("AMTRELAY", "10 1 1 203.0.113.15"),
    ("HIP", "2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9 rvs1.example."),
    ("SVCB", "1 ."),
    ("SVCB", '16 svc.example. port=53 alpn="h2,h3" mandatory=port,alpn'),
    ("SVCB", r'16 svc.example. alpn="f\\\\oo\\,bar,h2"'),
    ("SVCB", "1 dns.example. alpn=h2 dohpath=/dns-query{?dns}"),
    ("HTTPS", "0 svc.example."),
    ("HTTPS", '1 . port=443 ipv6hint=2001:db8::1 alpn="h2,h3" ipv4hint="192.0.2.1,192.0.2.2"'),
    ("HTTPS", r'1 . key667="hello\210qoo" alpn=h2 no-default-alpn'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), RECORDS)
def test_records_are_those_of_dnspython(name, text):
    expected = dns.rdata.from_text("IN", name, text, relativize=False).to_wire()
    assert record_of(f"x.example. 60 IN {name} {text}").rdata == expected


def test_records_reach_the_client():
    """All of them in one reply, but CNAME, which would be looked up."""
    lines = [f"{{{{ .Name }}}} 60 IN {name} {text}" for name, text in RECORDS if name != "CNAME"]
    answers = "".join(f"answer {_quoted(line)}\n" for line in lines)
    (handler,) = set_up(f"template IN ANY {{\n{answers}}}").handlers
    reply = run_chain(make_request("x.example.", "ANY"), handler, Recorder())
    assert reply.error is None
    found = []
    for _, rtype, _, _, rdata, length, _, _ in walk(reply.wire):
        prefix, names, tail, _ = split(reply.wire, rtype, rdata, length)
        found.append((c.type_name(rtype), b"".join((prefix, *names, tail))))
    assert found == [
        (name, dns.rdata.from_text("IN", name, text, relativize=False).to_wire())
        for name, text in RECORDS
        if name != "CNAME"
    ]


def _quoted(text):
    """A word of a Corefile; an escaped quote in the text cannot be in one, so it is written by number."""
    escaped = text.replace('\\"', "\\034").replace('"', '\\"')
    return f'"{escaped}"'


def test_a_mistake_in_a_constant_record_is_pointed_at():
    context = set_up('template IN HTTPS {\n    answer "e. HTTPS 1 . alpn=h2 prt=443"\n}')
    (warning,) = context.warnings
    assert "HTTPS parameter list has an unknown key: 'prt'" in warning.message
    assert (warning.token.line, warning.token.column) == (3, 34)
