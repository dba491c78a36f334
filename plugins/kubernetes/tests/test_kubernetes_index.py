"""The index: what a change costs, and which replies it removes from caches."""

import asyncio
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy.testing import helper_module, until
from corepy_kubernetes import answered as answered_module
from corepy_kubernetes.answered import Answered, ChangeNotifier
from corepy_kubernetes.index import Index
from corepy_kubernetes.metrics import PROGRAMMING, Programming
from corepy_kubernetes.names import OwnZones
from corepy_kubernetes.objects import Item, Kind, Namespace, Needs, Serials, pack_address

kube = helper_module(__file__, "kubernetes_cluster")
Cluster, service, slice_of = kube.Cluster, kube.service, kube.slice_of
NS = "testns.svc.cluster.local."


class Sink:
    """Records the keys that have changed."""

    def __init__(self):
        self.keys = []

    def changed(self, key):
        self.keys.append(key)

    def changed_namespaces(self):
        self.keys.append(...)


def index(needs=Needs(), **more):  # noqa: B008 - immutable
    sink = Sink()
    return Index(needs, sink, now=lambda: kube.SERIAL, **more), sink


# Lists.


def test_a_list_removes_nothing_before_its_end():
    found, _ = index()
    found.put(service("old", "10.0.0.1"))
    relist = found.relist(Kind.SERVICE)
    relist.put(service("new", "10.0.0.2"))
    assert found.count(Kind.SERVICE) == 2
    assert not found.has_synced(Kind.SERVICE)
    relist.finish()
    assert [it.name for it in found.items(Kind.SERVICE)] == ["new"]
    assert found.has_synced(Kind.SERVICE)
    assert not found.synced
    assert found.service_at(pack_address("10.0.0.1")) is None


def test_the_same_list_again_changes_nothing():
    found, sink = index()
    items = kube.objects()
    for _ in range(2):
        for kind in Kind:
            relist = found.relist(kind)
            for item in items:
                if type(item).__name__.lower() == kind.name.lower():
                    relist.put(item)
            relist.finish()
        before, sink.keys = sink.keys, []
    assert before == []
    assert found.synced


def test_an_object_that_is_added_during_a_list_is_removed_unless_it_is_listed():
    """A watch ends before a list begins, so what it adds comes from the list itself."""
    found, _ = index()
    relist = found.relist(Kind.POD)
    relist.put(kube.pod("a", "10.0.0.1"))
    relist.put(kube.pod("a", "10.0.0.2"))
    relist.finish()
    assert [it.name for it in found.pods_at(pack_address("10.0.0.2"))] == ["a"]
    assert not list(found.pods_at(pack_address("10.0.0.1")))


@pytest.mark.parametrize(
    ("needs", "kinds"),
    [
        (Needs(), {Kind.SERVICE, Kind.SLICE, Kind.NAMESPACE}),
        (Needs(slices=False), {Kind.SERVICE, Kind.NAMESPACE}),
        (Needs(pods=True), {Kind.SERVICE, Kind.SLICE, Kind.NAMESPACE, Kind.POD}),
        (
            Needs(slices=False, imports=True),
            {Kind.SERVICE, Kind.SLICE, Kind.NAMESPACE, Kind.IMPORT},
        ),
    ],
    ids=["usual", "noendpoints", "pods", "imports"],
)
def test_the_kinds_that_are_needed(needs, kinds):
    found, _ = index(needs)
    assert set(found.kinds) == kinds
    for kind in kinds:
        assert not found.synced
        found.relist(kind).finish()
    assert found.synced


def test_replies_change_when_all_kinds_are_known():
    """Those for names that do not exist: they were SERVFAIL."""
    found, sink = index(Needs(slices=False))
    found.relist(Kind.SERVICE).finish()
    assert sink.keys == []
    for _ in range(2):
        found.relist(Kind.NAMESPACE).finish()
        assert sink.keys == [...]


def test_removing_what_is_not_known():
    found, sink = index()
    for kind in Kind:
        found.remove(kind, "ns", "name")
    assert sink.keys == []
    assert found.serials == Serials()


# Serials.


