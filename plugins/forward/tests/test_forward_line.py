"""The handler of one `forward` line on the bench: whom a client joins, and the server's lifecycle."""

import asyncio
from types import SimpleNamespace

import pytest

from corepy.dns import Reply
from corepy.dns.constants import NOERROR, NXDOMAIN, SERVFAIL
from corepy.plugin import StartupError
from corepy.testing import Recorder, make_request, set_up
from corepy_forward import clients, metrics
from corepy_forward.handler import Forward

TRUNCATED = b"\x83\x80\0\1" + bytes(6)
ANSWER = b"\x81\x80\0\1" + bytes(6)


def line(text="forward . 192.0.2.1", zone=".:53", hosts=("",)):
    """Return the handler of a line."""
    controller = set_up(text, zone, hosts)
    (forward,) = controller.handlers
    assert isinstance(forward, Forward)
    controller.config.handlers.complete([("forward", forward)])
    return forward


def on(bench, options=""):
    """Return a handler that uses the upstreams of the bench."""
    forward = line(f"forward . 192.0.2.1 {{\n{options}\n}}")
    forward.pool = bench.pool
    return forward


async def send(bench, head, *, expected=1):
    """Let the upstream send this reply to its only query, without its ID."""
    await bench.turn()
    assert bench.counts() == [expected]
    wire, _ = bench.sinks[0].waiting[0]
    end = wire.index(b"\0", 12) + 5
    bench.sinks[0].reply(rest=head + wire[12:end])
    await bench.turn()


def test_clients_that_share_a_reply_get_their_own_question(on_bench):
    async def test(bench):
        forward, shared = on(bench), metrics.SHARED.value
        answers = [forward.begin_dns(make_request(name)) for name in ("a", "A")]
        assert metrics.SHARED.value == shared + 1
        assert len(bench.pool.places.requests) == 2
        await send(bench, ANSWER)
        replies = [await answer for answer in answers]
        assert [reply.wire[12:15] for reply in replies] == [b"\1a\0", b"\1A\0"]
        assert bench.pool.places.requests == set()

    on_bench(test)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_client_over_tcp_asks_again_after_a_truncated_reply(on_bench, is_whole):
    """It had joined a client over UDP, for whom the truncated reply is good enough."""

    async def test(bench):
        bench.upstreams[0].tcp.failed(bench.loop.now)
        forward = on(bench)
        over_udp = forward.begin_dns(make_request("a"))
        over_tcp = asyncio.ensure_future(forward.begin_dns(make_request("a", protocol="tcp")))
        await bench.turn(1)
        assert len(bench.pool.flights) == 1
        if is_whole:
            await send(bench, ANSWER)
            assert bench.counts() == [0]
        else:
            for _ in range(2):  # to the usual query, and to the one for a large reply
                await send(bench, TRUNCATED)
            assert not over_tcp.done()
            await send(bench, ANSWER)
        assert [(await over_udp).tc, (await over_tcp).tc] == [not is_whole, False]

    on_bench(test)


def test_a_client_over_tcp_does_not_join_a_client_over_udp_again(on_bench):
    """Or it would get a truncated reply again, as long as there are such clients."""

    async def test(bench):
        bench.upstreams[0].tcp.failed(bench.loop.now)
        forward = on(bench)
        first = forward.begin_dns(make_request("a"))
        over_tcp = asyncio.ensure_future(forward.begin_dns(make_request("a", protocol="tcp")))
        first.deliver(lambda _: forward.begin_dns(make_request("a")))
        await bench.turn(1)
        for _ in range(2):
            await send(bench, TRUNCATED)
        assert [each.for_tcp for each in bench.pool.flights.values()] == [False, True]
        over_tcp.cancel()

    on_bench(test)


