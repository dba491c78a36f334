"""Records as text, against dnslib's reading of the wire and of the same text."""

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.presentation import RecordError
from corepy_template.writer import record_of as read_record


def parsed(text):
    wire = read_record(text).wire
    (record,) = dnslib.DNSRecord.parse(b"\0\0\x80\0\0\0\0\1" + bytes(4) + wire).rr
    return record


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example. 60 IN A 192.0.2.1", "example. 60 IN A 192.0.2.1"),
        ("example 60 A 192.0.2.1", "example. 60 IN A 192.0.2.1"),
        ("example A 192.0.2.1", "example. 3600 IN A 192.0.2.1"),
        ("example IN 60 A 192.0.2.1", "example. 60 IN A 192.0.2.1"),
        ("example 1h30m in a 192.0.2.1", "example. 5400 IN A 192.0.2.1"),
        ("example 60 CH A 192.0.2.1", "example. 60 CH A 192.0.2.1"),
        ("  example. 60 IN AAAA 2001:db8::1 ; comment", "example. 60 IN AAAA 2001:db8::1"),
        ("@ NS a", ". 3600 IN NS a."),
        ("e. CNAME target.example.com", "e. 3600 IN CNAME target.example.com."),
        ("e. 5 IN PTR @", "e. 5 IN PTR ."),
        ("e. 5 MX 10 mail", "e. 5 IN MX 10 mail."),
        ("e. 5 SRV 1 2 53 mail", "e. 5 IN SRV 1 2 53 mail."),
        ('e. 5 TXT "a b" c', 'e. 5 IN TXT "a b","c"'),
        ("e. SOA ns host (1 1m 60\n 60 ; x\n 60)", "e. 3600 IN SOA ns. host. 1 60 60 60 60"),
        ("e. 5 A 192.0.2.1\nother garbage", "e. 5 IN A 192.0.2.1"),
        ("\n\ne. 5 A 192.0.2.1", "e. 5 IN A 192.0.2.1"),
        ('e. 5 CAA 0 issue "ca.example"', 'e. 5 IN CAA 0 issue "ca.example"'),
        (
            'e. 5 NAPTR 1 2 "u" "E2U+sip" "!^.*$!x!" .',
            'e. 5 IN NAPTR 1 2 "u" "E2U+sip" "!^.*$!x!" .',
        ),
        ("e. 5 DS 1 8 2 ab CD", "e. 5 IN DS 1 8 2 ABCD"),
        ("e. 5 TLSA 3 1 1 00ff", "e. 5 IN TLSA 3 1 1 00FF"),
        ("e. 5 HTTPS 1 . alpn=h2", "e. 5 IN HTTPS 1 . alpn=h2"),
        ("e. TYPE1 \\# 4 c0000201", "e. 3600 IN A 192.0.2.1"),
    ],
)
def test_records(text, expected):
    record = parsed(text)
    rclass, rtype = dnslib.CLASS[record.rclass], dnslib.QTYPE[record.rtype]
    assert f"{record.rname} {record.ttl} {rclass} {rtype} {record.rdata}" == expected


@pytest.mark.parametrize(
    ("text", "rdata"),
    [
        (f'e. TXT "{"a" * 256}"', b"\xff" + b"a" * 255 + b"\x01a"),
        ('e. TXT ""', b"\0"),
        (r'e. TXT "a\"b\010\\" \;', b'\5a"b\n\\\1;'),
        ("e. TYPE65280 \\# 2 ab cd", b"\xab\xcd"),
        ("e. TYPE65280 \\# 0", b""),
        ("e. HINFO a b", b"\1a\1b"),
        ('e. URI 1 2 "x:y"', b"\0\1\0\2x:y"),
        ("e. DNSKEY 256 3 8 AQID BA==", b"\1\0\3\x08\1\2\3\4"),
    ],
)
def test_rdata(text, rdata):
    assert read_record(text).rdata == rdata


@pytest.mark.parametrize(
    "text",
    [
        "",
        "test.example.",
        "e. 60",
        "e. 60 IN",
        "e. 60 IN A",
        "e. 60 IN A 192.0.2.1 2",
        "e. 60 IN A 192.0.2.256",
        "e. 60 IN A 010.0.0.1",
        "e. 60 IN A ::1",
        "e. 60 IN AAAA 192.0.2.1",
        "e. 60 60 IN A 192.0.2.1",
        "e. -1 IN A 192.0.2.1",
        "e. 4294967296 IN A 192.0.2.1",
        "e. x IN A 192.0.2.1",
        "e. 60 IN NOTATYPE 1",
        "e. MX 65536 a.",
        "e. MX a.",
        "e. SOA a b (1 2 3 4 5",
        "e. SOA a b 1 2 3 4 5)",
        'e. TXT "open',
        'e. HINFO "' + "a" * 256 + '" b',
        r'e. TXT "\999"',
        "a..b A 192.0.2.1",
        "a" * 64 + ". A 192.0.2.1",
        "e. CNAME a..b",
        '"e." A 192.0.2.1',
        "e. DS 1 8 2 abc",
        "e. DNSKEY 256 3 8 ???",
        "e. TYPE65280 \\# 3 abcd",
        "e. TYPE65280 what",
        "e. LOC nonsense",
        "e. TXT",
        "$ORIGIN e.",
        "e. TXT " + '"' + "a" * 255 + '" ' * 1 + ('"' + "a" * 255 + '" ') * 256,
    ],
)
def test_no_record(text):
    with pytest.raises(RecordError):
        read_record(text)


@settings(deadline=None)
@given(st.text(alphabet='e. AINTX60"\\#()\n;01:a@', max_size=40))
def test_any_text_is_a_record_or_not(text):
    try:
        parsed_wire = read_record(text).wire
    except RecordError:
        return
    assert len(parsed_wire) >= 11
