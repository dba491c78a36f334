"""One upstream: responses of all kinds, connections, and TLS."""

import asyncio
import ssl

import h2.connection
import h2.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.net.dns_packet import pack
from corepy.plugin.tls_client import TLSFiles, client_context
from corepy.testing.certificates import EXPIRED, Authority
from corepy.testing.helper_module import helper_module
from corepy.testing.polling import until
from corepy_grpc import upstream as upstream_module
from corepy_grpc.messages import CallError, decode
from corepy_grpc.upstream import Target, Upstream, UpstreamError

peers = helper_module(__file__, "grpc_peers")
OK, OK_HEADERS = peers.OK, peers.OK_HEADERS
Call, Server = peers.Call, peers.Server
ask_wire, listening, reply_to = peers.ask_wire, peers.listening, peers.reply_to

LONG = 60.0
HEADERS = {b":status": b"200", b"content-type": b"application/grpc"}
TRAILERS = {b"grpc-status": b"0"}


async def ask_of(server, count=1, context=None, name=""):
    """Return the replies or errors of some queries, and the upstream, which is closed."""
    of_server, of_client = context or (None, None)
    async with listening(server, context=of_server) as port:
        upstream = Upstream(Target("127.0.0.1", port), of_client, name)
        try:
            found = await asyncio.gather(
                *(upstream.ask(ask_wire(f"{i}.example."), LONG) for i in range(count)),
                return_exceptions=True,
            )
        finally:
            upstream.close()
        return found, upstream


def run_with_upstream(server, scenario):
    """Run a coroutine function with an upstream."""

    async def run():
        async with listening(server) as port:
            upstream = Upstream(Target("127.0.0.1", port), None, "")
            try:
                await scenario(upstream)
            finally:
                upstream.close()

    asyncio.run(run())


def outcome(act):
    """Return the reply to one query, or the reason after the address."""
    (found,), _ = asyncio.run(ask_of(Server(act)))
    return str(found).partition(": ")[2] if isinstance(found, UpstreamError) else found


def test_a_call():
    server = Server()
    (reply,), upstream = asyncio.run(ask_of(server))
    (call,) = server.calls
    assert reply.rcode == 0
    assert call.wire == ask_wire("0.example.")
    timeout = call.headers.pop("grpc-timeout")
    assert 0 < int(timeout.removesuffix("m")) <= LONG * 1000
    assert call.headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/coredns.dns.DnsService/Query",
        ":authority": upstream.address,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "corepy",
    }
    assert upstream.status()["queries"] == 1


def in_frames(call):
    call.head()
    for byte in pack(reply_to(call.wire)):
        call.data(bytes((byte,)))
    call.end()


def with_unknown_fields(call):
    call.head()
    packet = pack(reply_to(call.wire))[5:]
    packet = b"\x10\x05" + b"\x1a\x03abc" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + packet
    call.data(b"\0" + len(packet).to_bytes(4, "big") + packet)
    call.end()


@pytest.mark.parametrize("act", [in_frames, with_unknown_fields])
def test_responses_with_a_reply(act):
    assert outcome(act).rcode == 0


def body(data, trailers=OK, headers=OK_HEADERS):
    def act(call):
        call.head(headers)
        if data:
            call.data(data)
        call.end(trailers)

    return act


def only_headers(*headers):
    return lambda call: call.head(list(headers), is_end=True)


def trailers_only(status, text=""):
    message = [("grpc-message", text)] if text else []
    return only_headers(*OK_HEADERS, ("grpc-status", status), *message)


def reset(code):
    def act(call):
        call.peer.http.reset_stream(call.number, code)
        call.peer.flush()

    return act


def framed(packet):
    return b"\0" + len(packet).to_bytes(4, "big") + packet


