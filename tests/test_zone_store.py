"""Versions of zones: built, changed, compared, served; and the canonical order of names."""

import random
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns.names import from_text, labels_of
from corepy.dns.presentation import Record, rdata_from_text
from corepy.plugin import ZoneMatcher
from corepy.testing import helper_module
from corepy.zone import (
    OutOfZone,
    RecordRefused,
    ServedZone,
    ServedZones,
    ZoneBuilder,
    ZoneError,
    changes_between,
    is_newer,
    zones_of,
)
from corepy.zone import rrset as packed_sets
from corepy.zone.canonical import canonical_key, in_canonical_order
from corepy.zone.transfers import whole_zone
from corepy.zone.zone_builder import MOST_SETS

texts = helper_module(__file__, "zone_texts")
RFC_4034_6_1 = [
    "example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.",
    "z.example.", "\\001.z.example.", "*.z.example.", "\\200.z.example.",
]  # fmt: skip


def wires(*names):
    return [from_text(name).lower() for name in names]


def test_the_canonical_order_is_that_of_the_rfc():
    ordered = wires(*RFC_4034_6_1)
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert in_canonical_order(shuffled) == ordered


labels = st.binary(min_size=1, max_size=4).map(bytes.lower)
names = st.lists(labels, max_size=4).map(
    lambda found: b"".join(bytes((len(it),)) + it for it in found) + b"\0"
)


@given(names, names)
def test_keys_compare_as_labels_do(one, other):
    """RFC 4034 section 6.1: label by label from the right, as bytes, a missing one first."""
    expected = labels_of(one)[::-1] < labels_of(other)[::-1]
    assert (canonical_key(one) < canonical_key(other)) == expected


def test_many_names_are_sorted_in_portions():
    many = [from_text(f"host{number}.example.org.") for number in range(6000)]
    many += [from_text(f"x.host{number}.example.org.") for number in range(0, 6000, 7)]
    random.Random(2).shuffle(many)
    assert in_canonical_order(many) == sorted(many, key=canonical_key)


@pytest.mark.parametrize(
    ("serial", "than", "newer"),
    [
        (1, 0, True), (0, 1, False), (1, 1, False), (0, 0xFFFFFFFF, True), (0xFFFFFFFF, 0, False),
        (2**31 - 1, 0, True), (2**31, 0, False), (0, 2**31, False), (44, 2**32 - 200, True),
    ],
)  # fmt: skip
def test_serials(serial, than, newer):
    """RFC 1982 section 3.2."""
    assert is_newer(serial, than) == newer


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sub SOA a b 1 2 3 4 5", "the SOA record belongs to the origin"),
        ("x A 192.0.2.1\nx SOA a b 1 2 3 4 5", "the SOA record belongs to the origin"),
        ("@ SOA ns2 host 1 7200 3600 1209600 300", "a zone has one SOA record"),
        ("x A 192.0.2.1\nx CNAME y", "owns other data (A)"),
        ("x CNAME y\nx TXT t", "owns other data (TXT)"),
        ("@ CNAME y", "owns other data (NS, SOA)"),
        ("x CNAME y\nx CNAME z", "a name owns one CNAME record"),
        ("x DNAME y\nx DNAME z", "a name owns one DNAME record"),
        ("x NS y\nx DNAME z", "a delegated name owns a DNAME record"),
        ("x DNAME y\nx NS z", "a delegated name owns a DNAME record"),
    ],
)
def test_data_that_contradicts_itself_is_refused(text, problem):
    with pytest.raises(ZoneError, match=problem.replace("(", r"\(").replace(")", r"\)")):
        texts.zone_from(text)


@pytest.mark.parametrize("text", ["x CNAME y\nx NSEC z CNAME", "@ DNAME other.example."])
def test_data_that_may_be_together(text):
    assert texts.zone_from(text).records > 2


def test_a_zone_needs_a_soa_record():
    with pytest.raises(ZoneError, match=r"the zone example\.org\. has no SOA record"):
        texts.zone_from("x A 192.0.2.1", head="")


def test_a_set_that_fits_into_no_message_is_refused():
    strings = " ".join(["x" * 255] * 200)
    with pytest.raises(ZoneError, match="does not fit into a message"):
        texts.zone_from(f"x TXT a {strings}\nx TXT b {strings}")


def test_a_record_that_fits_into_no_message_is_refused():
    builder = ZoneBuilder(texts.ORIGIN)
    assert builder.add(texts.ORIGIN, 60, 65280, bytes(64_000))
    for rtype in (65280, 65281):
        with pytest.raises(RecordRefused, match="the record does not fit into a message"):
            builder.add(texts.ORIGIN, 60, rtype, bytes(64_001))


def test_a_name_with_too_many_types_is_refused():
    text = "".join(f"x TYPE{1000 + it} \\# 0\n" for it in range(MOST_SETS))
    assert texts.zone_from(text).records == MOST_SETS + 2
    with pytest.raises(ZoneError, match="owns more than 256 record sets"):
        texts.zone_from(text + "x A 192.0.2.1")


