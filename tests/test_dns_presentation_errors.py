r"""Record lines: owner, TTL and class in any order, origins; and errors that name field and place."""

import pytest

from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.presentation import (
    RecordError,
    entries,
    offset_of,
    rdata_from_text,
    rdata_to_text,
    read_entry,
    read_record,
)

ORIGIN = from_text("example.org")


@pytest.mark.parametrize(
    ("text", "owner", "ttl", "rclass", "rdata"),
    [
        ("a. 60 IN MX 5 m.", "a", 60, 1, b"\0\5\1m\0"),
        ("a. IN 60 MX 5 m.", "a", 60, 1, b"\0\5\1m\0"),
        ("a. 60 MX 5 m.", "a", 60, 1, b"\0\5\1m\0"),
        ("a. MX 5 m.", "a", 300, 1, b"\0\5\1m\0"),
        ("a. 1h30m ch mx 5 m.", "a", 5400, 3, b"\0\5\1m\0"),
        ("a. CLASS42 TYPE15 5 m.", "a", 300, 42, b"\0\5\1m\0"),
        ("a. NONE MX 5 m.", "a", 300, 254, b"\0\5\1m\0"),
        ("a MX 5 m", "a.example.org", 300, 1, b"\0\5\1m\7example\3org\0"),
        ("@ MX 5 @", "example.org", 300, 1, b"\0\5\7example\3org\0"),
        (r"a\. MX 5 m\\.", r"a\..example.org", 300, 1, b"\0\5\2m\\\0"),
        ("a.\tMX (\n5 ; preference\n m. )\nb. A 192.0.2.1", "a", 300, 1, b"\0\5\1m\0"),
        ("\r\n; comment\n\na. MX 5 m.\r\n", "a", 300, 1, b"\0\5\1m\0"),
        ("in. 5 IN MX 5 in.", "in", 5, 1, b"\0\5\2in\0"),
        ("a. MX \\# 5 0005 016d00", "a", 300, 1, b"\0\5\1m\0"),
        ("\u00e9. MX 5 m.", "\u00e9", 300, 1, b"\0\5\1m\0"),
    ],
)
def test_record_lines(text, owner, ttl, rclass, rdata):
    record = read_record(text, 300, ORIGIN)
    assert record == (from_text(owner), ttl, rclass, c.TYPE_MX, rdata)
    assert record.wire == (
        from_text(owner) + b"\0\x0f" + rclass.to_bytes(2, "big") + ttl.to_bytes(4, "big")
        + len(rdata).to_bytes(2, "big") + rdata
    )  # fmt: skip


def test_a_zone_file_is_read_entry_by_entry():
    text = 'a 60 A 192.0.2.1 ; x\n  TXT "a (b"\n\n$TTL 5\nb (\n TXT\n "c\nd" )\n@ NS a\n'
    found = list(entries(text))
    assert [(entry.indented, entry.words) for entry in found] == [
        (False, ["a", "60", "A", "192.0.2.1"]),
        (True, ["TXT", "a (b"]),
        (False, ["$TTL", "5"]),
        (False, ["b", "TXT", "c\nd"]),
        (False, ["@", "NS", "a"]),
    ]
    assert [text[entry.offset :].split()[0] for entry in found] == ["a", "TXT", "$TTL", "b", "@"]
    record = read_entry(found[1], ORIGIN, 7, ORIGIN)
    assert record == (ORIGIN, 7, 1, 16, b"\4a (b")