NONE = framed(b"")
PLAIN = [(":status", "404"), ("content-type", "text/plain")]
RESPONSES = {
    "not found": (trailers_only("5"), None),
    "not found in trailers": (body(b"", [("grpc-status", "5")]), None),
    "trailers only": (trailers_only("14", "try%20again"), "UNAVAILABLE: 'try again'"),
    "status without a name": (trailers_only("99"), "status 99"),
    "status that is no number": (trailers_only("many"), "UNKNOWN"),
    "status of many digits": (trailers_only("9" * 30), "UNKNOWN"),
    "no status": (body(pack(b""), [("a", "b")]), "response without a status"),
    "no message": (body(b""), "response without a message"),
    "empty message": (body(NONE), "message"),
    "compressed": (body(b"\1\0\0\0\0"), "compressed message, although none was asked for"),
    "two messages": (body(NONE + NONE), "response with more or less than one message"),
    "half a message": (body(b"\0\0\0\0\x09abc"), "response with more or less than one message"),
    "not a message": (body(framed(b"\xff\xff\xff")), "malformed message"),
    "field beyond the end": (body(framed(b"\x0a\x09")), "malformed message"),
    "group": (body(framed(b"\x0b")), "malformed message"),
    "field 0": (body(framed(b"\x02\x00")), "malformed message"),
    "not DNS": (body(pack(bytes(11))), "message"),
    "HTTP error": (body(b"no", headers=PLAIN), "response that is not gRPC"),
    "HTTP error alone": (only_headers((":status", "502")), "HTTP status 502"),
    "web page": (
        only_headers((":status", "200"), ("content-type", "text/html")),
        "response that is not gRPC",
    ),
    "reset": (reset(h2.errors.ErrorCodes.INTERNAL_ERROR), "stream reset (INTERNAL_ERROR)"),
    "refused twice": (reset(h2.errors.ErrorCodes.REFUSED_STREAM), "stream reset (REFUSED_STREAM)"),
    "closed twice": (lambda call: call.peer.transport.abort(), "EOF"),
    "not HTTP/2": (
        lambda call: call.peer.transport.write(b"HTTP/1.1 400 No\r\n\r\n"),
        "not HTTP/2",
    ),
}


@pytest.mark.parametrize("case", RESPONSES)
def test_responses_without_a_reply(case):
    act, reason = RESPONSES[case]
    found = outcome(act)
    if reason is None:
        assert found is None
    else:
        assert found.startswith(reason)


def test_a_response_above_the_limit_ends_its_call_alone():
    server = Server(lambda call: call.answer() if call.number > 1 else call.head())

    async def scenario(upstream):
        large = asyncio.create_task(upstream.ask(ask_wire("large."), LONG))
        await until(lambda: server.calls)
        (call,) = server.calls
        for size in (16384, 16384, 16384, 16383, 10):
            await until(lambda: call.peer.http.local_flow_control_window(1) >= 16384)
            call.data(bytes(size))
        with pytest.raises(UpstreamError, match="response is too large"):
            await large
        assert (await upstream.ask(ask_wire("small."), LONG)).rcode == 0
        assert (server.resets, len(server.peers)) == ([1], 1)

    run_with_upstream(server, scenario)


def once(first):
    """Return an action that does something else with the first call, and answers the others."""
    calls = []

    def act(call):
        calls.append(call)
        (first if len(calls) == 1 else Call.answer)(call)

    return act


def goaway(call):
    call.peer.http.close_connection(last_stream_id=0)
    call.peer.flush()
    call.peer.transport.close()


@pytest.mark.parametrize(
    ("first", "connections"),
    [
        (lambda call: call.peer.transport.abort(), 2),
        (goaway, 2),
        (reset(h2.errors.ErrorCodes.REFUSED_STREAM), 1),
    ],
    ids=["abort", "GOAWAY", "REFUSED_STREAM"],
)
def test_a_lost_call_is_repeated(first, connections):
    server = Server(once(first))
    (reply,), _ = asyncio.run(ask_of(server))
    assert reply.rcode == 0
    assert (len(server.calls), len(server.peers)) == (2, connections)


