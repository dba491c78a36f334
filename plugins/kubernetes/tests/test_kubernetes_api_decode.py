"""The fields of API objects that DNS needs, and what remains of malformed ones."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.testing import helper_module
from corepy_kubernetes.answered import Answered
from corepy_kubernetes.api_decode import decoder, version_number
from corepy_kubernetes.api_store import MOST_TOMBSTONES, ChangeQueue, Store
from corepy_kubernetes.index import Index
from corepy_kubernetes.item_lines import Put, Removed, Synced, decode, encode
from corepy_kubernetes.objects import (
    Import,
    Kind,
    Namespace,
    Needs,
    Pod,
    Port,
    Serials,
    Service,
    Slice,
)

fake = helper_module(__file__, "kubernetes_api_server")

ALL = Needs(pods=True, imports=True, pod_labels=True, pod_names=True, zones=True)
HTTP = ("http", "TCP", 80)
BALANCED = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}, {}]}}


def decoded(kind, content, needs=ALL):
    return decoder(kind, needs)(content).item


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            fake.service("web", "ns", ["10.0.0.1", "2001:db8::1"], [HTTP]),
            Service("ns", "web", False, (b"\x0a\0\0\1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\1"), (Port(*HTTP),)),
            id="dual stack",
        ),
        pytest.param(fake.service("h", "ns"), Service("ns", "h", True, (), ()), id="headless"),
        pytest.param(
            fake.service("x", "ns", clusterIPs=[], clusterIP="", type="ExternalName", externalName="a.example"),
            Service("ns", "x", False, (), (), "a.example"),
            id="alias",
        ),
        pytest.param(
            fake.service("e", "ns", ["10.0.0.1"], externalIPs=["192.0.2.9", "x"], status=BALANCED),
            Service(
                "ns", "e", False, (b"\x0a\0\0\1",), (),
                external=(b"\xc0\0\2\x09", "x", b"\xc0\0\2\1", "lb.example"),
            ),
            id="external",
        ),
        pytest.param(
            {"metadata": {"name": "old"}, "spec": {"clusterIP": "10.0.0.1"}},
            Service("", "old", False, (b"\x0a\0\0\1",), ()), id="only clusterIP",
        ),
        pytest.param(
            {"metadata": {"name": "bad"}, "spec": {"clusterIPs": 7, "ports": [{"port": "80"}, 1], "clusterIP": []}},
            Service("", "bad", False, (), (Port("", "", -1),)), id="malformed",
        ),
    ],
)  # fmt: skip
def test_services(content, expected):
    assert decoded(Kind.SERVICE, content) == expected


def test_slices():
    endpoints = [
        fake.endpoint("10.1.0.1", hostname="a", zone="Z1", targetRef={"kind": "Pod", "name": "p"}),
        fake.endpoint("10.1.0.2", ready=False),
        fake.endpoint("10.1.0.3", ready=None, targetRef={"name": "x" * 64}),
        fake.endpoint("nonsense", "2001:db8::1"),
        7,
    ]
    content = fake.endpoint_slice("s", "web", endpoints, [HTTP, (None, None, None)], "ns")
    plain = Slice(
        "ns", "s", "web", (Port(*HTTP), Port("", "", -1)), 4, b"\x0a\1\0\1\x0a\1\0\3", ("a", "")
    )
    assert decoded(Kind.SLICE, content, Needs()) == plain
    assert decoded(Kind.SLICE, content) == plain._replace(pods=("p", ""), zones=("z1", ""))


def test_slices_of_other_families_and_clusters():
    labels = {
        "multicluster.kubernetes.io/service-name": "svc",
        "multicluster.kubernetes.io/source-cluster": "east",
    }
    addresses = fake.endpoint("2001:db8::1", "10.0.0.1")
    content = fake.endpoint_slice("s", "web", [addresses], family="IPv6", labels=labels)
    found = decoded(Kind.SLICE, content)
    assert (found.size, len(found.addresses), found.imported, found.cluster) == (
        16,
        16,
        "svc",
        "east",
    )
    content["addressType"] = "FQDN"
    content["endpoints"] = [fake.endpoint("a.example")]
    assert decoded(Kind.SLICE, content).addresses == b""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-30T08:00:00.123456789Z", 1796025600.123456),
        ("2026-11-30T09:00:00+01:00", 1796025600.0),
        ("yesterday", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("2026-11-30T08:00:00", None),
        (7, None),
    ],
)
def test_the_time_of_the_change_that_has_caused_a_slice(text, expected):
    content = fake.endpoint_slice("s", "web", triggered=text)
    assert decoder(Kind.SLICE, ALL)(content).triggered == expected


def test_others():
    pod = fake.pod("p", "ns", ["10.1.0.1"], {"app": "web"})
    assert decoded(Kind.POD, pod) == Pod("ns", "p", (b"\x0a\1\0\1",), (("app", "web"),))
    assert decoded(Kind.POD, pod, Needs(pods=True)).labels == ()
    del pod["status"]["podIPs"]
    assert decoded(Kind.POD, pod).addresses == (b"\x0a\1\0\1",)
    assert decoded(Kind.POD, fake.pod("p", deletionTimestamp="now")) is None
    assert decoded(Kind.NAMESPACE, fake.namespace("ns")) == Namespace("ns")
    imported = fake.service_import("i", "ns", ["10.2.0.1"], [HTTP])
    assert decoded(Kind.IMPORT, imported) == Import(
        "ns", "i", False, (b"\x0a\2\0\1",), (Port(*HTTP),)
    )
    assert decoded(Kind.IMPORT, fake.service_import("i", kind="Headless")).headless


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda it: st.lists(it, max_size=3) | st.dictionaries(st.text(max_size=5), it, max_size=3),
    max_leaves=5,
)
PLACES = ["metadata", "spec", "status", "endpoints", "ports", "addressType"]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(Kind), st.dictionaries(st.sampled_from(PLACES), JSON) | JSON, st.data())
def test_any_json_is_an_object_or_none(kind, content, data):
    if isinstance(content, dict) and data.draw(st.booleans()):
        content["metadata"] = {"name": "x", **data.draw(st.dictionaries(st.text(max_size=5), JSON))}
        for place, keys in (("spec", ["clusterIPs", "ports", "ips"]), ("status", ["podIPs"])):
            content[place] = data.draw(st.dictionaries(st.sampled_from(keys), JSON))
    found = decoder(kind, ALL)(content)
    if found is not None and found.item is not None:
        assert decode(json.loads(encode(Put(kind, found.item)))) == Put(kind, found.item)
        index = Index(ALL, Answered())
        index.put(found.item)
        index.remove(kind, found.namespace, found.name)


@pytest.mark.parametrize("text", ["x" * 64, "\u00fc", "\ud800"])
def test_texts_that_no_label_can_be(text):
    """The API does not have them; in the index they would end the watch, or make broken names."""
    endpoint = fake.endpoint("10.1.0.1", hostname=text, targetRef={"name": text})
    found = decoded(Kind.SLICE, fake.endpoint_slice("a", "web", [endpoint], [HTTP]))
    assert (found.hostnames, found.pods) == ((), ())
    line = Put(Kind.SLICE, found._replace(hostnames=(text,)))
    with pytest.raises(ValueError, match=r"not a label|not a text"):
        decode(json.loads(encode(line)))
    if not text.isascii():
        assert decoder(Kind.NAMESPACE, ALL)(fake.namespace(text)) is None


ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
ASCII = st.characters(max_codepoint=127)
TEXT = st.text(ASCII, max_size=5)
NAME = st.text(ASCII, min_size=1, max_size=5)
PORTS = st.lists(st.builds(Port, TEXT, TEXT, st.integers(-1, 65535)), max_size=2).map(tuple)
ADDRESSES = st.lists(ADDRESS, max_size=2).map(tuple)
ITEMS = st.one_of(
    st.builds(
        Service, TEXT, NAME, st.booleans(), ADDRESSES, PORTS, st.none() | TEXT,
        st.lists(ADDRESS | TEXT, max_size=2).map(tuple),
    ),
    st.builds(
        Slice, TEXT, NAME, TEXT, PORTS, st.just(4), st.just(bytes(8)), st.just(("a", "b")), st.just(()),
        st.tuples(TEXT, TEXT), TEXT, TEXT,
    ),
    st.builds(Namespace, NAME),
    st.builds(Pod, TEXT, NAME, ADDRESSES, st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple)),
    st.builds(Import, TEXT, NAME, st.booleans(), ADDRESSES, PORTS),
)  # fmt: skip
CHANGES = st.one_of(
    ITEMS.map(lambda it: Put(_kind(it), it)),
    st.builds(Put, st.just(Kind.NAMESPACE), st.builds(Namespace, NAME), st.floats(0, 2**40)),
    st.builds(Removed, st.sampled_from(Kind), TEXT, TEXT),
    st.builds(Synced, st.sampled_from(Kind)),
    st.builds(Serials, *[st.integers(0, 2**40)] * 3),
)


def _kind(item):
    from corepy_kubernetes.objects import KINDS

    return KINDS[type(item)]


@settings(max_examples=50, deadline=None)
@given(CHANGES)
def test_a_change_is_a_line_and_a_line_is_a_change(change):
    line = encode(change)
    assert line.count(b"\n") == 1
    found = decode(json.loads(line))
    assert (type(found), found) == (type(change), change)


@settings(max_examples=50, deadline=None)
@given(CHANGES, st.data())
def test_a_line_with_another_value_is_a_change_or_an_error(change, data):
    words = json.loads(encode(change))
    place = words
    while isinstance(place, list) and place:
        index = data.draw(st.integers(0, len(place) - 1))
        if not isinstance(place[index], list) or data.draw(st.booleans()):
            place[index] = data.draw(JSON | st.floats())
            break
        place = place[index]
    with suppress(ValueError):
        decode(words)


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("", -1), ("-1", -1), ("\u0661", -1), ("9" * 40, -1), (7, -1)]
)
def test_versions(text, number):
    assert version_number(text) == number


# -- the store


class Recorder:
    def __init__(self):
        self.changes = []

    def change(self, change):
        self.changes.append(change)


def test_the_store_passes_effective_changes_only():
    store, recorder = Store([Kind.NAMESPACE]), Recorder()
    store.receivers.append(recorder)
    relist = store.relist(Kind.NAMESPACE)
    relist.put(Namespace("a"), 5)
    relist.finish()
    store.put(Namespace("a"), 6)
    store.put(Namespace("b"), 7)
    store.remove(Kind.NAMESPACE, "", "b", 8)
    store.remove(Kind.NAMESPACE, "", "b", 8)
    store.put(Namespace("b"), 7)
    store.put(Namespace("b"), 9)
    assert recorder.changes == [
        Put(Kind.NAMESPACE, Namespace("a")), Synced(Kind.NAMESPACE), Put(Kind.NAMESPACE, Namespace("b")),
        Removed(Kind.NAMESPACE, "", "b"), Put(Kind.NAMESPACE, Namespace("b")),
    ]  # fmt: skip
    assert (store.is_synced, len(store)) == (True, 2)


def test_removed_objects_are_remembered_up_to_a_limit():
    store = Store([Kind.NAMESPACE])
    for number in range(MOST_TOMBSTONES + 5):
        store.remove(Kind.NAMESPACE, "", f"n{number}", 100)
    for number in (0, MOST_TOMBSTONES):
        store.put(Namespace(f"n{number}"), 50)
    assert [it.name for it in store.items(Kind.NAMESPACE)] == ["n0"]


def test_a_queue_has_all_objects_and_then_the_last_change_of_each():
    store = Store([Kind.NAMESPACE])
    for name in "abc":
        store.put(Namespace(name))
    queue = ChangeQueue(store)
    assert queue.take(1) == [Put(Kind.NAMESPACE, Namespace("a"))]
    store.remove(Kind.NAMESPACE, "", "b")
    store.finish(Kind.NAMESPACE, {("", "a"), ("", "c")})
    assert queue.take(9) == [Put(Kind.NAMESPACE, Namespace("c")), Synced(Kind.NAMESPACE)]
    assert (bool(queue), queue.take(9)) == (False, [])
    put, other = Put(Kind.NAMESPACE, Namespace("a")), Put(Kind.NAMESPACE, Namespace("d"))
    for change in (put, other, Removed(Kind.NAMESPACE, "", "a")):
        queue.add(change)
    assert len(queue) == 2
    assert queue.take(1) == [Removed(Kind.NAMESPACE, "", "a")]
    assert queue.take(9) == [other]
    assert not queue