def serials_after(*steps, items=()):
    """Which serials a change of objects moves."""
    cluster = Cluster(items, needs=Needs(imports=True, pods=True))
    before = cluster.index.serials
    cluster.now += 7
    for step in steps:
        step(cluster)
    after = cluster.index.serials
    return {name for name in Serials._fields if getattr(after, name) != getattr(before, name)}


OUT = service("svc1", "10.0.0.1", external=("1.2.3.4",))


@pytest.mark.parametrize(
    ("items", "step", "moved"),
    [
        ([], lambda it: it.add(service("a", "10.0.0.1")), {"internal"}),
        ([], lambda it: it.add(OUT), {"internal", "external"}),
        ([OUT], lambda it: it.remove(OUT), {"internal", "external"}),
        ([OUT], lambda it: it.add(OUT._replace(external=())), {"internal", "external"}),
        ([OUT], lambda it: it.add(OUT._replace(ports=())), {"internal", "external"}),
        ([OUT], lambda it: it.add(OUT._replace(addresses=())), {"internal"}),
        ([OUT], lambda it: it.add(OUT), set()),
        ([], lambda it: it.add(slice_of("a", "10.0.0.1")), {"internal"}),
        ([slice_of("a", "10.0.0.1")], lambda it: it.add(slice_of("a", "10.0.0.1")), set()),
        ([], lambda it: it.add(slice_of("", "10.0.0.1", imported="a")), {"imports"}),
        ([], lambda it: it.add(kube.imported("a", "10.0.0.1")), {"imports"}),
        ([], lambda it: it.add(kube.pod("a", "10.0.0.1")), {"internal"}),
        (
            [kube.pod("a", "10.0.0.1")],
            lambda it: it.add(kube.pod("a", "10.0.0.1", labels=(("x", "y"),))),
            set(),
        ),
        ([], lambda it: it.add(Namespace("x")), set()),
    ],
    ids=range(14),
)
def test_which_serials_move(items, step, moved):
    assert serials_after(step, items=items) == moved


# Any order of events leads to the same index.

NAMES = st.sampled_from(["a", "b"])
IPS = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=3, unique=True)
ITEMS = st.one_of(
    st.builds(lambda name, ips: service(name, *ips, external=ips), NAMES, IPS),
    st.builds(lambda name, ips, number: slice_of(name, *ips, number=number), NAMES, IPS, st.integers(1, 2)),
    st.builds(lambda name, ips, other: slice_of("x", *ips)._replace(service=name, imported=other), NAMES, IPS, NAMES),
    st.builds(lambda name, ips: kube.pod(name, *ips), NAMES, IPS),
    st.builds(lambda name, ips: kube.imported(name, *ips), NAMES, IPS),
)  # fmt: skip
EVENTS = st.lists(st.tuples(ITEMS, st.booleans()), max_size=30)


def state(found):
    """All tables of an index, without their order."""
    tables = {
        name: value
        for name, value in vars(found).items()
        if isinstance(value, dict) and name not in ("_putters",)
    }
    return {
        name: {key: sorted(it, key=repr) if isinstance(it, tuple) and not hasattr(it, "_fields") else it for key, it in table.items()}
        for name, table in tables.items()
    }  # fmt: skip


@given(EVENTS)
def test_the_tables_depend_only_on_the_objects(events):
    found, _ = index(Needs(pods=True, imports=True))
    known: dict[tuple[str, ...], Item] = {}
    for item, is_removed in events:
        key = (type(item).__name__, item.namespace, item.name)
        if is_removed:
            known.pop(key, None)
            kind = next(kind for kind in Kind if kind.name.lower() == key[0].lower())
            found.remove(kind, item.namespace, item.name)
        else:
            known[key] = item
            found.put(item)
    fresh, _ = index(Needs(pods=True, imports=True))
    for item in known.values():
        fresh.put(item)
    assert state(found) == state(fresh)


# Changes and caches.


def changed(cluster, *names):
    """Which of the names have changed since the last call."""
    changes = cluster.answered.take_changes(cluster.handler.own_zones, ())
    return [] if changes is None else [name for name in names if changes(from_text(name))]


SVC1, HDLS = f"svc1.{NS}", f"hdls1.{NS}"
BELOW = f"_http._tcp.svc1.{NS}"
POINTER = "1.0.0.10.in-addr.arpa."


