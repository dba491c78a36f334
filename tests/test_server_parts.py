"""Parts of the server's listeners by themselves: the self-check, transports and routers."""

import asyncio
import contextlib
import socket
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import pytest

from corepy.dns import Request, RequestContext
from corepy.dns.names import from_text
from corepy.plugin import Cacheability, Handler
from corepy.plugin.block_filter import BlockFilter, BlockFilters
from corepy.plugin.lookup import DEPENDS_ON_CLIENT
from corepy.server.listen import transports
from corepy.server.listen.filtering_router import FilteringRouter
from corepy.server.listen.query_listener import Listener
from corepy.server.listen.router import Router, RoutingError, ZoneRoute
from corepy.server.listen.status_query import is_answered, status_query
from corepy.server.listen.tcp import TCPListener
from corepy.server.listen.transport import Transport
from corepy.server.listen.udp import UDPListener
from corepy.testing import query

LIMIT = 60.0

# -- the query of the self-check


def test_the_query_is_a_header_of_opcode_status():
    queries = {status_query() for _ in range(8)}
    assert {it[2:] for it in queries} == {bytes.fromhex("1000 0000 0000 0000 0000")}
    assert len(queries) > 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (lambda ident: ident + b"\x90\4", True),
        (lambda ident: ident + b"\x90\4" + bytes(2000), True),
        (lambda ident: bytes([ident[0], ident[1] ^ 1]) + b"\x90\4", False),
        (lambda ident: bytes([ident[0] ^ 1]) + ident[1:] + b"\x90\4", False),
        (lambda ident: bytes([ident[0] ^ 1, 0, 0]) + ident, False),  # not at the start
    ],
)
def test_what_counts_as_an_answer(host, kind, reply, expected):
    is_stream = kind == socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    async def test():
        loop = asyncio.get_running_loop()
        asked = []

        async def answer(server):
            if is_stream:
                client, _ = await loop.sock_accept(server)
                with client:
                    asked.append(await loop.sock_recv(client, 999))
                    wire = reply(asked[0][2:4])
                    await loop.sock_sendall(client, len(wire).to_bytes(2, "big") + wire)
            else:
                wire, peer = await loop.sock_recvfrom(server, 999)
                asked.append(wire)
                await loop.sock_sendto(server, reply(wire[:2]), peer)

        with socket.socket(family, kind) as server:
            server.setblocking(False)
            server.bind((host, 0))
            if is_stream:
                server.listen()
            task = asyncio.create_task(answer(server))
            address = (host, server.getsockname()[1])
            found = await asyncio.wait_for(is_answered(address, kind), LIMIT)
            await task
        (wire,) = asked
        assert wire[2 if is_stream else 0 :][2:] == b"\x10" + bytes(9)
        assert wire[: 2 * is_stream] == b"\0\x0c"[: 2 * is_stream]
        return found

    assert asyncio.run(test()) is expected


# -- the table of transports


def usable(**changes):
    return Transport(**{"scheme": "odd", "default_port": 1, "listeners": (TCPListener,), **changes})


class Quic(Listener):
    network = "quic"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"default_port": None}, ""),
        ({"default_port": 65535}, ""),
        ({"default_port": 0}, "has a default port that is not one: 0"),
        ({"default_port": 65536}, "has a default port that is not one: 65536"),
        ({"default_port": True}, "has a default port that is not one: True"),
        ({"default_port": "1"}, "has a default port that is not one: '1'"),
        ({"listeners": ()}, "has no tuple of listeners"),
        ({"listeners": [TCPListener]}, "has no tuple of listeners"),
        ({"listeners": (str,)}, f"has a listener that is not a subclass of Listener: {str!r}"),
        ({"listeners": (5,)}, "has a listener that is not a subclass of Listener: 5"),
        ({"listeners": (TCPListener, 5)}, "has a listener that is not a subclass of Listener: 5"),
        ({"listeners": (UDPListener, TCPListener)}, ""),
        (
            {"listeners": (UDPListener, UDPListener)},
            "needs at most one udp and one tcp socket, not ['udp', 'udp']",
        ),
        ({"listeners": (Quic,)}, "needs at most one udp and one tcp socket, not ['quic']"),
    ],
)
def test_a_transport_that_a_server_cannot_use(changes, problem):
    assert transports._shape_problem(usable(**changes)) == problem


def test_the_fields_of_a_transport():
    dns = transports.get("dns")
    assert dns.is_shardable
    assert [dns.takes_series(it) for it in ("udp", "tcp", "quic")] == [False, True, False]
    assert [it.is_checkable for it in dns.listeners] == [True, True]
    assert usable().protocol("udp") == "tcp"
    assert usable().prefix == "odd://"
    with pytest.raises(FrozenInstanceError):
        dns.scheme = "other"


