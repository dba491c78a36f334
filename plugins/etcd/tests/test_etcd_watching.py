"""Following etcd: faults that a real one does not show on demand, from a fake gateway."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.http.http_client import parse_url
from corepy.testing import until
from corepy_etcd import gateway as gateway_module
from corepy_etcd import watching
from corepy_etcd.gateway import Gateway
from corepy_etcd.store import Store
from corepy_etcd.watching import FAILURES, Watcher

KEY = b"/skydns/test/"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(watching, "LAST_PAUSE", 0.001)


def encoded(data):
    return base64.b64encode(data).decode()


def item(label, host="192.0.2.1", revision=1):
    """A key with a service, as etcd sends it; without a host, a key only."""
    members = {"key": encoded(KEY + label.encode()), "mod_revision": str(revision)}
    return members | ({"value": encoded(json.dumps({"host": host}).encode())} if host else {})


def header(revision, cluster="1"):
    return {"cluster_id": cluster, "revision": str(revision)}


def listed(revision, *items, **others):
    return {"header": header(revision), "kvs": list(items), "count": "1"} | others


def put(*items):
    return [{"kv": it} for it in items]


def removed(label, revision):
    return {"type": "DELETE", "kv": item(label, None, revision)}


def watched(revision, events=(), cluster="1", **others):
    return {"result": {"header": header(revision, cluster), "events": list(events)} | others}


def created(revision=10, **others):
    return watched(revision, created=True, **others)


HANG = object()


class FakeEtcd:
    """Answers each request with the next entry of a script.

    An entry is a list of documents, each a line; HANG keeps the connection open; bytes are sent as
    they are; a number is the status. `by_path` has functions for requests out of the script.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.requests = []
        self.by_path: dict[str, Callable[[], list[Any]]]
        self.by_path = {"maintenance/status": lambda: [{}]}

    def _next(self):
        return list(self.script.pop(0)) if self.script else [HANG]

    async def _serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split()[0])
            path = head.split()[1].decode().removeprefix("/v3/")
            self.requests.append((path, json.loads(await reader.readexactly(length))))
            parts = self.by_path.get(path, self._next)()
            status = parts.pop(0) if isinstance(parts[0], int) else 200
            writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n" % status)
            for part in parts:
                if part is HANG:
                    await writer.drain()
                    await reader.read()
                    break
                writer.write(part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield parse_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        finally:
            server.close()


def follow(fake, condition):
    """Follow a fake etcd until a condition on (store, watcher) is true; return both."""

    async def run():
        async with fake.running() as target:
            store = Store("/skydns/", lambda key: None)
            watcher = Watcher(Gateway([target]), store, lambda: None, lambda lease: None)
            watcher.start()
            try:
                await until(lambda: condition(store, watcher))
            finally:
                watcher.stop()
            return store, watcher

    return asyncio.run(run())


def labels(store):
    return sorted(key.removeprefix(KEY).decode() for key in store.entries)


def has(*wanted):
    return lambda store, watcher: labels(store) == list(wanted) and not watcher.problem


def watches(fake):
    return [body["create_request"] for path, body in fake.requests if path == "watch"]


def test_a_watch_that_breaks_continues_at_the_next_revision():
    fake = FakeEtcd(
        [listed(5, item("a"))],
        [created(), watched(7, put(item("b", revision=7)))],
        [created(), watched(9, [removed("a", 9)]), HANG],
    )
    follow(fake, has("b"))
    assert [it["start_revision"] for it in watches(fake)] == ["6", "8"]
    assert all(it["progress_notify"] and it["fragment"] for it in watches(fake))


def test_the_header_may_be_ahead_of_the_events():
    """Events of the past arrive in several responses, all with the present revision."""
    fake = FakeEtcd(
        [listed(5)],
        [created(), watched(900, put(item("a", revision=6)))],
        [created(), watched(900, put(item("b", revision=7))), watched(901), HANG],
        [created(), HANG],
    )
    _, watcher = follow(fake, lambda store, watcher: watcher.revision == 901)
    assert [it["start_revision"] for it in watches(fake)] == ["6", "7"]
    assert watcher.revision == 901


def test_an_incomplete_revision_is_asked_for_again():
    fake = FakeEtcd(
        [listed(5)],
        [created(), watched(6, put(item("a", revision=6)), fragment=True)],
        [created(), watched(6, put(item("a", revision=6), item("b", revision=6))), HANG],
    )
    follow(fake, has("a", "b"))
    assert [it["start_revision"] for it in watches(fake)] == ["6", "6"]


RELISTED = [listed(20, item("b"))]


@pytest.mark.parametrize(
    "watch",
    [
        [created(compact_revision="15", canceled=True)],
        [created(), watched(10, compact_revision="15", canceled=True)],
        [created(3)],  # an etcd that was made anew
        [created(10, cluster="2")],
        [400, {"error": "etcdserver: mvcc: required revision has been compacted", "code": 11}],
    ],
)
def test_without_the_history_all_keys_are_listed_again(watch):
    fake = FakeEtcd([listed(5, item("a"))], watch, RELISTED, [created(20), HANG])
    follow(fake, has("b"))
    paths = [path for path, _ in fake.requests]
    assert paths == ["kv/range", "watch", "kv/range", "watch"]


def test_a_value_that_cannot_be_used_costs_only_itself():
    """One that no reply could have would otherwise end the list, and each one after it."""
    fake = FakeEtcd([listed(5, item("a", "\ud800"), item("b"))], [created(), HANG])
    store, watcher = follow(fake, has("b"))
    assert (len(store.unusable), watcher.failures) == (1, 0)


def test_pages_are_of_one_revision():
    fake = FakeEtcd(
        [listed(5, item("a"), item("b"), more=True)],
        [listed(6, item("c"))],
        [created(), HANG],
    )
    follow(fake, lambda store, watcher: has("a", "b", "c")(store, watcher) and watches(fake))
    (_, first), (_, second), _ = fake.requests
    assert (first["revision"], second["revision"]) == ("0", "5")
    assert base64.b64decode(second["key"]) == KEY + b"b\0"
    assert base64.b64decode(second["range_end"]) == b"/skydns0"
    assert watches(fake)[0]["start_revision"] == "6"


def test_a_compaction_between_two_pages():
    fake = FakeEtcd(
        [listed(5, item("a"), more=True)],
        [400, {"error": "mvcc: required revision has been compacted"}],
        RELISTED,
        [created(20), HANG],
    )
    follow(fake, has("b"))


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        ([503, {"error": "etcdserver: no leader", "code": 14}], "etcdserver: no leader"),
        ([500], "HTTP status 500"),
        ([403, {"message": "permission denied", "code": 7}], "permission denied"),
        ([b"<html>"], "unexpected '<' in JSON"),
        ([b'{"kvs": [1]}'], "a key is not an object"),
        ([b'{"kvs": [{"key": 5}], "header": {}}'], "key is not a string"),
        ([b'{"kvs": [{"key": "?"}], "header": {}}'], "key is not base64"),
        ([b'{"kvs": [], "header": 5}'], "header is not an object"),
        ([b'{"kvs": ['], "the JSON document ends early"),
        ([listed(5, item("b"), item("a"))], "the list of keys is not in order"),
        ([b"{}"], "the list of keys has no revision"),
        ([listed(0)], "the list of keys has no revision"),
        ([listed(5, more=True)], "the list of keys is not complete"),
    ],
)
def test_a_list_that_fails_is_read_again(caplog, response, problem):
    fake = FakeEtcd(response, response, RELISTED, [created(20), HANG])
    before = FAILURES.labels("/skydns/").value
    _, watcher = follow(fake, has("b"))
    warnings = [it for it in caplog.messages if "cannot be followed" in it]
    assert len([it for it in warnings if "not known yet" in it]) == 1  # once for both
    assert problem in warnings[0]
    assert "not known yet: http://127.0.0.1:" in warnings[0]
    assert (watcher.failures, FAILURES.labels("/skydns/").value - before) == (1, 1)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (watched(6, canceled=True, cancel_reason="etcdserver: no leader"), "no leader"),
        ({"error": {"grpc_code": 14, "message": "shutting down"}}, "shutting down"),
        ({"error": {"code": 14, "message": "shutting down"}}, "shutting down"),
        (b"{\n", "Expecting property name"),
        (b"5\n", "error"),
        (watched(6, [{"kv": 5}]), "kv is not an object"),
        ({"result": {"header": header(6), "events": 5}}, "events is not an array"),
        ({"result": {"header": header("x")}}, "invalid literal"),
    ],
)
def test_a_watch_that_fails_is_begun_anew(caplog, line, problem):
    fake = FakeEtcd(
        [listed(5, item("a"))],
        [created(), line, HANG],
        [created(), watched(6, put(item("b"))), HANG],
    )
    follow(fake, has("a", "b"))
    (warning,) = [it for it in caplog.messages if "cannot be followed" in it]
    assert "its names stay" in warning
    assert problem in warning
    assert "etcd is followed again" in caplog.text