@pytest.mark.parametrize(
    ("options", "protocol", "for_tcp"),
    [("", "udp", False), ("", "tcp", True), ("force_tcp", "tcp", False)],
)
def test_for_whom_an_exchange_is(on_bench, options, protocol, for_tcp):
    """With `force_tcp` no reply is truncated, so all clients share."""

    async def test(bench):
        forward = on(bench, options)
        for do in (False, True):
            answer = forward.begin_dns(make_request("a", protocol=protocol, do=do, edns=1232))
            if asyncio.iscoroutine(answer):
                answer.close()
        assert [each.for_tcp for each in bench.pool.flights.values()] == [for_tcp] * 2
        await bench.turn()

    on_bench(test)


def test_an_exchange_that_ends_at_once(on_bench):
    async def test(bench):
        bench.pool._preferred = []
        reply = await on(bench).begin_dns(make_request("a"))
        assert (reply.rcode, bench.pool.places.requests) == (SERVFAIL, set())

    on_bench(test, failfast=True)


def test_flags_of_a_query_that_mean_nothing(on_bench):
    """Its rcode is ignored, as long as the opcode is QUERY."""

    async def test(bench):
        request = make_request("a")
        request.flags |= 0x000F
        on(bench).begin_dns(request)
        assert len(bench.pool.flights) == 1
        await bench.turn()

    on_bench(test)


@pytest.mark.pure_form("replaces a function")
def test_a_fault_leaves_no_place_taken(on_bench, monkeypatch):
    async def test(bench):
        def fails(_request, _question):
            raise RuntimeError("injected")

        monkeypatch.setattr(clients, "body_of", fails)
        with pytest.raises(RuntimeError, match="injected"):
            on(bench).begin_dns(make_request("a"))
        assert bench.pool.places.requests == set()

    on_bench(test)


def test_the_pool_is_opened_once(on_bench):
    async def test(bench):
        forward = line(f"forward . {bench.upstreams[0].address}")
        forward.begin_dns(make_request("a"))
        pool = forward.pool
        forward.begin_dns(make_request("b"))
        assert forward.pool is pool
        assert len(pool.flights) == 2
        await bench.turn()
        forward.shutdown()

    on_bench(test)


@pytest.mark.parametrize(
    ("text", "name", "is_forwarded"),
    [
        ("forward . 192.0.2.1", "b.example", True),
        ("forward example 192.0.2.1", "example", True),
        ("forward example 192.0.2.1", "b.example", True),
        ("forward example 192.0.2.1", "other", False),
        ("forward . 192.0.2.1 {\nexcept b.example\n}", "b.example", False),
        ("forward . 192.0.2.1 {\nexcept b.example\n}", "a.b.example", False),
        ("forward . 192.0.2.1 {\nexcept b.example\n}", "example", True),
        ("forward b.example 192.0.2.1 {\nexcept example\n}", "b.example", True),
        ("forward b.example 192.0.2.1 {\nexcept example\n}", "a.b.example", False),
    ],
)
def test_names_that_are_forwarded(text, name, is_forwarded):
    """The zone itself always is (forward.go, match)."""
    forward, request = line(text), make_request(name)
    assert forward.queries_upstream(request) is is_forwarded
    state = (
        {"upstreams": "192.0.2.1:53"}
        if is_forwarded
        else {"state": "the name is outside its zones"}
    )
    assert forward.explain_state(request) == state


def test_upstreams_as_explain_shows_them(on_bench):
    async def test(bench):
        forward, (first, second) = on(bench), bench.upstreams
        second.fails = 3
        shown = {"upstreams": f"{first.address}, {second.address} (down)"}
        assert forward.explain_state(make_request("a")) == shown
        bench.pool.upstreams.clear()
        assert forward.explain_state(make_request("a")) == {"upstreams": "none known yet"}
        bench.pool.upstreams += (first, second)

    on_bench(test, 2, max_fails=2)


def test_a_traced_copy_stores_who_answered():
    forward = line()
    assert forward.copy_for_trace(Recorder()).with_metadata
    assert not forward.with_metadata
    assert not Forward(forward.settings, forward._config).with_metadata


