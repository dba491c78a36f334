"""Reading pages of record sets: XML, escapes, aliases, and documents that are none of these."""

import gc
import re
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.testing import helper_module
from corepy.zone.polled_api import PolledZone, PollError, ZoneIntake
from corepy.zone.polled_records import HostedRecords
from corepy.zone.rrset import rdatas_of
from corepy_route53 import xml_reader
from corepy_route53.record_sets import Cursor, decimal_escapes, read_page
from corepy_route53.xml_reader import read_xml

api = helper_module(__file__, "route53_api")
page_of, zone_page, record_set, alias = api.page_of, api.zone_page, api.record_set, api.alias

ZONE = PolledZone(from_text("example.org."), "Z1")


def intake_of(*record_sets):
    intake = ZoneIntake(ZONE)
    records = HostedRecords(intake)
    assert read_page(zone_page(*record_sets), records) is None
    records.finish()
    return intake


def nothing():
    return HostedRecords(ZoneIntake(ZONE))


def rdata(intake, name, rtype):
    packed = intake.build().rrset(from_text(f"{name}.example.org."), rtype)
    return None if packed is None else rdatas_of(packed)


def test_sets_of_one_name_and_type_are_joined():
    policies = [f"<SetIdentifier>{it}</SetIdentifier><Weight>1</Weight>" for it in "ab"]
    sets = [record_set("w.example.org.", "A", f"192.0.2.{n}", more=policies[n]) for n in (0, 1)]
    assert rdata(intake_of(*sets), "w", c.TYPE_A) == [b"\xc0\0\2\0", b"\xc0\0\2\1"]


def test_values_keep_their_quotes_and_escapes():
    intake = intake_of(record_set("t.example.org.", "TXT", r'"a\"b \011\377 \\ ;c" "second"'))
    first = b'a"b \x09\xff \\ ;c'
    assert rdata(intake, "t", c.TYPE_TXT) == [bytes([len(first)]) + first + b"\x06second"]


def test_alias_records_and_malformed_ones_are_left_out_and_reported():
    intake = intake_of(
        alias("lb.example.org."),
        record_set("ok.example.org.", "A", "192.0.2.1"),
        record_set("ttl.example.org.", "A", "192.0.2.1", ttl="soon"),
        record_set("a.example.org.", "A", "192.0.2.999"),
        record_set("t.example.org.", "TXT", r'"\9"'),
        record_set("big.example.org.", "TXT", " ".join([f'"{"x" * 250}"'] * 1600)),
        record_set("bad\\0.example.org.", "A", "192.0.2.1"),
        record_set("yolo.example.org.", "YOLO", "x"),
        record_set("www.example.net.", "A", "192.0.2.1"),  # outside: see `HostedRecords`
    )
    assert rdata(intake, "ok", c.TYPE_A) == [b"\xc0\0\2\1"]
    assert [line.partition(":")[0] for line in intake.refused] == [
        "lb.example.org. A",
        "ttl.example.org. A",
        "a.example.org. A",
        "t.example.org. TXT",
        "big.example.org. TXT",
        "bad\\0.example.org. A",
        "yolo.example.org. YOLO",
    ]
    assert "only Route 53 itself can answer" in next(iter(intake.refused))


# CoreDNS: plugin/route53/route53_test.go, TestMaybeUnescape; it refuses more characters.
ESCAPES = {
    "": "",
    "example.com.": "example.com.",
    r"\052.example.com": r"\042.example.com",
    r"weird\055ex\141mple": r"weird\045ex\097mple",
    r"e\052ample.com": r"e\042ample.com",
    r"\000.example.com": r"\000.example.com",
    r"\377": r"\255",
    r"a\"b\\c": r"a\"b\\c",
}


@pytest.mark.parametrize("text", ESCAPES)
def test_octal_escapes_become_decimal(text):
    assert decimal_escapes(text) == ESCAPES[text]


@pytest.mark.parametrize("text", [r"example\0com", "example.com\\0", r"\777", r"\8", "\\", r"\48"])
def test_malformed_escapes_are_refused(text):
    with pytest.raises(ValueError, match="invalid escape sequence"):
        decimal_escapes(text)


def test_a_wildcard_is_one():
    intake = intake_of(record_set(r"\052.w.example.org.", "A", "192.0.2.1"))
    assert from_text("*.w.example.org.") in intake.build().nodes


@pytest.mark.parametrize(
    ("following", "cursor"),
    [
        ((r"\052.example.org.", "A"), Cursor(r"\052.example.org.", "A", "")),
        (("www.example.org.", "A", "b&c"), Cursor("www.example.org.", "A", "b&c")),
    ],
)
def test_the_next_page_has_three_parameters(following, cursor):
    assert read_page(zone_page(following=following), nothing()) == cursor
    assert [value for _, value in cursor.parameters] == [it for it in cursor if it]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cannot be read: not XML"),
        (b"<html><body>502 Bad Gateway</body>", "cannot be read: not XML"),
        (zone_page()[:-40], "cannot be read: not XML"),
        (b"<html/>", "is not a list of record sets but 'html'"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "cannot be read: not XML"),
        (zone_page(following=()), "does not name the next page"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "has a document type declaration"),
        (b"<a>&undefined;</a>", "cannot be read: not XML"),
        (b"<a>" * 100 + b"</a>" * 100, "is nested too deeply"),
    ],
    ids=["empty", "HTML", "half", "other", "encoding", "cursor", "entity", "reference", "deep"],
)
def test_other_documents_are_refused(data, problem):
    with pytest.raises(PollError, match=re.escape(problem)):
        read_page(data, nothing())


def test_the_number_of_elements_has_a_bound(monkeypatch):
    monkeypatch.setattr(xml_reader, "MOST_ELEMENTS", 10)
    assert len(read_xml(b"<a>" + b"<b/>" * 9 + b"</a>").children) == 9
    with pytest.raises(ValueError, match="too many elements"):
        read_xml(b"<a>" + b"<b/>" * 10 + b"</a>")


@pytest.mark.parametrize("data", [b"<a><b/></a>", b"<a><b/>"], ids=["whole", "half"])
def test_a_document_that_was_read_leaves_no_elements_to_the_garbage_collector(data):
    gc.collect()
    gc.disable()
    try:
        with suppress(ValueError):
            read_xml(data)
        assert not [it for it in gc.get_objects() if type(it) is xml_reader.Element]
    finally:
        gc.enable()


@given(st.binary())
@example(b"\xff\xfe<\0a\0/\0>\0")
@example(b'<?xml version="1.0" encoding="utf-7"?><a/>')
@example(b'<?xml version="1.0" encoding="idna"?><a/>')
def test_no_bytes_raise_another_error(data):
    with pytest.raises(PollError) as caught:
        read_page(data, nothing())
    assert "\n" not in str(caught.value)


TEXT = st.text(st.characters(max_codepoint=0x2FF), max_size=20)


@given(TEXT, TEXT, TEXT, TEXT)
def test_no_content_raises(name, rtype, ttl, value):
    clean = [re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd]", "?", it) for it in (name, rtype, ttl, value)]
    name, rtype, ttl, value = (api.escape(it) for it in clean)
    text = page_of(record_set("NAME", rtype, value, ttl=ttl)).replace(b"NAME", name.encode())
    read_page(text, nothing())