def test_another_program_at_the_endpoint_takes_no_names_away():
    """Such as one that answers each request with an empty object."""
    fake = FakeEtcd(
        [listed(5, item("a"))],
        [watched(6, compact_revision="9", canceled=True)],
        [b"{}"],
        [listed(7, more=True)],
        [503],
        [503],
        [HANG],
    )
    known = []
    follow(fake, lambda store, _: known.append(labels(store)) or len(fake.requests) > 4)
    assert known[-1] == ["a"]


def test_a_watch_that_always_ends_at_once_is_begun_less_and_less_often(monkeypatch):
    monkeypatch.setattr(watching, "LAST_PAUSE", 60.0)
    end = watched(6, canceled=True, cancel_reason="etcdserver: no leader")
    fake = FakeEtcd([listed(5)], *[[created(), end]] * 4, [created(), HANG])
    _, watcher = follow(fake, lambda store, watcher: watcher.failures == 4 and not watcher.problem)
    assert watcher._backoff.next_delay() >= 0.001 * 2**3


def test_a_watch_demands_a_leader():
    heads = []

    class Recorder(FakeEtcd):
        async def _serve(self, reader, writer):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.close()

    async def run():
        fake = Recorder()
        async with fake.running() as target:
            with pytest.raises(OSError, match=r"^http://127.0.0.1:\d+: "):
                async for _ in Gateway([target]).watch({}):
                    pass

    asyncio.run(run())
    assert b"Grpc-Metadata-hasleader: true\r\n" in heads[0]


