"""The copy of a stand-in for Nomad: what it asks for, how it follows, and its bounds."""

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import Any

import pytest

from corepy.http.http_client import parse_url
from corepy.testing import helper_module
from corepy.testing.polling import until
from corepy_nomad import client as client_module
from corepy_nomad import following, namespaces, problems, unknown_namespaces
from corepy_nomad import source as source_module
from corepy_nomad.access import Access, Address
from corepy_nomad.answers import Answers
from corepy_nomad.namespaces import Denial, Failure
from corepy_nomad.source import Settings, Source, join, leave

NomadStub = helper_module(__file__, "nomad_stub").NomadStub


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    """Let nothing wait, so that the tests are fast, and nothing be late on a busy machine."""
    for name in ("SPACING", "REST", "POLL", "FIRST_PAUSE", "LAST_PAUSE"):
        monkeypatch.setattr(following, name, 0.001)
    for name in ("FIRST_PAUSE", "LAST_PAUSE", "RETRY", "REMEMBERED"):
        monkeypatch.setattr(source_module, name, 0.001)
    monkeypatch.setattr(client_module, "PAUSE", 0.001)
    monkeypatch.setattr(client_module, "TIMEOUT", 60.0)
    monkeypatch.setattr(source_module, "LONGEST_WAIT", 60.0)


@pytest.fixture
def stub():
    with NomadStub() as server:
        server.put("web", "192.0.2.1")
        yield server


class Member:
    """A handler and its context, which records the names that are removed from caches."""

    zone = b"\7service\5nomad\0"

    def __init__(self):
        self.selections = []
        self.context: Any = self

    async def forget_names(self, is_changed):
        self.selections.append(is_changed)

    def has_removed(self, service, namespace="default"):
        name = b"".join(bytes((len(it),)) + it.encode() for it in (service, namespace)) + self.zone
        return any(selection(name) for selection in self.selections)


@asynccontextmanager
async def following_of(*stubs, access=None):
    """The copy of some Nomads, and a member."""
    source = Source(Settings(tuple(Address(parse_url(it.url)) for it in stubs), access or Access()))
    member = Member()
    source.join(member, member.context)
    try:
        yield source, member
    finally:
        assert source.leave(member)


def addresses(outcome):
    """The addresses of a service; other outcomes as they are."""
    if not isinstance(outcome, Answers):
        return outcome
    return [it.address for it in outcome.instances]


async def load(source, service="web", namespace="default"):
    return addresses(await source.load(namespace, service))


def found(source, service="web", namespace="default"):
    return addresses(source.find(namespace, service))


def run(coroutine):
    return asyncio.run(coroutine)


def test_one_request_for_the_names_and_one_for_each_service_in_use(stub):
    async def check():
        stub.put("db", "192.0.2.2")
        async with following_of(stub) as (source, _):
            assert source.find("default", "web") is None
            replies = await asyncio.gather(*(load(source) for _ in range(20)))
            assert replies == [["192.0.2.1"]] * 20
            assert stub.asked() == ["/v1/service/web"]
            assert len([it for it in stub.requests if it[1] == {"namespace": "default"}]) == 2
            for name in range(100):
                assert source.find("default", f"random{name}") is Denial.NO_NAME
            assert found(source) == ["192.0.2.1"]
            assert source.find("default", None) is Denial.NO_DATA
            assert source.serial == stub.index
            await until(lambda: source.is_ready)
            assert stub.asked() == ["/v1/service/web"]

    run(check())


def test_changes_are_followed_and_removed_from_caches(stub):
    async def check():
        async with following_of(stub) as (source, member):
            await load(source)
            stub.put("web", "192.0.2.7")
            await until(lambda: found(source) == ["192.0.2.7"])
            await until(lambda: member.has_removed("web"))
            assert not member.has_removed("any")
            stub.put("new", "192.0.2.8")
            await until(lambda: member.has_removed("new"))
            assert await load(source, "new") == ["192.0.2.8"]
            member.selections.clear()
            stub.remove("web")
            await until(lambda: found(source) is Denial.NO_NAME)
            await until(lambda: member.has_removed("web"))
            asked = len(stub.asked())
            with stub.change():
                pass  # of another namespace, or of instances
            await until(lambda: len(stub.asked()) > asked)
            assert stub.asked()[asked:] == ["/v1/service/new"]
            assert not member.has_removed("new")

    run(check())


