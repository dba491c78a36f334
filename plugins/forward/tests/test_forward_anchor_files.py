"""Files with trust anchors: the forms of unbound, Knot Resolver, BIND and IANA."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import ROOT, from_text
from corepy.dns.presentation import rdata_from_text
from corepy_forward.validation.anchor import (
    ROOT_ANCHORS,
    Configured,
    Period,
    ds_of,
    key_tag,
    matches,
)
from corepy_forward.validation.anchor_files import (
    MOST_ANCHORS,
    MOST_BYTES,
    parse,
    read_anchor_file,
)
from corepy_forward.validation.anchor_records import AnchorError

KEY = "AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3"
DIGEST = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
DNSKEY = rdata_from_text(48, f"257 3 8 {KEY}")
DS = rdata_from_text(43, f"20326 8 2 {DIGEST}")
EXAMPLE = from_text("example.org")
TEST = from_text("test")
ROOT_KEY = Configured(ROOT, DNSKEY, False)
ROOT_DS = Configured(ROOT, DS, True)
EXAMPLE_DS = Configured(EXAMPLE, DS, True)


def xml(digests: str, zone: str = ".") -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<TrustAnchor id="1" source="x"><Zone>{zone}</Zone>\n{digests}</TrustAnchor>'


def key_digest(attributes: str = "", digest: str = DIGEST) -> str:
    return (
        f"<KeyDigest id='K' {attributes}><KeyTag>20326</KeyTag><Algorithm>8</Algorithm>"
        f"<DigestType>2</DigestType><Digest>{digest}</Digest><PublicKey>AwEA</PublicKey>"
        "</KeyDigest>"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f". IN DS 20326 8 2 {DIGEST}", [ROOT_DS]),
        (f"; the root\n. 172800 IN DNSKEY 257 3 8 {KEY} ; keytag 1\n", [ROOT_KEY]),
        (f"Example.ORG. DS 20326 8 2 ( {DIGEST[:8]} ; parts\n {DIGEST[8:]} )", [EXAMPLE_DS]),
        (f"$TTL 3600\n$ORIGIN org.\nexample DS 20326 RSASHA256 2 {DIGEST}", [EXAMPLE_DS]),
        (f". DS 20326 8 2 {DIGEST}\n. DS 20326 8 2 {DIGEST}", [ROOT_DS]),
        (f". DS 20326 8 2 {DIGEST}\n  DNSKEY 257 3 8 {KEY}", [ROOT_DS, ROOT_KEY]),
        (f"\ufeff. DS 20326 8 2 {DIGEST}\r\n", [ROOT_DS]),
        (
            "; autotrust trust anchor file\n;;id: . 1\n"
            f". 86400 IN DNSKEY 257 3 8 {KEY} ;{{id = 1 (ksk)}} ;;state=2 [  VALID  ] ;;count=0\n"
            ". 86400 IN DNSKEY 257 3 8 AwEAAQ== ;;state=1 [ ADDPEND ] ;;count=3\n"
            ". 86400 IN DNSKEY 385 3 8 AwEAAg== ;;state=4 [ REVOKED ] ;;count=0\n",
            [ROOT_KEY],
        ),
        (
            f". 86400 IN DNSKEY 257 3 8 {KEY} ;;state=3 [ MISSING ]",
            [ROOT_KEY],
        ),
        (f'trust-anchors {{ . static-key 257 3 8 "{KEY[:9]}\n  {KEY[9:]}"; }};', [ROOT_KEY]),
        (f'trust-anchors {{ example.org initial-ds 20326 8 2 "{DIGEST}"; }};', [EXAMPLE_DS]),
        (
            '/* two\nlines */ options { directory "/a;b"; /* } */ a { b; }; };  # {\n'
            f'// trust-anchors {{\ntrust-anchors {{ # none\n "." initial-key 257 3 8 "{KEY}";\n'
            f' example.org. static-ds 20326 8 2 "{DIGEST}";\n}};\nview x {{ y; }};',
            [ROOT_KEY, EXAMPLE_DS],
        ),
        (f'managed-keys {{ . initial-key 257 3 8 "{KEY}"; }};', [ROOT_KEY]),
        (f'trusted-keys {{ "." 257 3 8 "{KEY}"; }};', [ROOT_KEY]),
        (xml(key_digest()), [ROOT_DS]),
        (xml(key_digest(), "Example.ORG."), [EXAMPLE_DS]),
        (
            xml(key_digest('validFrom="1970-01-01T00:01:40+00:00" validUntil="1970-01-01T00:05Z"')),
            [ROOT_DS._replace(period=Period(100.0, 300.0))],
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_anchors_are_read_from_each_form(text: str, expected: list[Configured]) -> None:
    assert list(parse(text.encode())) == expected


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>\n<TrustAnchor><Zone>&c;</Zone>'


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 0, "contains no trust anchor"),
        ("; nothing\n", 0, "contains no trust anchor"),
        (". DNSKEY 257 3 8 AQ== ;;state=1 [ ADDPEND ]", 0, "contains no trust anchor"),
        (". IN DS 20326 8 2", 1, "DS digest is missing"),
        ("\n. IN DS 20326 8 2 ABC", 2, "DS digest"),
        (f"\n\n. IN DS 20326 8 2 {DIGEST}00", 3, "a digest of type 2 has 32 bytes, not 33"),
        (f". IN DS 20326 8 1 {DIGEST}", 1, "a digest of type 1 has 20 bytes, not 32"),
        (f". CH DS 20326 8 2 {DIGEST}", 1, "the class of a trust anchor must be IN"),
        (". IN A 192.0.2.1", 1, "a trust anchor is a DS or DNSKEY record, not A"),
        (". IN DNSKEY 385 3 8 AQAB", 1, "is revoked (flags 385)"),
        (". IN DNSKEY 1 3 8 AQAB", 1, "flags 1 and protocol 3 are not those of a zone's key"),
        (". IN DNSKEY 257 2 8 AQAB", 1, "flags 257 and protocol 2"),
        ("$INCLUDE other", 1, "'$INCLUDE' is not a directive of a file with anchors"),
        ("$ORIGIN ..", 1, "empty label"),
        (". DS ( 1", 1, "parenthesis that is not closed"),
        ("trust-anchors", 1, "the statement 'trust-anchors' has no end"),
        ("trust-anchors /* {", 1, "has no end"),
        ("<TrustAnchor/>", 0, "the element Zone is missing"),
        ("trust-anchors ;", 1, "expected '{' after trust-anchors"),
        ("a;\ntrust-anchors { . initial-ds 1 2 3", 2, "has no end"),
        ('trust-anchors { . 257 3 8 "AQAB"; };', 1, "expected one of static-key, initial-key"),
        ('managed-keys { . initial-ds 1 8 2 "00"; };', 1, "expected one of initial-key"),
        ('trusted-keys {\n . initial-key 257 3 8 "AQAB"; };', 2, "expected three numbers"),
        ('trusted-keys {\n . 257 3 8 "!"; };', 2, "DNSKEY public key"),
        ("trusted-keys { . { }; };", 1, "unexpected '{' in trusted-keys"),
        ('trusted-keys { . 257 3 8 "AQ; };', 1, "has a quote that is not closed"),
        ("};\ntrusted-keys { };", 1, "has a surplus closing brace"),
        ("trusted-keys { };", 0, "contains no trust anchor"),
        ('trusted-keys { a..b 257 3 8 "AQAB"; };', 1, "empty label"),
        ("<a/>", 1, "is not IANA's XML, whose root is TrustAnchor"),
        ("<TrustAnchor>", 1, "is not valid XML: no element found"),
        (BOMB, 1, "a document type is not allowed"),
        (xml(""), 0, "contains no trust anchor"),
        (xml("<KeyDigest/>"), 3, "KeyDigest: KeyTag is missing or invalid"),
        (xml(key_digest(digest="00")), 3, "a digest of type 2 has 32 bytes, not 1"),
        (xml(key_digest('validFrom="soon"')), 3, "validFrom is not a time with its zone: 'soon'"),
        (xml(key_digest('validUntil="2030-01-01"')), 3, "validUntil is not a time with its zone"),
        (xml(key_digest(), "a..b"), 0, "Zone: empty label"),
        (f"<TrustAnchor>{'<a>' * 20}", 1, "is not IANA's XML"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_mistake_is_reported_with_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(AnchorError) as caught:
        parse(text.encode())
    assert problem in str(caught.value)
    assert caught.value.line == line


def test_the_built_in_anchors_are_those_of_the_root_s_keys() -> None:
    """Debian's package dns-root-data has the keys, from which the digests are computed."""
    keys = read_anchor_file(Path("/usr/share/dns/root.key")).anchors
    assert [key_tag(key.rdata) for key in keys] == [20326, 38696]
    assert [ds_of(ROOT, key.rdata) for key in keys] == [it.rdata for it in ROOT_ANCHORS]
    assert read_anchor_file(Path("/usr/share/dns/root.ds")).anchors == ROOT_ANCHORS
    assert all(it.matches(key.rdata) for it, key in zip(ROOT_ANCHORS, keys, strict=True))
    assert [it.identity for it in keys] == [it.identity for it in ROOT_ANCHORS]
    assert ROOT_ANCHORS[1].name == keys[1].name == ". 38696"


