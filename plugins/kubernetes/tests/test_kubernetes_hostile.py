"""Objects and API servers made to harm: all that they can cost is themselves."""

import asyncio
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns.reply_validation import reply_problem
from corepy.testing import helper_module, make_request
from corepy_kubernetes import api_store, api_turns, api_watch
from corepy_kubernetes.api_decode import decoder
from corepy_kubernetes.api_store import Store
from corepy_kubernetes.item_lines import Put, decode, encode
from corepy_kubernetes.lookup import MOST_TARGETS
from corepy_kubernetes.objects import Kind, Needs, Port, Service, Slice

fake = helper_module(__file__, "kubernetes_api_server")
feeds = helper_module(__file__, "kubernetes_feed")
kube = helper_module(__file__, "kubernetes_cluster")

ONLY_SERVICES = Needs(slices=False)
NS = "testns.svc.cluster.local."
HALF = "\ud800"
"""Half of a surrogate pair, which JSON may contain and UTF-8 may not."""


def problem(request, reply):
    """Return why a reply is not valid, although its handler vouches for it."""
    reply.validated = None
    return reply_problem(request, reply)


# -- the work of a query


def many(count):
    packed = b"".join(bytes((10, at >> 16 & 255, at >> 8 & 255, at & 255)) for at in range(count))
    return kube.slice_of("hdls1", "10.0.0.0", ports=PORTS)._replace(addresses=packed)


PORTS = tuple(Port(f"p{number}", "TCP", number) for number in range(100))


@pytest.fixture(scope="module")
def large():
    """A cluster with a service that has 10,000 endpoints with 100 ports, and one with them all."""
    ported = kube.service("ports", "10.0.0.9", ports=PORTS * 100)
    return kube.Cluster([*kube.objects()[:1], kube.service("hdls1"), ported, many(10_000)])


@pytest.mark.parametrize(
    ("qtype", "most"),
    [("A", MOST_TARGETS), ("AAAA", 1), ("SRV", MOST_TARGETS), ("MX", 1)],
    ids=["A", "AAAA", "SRV", "MX"],
)
@pytest.mark.parametrize("name", ["hdls1.", "_p7._tcp.hdls1."])
def test_the_work_of_a_query_has_a_limit(large, monkeypatch, name, qtype, most):
    finder, made = large.handler.finder, []
    label = finder.label
    monkeypatch.setattr(finder, "label", lambda *args: made.append(args) or label(*args))
    request = make_request(name + NS, qtype)
    reply = large.handler.begin_dns(request)
    assert len(made) <= most
    assert reply.rcode == c.NOERROR
    assert problem(request, reply) is None


def test_the_ports_of_a_service_do_not_multiply_its_addresses(large):
    for qtype in ("A", "SRV"):
        request = make_request("ports." + NS, qtype)
        assert problem(request, large.handler.begin_dns(request)) is None


def test_a_chain_of_aliases_of_any_length_is_reported():
    """A recursive report would end at the interpreter's limit, and the watch with it."""
    count = sys.getrecursionlimit()
    names = [f"a{number}.{NS}" for number in range(count + 1)]
    aliases = [
        kube.service(f"a{number}", external_name=names[number + 1]) for number in range(count)
    ]
    cluster = kube.Cluster([*kube.objects()[:1], *aliases])
    for name in names:
        answer = cluster.handler.begin_dns(make_request(name, "A"))
        if asyncio.iscoroutine(answer):
            answer.close()
    cluster.index.remove(Kind.SERVICE, "testns", f"a{count - 1}")
    changed = cluster.answered.take_changes(cluster.handler.own_zones, ())
    assert changed(make_request(names[0], "A").name_wire)


# -- names that DNS cannot have


@pytest.mark.parametrize("name", ["x" * 64, "é", HALF], ids=["long", "bytes", "surrogate"])
@pytest.mark.parametrize("kind", [Kind.SERVICE, Kind.NAMESPACE, Kind.IMPORT])
def test_an_object_without_a_usable_name_is_ignored(kind, name):
    decode_object = decoder(kind, Needs())
    assert decode_object({"metadata": {"name": name}}) is None
    assert decode_object({"metadata": {"name": "x" * 63}}) is not None


@pytest.mark.parametrize("name", ["x" * 64, "x" * 255, "é" * 40, HALF], ids=["64", "255", "bytes", "half"])  # fmt: skip
def test_a_host_name_that_cannot_be_a_label_is_replaced_by_the_address(name):
    content = fake.endpoint_slice("a", "hdls1", [fake.endpoint("10.9.0.1", hostname=name)], namespace="testns")  # fmt: skip
    found = decoder(Kind.SLICE, Needs())(content)
    cluster = kube.Cluster([*kube.objects()[:1], kube.service("hdls1"), found.item])
    request = make_request("hdls1." + NS, "SRV")
    assert cluster.handler.begin_dns(request).wire.count(b"\x0810-9-0-1") == 0  # no port
    names = list(cluster.handler.names_of(bytes((10, 9, 0, 1))))
    assert names[0].startswith(b"\x0810-9-0-1")
    assert isinstance(found.item, Slice)
    bad = found.item._replace(hostnames=(name,))
    with pytest.raises(ValueError, match=r"label|text"):
        decode(json.loads(encode(Put(Kind.SLICE, bad))))