def test_names_are_found_without_regard_to_case(stub):
    async def check():
        stub.put("Web", "192.0.2.2")
        stub.put("Redis", "192.0.2.3")
        async with following_of(stub) as (source, _):
            assert await load(source, "web") == ["192.0.2.1", "192.0.2.2"]
            assert await load(source, "redis") == ["192.0.2.3"]
            assert "/v1/service/Redis" in stub.asked()
            stub.remove("Web")
            await until(lambda: found(source) == ["192.0.2.1"])

    run(check())


def test_nomad_that_is_away_takes_no_names_away(stub, caplog):
    async def check():
        async with following_of(stub) as (source, _):
            await load(source)
            stub.stop()
            await until(lambda: source.problems.is_present)
            assert await load(source) == ["192.0.2.1"]
            assert found(source, "no") is Denial.NO_NAME
            outcome = await load(source, "web", "other")
            assert isinstance(outcome, Failure)
            assert "Connection refused" in outcome.reason
            stub.put("web", "192.0.2.5")
            stub.index = 3  # restored from a backup: the index is an earlier one
            stub.start()
            await until(lambda: found(source) == ["192.0.2.5"])
            await until(lambda: not source.problems.is_present)

    run(check())
    warnings = [it for it in caplog.messages if it.startswith("Nomad cannot be read")]
    assert 1 <= len(warnings) == len(set(warnings))  # each problem once


def test_an_index_that_goes_backwards_is_a_change(stub):
    async def check():
        async with following_of(stub) as (source, _):
            await load(source)
            with stub.change(step=-5):
                stub.services["default"]["web"][0]["Address"] = "192.0.2.6"
            stub.fault = lambda path, parameters: (
                (parameters.pop("index", None), None)[1] if path == "/v1/services" else None
            )
            with stub.change(step=0):
                pass
            stub.stop()  # the present wait
            stub.start()
            await until(lambda: found(source) == ["192.0.2.6"])
            assert source.namespaces["default"].index == stub.index

    run(check())


def test_without_an_index_the_names_are_polled(stub):
    async def check():
        stub.has_index = False
        async with following_of(stub) as (source, _):
            await load(source)
            stub.put("web", "192.0.2.9")
            await until(lambda: found(source) == ["192.0.2.9"])
            assert all("index" not in parameters for _, parameters in stub.requests)

    run(check())


def test_a_service_that_cannot_be_read_does_not_concern_others(stub):
    async def check():
        names = [f"service{number}" for number in range(10)]
        for name in names:
            stub.put(name, "192.0.2.1")
        async with following_of(stub) as (source, _):
            for name in names:
                await load(source, name)
            broken = {f"/v1/service/{name}" for name in names[:4]}
            stub.fault = lambda path, parameters: (500, {}, b"no") if path in broken else None
            for name in names:
                stub.put(name, "192.0.2.2")
            for name in names[4:]:
                await until(lambda name=name: found(source, name) == ["192.0.2.2"])
            assert found(source, names[0]) == ["192.0.2.1"]
            problem = [f"{stub.url}: HTTP status 500: no"]
            await until(lambda: source.problems.texts == problem)
            stub.fault = lambda path, parameters: None
            await until(lambda: found(source, names[0]) == ["192.0.2.2"])
            await until(lambda: not source.problems.texts)

    run(check())


def test_a_first_read_that_fails(stub):
    async def check():
        stub.fault = lambda path, parameters: (500, {}, b"no") if "service/" in path else None
        async with following_of(stub) as (source, _):
            outcome = await source.load("default", "web")
            assert outcome == Failure(f"{stub.url}: HTTP status 500: no")
            assert source.problems.texts == [f"{stub.url}: HTTP status 500: no"]
            source.namespaces["default"].copies["web"].retry_at = float("inf")
            assert source.find("default", "web") == outcome  # without a request
            source.namespaces["default"].copies["web"].retry_at = 0.0
            stub.fault = lambda path, parameters: None
            assert await load(source) == ["192.0.2.1"]
            await until(lambda: not source.problems.texts)

    run(check())


def test_a_namespace_that_is_refused(stub, caplog, monkeypatch):
    async def check():
        stub.token, stub.permitted = "token", {"default"}
        monkeypatch.setattr(source_module, "REMEMBERED", 60.0)
        async with following_of(stub, access=Access("token")) as (source, _):
            assert await load(source) == ["192.0.2.1"]
            for number in range(5):
                outcome = await source.load(f"secret{number}", "web")
                assert isinstance(outcome, Failure)
                assert source.find(f"secret{number}", "web") == outcome
            assert "Permission denied" in source.problems.texts[0]
            assert not source.problems.is_present
            await until(lambda: source.is_ready)
            monkeypatch.setattr(problems, "PASSING", 0.0)

    run(check())
    warnings = [it for it in caplog.messages if it.startswith("the namespace")]
    assert len(warnings) == 1
    assert "token" not in warnings[0].replace("the token needs", "")