def test_the_schemes_that_a_key_can_have(monkeypatch):
    found = {
        "good": SimpleNamespace(
            rivals=(), entry_point=SimpleNamespace(load=lambda: usable(scheme="good"))
        ),
        "bad": SimpleNamespace(
            rivals=(), distribution="bad", entry_point=SimpleNamespace(load=lambda: 5)
        ),
    }
    monkeypatch.setattr(transports, "_loaded", {})
    monkeypatch.setattr(transports.registry, "find", lambda *, group: found)
    known = transports.KNOWN
    assert [it in known for it in ("dns", "tls", "good", "bad", "other")] == [True] * 4 + [False]
    assert (known["dns"], known["tls"], known["good"], known["bad"]) == (None, 853, 1, None)
    with pytest.raises(KeyError, match="other"):
        known["other"]
    assert set(known) == {*transports.SCHEMES, "good", "bad"}
    assert len(known) == len(transports.SCHEMES) + 2
    assert transports.get("good") is transports.get("good")
    assert list(transports._loaded) == ["good"]


# -- routers


def test_a_route_without_options():
    route = ZoneRoute("test.", None)
    assert route != ZoneRoute("test.", None)  # two blocks without handlers are two
    assert not hasattr(route, "__dict__")
    with pytest.raises(FrozenInstanceError):
        route.zone = "other."
    fields = {name: getattr(route, name) for name in ZoneRoute.__slots__}
    assert fields == {
        "zone": "test.",
        "chain": None,
        "obstacle": "",
        "entry": None,
        "observing_handlers": (),
        "position": "",
        "directives": (),
        "has_hit_listeners": False,
        "gates": (),
        "has_hit_gates": False,
        "time_limit": 0.0,
        "filters": BlockFilters(),
        "safe_filter_count": 0,
        "question_filter_count": 0,
        "collect_metadata": None,
        "depends_on_client": False,
    }


class Answers(Handler):
    """Answers with REFUSED and a deadline; keeps the contexts."""

    name = "answers"

    def __init__(self):
        self.contexts = []

    async def serve_dns(self, request):
        self.contexts.append(request.context)
        reply = request.error(5)
        reply.deadline = 1000.0
        return reply


def request_for(name, qtype="A"):
    request = Request.from_wire(query(name, qtype))
    request.context = RequestContext(
        "tcp", "tcp", "dns://:53", "asks.", view="asking", takes_series=True
    )
    return request


def looked_up(router, request):
    reply = asyncio.run(router.lookup(request))
    return reply, request.metadata, request.context


@pytest.mark.parametrize("kind", [Router, FilteringRouter])
@pytest.mark.parametrize("obstacle", [None, "acl"])
@pytest.mark.parametrize("depends", [False, True])
def test_the_context_of_a_look_up(kind, obstacle, depends):
    chain = Answers()
    route = ZoneRoute("test.", chain, obstacle, chain, depends_on_client=depends)
    zones = {b"\4test\0": [route] if kind is FilteringRouter else route}
    router = kind(zones, any_class=False, dropped=None)
    request = request_for("www.test.")
    before = request.context
    reply, metadata, context = looked_up(router, request)
    assert (reply.rcode, reply.deadline) == (5, 1000.0 if obstacle is None else None)
    assert metadata == ({DEPENDS_ON_CLIENT: True} if depends else {})
    assert chain.contexts == [context]
    assert context == replace(before, zone="test.", view="", route=route, takes_series=False)
    assert context.route is route


def test_a_look_up_in_no_block():
    zones = {b"\4test\0": ZoneRoute("test.", None)}
    reply, metadata, context = looked_up(
        Router(zones, any_class=False, dropped=None), request_for("www.example.")
    )
    assert (reply.rcode, metadata, context.zone) == (5, {}, "asks.")
    filtering = FilteringRouter(
        {wire: [route] for wire, route in zones.items()}, any_class=False, dropped=None
    )
    reply, metadata, context = looked_up(filtering, request_for("www.example."))
    assert (reply.rcode, metadata) == (5, {DEPENDS_ON_CLIENT: True})
    assert (context.zone, context.view, context.route) == ("", "", None)


def test_the_only_zone_of_a_router():
    root, other = ZoneRoute(".", None), ZoneRoute("test.", None)
    for zones, found in [
        ({".": root}, [root, root]),
        ({"test.": other}, [other, None]),
        ({".": root, "test.": other}, [other, root]),
    ]:
        router = Router(
            {from_text(name): route for name, route in zones.items()},
            any_class=False,
            dropped=None,
        )
        assert [router.route(request_for(it)) for it in ("a.test.", "a.example.")] == found
        assert router.has_filters is router.has_hit_listeners is False
        assert FilteringRouter.has_filters
    listened = replace(other, has_hit_listeners=True)
    router = Router({b"\0": root, b"\4test\0": listened}, any_class=False, dropped=None)
    assert router.has_hit_listeners