def test_a_server_that_closes_answers_what_it_has_begun():
    """The next query goes over another connection, although this one is still open."""

    def act(call):
        if len(server.peers) > 1:
            call.answer()
        elif len(server.calls) == 2:
            call.peer.http.close_connection(last_stream_id=3)
            call.peer.flush()

    server = Server(act)

    async def scenario(upstream):
        names = "a.", "b."
        first = [asyncio.create_task(upstream.ask(ask_wire(name), LONG)) for name in names]
        await until(lambda: upstream._connection and not upstream._connection.is_usable)
        assert (await upstream.ask(ask_wire("c."), LONG)).rcode == 0
        states = h2.connection.ConnectionState
        server.peers[0].http.state_machine.state = states.SERVER_OPEN
        for call in server.calls[:2]:
            call.answer()
        assert [(await it).rcode for it in first] == [0, 0]
        assert len(server.peers) == 2

    run_with_upstream(server, scenario)


def test_calls_share_a_connection_within_the_limit_of_the_server():
    server = Server(streams=3)
    replies, _ = asyncio.run(ask_of(server, count=50))
    assert [reply.rcode for reply in replies] == [0] * 50
    assert (len(server.calls), len(server.peers)) == (50, 1)


def test_a_slow_call_does_not_hold_the_others():
    """It is cancelled at the server, when its time is up or its client has gone."""
    server = Server(once(lambda call: None))

    async def scenario(upstream):
        slow = asyncio.create_task(upstream.ask(ask_wire("slow."), LONG))
        await until(lambda: server.calls)
        assert (await upstream.ask(ask_wire("quick."), LONG)).rcode == 0
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert (await upstream.ask(ask_wire("quick."), LONG)).rcode == 0
        assert (server.resets, len(server.peers)) == ([1], 1)

    run_with_upstream(server, scenario)


def test_a_silent_connection_is_replaced():
    """The server has sent nothing since the query that times out."""

    def act(call):
        if b"silent" not in call.wire:
            call.answer()

    server = Server(act)

    async def scenario(upstream):
        assert (await upstream.ask(ask_wire(), LONG)).rcode == 0  # has connected
        with pytest.raises(UpstreamError, match="i/o timeout"):
            await upstream.ask(ask_wire("silent."), 0.01)
        await until(lambda: not upstream._connection.is_usable)
        assert (await upstream.ask(ask_wire(), LONG)).rcode == 0
        assert len(server.peers) == 2

    run_with_upstream(server, scenario)


def test_failed_connects_pause(monkeypatch):
    """Queries fail at once in the pause, which grows."""
    now = [1000.0]
    monkeypatch.setattr(upstream_module, "monotonic", lambda: now[0])

    async def scenario():
        async with listening(Server()) as port:
            pass
        upstream = Upstream(Target("127.0.0.1", port), None, "")
        dials = []
        dial = upstream._dial
        monkeypatch.setattr(upstream, "_dial", lambda: dials.append(now[0]) or dial())
        for _ in range(3):
            for _ in range(2):
                with pytest.raises(UpstreamError, match="dialing: connection refused"):
                    await upstream.ask(ask_wire(), LONG)
            now[0] += 2 * upstream._pause
        assert len(dials) == 3
        assert upstream._pause == 8 * upstream_module.LEAST_PAUSE
        assert upstream.status()["failures"] == 6
        upstream.close()

    asyncio.run(scenario())


def test_an_upstream_that_is_closed_makes_no_connection():
    """A handler above may ask until its own end, such as to refresh its cache."""
    server = Server()

    async def scenario(upstream):
        upstream.close()
        with pytest.raises(UpstreamError, match="the server is stopping"):
            await upstream.ask(ask_wire("late.example."), LONG)

    run_with_upstream(server, scenario)
    assert server.calls == []