def test_only_names_that_were_answered_are_removed_from_caches():
    zones = ["cluster.local.", "in-addr.arpa."]
    cluster = Cluster(kube.objects(), zones)
    cluster.add(service("svc1", "10.0.0.9"))
    assert changed(cluster, SVC1) == []
    cluster.ask(SVC1)
    cluster.ask(BELOW.upper(), "SRV")
    cluster.ask(POINTER, "PTR")
    cluster.add(service("hdls1", "10.0.0.8"))
    assert changed(cluster, SVC1, HDLS) == []
    cluster.add(service("svc1", "10.0.0.1"))
    assert changed(cluster, SVC1, HDLS, BELOW, POINTER, NS) == [SVC1, BELOW, POINTER]
    assert changed(cluster, SVC1) == []


def test_a_denied_name_that_begins_to_exist():
    cluster = Cluster(kube.objects())
    name = f"new.{NS}"
    assert cluster.ask(name)[0] == 3
    cluster.add(service("new", "10.0.0.99"))
    assert changed(cluster, name, SVC1) == [name]
    assert cluster.ask(name)[0] == 0


def test_a_prepared_answer_ends_with_its_data():
    cluster = Cluster(kube.objects())
    for qtype, shown in (("A", "172.0.0.77"), ("SRV", "172-0-0-77")):
        cluster.ask(HDLS, qtype)
        cluster.add(slice_of("hdls1", "172.0.0.77", number=9))
        assert shown in str(cluster.ask(HDLS, qtype)[1])
        cluster.remove(slice_of("hdls1", "172.0.0.77", number=9))
        assert shown not in str(cluster.ask(HDLS, qtype)[1])


def test_a_namespace_changes_all_names():
    cluster = Cluster(kube.objects(), namespaces={"testns"})
    cluster.ask(SVC1)
    cluster.add(Namespace("other"))
    assert changed(cluster, SVC1) == []
    cluster.remove(Namespace("testns"))
    assert changed(cluster, SVC1, HDLS, "example.org.") == [SVC1, HDLS]
    assert cluster.ask(SVC1)[0] == 3


def test_the_serial_alone_clears_no_cache():
    """Otherwise a client that asks for it would keep all caches empty in a busy cluster."""
    cluster = Cluster(kube.objects())
    cluster.ask("cluster.local.", "SOA")
    cluster.add(service("any", "10.0.0.50"))
    assert changed(cluster, "cluster.local.", SVC1) == []


def test_an_alias_changes_with_its_target():
    cluster = Cluster(kube.objects())
    alias = f"external-to-service.{NS}"
    cluster.ask(alias)
    cluster.add(service("svc1", "10.0.0.9"))
    assert changed(cluster, alias, SVC1, HDLS) == [alias]


def test_a_chain_of_aliases_of_any_length_changes():
    found = Answered()
    count = 2 * sys.getrecursionlimit()
    for number in range(count):
        found.note(b"%d" % number, b"%d" % number + bytes(4))
        found.note_alias(b"%d" % number, b"%d" % (number + 1))
    found.changed(b"%d" % count)
    assert len(found.take_changes(OwnZones(["cluster.local."]), ()).names) == count


def test_aliases_whose_targets_never_change(monkeypatch):
    """An alias has had many targets, and clients have asked for each."""
    monkeypatch.setattr(answered_module, "MOST_QUESTIONS", 3)
    found = Answered()
    for number in range(6):
        found.note(b"alias", b"\5alias\0" + bytes(4))
        found.note_alias(b"alias", b"%d" % number)
    assert len(found._aliases) <= 3
    found.changed(b"0")
    assert found.take_changes(OwnZones(["alias."]), ())(b"\5alias\0")


def test_a_pod_changes_its_name_and_its_reverse_name():
    from corepy_kubernetes.lookup import PodMode

    cluster = Cluster([Namespace("podns")], pods=PodMode.VERIFIED, needs=Needs(pods=True))
    name = "10-1-0-1.podns.pod.cluster.local."
    assert cluster.ask(name)[0] == 3
    cluster.add(kube.pod("a", "10.1.0.1"))
    assert changed(cluster, name, SVC1) == [name]