@pytest.mark.parametrize(
    ("name", "qtype", "zone"),
    [
        ("a.test.", "A", "a.test."),
        ("b.a.test.", "A", "a.test."),
        ("a.test.", "DS", "test."),
        ("b.a.test.", "DS", "test."),
        ("test.", "DS", "test."),
        ("a.empty.test.", "DS", "empty.test."),  # a block without handlers
        ("example.", "DS", "."),
        (".", "DS", "."),
    ],
)
def test_the_zone_for_ds(name, qtype, zone):
    routes = [ZoneRoute(it, Handler()) for it in (".", "test.", "a.test.")]
    routes.append(ZoneRoute("empty.test.", None))
    zones = {from_text(it.zone): it for it in routes}
    router = Router(zones, any_class=False, dropped=print, echoed_options=frozenset((7,)))
    assert router.route(request_for(name, qtype)).zone == zone
    assert (router.dropped, router.echoed_options) == (print, {7})


@pytest.mark.parametrize("kind", [Router, FilteringRouter])
@pytest.mark.parametrize("any_class", [False, True])
def test_a_query_of_another_class(kind, any_class):
    route = ZoneRoute(".", None)
    zones = {b"\0": [route] if kind is FilteringRouter else route}
    router = kind(zones, any_class=any_class, dropped=None)
    wire = bytearray(query("a.test."))
    assert router.route(Request.from_wire(bytes(wire))) is route
    wire[-1] = 3
    assert router.route(Request.from_wire(bytes(wire))) is (route if any_class else None)


@pytest.mark.parametrize("with_packet_cache", [False, True])
def test_the_contexts_of_the_routes(with_packet_cache):
    routes = [ZoneRoute("a.", None, None), ZoneRoute("b.", None, "acl"), ZoneRoute("c.", None)]
    router = Router({from_text(it.zone): it for it in routes}, any_class=False, dropped=None)
    unrouted = RequestContext("udp", "udp", "dns://:53")
    contexts = router.contexts(unrouted, with_packet_cache=with_packet_cache)
    assert contexts == {
        route: replace(
            unrouted,
            zone=route.zone,
            uses_deadlines=with_packet_cache and route.zone == "a.",
            router=router,
            route=route,
        )
        for route in routes
    }


# -- routers with filters


def filtered(zone, accepts=None, obstacle="split", **options):
    """A block whose filter accepts the names with one of these first labels."""
    if accepts is None:
        return ZoneRoute(zone, Handler(), None, **options)
    found = BlockFilter(
        lambda request: request.name.partition(".")[0] in accepts,
        "",
        Cacheability.SAFE if obstacle is None else Cacheability.UNSAFE,
        obstacle or "split",
    )
    filters, safe = BlockFilters((found,)), int(obstacle is None)
    return ZoneRoute(zone, Handler(), None, filters=filters, safe_filter_count=safe, **options)


def router_of(*routes):
    zones: dict[bytes, list[ZoneRoute]] = {}
    for route in routes:
        zones.setdefault(from_text(route.zone), []).append(route)
    return FilteringRouter(zones, any_class=False, dropped=None)


def test_which_replies_the_packet_cache_may_repeat():
    """Of a block that is reached past a filter, none; of the same block without one, all."""
    first = filtered("test.", "ab")
    second = filtered("test.")
    root = filtered(".")
    guarded = replace(root, zone="guarded.", depends_on_client=True)
    refused = replace(root, zone="refused.", obstacle="acl")
    strict = replace(root, zone="strict.", obstacle="acl", depends_on_client=True)
    router = router_of(first, second, root, guarded, refused, strict)
    found = {
        name: router.route(request_for(name))
        for name in ("a.test.", "c.test.", "b.example.", "guarded.", "refused.", "strict.")
    }
    uncached = [replace(it, obstacle="split", depends_on_client=True) for it in (first, second)]
    assert_same(found["a.test."], uncached[0])
    assert_same(found["c.test."], uncached[1])
    assert found["b.example."] is root
    assert (found["guarded."], found["refused."], found["strict."]) == (guarded, refused, strict)
    reachable = router.contexts(RequestContext("udp", "udp", ""), with_packet_cache=True)
    assert {(it.zone, it.obstacle, it.depends_on_client) for it in reachable} == {
        ("test.", "split", True),
        (".", None, False),
        (".", "split", True),
        ("guarded.", None, True),
        ("guarded.", "split", True),
        ("refused.", "acl", False),
        ("refused.", "acl", True),
        ("strict.", "acl", True),
    }


def assert_same(route, expected):
    for name in ZoneRoute.__slots__:
        assert getattr(route, name) == getattr(expected, name), name