ANY_TEXT = st.text(st.characters(), max_size=70) | st.sampled_from(
    [HALF, "None", "x" * 300, "", "a.b"]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.sampled_from(["10.0.0.1", "::1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
FIELDS = {
    Kind.SERVICE: {
        "spec": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("clusterIP", "clusterIPs", "externalIPs", "ports"), ANY_JSON)
            | {"type": st.sampled_from(["ExternalName"]), "externalName": ANY_TEXT},
        ),
        "status": ANY_JSON,
    },
    Kind.SLICE: {
        "addressType": ANY_JSON | st.sampled_from(["IPv4", "IPv6"]),
        "ports": st.lists(st.fixed_dictionaries({"name": ANY_TEXT, "protocol": ANY_TEXT, "port": ANY_JSON}), max_size=2),
        "endpoints": st.lists(
            st.fixed_dictionaries(
                {"addresses": st.lists(st.sampled_from(["10.0.0.1", "::1", "::ffff:1.2.3.4", "x"]), max_size=3)},
                optional={"hostname": ANY_TEXT, "zone": ANY_TEXT, "targetRef": ANY_JSON},
            ),
            max_size=3,
        ),
    },
}  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), kind=st.sampled_from([Kind.SERVICE, Kind.SLICE]))
def test_any_object_gets_valid_replies_and_has_a_line(data, kind):
    needs = Needs(pod_names=True, zones=True)
    name = data.draw(st.sampled_from(["svc", "hdls1"]) | ANY_TEXT)
    labels = {"kubernetes.io/service-name": data.draw(st.just("hdls1") | ANY_TEXT)}
    content = data.draw(st.fixed_dictionaries(FIELDS[kind]))
    content["metadata"] = {"namespace": "testns", "name": name, "labels": labels}
    found = decoder(kind, needs)(content)
    if found is None:
        return
    assert found.item is not None
    assert decode(json.loads(encode(Put(kind, found.item)))) == Put(kind, found.item)
    cluster = kube.Cluster([*kube.objects()[:1], kube.service("hdls1"), found.item], needs=needs)
    for asked in ("svc.", "hdls1.", "_a._tcp.hdls1."):
        for qtype in ("A", "AAAA", "SRV", "CNAME"):
            request = make_request(asked + NS, qtype)
            reply = cluster.handler.begin_dns(request)
            if asyncio.iscoroutine(reply):
                reply.close()
            else:
                assert problem(request, reply) is None


def test_a_kind_has_a_largest_number_of_objects(monkeypatch, caplog):
    monkeypatch.setattr(api_store, "MOST_OBJECTS", 2)
    store = Store([Kind.SERVICE])
    for number in range(4):
        store.put(Service("a", f"s{number}", False, (), ()))
    store.put(Service("a", "s1", True, (), ()))
    assert [it.name for it in store.items(Kind.SERVICE)] == ["s0", "s1"]
    assert [it.headless for it in store.items(Kind.SERVICE)] == [False, True]
    assert caplog.text.count("more than 2 services") == 1
    listed = store.relist(Kind.SERVICE)
    for number in range(1, 9):
        listed.put(Service("a", f"s{number}", False, (), ()))
        listed.keep("a", f"s{number + 100}")
    assert len(listed._keys) == 1  # objects that are left out take no memory
    listed.finish()
    assert [it.name for it in store.items(Kind.SERVICE)] == ["s1"]


@pytest.mark.parametrize("watch_list", [False, True])
def test_a_list_without_the_known_objects_leaves_turns_to_others(monkeypatch, watch_list):
    """A cluster that was made anew, or another one: all objects go at once."""
    monkeypatch.setattr(api_watch, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(api_turns, "WORK", 0.0)

    async def main():
        seen = set()

        async def look(feed):
            while True:
                seen.add(len(feed.names()))
                await asyncio.sleep(0)

        async with fake.serving(fake.FakeAPI(watch_list=watch_list)) as api:
            for number in range(20):
                api.put("services", fake.service(f"s{number}"))
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
                await api.watched("services")
                api.objects["services"].clear()
                api.compact()
                looking = asyncio.create_task(look(feed))
                api.end_watches()
                await feed.until_names()
                looking.cancel()
        assert len(seen) > 10

    asyncio.run(main())


# -- API servers


def page(token, *items):
    meta = {"resourceVersion": "9", "continue": token}
    return 200, [], {"kind": "ServiceList", "metadata": meta, "items": list(items)}


@pytest.mark.parametrize("tokens", ["aa", "aba", "abcd"])
def test_a_list_without_an_end_is_given_up(monkeypatch, caplog, tokens):
    """Its tokens are repeated, or there are too many."""
    monkeypatch.setattr(api_watch, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(api_watch, "MOST_PAGES", 3)

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.put("services", fake.service("web"))
            for token in tokens:
                api.fail(page(token, fake.service("phantom")), "services", watch=False)
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
                assert feed.names() == ["web"]
            assert not api.faults

    asyncio.run(main())
    assert "services: a list has no end" in caplog.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ((200, [("Content-Encoding", "gzip")], "\x1f"), "encoded with gzip, which was not requested"),
        ((301, [("Location", "https://login.example/")], "moved"), "redirect to https://login.example/"),
        ((200, [], "<html>Sign in</html>"), "unexpected '<' in JSON"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", "a list has no resource version"),
        (b"HTTP/1.0 200 OK\r\n\r\n{", "ends early"),
        ((200, [], {f"a{it}": 1 for it in range(1001)}), "more than 1000 members"),
    ],
    ids=["gzip", "redirect", "html", "http10", "cut", "members"],
)  # fmt: skip
def test_responses_that_are_not_of_an_api(monkeypatch, caplog, fault, reason):
    monkeypatch.setattr(api_watch, "FIRST_DELAY", 0.001)

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.put("services", fake.service("web"))
            api.fail(fault, "services", watch=False)
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
                assert feed.names() == ["web"]

    asyncio.run(main())
    assert reason in caplog.text