@pytest.mark.parametrize(
    ("options", "rcode", "records", "is_last", "wanted"),
    [
        ("next NXDOMAIN", NXDOMAIN, 0, False, True),
        ("next NXDOMAIN", NXDOMAIN, 0, True, False),
        ("next NXDOMAIN", SERVFAIL, 0, False, False),
        ("next NXDOMAIN", NOERROR, 0, False, False),
        ("next_on_nodata", NOERROR, 0, False, True),
        ("next_on_nodata", NOERROR, 1, False, False),
        ("next_on_nodata", NXDOMAIN, 0, False, False),
        ("next_on_nodata", NOERROR, 0, True, False),
    ],
)
def test_replies_after_which_the_next_line_is_asked(options, rcode, records, is_last, wanted):
    forward = line(f"forward . 192.0.2.1 {{\n{options}\n}}")
    assert forward.is_last
    forward.is_last = is_last
    header = b"ID\x81" + bytes((0x80 | rcode, 0, 1, 0, records)) + bytes(4)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1" * records
    assert forward._wants_next(Reply(header + b"\1a\0\0\1\0\1" + record)) is wanted


def test_rejections_are_counted():
    forward, before = line(), metrics.MAX_CONCURRENT_REJECTS.value
    request = make_request("a")
    request.received = 100.0
    forward._clients.reject(request)
    assert metrics.MAX_CONCURRENT_REJECTS.value == before + 1


def context(*addresses, offline=False, is_leader=True):
    group = SimpleNamespace(is_leader=is_leader)
    return SimpleNamespace(offline=offline, addresses=addresses, process_group=group)


@pytest.mark.parametrize("offline", [False, True])
def test_a_rehearsal(on_bench, offline):
    """Offline, no name is resolved and no socket is opened."""

    async def test(_bench):
        forward = line()
        await forward.rehearse(context("dns://:53", offline=offline))
        assert (forward.pool is None) is offline
        forward.shutdown()

    on_bench(test)


OWN = "upstream 127.0.0.1:5300 is an address that this server listens on for .; queries would loop"


def test_an_own_address_is_found_before_listening(on_bench):
    async def test(_bench):
        forward = line("forward . 127.0.0.1:5300", ".:5300")
        with pytest.raises(StartupError) as caught:
            await forward.before_listen(context("dns://:5300"))
        assert (str(caught.value), forward.pool) == (OWN, None)

    on_bench(test)


def test_an_own_address_is_found_when_the_kernel_has_chosen_the_port(on_bench):
    async def test(_bench):
        forward = line("forward . 127.0.0.1:5300", ".:0")
        await forward.before_listen(context("dns://:0"))
        with pytest.raises(StartupError) as caught:
            forward.serving(context("dns://:5300"))
        assert str(caught.value) == OWN
        forward.shutdown()

    on_bench(test)


@pytest.mark.parametrize("is_leader", [False, True])
def test_one_process_logs_the_problems_of_a_file(on_bench, tmp_path, caplog, is_leader):
    """They are known when the file is watched, so that it does not log them again."""

    async def test(_bench):
        path = tmp_path / "resolv.conf"
        path.write_text("nameserver 192.0.2.1\nnameserver fe80::1%wlan9\n")
        forward = line(f"forward . {path}")
        await forward.before_listen(context("dns://:53", is_leader=is_leader))
        problem = (
            f"{path}:2: [fe80::1%wlan9]:53 is skipped until it can be used:"
            " network interface 'wlan9' does not exist"
        )
        logged = [record.getMessage() for record in caplog.records]
        assert logged == ([problem] if is_leader else [])
        forward.serving(context("dns://:53"))
        watch = forward._watch
        assert watch._problems == {problem}
        watch._look()
        assert len(caplog.records) == len(logged)
        forward.shutdown()
        assert watch._timer.cancelled()

    on_bench(test)