def test_unknown_namespaces_are_remembered_for_a_while(stub, monkeypatch):
    async def check():
        monkeypatch.setattr(source_module, "REMEMBERED", 60.0)
        monkeypatch.setattr(unknown_namespaces, "MOST_REMEMBERED", 10)
        async with following_of(stub) as (source, member):
            for number in range(30):
                assert await load(source, "a", f"none{number}") is Denial.NO_NAME
            assert source.find("none29", "b") is Denial.NO_NAME
            assert source.find("none0", "b") is None
            assert len(source._unknown) == 10
            assert not source.namespaces
            monkeypatch.setattr(source_module, "REMEMBERED", 0.0)
            assert await load(source, "a", "late") is Denial.NO_NAME
            stub.put("a", "192.0.2.4", namespace="late")
            assert await load(source, "a", "late") == ["192.0.2.4"]
            await until(lambda: member.has_removed("any", "late"))  # they were denied

    run(check())


def test_queries_for_random_namespaces_are_bounded(stub, monkeypatch):
    async def check():
        monkeypatch.setattr(source_module, "LONGEST_WAIT", 0.01)
        monkeypatch.setattr(unknown_namespaces, "MOST_WAITING", 5)
        ended = threading.Event()
        order: list[str] = []
        async with following_of(stub) as (source, _):
            names = source.client.names
            source.client.names = lambda label, *more: order.append(label) or names(label, *more)
            await until(lambda: source.is_ready)
            stub.fault = lambda path, parameters: ended.wait(60) and None
            outcomes = await asyncio.gather(*(source.load(f"n{n}", "a") for n in range(20)))
            reasons = sorted({it.reason for it in outcomes})
            busy = "too many services are read from Nomad at the moment"
            assert reasons == ["Nomad does not respond in time", busy]
            assert sum(it.reason == busy for it in outcomes) == 20 - 2 - 4
            assert len(stub.requests) <= 1 + unknown_namespaces.AT_A_TIME
            monkeypatch.setattr(source_module, "LONGEST_WAIT", 60.0)
            stub.put("web", "192.0.2.2", namespace="new")
            query = asyncio.create_task(source.load("new", "web", b"another client"))
            await asyncio.sleep(0)
            ended.set()
            assert isinstance(await query, Answers)
            assert order[:4] == ["n0", "n1", "n2", "new"]  # not after all that wait
            await until(lambda: not source._reads)

    run(check())


def test_unknown_namespaces_do_not_delay_those_that_were_used_before(stub, monkeypatch):
    async def check():
        async with following_of(stub) as (source, _):
            await load(source)
            source.drop(source.namespaces["default"])
            monkeypatch.setattr(source_module, "LONGEST_WAIT", 0.001)
            source._unknown._next_read = float("inf")
            reads = [source.load(f"random{n}", "a") for n in range(100)]
            assert all(isinstance(it, Failure) for it in await asyncio.gather(*reads))
            asked = {parameters.get("namespace") for _, parameters in stub.requests}
            assert asked <= {"default", None}
            monkeypatch.setattr(source_module, "LONGEST_WAIT", 60.0)
            assert await load(source) == ["192.0.2.1"]

    run(check())


def test_the_rate_of_requests_for_unknown_namespaces(stub, monkeypatch):
    async def check():
        pauses = []
        async with following_of(stub) as (source, _):
            await until(lambda: source.is_ready)

            async def sleep(seconds):
                pauses.append(seconds)

            monkeypatch.setattr(unknown_namespaces, "FIRST_READ_RATE", 0.001)
            monkeypatch.setattr(unknown_namespaces, "FIRST_READ_BURST", 4500.0)
            monkeypatch.setattr(asyncio, "sleep", sleep)
            for _ in range(7):
                await source._unknown.pace()
            monkeypatch.undo()
        assert pauses[:5] == [0.0] * 5
        assert 0 < pauses[5] < 1000 < pauses[6]

    run(check())


def test_unused_copies_are_forgotten(stub):
    async def check():
        async with following_of(stub) as (source, _):
            await load(source)
            namespace = source.namespaces["default"]
            namespace.copies["web"].used = -1e9
            with stub.change():
                pass
            await until(lambda: not namespace.copies)
            namespace.used = -1e9
            with stub.change():
                pass
            await until(lambda: not source.namespaces)
            assert not source._followers
            assert await load(source) == ["192.0.2.1"]

    run(check())