def test_a_long_set_is_unpacked_once(monkeypatch):
    unpacked = []

    def count(packed):
        unpacked.append(len(packed))
        return packed_sets.rdatas_of(packed)

    monkeypatch.setattr("corepy.zone.zone_builder.rdatas_of", count)
    builder = ZoneBuilder(texts.ORIGIN)
    for number in range(100):
        builder.add(texts.ORIGIN, 60, c.TYPE_A, number.to_bytes(4, "big"))
    assert len(unpacked) == 16


def test_expensive_nsec3_parameters_are_refused():
    """RFC 9276 section 3.2."""
    owner = "2t7b4g4vsa5smi47k61mv5bv1a22bojr"
    text = "@ NSEC3PARAM 1 0 501 -\n{} NSEC3 1 0 501 - {} A\n"
    zone = texts.zone_from(text.format(owner, owner).replace("501", "0"))
    assert zone.denial is None  # the hash is not that of the origin
    own = "0" * 32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corepy.zone.denial.NSEC3Parameters.hash", lambda *_: own.encode())
        with pytest.raises(ZoneError, match="501 iterations is too expensive"):
            texts.zone_from(text.format(own, own))


def test_records_outside_the_zone():
    builder = ZoneBuilder(texts.ORIGIN)
    with pytest.raises(OutOfZone):
        builder.add(from_text("example.net."), 1, c.TYPE_A, b"\0\0\0\0")
    builder.add_all([Record(from_text("notexample.org."), 1, 1, c.TYPE_A, b"\0\0\0\0")])
    with pytest.raises(ZoneError):
        builder.build()


def test_a_cut_off_signature_is_refused():
    with pytest.raises(RecordRefused, match="cut off"):
        ZoneBuilder(texts.ORIGIN).add(texts.ORIGIN, 1, c.TYPE_RRSIG, b"\0\1")


def test_records_come_with_the_soa_first_and_in_canonical_order():
    zone = texts.zone_from("z A 192.0.2.1\nb.a A 192.0.2.2\n@ TXT t\nA A 192.0.2.3\n")
    owners = [texts.relative(record.owner) for record in zone]
    assert owners == ["@", "@", "@", "a", "b.a", "z"]
    assert next(iter(zone)).rtype == c.TYPE_SOA
    assert list(zone.wires()) == [record.wire for record in zone]
    assert repr(zone) == "<Zone example.org. serial 1, 6 records>"
    assert zone.records == 6


def test_a_long_set_has_each_record_once():
    lines = "".join(f"x A 10.0.0.{number % 40}\n" for number in range(120))
    packed = texts.zone_from(lines).rrset(texts.full_name("x"), c.TYPE_A)
    assert len(packed_sets.rdatas_of(packed)) == 40


A1, A2 = (rdata_from_text(c.TYPE_A, f"192.0.2.{number}") for number in (1, 2))


def test_a_version_is_made_from_another():
    before = texts.zone_from("a A 192.0.2.1\nx.ent A 192.0.2.1\nsub NS ns1\nb A 192.0.2.1\n")
    builder = ZoneBuilder(texts.ORIGIN, before)
    assert builder.remove(texts.full_name("X.ENT"), c.TYPE_A, A1)
    assert not builder.remove(texts.full_name("x.ent"), c.TYPE_A, A1)
    assert not builder.remove(texts.full_name("nothing"), c.TYPE_A, A1)
    assert builder.remove(texts.full_name("sub"), c.TYPE_NS, texts.full_name("ns1"))
    assert builder.add(texts.full_name("aa"), 60, c.TYPE_A, A2)
    assert builder.add(texts.full_name("b"), 60, c.TYPE_A, A2)
    assert not builder.add(texts.full_name("b"), 60, c.TYPE_A, A2)
    after = builder.build()
    owners = ["@", "a", "aa", "b"]
    assert [texts.relative(name) for name in after.names] == owners
    assert after.node(texts.full_name("ent")) is None
    assert before.node(texts.full_name("ent")) == b""
    assert not after.cuts
    assert texts.ask(after, "x.sub")[0] == "3 aa"
    assert texts.ask(before, "x.sub")[0] == "0"
    assert texts.ask(after, "b")[1] == ["b 60 A 192.0.2.1", "b 60 A 192.0.2.2"]
    with pytest.raises(ZoneError, match="no SOA record"):  # two zones would share their records
        builder.build()


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from([A1, A2]), st.booleans()), max_size=12
    )
)
def test_changed_versions_are_as_those_that_are_built_anew(changes):
    zone = texts.zone_from("a A 192.0.2.1\nb.c A 192.0.2.1\n")
    builder, wanted = ZoneBuilder(texts.ORIGIN, zone), {("a", A1), ("b.c", A1)}
    for letter, rdata, is_added in changes:
        name = f"{letter}.c" if letter in "bd" else letter
        if is_added:
            builder.add(texts.full_name(name), 3600, c.TYPE_A, rdata)
            wanted.add((name, rdata))
        else:
            builder.remove(texts.full_name(name), c.TYPE_A, rdata)
            wanted.discard((name, rdata))
    changed = builder.build()
    anew = texts.zone_from("".join(f"{name} A 192.0.2.{it[3]}\n" for name, it in sorted(wanted)))
    assert changed.names == anew.names
    assert changed.nodes.keys() == anew.nodes.keys()
    assert not any(changes_between(changed, anew))