def test_the_place_of_an_error_in_a_zone_file():
    text = "a 60 A 192.0.2.1\nb MX (\n  5x\n  mail )\n"
    _, entry = entries(text)
    with pytest.raises(RecordError, match="MX preference is not a number") as caught:
        read_entry(entry, None, 60, ORIGIN)
    assert text[offset_of(text, entry, caught.value.word) :].startswith("5x\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # The mark ^ in a line is where the error is: it is taken out first.
        ("^", "record is missing"),
        ('^"a." A 192.0.2.1', "owner must not be quoted"),
        ("^a..b A 192.0.2.1", "owner is not a domain name: empty label"),
        ("a.^", "type is missing"),
        ("a. 60 IN^", "type is missing"),
        ("a. 60 ^60 A 192.0.2.1", "type is missing, and this is not a TTL: '60'"),
        ("a. ^4294967296 A 192.0.2.1", "type is missing, and this is not a TTL: '4294967296'"),
        ("a. ^1x A 192.0.2.1", "type is missing, and this is not a TTL: '1x'"),
        ("a. IN ^CH A 192.0.2.1", "type is unknown: 'CH'"),
        ("a. ^FOO 192.0.2.1", "type is missing, and this is not a class: 'FOO'"),
        ('a. ^"A" 192.0.2.1', "type must not be quoted: 'A'"),
        ("a. ^ANY", "type cannot be the type of a record: 'ANY'"),
        ("a. ^TYPE41 \\# 0", "type cannot be the type of a record: 'TYPE41'"),
        ("a. IN A^", "A address is missing"),
        ("a. IN A 192.0.2.1 ^60", "A has a surplus word: '60'"),
        ("a. IN A ^192.0.2.256", "A address is not an IPv4 address: '192.0.2.256'"),
        ("a. IN A ^010.0.0.1", "A address is not an IPv4 address: '010.0.0.1'"),
        ("a. IN AAAA ^192.0.2.1", "AAAA address is not an IPv6 address: '192.0.2.1'"),
        ("a. MX ^65536 m.", "MX preference is not a number from 0 to 65535: '65536'"),
        ("a. MX ^m.", "MX preference is not a number from 0 to 65535: 'm.'"),
        ("a. MX 5^", "MX mail exchange is missing"),
        ('a. MX 5 ^"m."', "MX mail exchange must not be quoted: 'm.'"),
        ("a. SOA a. b. (1 2\n3 4 ^x)", "SOA minimum is not a time such as 3600 or 1h30m"),
        ("a. SOA a. b. (1 2 3 4 5^", "record has a parenthesis that is not closed"),
        ("a. SOA a. b. 1 2 3 4 5^)", "record has a surplus closing parenthesis"),
        ('a. TXT ^"b', "record has a quote that is not closed"),
        ("a. TXT b^\\", "record ends in a lone backslash"),
        ("a. TXT^", "TXT text is missing"),
        (r"a. TXT b ^\256", r"TXT text has a backslash before digits other than \000 to \255"),
        (r"a. TXT b ^\1x", r"TXT text has a backslash before digits other than \000 to \255"),
        (f"a. HINFO b ^{'x' * 256}", "HINFO operating system is longer than 255 bytes"),
        ("a. HINFO b^", "HINFO operating system is missing"),
        ("a. HINFO b c ^d", "HINFO has a surplus word: 'd'"),
        ('a. HINFO "b"^"c"', "HINFO operating system has no space before it: 'c'"),
        ("a. DS 1 8 2^", "DS digest is missing"),
        ("a. DS 1 8 2 ^abc", "DS digest is not an even number of hexadecimal digits: 'abc'"),
        ("a. DS 1 ^RSAMD6 2 ab", "DS algorithm is not a DNSSEC algorithm: 'RSAMD6'"),
        ("a. DNSKEY 256 3 8 ^???", "DNSKEY public key is not base64: '???'"),
        ("a. ZONEMD 1 1^", "ZONEMD hash algorithm is missing"),
        ("a. TA 1 8^", "TA digest type is missing"),
        ("a. UINFO b ^c", "UINFO has a surplus word: 'c'"),
        ("a. RRSIG A 8 1 60 ^20300230000000 1 1 . ab==", "RRSIG expiration is not a date"),
        ("a. RRSIG A 8 1 60 ^203002300000 1 1 . ab==", "RRSIG expiration is not a number from 0"),
        ("a. RRSIG A 8 1 60 ^19691231235959 1 1 . ab==", "RRSIG expiration is a date before 1970"),
        ("a. NSEC b. A ^FOO", "NSEC type is not a record type: 'FOO'"),
        ("a. NSEC b. ^TYPE0", "NSEC type cannot be 0"),
        ("a. NXT b. ^TYPE128", "NXT type cannot be above 127"),
        ("a. NSEC3 1 0 0 - ^!", "NSEC3 next hashed owner is not base32hex: '!'"),
        ("a. NSEC3 1 0 0 - ^2VPTU5T", "NSEC3 next hashed owner is not a whole number of bytes"),
        ("a. KEY 256 3 8^", "KEY public key is missing"),
        ("a. KEY NOAUTH|ZONE 3 8^", "KEY public key is missing"),
        ("a. KEY ^NOAUTH|X 3 8", "KEY flags has an unknown flag: 'X'"),
        ("a. LOC ^91 N 0 E 0", "LOC latitude is not a number from 0 to 90: '91'"),
        ("a. LOC 1 2 ^60 N 0 E 0", "LOC latitude has no seconds from 0 to 59.999: '60'"),
        ("a. LOC 1 2 3 ^E 0 E 0", "LOC latitude is not followed by N or S: 'E'"),
        ("a. LOC 1 2 3 ^NS 0 E 0", "LOC latitude is not followed by N or S: 'NS'"),
        ("a. LOC 1 N 2 E ^10km", "LOC altitude is not a number of meters"),
        ("a. LOC 1 N 2 E 0 1m 1m 1m ^1m", "LOC has a surplus word: '1m'"),
        ("a. LOC 1 N 2 E 0 1m ^-1m", "LOC horizontal precision is not from 0"),
        ("a. APL ^192.0.2.0/24", "APL prefix is not of the form [!]family:address/prefix"),
        ("a. APL ^3:ab/2", "APL prefix has a family other than 1 and 2"),
        ("a. APL ^1:192.0.2.0/33", "APL prefix has a prefix of more than 32 bits"),
        ("a. EUI48 ^00-00-5e-00-53", "EUI48 address is not 6 pairs of digits"),
        ("a. NID 10 ^1:2:3", "NID node ID is not four groups"),
        ("a. CAA 0 ^is-sue x", "CAA tag is not letters and digits: 'is-sue'"),
        ("a. CAA 0 issue x ^y", "CAA has a surplus word: 'y'"),
        ("a. IPSECKEY 1 ^4 2 . ab==", "IPSECKEY gateway type is not a number from 0 to 3: '4'"),
        ("a. IPSECKEY 1 0 2 ^a. ab==", "IPSECKEY gateway must be \".\""),
        ("a. AMTRELAY 1 0 1 ^::1", "AMTRELAY relay is not an IPv4 address: '::1'"),
        ("a. HIP 2 ^20x AwE=", "HIP HIT is not an even number of hexadecimal digits: '20x'"),
        ("a. SVCB 1 . ^foo=1", "SVCB parameter list has an unknown key: 'foo'"),
        ("a. SVCB 1 . ^ALPN=h2", "unknown key: 'ALPN', keys are in lower case"),
        ("a. SVCB 1 . ^key65535=a", "other than key0 to key65534"),
        ("a. SVCB 1 . ^key007=a", "other than key0 to key65534"),
        ("a. SVCB 1 . port=1 ^port=2", "SVCB parameter list has port twice"),
        ("a. SVCB 1 . ^port", "SVCB port has no value"),
        ("a. SVCB 1 . ^port=65536", "SVCB port is not a number from 0 to 65535"),
        ("a. SVCB 1 . ^alpn=h2,,h3", "SVCB alpn has an empty protocol"),
        ("a. SVCB 1 . alpn=h2 ^no-default-alpn=1", "SVCB no-default-alpn takes no value"),
        ("a. SVCB 1 . ^no-default-alpn", "SVCB parameter list has no-default-alpn without alpn"),
        ("a. SVCB 1 . ^mandatory=alpn", "lists alpn as a mandatory key, which is missing"),
        ("a. SVCB 1 . ^mandatory=mandatory", "lists mandatory as a mandatory key"),
        ("a. SVCB 1 . ^mandatory=port,port port=1", "SVCB mandatory lists a key twice"),
        ("a. SVCB 1 . ^ipv4hint=::1", "SVCB ipv4hint is not an IPv4 address: '::1'"),
        ("a. SVCB 1 . ^ipv6hint=192.0.2.1", "SVCB ipv6hint is not an IPv6 address"),
        ("a. SVCB 1 . ^ech=?", "SVCB ech is not base64: '?'"),
        ("a. SVCB 1 . ^key1=h2", "SVCB key1 is not a value of alpn"),
        ('a. SVCB 1 . alpn="h2"^port=1', "SVCB parameter list must not be quoted: 'port=1'"),
        ('a. SVCB 1 . ^"alpn=h2"', "SVCB parameter list must not be quoted: 'alpn=h2'"),
        ("a. TYPE65280 ^what", r"TYPE65280 must be written as \# LENGTH HEX"),
        ("a. TYPE65280 \\# 3 ^abcd", "TYPE65280 rdata has 2 bytes instead of 3"),
        ("a. A \\# 3 ^c00002", "A rdata is malformed: rdata is cut off"),
        ("a. A \\#^", "A rdata is missing"),
        ("a. NULL ^x", r"NULL must be written as \# LENGTH HEX"),
    ],
)  # fmt: skip
def test_errors_name_the_field_and_the_place(line, message):
    offset = line.index("^")
    with pytest.raises(RecordError) as caught:
        read_record(line.replace("^", "", 1), 60)
    assert message in str(caught.value)
    assert caught.value.offset == offset