def test_more_names_than_are_remembered(monkeypatch):
    monkeypatch.setattr(answered_module, "MOST_QUESTIONS", 3)
    cluster = Cluster(kube.objects())
    for number in range(5):
        cluster.ask(f"x{number}.{NS}")
    cluster.add(service("any", "10.0.0.50"))
    assert changed(cluster, f"x0.{NS}", SVC1, "example.org.") == [f"x0.{NS}", SVC1]
    cluster.ask(SVC1)
    cluster.add(service("svc1", "10.0.0.9"))
    assert changed(cluster, SVC1, f"x0.{NS}") == [SVC1]


def test_more_answers_than_are_prepared(monkeypatch):
    monkeypatch.setattr(answered_module, "MOST_BYTES", 100)
    cluster = Cluster(kube.objects())
    for name in (SVC1, HDLS, f"svc6.{NS}", SVC1, HDLS):
        cluster.ask(name, "SRV")
        cluster.ask(name)
    cluster.add(service("svc1", "10.0.0.9"))
    assert "10.0.0.9" in str(cluster.ask(SVC1))


# The notifier.


def change(answered, key):
    """An answer for a key, whose name is the key, and a change of it."""
    answered.note(key, key + bytes(4))
    answered.changed(key)


def test_changes_are_reported_at_once_and_then_together(monkeypatch):
    monkeypatch.setattr(answered_module, "INTERVAL", 0)
    calls = []

    async def main():
        found = Answered()
        notices = ChangeNotifier(found, OwnZones(["cluster.local."]), ())
        entered, leave = asyncio.Event(), asyncio.Event()

        async def forget(is_changed):
            calls.append(sorted(is_changed.names))
            entered.set()
            await leave.wait()

        change(found, b"a")
        notices.start(forget)
        await entered.wait()
        for key in (b"b", b"c"):
            change(found, key)
        entered.clear()
        leave.set()
        await entered.wait()
        await notices.stop()
        change(found, b"a")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert calls == [[b"a"], [b"b", b"c"]]


def test_a_failure_of_a_cache_does_not_end_the_reports(monkeypatch):
    monkeypatch.setattr(answered_module, "INTERVAL", 0)
    calls = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        found = Answered()
        notices = ChangeNotifier(found, OwnZones(["cluster.local."]), ())

        async def forget(is_changed):
            calls.append(sorted(is_changed.names))
            if len(calls) == 1:
                raise RuntimeError

        notices.start(forget)
        for key in (b"a", b"b"):
            change(found, key)
            await until(lambda: notices._task is None)
        await notices.stop()

    asyncio.run(main())
    assert calls == [[b"a"], [b"b"]]


def test_stopping_while_the_caches_are_busy():
    async def main():
        found = Answered()
        notices = ChangeNotifier(found, OwnZones(["cluster.local."]), ())
        started = asyncio.Event()

        async def forget(is_changed):
            started.set()
            await asyncio.Event().wait()

        notices.start(forget)
        change(found, b"a")
        await started.wait()
        await notices.stop()
        await notices.stop()

    asyncio.run(main())


# Latency.


@pytest.mark.parametrize(
    ("items", "synced", "kind"),
    [
        ([service("a", "10.0.0.1")], True, "cluster_ip"),
        ([service("a")], True, "headless_with_selector"),
        ([], True, None),
        ([service("a")], False, None),
    ],
    ids=["cluster IP", "headless", "no service", "first list"],
)
def test_the_latency_of_changes(items, synced, kind):
    cluster = Cluster(items, synced=synced, latency=Programming(lambda: 1000.0))
    before = {labels: sum(child.counts) for labels, child in PROGRAMMING.children()}
    cluster.index.put(slice_of("a", "10.1.0.1"), 999.5)
    cluster.index.put(slice_of("a", "10.1.0.1"), 999.5)
    after = {labels: sum(child.counts) for labels, child in PROGRAMMING.children()}
    grown = {labels for labels in after if after[labels] != before.get(labels, 0)}
    assert grown == ({(kind,)} if kind else set())
    if kind:
        child = PROGRAMMING.labels(kind)
        assert after[kind,] == before.get((kind,), 0) + 1
        assert child.counts[child.bounds.index(0.512)] > 0