def test_an_endpoint_that_hangs_is_left(monkeypatch):
    """Its kernel keeps the connection of the watch, but a request gets no response."""
    monkeypatch.setattr(watching, "PROBE", 0.0)
    monkeypatch.setattr(gateway_module, "TIMEOUT", 60.0)

    async def run():
        fake = FakeEtcd([listed(5, item("a"))], [created(), HANG])
        async with fake.running() as target, Hanging().running() as other:
            store = Store("/skydns/", lambda key: None)
            gateway = Gateway([target])
            watcher = Watcher(gateway, store, lambda: None, lambda lease: None)
            watcher.start()
            await until(lambda: [path for path, _ in fake.requests].count("maintenance/status") > 1)
            assert watcher.failures == 0
            monkeypatch.setattr(gateway_module, "TIMEOUT", 0.1)
            gateway._sessions[0].target = other  # from now on
            await until(lambda: watcher.failures)
            watcher.stop()

    asyncio.run(run())


class Hanging(FakeEtcd):
    """Accepts connections and answers nothing."""

    async def _serve(self, reader, writer):
        try:
            await reader.read()
        finally:
            writer.close()


def test_an_endpoint_that_hangs_is_left_if_other_requests_have_left_it_before(monkeypatch):
    """The endpoint of the watch is probed, not that of the last request about a lease."""
    monkeypatch.setattr(watching, "PROBE", 0.0)
    monkeypatch.setattr(gateway_module, "TIMEOUT", 60.0)

    async def run():
        first = FakeEtcd([listed(5, item("a"))], [created(), HANG])
        second = FakeEtcd([created(), HANG])
        async with first.running() as target, second.running() as other, Hanging().running() as it:
            store = Store("/skydns/", lambda key: None)
            gateway = Gateway([target, other])
            gateway._current = 0
            watcher = Watcher(gateway, store, lambda: None, lambda lease: None)
            watcher.start()
            await until(lambda: watches(first))
            monkeypatch.setattr(gateway_module, "TIMEOUT", 0.1)
            gateway._sessions[0].target = it  # from now on
            gateway.fail_over()
            await until(lambda: watches(second))
            watcher.stop()

    asyncio.run(run())


def test_leases_are_checked_one_by_one_and_again(monkeypatch):
    monkeypatch.setattr("corepy_etcd.leases.SHORTEST_PAUSE", 0.0)
    leased = item("a") | {"lease": "7"}
    fake = FakeEtcd([listed(5, leased)], [created(), HANG])
    answers: list[list[object]] = [[{"TTL": "50", "grantedTTL": "0"}], [503], [{"TTL": "-1"}]]

    def answer():
        return answers.pop(0) if answers else [{"TTL": "40", "grantedTTL": "0"}]

    fake.by_path["lease/timetolive"] = answer
    monkeypatch.setattr(watching, "LEASE_RETRY", 0.0)
    store, _ = follow(fake, lambda store, _: not answers and store.leases.ends.get(7))
    assert store.leases.next_due()[1] == 7
    assert all(body == {"ID": "7"} for path, body in fake.requests if path == "lease/timetolive")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["header", "events", "kv", "key", "value", "result", "revision", "kvs"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


def test_no_document_of_a_watch_ends_the_task():
    """Whatever is decoded either is applied, or raises what the task expects."""

    async def check(document):
        store = Store("/skydns/", lambda key: None)
        watcher = Watcher(Gateway([parse_url("http://a")]), store, print, print)
        try:
            result = watcher._gateway._result(document)
            watcher._check(result)
            await watcher._apply(result)
        except (OSError, ValueError, watching.Compacted):
            pass

    @settings(max_examples=50, database=None, deadline=None)
    @given(JSON)
    def run(document):
        asyncio.run(check(document))

    run()