def test_names_below_the_origin_that_are_too_long():
    label = "a" * 63
    with pytest.raises(RecordError, match="longer than 255 bytes below its origin"):
        rdata_from_text(c.TYPE_NS, ".".join([label] * 3), from_text(".".join([label] * 3)))


def test_an_address_of_digits_takes_linear_time():
    with pytest.raises(RecordError, match="not a TTL"):
        read_record(f"a. {'1' * 60_000}x A 192.0.2.1", 60)
    with pytest.raises(RecordError, match="not a TTL"):
        read_record(f"a. {'1' * 50}x A 192.0.2.1", 60)


def test_rdata_of_two_lines():
    assert rdata_from_text(c.TYPE_TXT, "(a\nb)\n") == b"\1a\1b"
    with pytest.raises(RecordError, match="record has more than one line"):
        rdata_from_text(c.TYPE_TXT, "a\nb")


def test_rdata_that_is_too_long():
    text = " ".join(['"' + "a" * 255 + '"'] * 256)
    with pytest.raises(RecordError, match="TXT is longer than 65535 bytes"):
        rdata_from_text(c.TYPE_TXT, text)


@pytest.mark.parametrize(
    ("rtype", "rdata", "text"),
    [
        (c.TYPE_A, b"\1\2\3", r"\# 3 010203"),
        (c.TYPE_A, b"", r"\# 0"),
        (c.TYPE_NS, b"\xc0\x0c", r"\# 2 C00C"),
        (
            c.TYPE_SVCB,
            b"\0\1\0\0\3\0\2\0\1\0\1\0\3\2h2",
            r"\# 16 0001000003000200010001000302683" "2",
        ),
        (c.TYPES["LOC"], b"\1" + bytes(15), r"\# 16 01000000000000000000000000000000"),
        (c.TYPES["APL"], b"", r"\# 0"),
        (c.TYPE_TXT, b"\3a", r"\# 2 0361"),
        (c.TYPE_NSEC, b"\1a\0\0\0", r"\# 5 0161000000"),
    ],
)
def test_rdata_that_its_fields_cannot_express(rtype, rdata, text):
    assert rdata_to_text(rtype, rdata) == text