@pytest.mark.parametrize("later", [{}, {"depends_on_client": True}, {"obstacle": "acl"}])
def test_a_block_of_a_shorter_zone_that_is_reached_past_a_filter(later):
    root = replace(filtered("."), **later)
    router = router_of(filtered("test.", "a"), root)
    assert router.route(request_for("a.example.")) is root
    expected = replace(root, obstacle=root.obstacle or "split", depends_on_client=True)
    assert_same(router.route(request_for("b.test.")), expected)


def test_the_first_obstacle_is_the_reason():
    router = router_of(filtered("test.", "a", "one"), filtered("test.", "b", "two"), filtered("."))
    assert [it.obstacle for it in router.routes] == ["one", "one", None]
    assert router.route(request_for("c.test.")).obstacle == "one"
    without = router_of(filtered("test.", "a", None), filtered("."))
    assert [it.obstacle for it in without.routes] == [None, None]
    assert without.route(request_for("c.test.")) is without.routes[1]
    assert without.contexts(RequestContext("udp", "udp", ""), with_packet_cache=True).keys() == {
        *without.routes
    }


@pytest.mark.parametrize("listening", range(3))
def test_hit_listeners_of_any_block(listening):
    routes = [filtered("test.", "a"), filtered("test."), filtered(".")]
    assert not router_of(*routes).has_hit_listeners
    routes[listening] = replace(routes[listening], has_hit_listeners=True)
    assert router_of(*routes).has_hit_listeners


def collecting(zone, accepts=None):
    def collect(request):
        assert request.metadata == {"known": 1}  # no labels of the block before
        request.metadata["zone"] = zone

    return filtered(zone, accepts, collect_metadata=collect)


@pytest.mark.parametrize(
    ("name", "qtype", "considered", "labels"),
    [
        ("a.b.test.", "A", ["b.test."], {"known": 1, "zone": "b.test."}),
        ("c.b.test.", "A", ["b.test.", "test."], {"known": 1, "zone": "test."}),
        ("d.b.test.", "A", ["b.test.", "test.", "."], {"known": 1}),
        ("a.b.test.", "DS", ["b.test.", "test."], {"known": 1, "zone": "test."}),
        ("e.b.test.", "DS", ["b.test.", "test."], {"known": 1, "zone": "b.test."}),
    ],
)
def test_the_metadata_is_that_of_the_block_that_answers(name, qtype, considered, labels):
    router = router_of(collecting("b.test.", "ae"), collecting("test.", "ac"), collecting(".", "x"))
    request = request_for(name, qtype)
    request.metadata = {"known": 1}
    seen: list[tuple[ZoneRoute, bool]] = []
    route = router.route(request, seen)
    assert [it.zone for it, _ in seen] == considered
    assert [it for it, accepted in seen if accepted][-1:] == (
        [] if route is None else [it for it, _ in seen if it.zone == route.zone]
    )
    assert request.metadata == labels


def test_metadata_is_collected_for_filters_only():
    router = router_of(collecting("test."), collecting("."))
    request = request_for("a.test.")
    request.metadata = {"known": 1}
    assert router.route(request).zone == "test."
    assert request.metadata == {"known": 1}


def test_a_filter_that_fails(caplog):
    def fails(request):
        raise ValueError("broken")

    route = replace(
        filtered("."),
        filters=BlockFilters((BlockFilter(fails, "", Cacheability.UNSAFE, "split"),)),
    )
    router = router_of(route)
    request = request_for("a.test.")
    request.peer = request.client = ("192.0.2.1", 1)
    with pytest.raises(RoutingError, match="a filter of a server block failed") as caught:
        router.route(request)
    assert caught.value.reply.rcode == 2
    reply, metadata, _ = looked_up(router, request)
    assert (reply.rcode, metadata) == (2, {DEPENDS_ON_CLIENT: True})


# -- the answer of a block


@pytest.mark.parametrize(
    ("result", "rcode"),
    [(None, 2), ("text", 2), (ValueError("x"), 2), (SystemExit(3), 2), (5, 5)],
)
def test_what_a_block_answers(result, rcode, caplog):
    class Gives(Handler):
        name = "gives"

        async def serve_dns(self, request):
            if isinstance(result, BaseException):
                raise result
            return request.error(result) if isinstance(result, int) else result

    request = request_for("a.test.")
    request.peer = request.client = ("192.0.2.1", 1)
    reply = asyncio.run(ZoneRoute(".", Gives()).serve(request))
    assert (reply.rcode, reply.is_substitute) == (rcode, rcode == 2)
    assert asyncio.run(ZoneRoute(".", None).serve(request)).rcode == 5


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_a_block_passes_on_what_ends_its_caller(error):
    class Ends(Handler):
        async def serve_dns(self, request):
            raise error

    chain = ZoneRoute(".", Ends()).serve(request_for("a."))
    with contextlib.closing(chain), pytest.raises(error):
        chain.send(None)