def test_nothing_is_forgotten_while_nomad_is_away(stub, caplog):
    async def check():
        async with following_of(stub) as (source, _):
            await load(source)
            namespace = source.namespaces["default"]
            stub.fault = lambda path, parameters: (500, {}, b"No cluster leader")
            with stub.change():
                pass
            await until(lambda: source.problems.is_present)
            namespace.copies["web"].used = namespace.used = -1e9
            asked = len(stub.requests)
            await until(lambda: len(stub.requests) > asked + 2)
            assert set(source.namespaces) == {"default"}
            assert set(namespace.copies) == {"web"}
            namespace.confirmed = -1e9  # after a day it answers no query
            await until(lambda: not source.namespaces)
            assert not source.problems.is_present

    caplog.set_level("INFO")
    run(check())
    assert not any("is read again" in it for it in caplog.messages)


def test_the_number_of_copies_is_bounded(stub, monkeypatch):
    async def check():
        monkeypatch.setattr(namespaces, "MOST_COPIES", 10)
        monkeypatch.setattr(source_module, "MOST_NAMESPACES", 2)
        for number in range(20):
            stub.put(f"s{number}", "192.0.2.1")
        for name in ("one", "two"):
            stub.put("web", "192.0.2.2", namespace=name)
        async with following_of(stub) as (source, _):
            for number in range(20):
                assert await load(source, f"s{number}") == ["192.0.2.1"]
            assert len(source.namespaces["default"].copies) <= 10
            for name in ("one", "two"):
                assert await load(source, "web", name) == ["192.0.2.2"]
            assert set(source.namespaces) == {"one", "two"}

    run(check())


def test_the_wait_is_short_with_many_namespaces(stub, monkeypatch):
    async def check():
        monkeypatch.setattr(source_module, "WATCHES", 1)
        async with following_of(stub) as (source, _):
            await load(source)
            assert source.wait == source_module.WAIT
            stub.put("web", "192.0.2.2", namespace="other")
            await load(source, "web", "other")
            assert source.wait == source_module.SHORT_WAIT

    run(check())


def test_nomad_may_ask_for_a_pause(stub, monkeypatch):
    async def check():
        async with following_of(stub) as (source, _):
            await load(source)
            follower = following.Follower(source.namespaces["default"], source)
            source.namespaces["default"].index = 0
            for header, least, most in (("7", 7, 7), ("86400", 300, 300), ("soon", 0, 1)):
                stub.fault = lambda *_, header=header: (429, {"Retry-After": header}, b"")
                assert least <= await follower.turn() <= most
            monkeypatch.setattr(source.client, "names", None)
            assert await follower.turn() <= 1
            assert "unexpected error" in source.problems.texts

    run(check())


def test_copies_are_shared_by_equal_settings(stub):
    async def check():
        settings = Settings((Address(parse_url(stub.url)),))
        members = [Member(), Member()]
        first, second = (join(settings, it, it.context) for it in members)
        assert first is second
        leave(settings, first, members[0])
        other = join(Settings(settings.addresses, ttl=5), members[0], members[0].context)
        assert other is not first
        assert await load(first) == ["192.0.2.1"]
        leave(settings, first, members[1])
        leave(other.settings, other, members[0])
        again = join(settings, members[0], members[0].context)
        assert again is not first
        leave(settings, again, members[0])

    run(check())


def test_a_query_that_waits_while_the_copy_is_closed(stub):
    async def check():
        ended = threading.Event()
        async with following_of(stub) as (source, _):
            await until(lambda: source.is_ready)
            stub.fault = lambda path, parameters: ended.wait(60) and None
            queries = [asyncio.create_task(source.load(f"n{n}", "web")) for n in range(4)]
            await until(lambda: len(stub.requests) > 2)
            assert len(source._unknown.turns._waiting) == 2
        slow = Failure("Nomad does not respond in time")
        assert await asyncio.gather(*queries) == [slow] * 4
        ended.set()

    run(check())


def test_all_names_of_a_namespace_are_removed_if_many_change(stub, monkeypatch):
    async def check():
        monkeypatch.setattr("corepy_nomad.forgetting.MOST_NAMES", 3)
        async with following_of(stub) as (source, member):
            await load(source)
            await until(lambda: not source.forgetter.is_forgetting)
            member.selections.clear()
            source.changed("default", {"a", "b"})
            source.changed("default", {"c", "d"})
            source.changed("other", {"a"})
            await until(lambda: not source.forgetter.is_forgetting)
            assert member.has_removed("any")
            assert member.has_removed("a", "other")
            assert not member.has_removed("any", "other")

    run(check())