@pytest.mark.parametrize("digest_type", [1, 2, 4])
def test_a_ds_record_matches_its_key_only(digest_type: int) -> None:
    ds = ds_of(EXAMPLE, DNSKEY, digest_type)
    assert matches(EXAMPLE, ds, DNSKEY)
    assert not matches(TEST, ds, DNSKEY)
    assert not matches(EXAMPLE, ds, DNSKEY[:-1] + b"\1")
    assert not matches(EXAMPLE, ds[:3] + b"\x09" + ds[4:], DNSKEY)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    fifo, big, latin = tmp_path / "fifo", tmp_path / "big", tmp_path / "latin"
    os.mkfifo(fifo)
    big.write_bytes(b" " * (MOST_BYTES + 1))
    latin.write_bytes(b"; a\n; \xe9\n")
    problems = {
        tmp_path: "Is a directory",
        tmp_path / "none": "No such file or directory",
        fifo: "not a regular file but a FIFO",
        big: "larger than 1024 KiB",
        latin: f"{latin}:2: is not text in UTF-8",
    }
    for path, problem in problems.items():
        with pytest.raises(AnchorError) as caught:
            read_anchor_file(path)
        assert problem in str(caught.value)


def test_unlikely_anchors_cause_warnings(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_text(". DNSKEY 256 3 8 AQAB\ntest. DS 1 8 250 AB\n")
    first, second = read_anchor_file(path).warnings
    assert "is a zone-signing key" in first
    assert "no DS record of test. has a known digest type" in second


def test_the_number_of_anchors_is_limited() -> None:
    lines = [f"z{number}. DS 1 8 2 {DIGEST}" for number in range(MOST_ANCHORS + 1)]
    assert len(parse("\n".join(lines[1:]).encode())) == MOST_ANCHORS
    with pytest.raises(AnchorError, match="more than 1000 trust anchors"):
        parse("\n".join(lines).encode())


WORDS = st.sampled_from(
    [
        ".", "example.org.", "IN", "DS", "DNSKEY", "257", "3", "8", "2", DIGEST, KEY, "(", ")",
        ";;state=1", "\n", "$ORIGIN", "trust-anchors", "{", "}", ";", '"', "initial-ds",
        "managed-keys", "/*", "*/", "//", "#", "<TrustAnchor>", "<Zone>", "</Zone>", "<KeyDigest>",
        "</KeyDigest>", "<KeyTag>", "</KeyTag>", "</TrustAnchor>", "<!DOCTYPE a>", "&#0;", "\\",
    ]
)  # fmt: skip


@settings(deadline=None)
@given(st.one_of(st.binary(), st.lists(WORDS).map(lambda words: " ".join(words).encode())))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(AnchorError):
        assert parse(content)
