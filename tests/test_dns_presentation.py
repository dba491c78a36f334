r"""The record codec against dnspython and knot: text to wire, and wire to text.

Each line of RECORDS is a type, its rdata as text, and what is odd about it as the test's name. The
expected bytes are dnspython's, or those given in hexadecimal digits where dnspython does not know
the type.
"""

import socket
import subprocess

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import FormError
from corepy.dns import constants as c
from corepy.dns.names import to_text
from corepy.dns.presentation import RecordError, rdata_from_text, rdata_to_text, read_record
from corepy.dns.presentation.codec import write
from corepy.dns.presentation.fields import NAME
from corepy.dns.presentation.record_error import NoTextForm
from corepy.dns.presentation.table import FIELDS
from corepy.dns.rdata import LAYOUTS, split
from corepy.dns.wire import read_name, walk
from corepy.testing import knot, query
from corepy.testing.client import read_frame

SIGNED = "8 3 86400 20300401101520 20300401001520 12345 example.org. q83vEjRWeJC6"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

RECORDS = [
    ("A", "192.0.2.1"),
    ("NS", "ns.example.org."),
    ("CNAME", "target.example.org."),
    ("CNAME", "."),
    ("CNAME", r"a\.b.c\032d.\000.example."),
    ("SOA", "ns.example.org. host.example.org. 2026112800 7200 3600 1209600 300"),
    ("SOA", "ns.example.org. host.example.org. 4294967295 2h 1h 2w 5m"),
    ("PTR", "host.example.org."),
    ("HINFO", '"PC Intel" Linux'),
    ("MX", "10 mail.example.org."),
    ("MX", "0 ."),
    ("TXT", '"a b" c'),
    ("TXT", '""'),
    ("TXT", r'"quote \" backslash \\ byte \255 semicolon ;" \;'),
    ("TXT", '"glued""strings"'),
    ("TXT", f'"{"x" * 255}" "{"y" * 255}"'),
    ("RP", "admin.example.org. txt.example.org."),
    ("AFSDB", "1 afs.example.org."),
    ("X25", '"311061700956"'),
    ("ISDN", '"150862028003217" "004"'),
    ("ISDN", "150862028003217"),
    ("RT", "10 relay.example.org."),
    ("NSAP-PTR", "foo.example.org."),
    ("SIG", f"A {SIGNED}"),
    ("SIG", "TYPE0 8 0 0 20300401101520 20300401001520 12345 example.org. q83vEjRWeJC6"),
    ("KEY", "256 3 8 AQIDBA=="),
    ("KEY", "49152 3 8"),
    ("KEY", "NOCONF|ZONE DNSSEC RSASHA256 AQIDBA=="),
    ("PX", "10 map822.example. mapx400.example."),
    ("GPOS", "-32.6882 116.8652 10.0"),
    ("AAAA", "2001:db8::1"),
    ("AAAA", "::ffff:192.0.2.1"),
    ("LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"),
    ("LOC", "42 21 54 N 71 06 18 W -24m 30m"),
    ("LOC", "52 14 05 N 00 08 50 E 10m"),
    ("LOC", "32 S 116 E 10"),
    ("LOC", "42 21 28.764 N 71 00 51.617 W -44m 2000m"),
    ("LOC", "90 S 180 W -100000.00m 90000000m 0.01m 0.1m"),
    ("SRV", "10 60 5060 sip.example.org."),
    ("NAPTR", r'100 10 "u" "E2U+sip" "!^.*$!sip:\\1@example.org!" .'),
    ("NAPTR", '100 50 "s" "z3950+N2L+N2C" "" cidserver.example.org.'),
    ("KX", "10 kx.example.org."),
    ("CERT", "PKIX 12345 RSASHA256 q83vEjRWeJC6"),
    ("CERT", "6 0 0 q83v EjRWeJC6"),
    ("CERT", "65280 1 253 q83v"),
    ("DNAME", "other.example.org."),
    ("APL", "1:192.168.32.0/21 !1:192.168.38.0/28"),
    ("APL", "1:224.0.0.0/4 2:ff00::/8 2:2001:db8::/32 1:0.0.0.0/0"),
    ("DS", f"60485 8 2 {SHA256}"),
    ("DS", f"60485 ECDSAP256SHA256 2 {SHA256[:32]} {SHA256[32:]}"),
    ("DS", f"60485 ed25519 2 {SHA256}"),
    ("SSHFP", f"4 2 {SHA256}"),
    ("IPSECKEY", "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("IPSECKEY", "10 0 2 . AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("IPSECKEY", "10 2 2 2001:db8::2 AQNR"),
    ("IPSECKEY", "10 3 2 gateway.example.org. AQNR"),
    ("RRSIG", f"A {SIGNED}"),
    ("RRSIG", "TYPE1234 13 2 1h 1906280120 20260101000000 1 . q83v"),
    ("NSEC", "host.example.org. A MX RRSIG NSEC TYPE1234"),
    ("NSEC", "host.example.org."),
    ("NSEC", r"\000.example.org. RRSIG NSEC NXNAME"),
    ("DNSKEY", "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxIL"),
    ("DNSKEY", "257 3 RSASHA256 AQID BA=="),
    ("DHCID", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="),
    ("NSEC3", "1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s MX DNSKEY NS SOA NSEC3PARAM RRSIG"),
    ("NSEC3", "1 0 0 - 2VPTU5TIMAMQTTGL4LUU9KG21E0AOR3S"),
    ("NSEC3PARAM", "1 0 12 aabbccdd"),
    ("NSEC3PARAM", "1 0 0 -"),
    ("TLSA", f"3 1 1 {SHA256}"),
    ("SMIMEA", f"3 1 1 {SHA256}"),
    (
        "HIP",
        "2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e1"
        " rvs1.example.org. rvs2.example.org.",
    ),
    ("HIP", "2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e1"),
    ("NINFO", '"zone status" ok'),
    ("CDS", "0 0 0 00"),
    ("CDNSKEY", "0 3 0 AA=="),
    ("OPENPGPKEY", "q83v EjRW eJC6"),
    ("CSYNC", "66 3 A NS AAAA"),
    ("ZONEMD", f"2018031500 1 1 {SHA256}{SHA256[:32]}"),
    ("ZONEMD", f"1 1 240 {SHA256[:24]}"),
    ("SVCB", "0 svc.example.org."),
    ("SVCB", "1 ."),
    ("SVCB", "16 svc.example.org. port=53"),
    ("SVCB", "1 foo.example.org. key667=hello"),
    ("SVCB", r'1 foo.example.org. key667="hello\210qoo"'),
    ("SVCB", '1 foo.example.org. ipv6hint="2001:db8::1,2001:db8::53:1"'),
    (
        "SVCB",
        "16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
    ),
    ("SVCB", r'16 foo.example.org. alpn="f\\\\oo\\,bar,h2"'),
    ("SVCB", r"16 foo.example.org. alpn=f\\\092oo\092,bar,h2"),
    ("SVCB", "1 dns.example.org. alpn=h2 dohpath=/dns-query{?dns}"),
    ("SVCB", "1 . key1=\\002h2"),
    ("HTTPS", '1 . port=443 alpn="h2,h3"'),
    ("HTTPS", '1 . alpn="h2,h3" ipv4hint="192.0.2.1,192.0.2.2" ipv6hint=2001:db8::1'),
    (
        "HTTPS",
        "1 . alpn=h3 no-default-alpn ech=ACn+DQAltgAgACBMmGJQR02doup+5VPMjYpe5HQQ/bpntFCxDa8LT2PLAg==",
    ),
    ("HTTPS", '1 . ohttp key65280="" key9=a'),
    ("HTTPS", "1 svc.example.org. mandatory=port port=8443"),
    ("SPF", '"v=spf1 -all"'),
    ("NID", "10 0014:4fff:ff20:ee64"),
    ("L32", "10 10.1.2.0"),
    ("L64", "10 2001:0DB8:1140:1000"),
    ("LP", "10 l64-subnet1.example.org."),
    ("EUI48", "00-00-5e-00-53-2a"),
    ("EUI64", "00-00-5e-ef-10-00-00-2A"),
    ("TSIG", "hmac-sha256. 1906280120 300 4 q83vEg== 4711 BADTIME 6 AABxoAQI"),
    ("URI", '10 1 "ftp://ftp1.example.com/public"'),
    ("CAA", '0 issue "ca.example.net; account=230123"'),
    ("CAA", '128 tbs ""'),
    ("AVC", '"app-name:WOLFGANG|app-class:OAM"'),
    ("AMTRELAY", "10 0 0 ."),
    ("AMTRELAY", "10 1 1 203.0.113.15"),
    ("AMTRELAY", "10 0 2 2001:db8::15"),
    ("AMTRELAY", "128 1 3 amtrelays.example.org."),
    ("RESINFO", "qnamemin exterr=15,16,17 infourl=https://resolver.example.org/guide"),
    ("DLV", f"60485 8 2 {SHA256}"),
]

UNKNOWN_TO_DNSPYTHON = [
    ("MD", "a.example.", "01610765 78616d706c6500"),
    ("MF", "a.example.", "01610765 78616d706c6500"),
    ("MB", "a.example.", "01610765 78616d706c6500"),
    ("MG", "a.example.", "01610765 78616d706c6500"),
    ("MR", "a.example.", "01610765 78616d706c6500"),
    ("MINFO", "a. b.", "016100 016200"),
    ("NXT", "a. A NS NXT", "016100 60000002"),
    ("EID", "e32c6f78163a9348", "e32c6f78163a9348"),
    ("NIMLOC", "32251a 030067", "32251a030067"),
    ("RKEY", "0 255 1 AQID", "0000 ff 01 010203"),
    ("TALINK", "a. b.", "016100 016200"),
    ("UINFO", '"Jane Doe"', "084a616e6520446f65"),
    ("UID", "4294967295", "ffffffff"),
    ("GID", "100", "00000064"),
    ("TA", "4711 RSASHA256 2 00ff", "1267 08 02 00ff"),
    ("KEY", "NOKEY 3 8", "c000 03 08"),
    ("IPSECKEY", "10 3 0 a.", "0a 03 00 016100"),
    (
        "TKEY",
        "a. 20300401001520 20300401101520 3 NOERROR 3 q83v 0",
        "016100 71528318 71530fb8 0003 0000 0003 abcdef 0000",
    ),
    ("TSIG", "a. 1906280120 300 0 4711 BADSIG 0", "016100 0000719f86b8 012c 0000 1267 0010 0000"),
    ("NULL", r"\# 3 00ff10", "00ff10"),
    ("TYPE65280", r"\# 4 00 ff 10 20", "00ff1020"),
    ("TYPE65280", r"\# 0", ""),
    ("A", r"\# 4 C0000201", "c0000201"),
    ("MX", r"\# 5 000a 016100", "000a016100"),
]


# Now, while the process can import: dnspython remembers a type whose module it could not.
dns.rdata.load_all_types(disable_dynamic_load=False)


def by_dnspython(rtype, text):
    tokenizer = dns.tokenizer.Tokenizer(text)
    rdata = dns.rdata.from_text(dns.rdataclass.IN, rtype, tokenizer, relativize=False)
    return rdata.to_wire()


def shown_by_dnspython(rtype, wire):
    return dns.rdata.from_wire(dns.rdataclass.IN, rtype, wire, 0, len(wire)).to_text()


@pytest.mark.parametrize(("name", "text"), RECORDS)
def test_text_gives_the_wire_of_dnspython(name, text):
    rtype = c.type_number(name)
    assert rdata_from_text(rtype, text) == by_dnspython(rtype, text)


@pytest.mark.parametrize(("name", "text"), RECORDS)
def test_dnspython_reads_what_is_written(name, text):
    rtype = c.type_number(name)
    wire = rdata_from_text(rtype, text)
    written = rdata_to_text(rtype, wire)
    assert by_dnspython(rtype, written) == wire
    assert rdata_from_text(rtype, shown_by_dnspython(rtype, wire)) == wire


@pytest.mark.parametrize(("name", "text", "digits"), UNKNOWN_TO_DNSPYTHON)
def test_text_gives_the_wire_of_the_rfc(name, text, digits):
    assert rdata_from_text(c.type_number(name), text) == bytes.fromhex(digits)


def test_every_type_of_the_table_is_tested():
    assert {c.type_number(case[0]) for case in RECORDS + UNKNOWN_TO_DNSPYTHON} >= set(FIELDS)


KNOWN_TO_KNOT = """
    A NS CNAME SOA PTR HINFO MINFO MX TXT RP AFSDB RT AAAA LOC SRV NAPTR KX CERT DNAME APL DS SSHFP
    IPSECKEY RRSIG NSEC DNSKEY DHCID NSEC3 NSEC3PARAM TLSA SMIMEA CDS CDNSKEY OPENPGPKEY CSYNC
    ZONEMD SVCB HTTPS SPF NID L32 L64 LP EUI48 EUI64 URI CAA
"""
NEWER_THAN_KNOT = ("NXNAME", "dohpath", "ohttp")
NOT_SERVED = ("SOA", "TSIG", "TKEY")
NOT_PRINTED_BY_KDIG = ("49152 3 8", "NOKEY 3 8")


def zone_line(number, name, text):
    """A record as text, in the generic form where knot has no other."""
    rtype = c.type_number(name)
    wire = rdata_from_text(rtype, text)
    if name in KNOWN_TO_KNOT.split() and not any(word in text for word in NEWER_THAN_KNOT):
        return wire, f"r{number}.example. 60 IN {name} {rdata_to_text(rtype, wire)}"
    return wire, f"r{number}.example. 60 IN TYPE{rtype} \\# {len(wire)} {wire.hex()}"


def kdig(address, *arguments):
    command = ["kdig", f"@{address[0]}", "-p", str(address[1]), "+noidn", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def transferred(address):
    """Each record of a zone as (owner, type, rdata), read from the messages of a transfer."""
    found: list[tuple[str, int, bytes]] = []
    with socket.create_connection(address, timeout=60) as client:
        question = query("example.", "AXFR")
        client.sendall(len(question).to_bytes(2, "big") + question)
        while [record[1] for record in found].count(c.TYPE_SOA) < 2:
            wire = read_frame(client)
            for _, rtype, _, _, rdata, length, owner, _ in walk(wire):
                prefix, names, tail, _ = split(wire, rtype, rdata, length)
                name = to_text(read_name(wire, owner)[0])
                found.append((name, rtype, b"".join((prefix, *names, tail))))
    return found


def test_knot_reads_what_is_written_and_its_text_is_read():
    cases = [
        (name, text)
        for name, text, *_ in RECORDS + UNKNOWN_TO_DNSPYTHON
        if name not in NOT_SERVED and text not in NOT_PRINTED_BY_KDIG
    ]
    lines = [zone_line(number, *case) for number, case in enumerate(cases)]
    expected = {
        (f"r{number}.example.", c.type_number(name), lines[number][0])
        for number, (name, _) in enumerate(cases)
    }
    zone = "example. 60 IN SOA a. b. 1 2 3 4 5\nexample. 60 IN NS a.\n"
    with knot(zone + "\n".join(line for _, line in lines) + "\n", "example.") as address:
        served = transferred(address)
        printed = kdig(address, "example.", "AXFR")
    records = [
        read_record(line, 3600) for line in printed.splitlines() if line[:1] not in ("", ";")
    ]
    assert {case for case in served if case[0] != "example."} == expected
    shown = {(to_text(record.owner), record.rtype, record.rdata) for record in records}
    assert {case for case in shown if case[0] != "example."} == expected


@pytest.mark.parametrize(("name", "text"), [case[:2] for case in RECORDS + UNKNOWN_TO_DNSPYTHON])
def test_the_layout_of_wire_messages_agrees_with_the_table(name, text):
    rtype = c.type_number(name)
    wire = rdata_from_text(rtype, text)
    prefix, names, tail, _ = split(wire, rtype, 0, len(wire))
    assert b"".join((prefix, *names, tail)) == wire
    if rtype in LAYOUTS:
        assert len(names) == [kind for _, kind in FIELDS[rtype]].count(NAME)


WIRES = [
    (c.type_number(name), rdata_from_text(c.type_number(name), text))
    for name, text, *_ in RECORDS + UNKNOWN_TO_DNSPYTHON
]


@st.composite
def odd_wires(draw):
    """Good rdata with some bytes changed, put in or taken out, or the rdata of another type."""
    rtype, wire = draw(st.sampled_from(WIRES))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(wire)))
        gone = draw(st.integers(0, 2))
        wire = wire[:at] + draw(st.binary(max_size=2)) + wire[at + gone :]
    return draw(st.sampled_from([rtype, draw(st.sampled_from(sorted(FIELDS)))])), wire


def reading(rtype, text):
    """The bytes that a text means, or the error."""
    try:
        return rdata_from_text(rtype, text)
    except RecordError as error:
        return error


def is_malformed(rtype, wire):
    if rtype not in FIELDS:
        return False
    try:
        write(FIELDS[rtype], wire)
    except NoTextForm:
        return False
    except FormError:
        return True
    return False


@settings(max_examples=300, deadline=None)
@given(odd_wires())
def test_what_is_written_is_read_as_the_same_bytes(case):
    rtype, wire = case
    text = rdata_to_text(rtype, wire)
    assert text.isascii()
    assert text.isprintable()
    read = reading(rtype, text)
    if is_malformed(rtype, wire):
        assert text.startswith("\\# ")
        assert "rdata is malformed" in str(read)
    else:
        assert read == wire


@st.composite
def odd_texts(draw):
    name, text, *_ = draw(st.sampled_from(RECORDS + UNKNOWN_TO_DNSPYTHON))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.text(alphabet='09aA.,:;=-_!@()"\\/ \n\tN\u00e9\udc80\udfff', max_size=3))
        text = text[:at] + piece + text[at + draw(st.integers(0, 3)) :]
    return c.type_number(name), text


@settings(max_examples=300, deadline=None)
@given(odd_texts())
def test_any_text_is_rdata_or_a_record_error(case):
    rtype, text = case
    read = reading(rtype, text)
    if isinstance(read, bytes):
        assert rdata_from_text(rtype, rdata_to_text(rtype, read)) == read
    else:
        assert str(read).startswith((f"{c.type_name(rtype)} ", "record "))