def test_the_changes_of_a_zone():
    before = texts.zone_from("a A 192.0.2.1\nb A 192.0.2.1\nb A 192.0.2.2\nc 60 TXT t\n")
    head = texts.SOA.replace(" 1 7200", " 2 7200") + texts.SERVERS + "\n"
    after = texts.zone_from("b A 192.0.2.2\nc 61 TXT t\nd A 192.0.2.1\n", head=head)
    removed, added = changes_between(before, after)
    assert [texts.relative(it.owner) for it in removed] == ["@", "a", "b", "c"]
    assert [texts.relative(it.owner) for it in added] == ["@", "c", "d"]
    assert [it.rtype for it in added] == [c.TYPE_SOA, c.TYPE_TXT, c.TYPE_A]
    assert not any(changes_between(before, before))


def test_the_records_of_a_transfer():
    zone = texts.zone_from("".join(f"h{number} A 192.0.2.1\n" for number in range(150)))
    portions = list(whole_zone(zone, None))
    records = [record for portion in portions for record in portion]
    assert records == [*zone.wires(), zone.soa_record]
    assert len(portions) == 3
    assert list(whole_zone(zone, 0)) == portions
    assert list(whole_zone(zone, 1)) == list(whole_zone(zone, 2)) == [[zone.soa_record]]
    assert list(whole_zone(zone, 1 + (1 << 31))) == portions  # the order is undefined


class Subscriber:
    def __init__(self):
        self.calls = []

    def zone_changed(self, served, before):
        self.calls.append((served.origin, before, served.current))

    def zone_removed(self, served):
        self.calls.append((served.origin, "removed"))


def test_a_handler_with_a_matcher_is_no_source_of_zones():
    zones = ServedZones()
    assert zones_of(SimpleNamespace(zones=zones)) is zones
    assert zones_of(SimpleNamespace(zones=ZoneMatcher(["."]))) is None
    assert zones_of(object()) is None


def test_subscribers_see_versions_come_and_go():
    one, two = texts.zone_from(""), texts.zone_from("a A 192.0.2.1")
    zones, subscriber = ServedZones(), Subscriber()
    served = ServedZone(texts.ORIGIN)
    zones.subscribe(subscriber)
    zones.add(served)
    assert subscriber.calls == []
    served.replace(one)
    served.replace(two)
    served.expire()
    assert served.is_expired
    served.replace(one)
    assert not served.is_expired
    zones.remove(texts.ORIGIN)
    zones.remove(texts.ORIGIN)
    o = texts.ORIGIN
    changes = [(o, None, one), (o, one, two), (o, two, None), (o, None, one), (o, "removed")]
    assert subscriber.calls == changes
    zones.add(ServedZone(texts.ORIGIN, two))
    assert subscriber.calls[-1] == (o, None, two)
    assert len(zones) == 1
    assert zones.find(from_text("a.b.example.org.")) is zones.get(o)
    assert zones.find(from_text("org.")) is None
    assert [it.current for it in zones] == [two]
    assert repr(zones.get(o)) == f"<ServedZone example.org. {two!r}>"


def test_a_large_zone_is_released_in_a_thread():
    zone = texts.zone_from("".join(f"h{number} A 192.0.2.1\n" for number in range(2100)))
    nodes, threads = zone.nodes, []
    assert len(nodes) > 2000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda it: threads.append(it))
        del zone
    (thread,) = threads
    assert nodes
    thread.run()
    assert not nodes


def test_the_memory_of_a_record(monkeypatch):
    """At most 250 bytes for a name with one address."""
    tracemalloc = pytest.importorskip("tracemalloc")
    builder = ZoneBuilder(texts.ORIGIN)
    builder.add(texts.ORIGIN, 1, c.TYPE_SOA, rdata_from_text(c.TYPE_SOA, "a. b. 1 2 3 4 5"))
    number = 4000
    monkeypatch.setattr(time, "sleep", lambda _: None)
    tracemalloc.start()
    try:
        for it in range(number):
            builder.add(from_text(f"host{it}.example.org."), 300, c.TYPE_A, it.to_bytes(4, "big"))
        zone = builder.build()
        del builder
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert zone.records == number + 1
    assert used / number < 250