def test_a_unix_socket(tmp_path):
    async def scenario():
        server = Server()
        async with listening(server, tmp_path / "g.sock") as path:
            upstream = Upstream(Target(str(path), 0), None, "")
            assert (await upstream.ask(ask_wire(), LONG)).rcode == 0
            upstream.close()
        return server.calls[0].headers[":authority"], upstream.address

    assert asyncio.run(scenario()) == ("localhost", f"unix://{tmp_path}/g.sock")


@pytest.mark.parametrize(
    ("names", "server_name", "changes", "reason"),
    [
        (["dns.example"], "dns.example", {}, ""),
        (["127.0.0.1"], "", {}, ""),
        (["dns.example"], "other.example", {}, "hostname mismatch"),
        (["dns.example"], "", {}, "ip address mismatch"),
        (["dns.example"], "dns.example", {"expires": EXPIRED}, "certificate has expired"),
        (["dns.example"], "dns.example", {"is_unknown": True}, "unable to get local issuer"),
        (["dns.example"], "dns.example", {"protocols": ["h3"]}, "the server does not speak HTTP/2"),
    ],
    ids=["name", "address", "other name", "other address", "expired", "unknown CA", "no h2"],
)
def test_certificates(tmp_path, names, server_name, changes, reason):
    trusted = Authority()
    issuer = Authority() if "is_unknown" in changes else trusted
    files = issuer.issue(tmp_path, *names, expires=changes.get("expires"))
    ca = trusted.issue(tmp_path, "x.example", label="trusted").authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(changes.get("protocols", ["h2"]))
    client = client_context(TLSFiles(ca=ca), ["h2"])
    server = Server()
    (found,), _ = asyncio.run(ask_of(server, context=(context, client), name=server_name))
    if reason:
        assert reason in str(found)
        assert server.calls == []
    else:
        assert found.rcode == 0
        assert server.calls[0].headers[":scheme"] == "https"


class Silent(asyncio.Protocol):
    """A server that sends some bytes, or nothing, in reply to the first ones, and closes."""

    def __init__(self, data):
        self.data = data

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(self.data)
        self.transport.close()


FOREIGN = {
    "TLS alert": (bytes.fromhex("15030300020246"), "EOF"),
    "web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server does not speak HTTP/2"),
    "nothing": (b"", "EOF"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_server_without_plain_http2_is_down(case):
    """Queries fail at once then, and the reason has a hint."""
    data, reason = FOREIGN[case]
    problem = f"transport: Error while dialing: {reason}"

    server = Server()
    protocols = [Silent(data), peers.Peer(server)]

    async def scenario():
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: protocols.pop(0), "127.0.0.1", 0)
        upstream = Upstream(Target(*listener.sockets[0].getsockname()), None, "")
        assert upstream.status()["state"] == "up"
        with pytest.raises(UpstreamError, match=problem) as caught:
            await upstream.ask(ask_wire(), LONG)
        assert str(caught.value).endswith("; if the server expects TLS, use the option tls")
        assert upstream.status()["state"] == "down"
        upstream._no_dial_until = 0.0
        assert (await upstream.ask(ask_wire(), LONG)).rcode == 0
        assert upstream.status()["state"] == "up"
        upstream.close()
        listener.close()
        await listener.wait_closed()

    asyncio.run(scenario())


@given(st.binary(max_size=60))
def test_any_body(data):
    try:
        wire = decode(HEADERS, data, TRAILERS)
    except CallError:
        return
    assert wire in data


@given(st.binary(max_size=300))
def test_messages_are_decoded_as_they_were_encoded(wire):
    assert decode(HEADERS, pack(wire), TRAILERS) == wire


def test_the_largest_message():
    largest = pack(bytes(65535))
    assert len(largest) == 5 + 4 + 65535
    assert decode(HEADERS, largest, TRAILERS) == bytes(65535)
    with pytest.raises(CallError, match="more than 65535 bytes"):
        decode(HEADERS, framed(b"\x0a\x80\x80\x04" + bytes(65536)), TRAILERS)
