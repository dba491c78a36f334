"""Upstreams over QUIC and over HTTP/3; the servers are made with aioquic."""

import asyncio
import subprocess
import sys
from typing import Any, cast

import pytest
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived

from corepy.plugin.tls_client import TLSFiles
from corepy.testing import refusal, set_up
from corepy.testing.certificates import EXPIRED, Authority
from corepy.testing.helper_module import helper_module
from corepy.testing.polling import until
from corepy_forward import quic_memory
from corepy_forward.failures import go_error
from corepy_forward.forms import padded
from corepy_forward.quic_failures import reason_of

peers = helper_module(__file__, "quic_peers")
Call, Server, run = peers.Call, peers.Server, peers.run
PROTOCOLS = {"quic": "doq", "https3": "h3"}
AUTHORITY = Authority()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return AUTHORITY.issue(tmp_path_factory.mktemp("quic"), "dns.example", "127.0.0.1")


@pytest.fixture(scope="module")
def ca(files):
    return TLSFiles(ca=files.authority)


@pytest.mark.parametrize("transport", PROTOCOLS)
def test_queries_share_a_connection(files, ca, transport):
    server = Server(files, protocol=PROTOCOLS[transport])

    async def scenario(client):
        exchanges = [client.begin(f"n{i}", with_edns=True) for i in range(150)]
        await until(lambda: all(exchange.done for exchange in exchanges))
        assert [exchange.reply is None for exchange in exchanges] == [False] * 150
        assert client.upstream.streams.connections == 1
        assert client.upstream.status()["protocol"] == transport
        assert not client.stream.pending

    run(server, ca, scenario, transport=transport)
    assert (len(server.calls), len(server.peers)) == (150, 1)
    for call in server.calls:
        assert call.wire[:2] == b"\0\0"
        assert len(call.wire) % 128 == 0
    if transport == "https3":
        headers = server.calls[0].headers
        assert headers[b":path"] == b"/dns-query"
        assert headers[b":authority"].startswith(b"dns.example:")


def test_doh_method_get(files, ca):
    server = Server(files, protocol="h3")
    server.act = lambda call: call.respond("404", b"")

    async def scenario(client):
        assert (await client.ask()).endswith("): HTTP status 404")

    run(server, ca, scenario, transport="https3", doh_method="GET")
    assert server.calls[0].wire == b""
    assert server.calls[0].headers[b":path"].startswith(b"/dns-query?dns=AAAB")


def test_a_page_over_http3(files, ca):
    server = Server(files, protocol="h3")
    server.act = lambda call: call.respond("200", b"<html>", media_type="text/html")

    async def scenario(client):
        assert (await client.ask()).endswith(": content-type 'text/html'")

    run(server, ca, scenario, transport="https3")


@pytest.mark.parametrize("transport", PROTOCOLS)
def test_replies_in_any_order_and_in_pieces(files, ca, transport):
    """A slow reply does not hold the others."""
    server = Server(files, lambda call: None, protocol=PROTOCOLS[transport])

    async def scenario(client):
        exchanges = [client.begin(name) for name in "abc"]
        await until(lambda: len(server.calls) == 3)
        for call, exchange in [*zip(server.calls, exchanges, strict=True)][:0:-1]:
            call.answer()
            await until(lambda exchange=exchange: exchange.done)
        assert not exchanges[0].done
        if transport == "quic":
            wire = peers.reply_to(server.calls[0].wire)
            for byte in len(wire).to_bytes(2, "big") + wire:
                server.calls[0].send(bytes((byte,)), is_end=False)
            server.calls[0].send(b"")
        else:
            server.calls[0].answer()
        await until(lambda: exchanges[0].done)
        assert exchanges[0].reply is not None

    run(server, ca, scenario, transport=transport)


def framed(wire):
    return len(wire).to_bytes(2, "big") + wire


def other_question(call):
    return framed(peers.reply_to(call.wire[:12] + b"\1x\0\0\1\0\1"))


REPLIES = {
    "another question": (other_question, "reply to another question", []),
    "not DNS": (lambda call: framed(b"no"), "reply to another question", []),
    "no length": (lambda call: b"\0", "malformed reply", [2]),
    "empty": (lambda call: b"", "malformed reply", [2]),
    "more than the length": (lambda call: framed(b"") + b"more", "malformed reply", [2]),
    "less than the length": (lambda call: b"\0\x20less", "malformed reply", [2]),
    "too large": (lambda call: b"\xff\xff" + bytes(65536), "reply is too large", [2]),
}


@pytest.mark.parametrize("case", REPLIES)
def test_replies_that_cannot_be_used(files, ca, case):
    """Those that violate the protocol end the connection with DOQ_PROTOCOL_ERROR."""
    make, reason, codes = REPLIES[case]
    server = Server(files, lambda call: call.send(make(call)))

    async def scenario(client):
        assert (await client.ask()).endswith(reason)
        await until(lambda: len(server.closed) == len(codes))
        server.act = Call.answer
        assert (await client.ask("b")).rcode == 0

    run(server, ca, scenario)
    assert server.closed[: len(codes)] == codes
    assert len(server.peers) == 1 + len(codes)


def reset(call):
    call.peer._quic.reset_stream(call.number, 0x5)
    call.peer.transmit()


@pytest.mark.parametrize("transport", PROTOCOLS)
def test_a_stream_that_is_reset(files, ca, transport):
    server = Server(files, reset, protocol=PROTOCOLS[transport])

    async def scenario(client):
        assert (await client.ask()).endswith(": stream reset (0x5)")
        server.act = Call.answer
        assert (await client.ask("b")).rcode == 0

    run(server, ca, scenario, transport=transport)
    assert len(server.peers) == 1


def test_a_body_above_the_limit(files, ca):
    """Its stream is cancelled; the others go on."""
    server = Server(files, lambda call: call.respond("200", bytes(65536)), protocol="h3")

    async def scenario(client):
        assert (await client.ask()).endswith(": reply is too large")
        server.act = Call.answer
        assert (await client.ask("b")).rcode == 0

    run(server, ca, scenario, transport="https3")
    assert len(server.peers) == 1


@pytest.mark.parametrize("transport", PROTOCOLS)
def test_queries_of_a_connection_that_ends_are_sent_again(files, ca, transport):
    def act(call):
        if len(server.peers) > 1:
            call.answer()
        elif len(server.calls) == 3:
            call.peer.close(error_code=0x4)

    server = Server(files, act, protocol=PROTOCOLS[transport])

    async def scenario(client):
        exchanges = [client.begin(name) for name in "abc"]
        await until(lambda: all(exchange.done for exchange in exchanges))
        assert [exchange.reply.rcode for exchange in exchanges] == [0, 0, 0]

    run(server, ca, scenario, transport=transport)
    assert (len(server.calls), len(server.peers)) == (6, 2)


def test_a_server_that_always_closes(files, ca):
    server = Server(files, lambda call: call.peer.close(error_code=0x4, reason_phrase="Overload"))

    async def scenario(client):
        assert (await client.ask()).endswith("connection closed by error 0x4 (overload)")

    run(server, ca, scenario)
    assert len(server.calls) == 3


def test_a_cancelled_query_is_cancelled_at_the_server(files, ca):
    server = Server(files, lambda call: None)

    async def scenario(client):
        slow = client.begin("slow")
        await until(lambda: server.calls)
        server.act = Call.answer
        assert (await client.ask("quick")).rcode == 0
        (attempt,) = slow._open
        client.upstream.cancel(attempt)
        await until(lambda: server.stopped)
        assert (await client.ask("quick")).rcode == 0

    run(server, ca, scenario)
    assert (server.stopped, len(server.peers)) == ([(0, 0x3)], 1)


@pytest.mark.parametrize("transport", PROTOCOLS)
def test_what_follows_a_cancelled_query_is_not_kept(files, ca, transport):
    """A server could otherwise fill the memory with streams that do not end."""
    server = Server(files, lambda call: None, protocol=PROTOCOLS[transport])

    async def scenario(client):
        slow = client.begin("slow")
        await until(lambda: server.calls)
        (attempt,) = slow._open
        client.upstream.cancel(attempt)
        stream = client.stream
        if transport == "https3":
            stream._take_from_http(HeadersReceived([(b":status", b"200")], 0, stream_ended=False))
            stream._take_from_http(DataReceived(bytes(1000), 0, stream_ended=False))
            assert stream._headers == {}
        else:
            stream._take_from_stream(StreamDataReceived(bytes(1000), False, 0))
        assert stream._replies == {}

    run(server, ca, scenario, transport=transport)


def test_a_port_where_nothing_listens(files, ca):
    async def main():
        async with peers.listening(Server(files)) as port:
            pass
        client = peers.Client(port, ca)
        reason = await client.ask()
        client.pool.close()
        assert "dial udp 127.0.0.1" in reason
        assert reason.endswith("connect: connection refused")

    asyncio.run(main())


def test_the_end_of_the_pool_closes_the_connection(files, ca):
    server = Server(files)

    async def scenario(client):
        assert (await client.ask()).rcode == 0
        client.upstream.streams.close()
        await until(lambda: server.closed)

    run(server, ca, scenario)
    assert server.closed == [0]


@pytest.mark.parametrize("transport", PROTOCOLS)
@pytest.mark.parametrize("is_taken", [True, False], ids=["accepted", "rejected"])
def test_the_first_packet_of_a_resumed_connection_has_queries(files, ca, transport, is_taken):
    """A server that rejects the ticket gets them again after the handshake."""
    server = Server(files, protocol=PROTOCOLS[transport], with_tickets=True)

    async def scenario(client):
        assert (await client.ask()).rcode == 0
        await until(lambda: client.upstream.streams.memory.ticket)
        client.stream._end("test")
        server.takes_tickets = is_taken
        assert (await client.ask("b")).rcode == 0
        assert server.peers[1]._quic.tls.early_data_accepted == is_taken
        assert server.peers[1]._quic.tls.session_resumed == is_taken

    run(server, ca, scenario, transport=transport)
    assert [len(server.calls), len(server.peers)] == [2, 2]


def test_a_ticket_is_used_once_and_not_for_long(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(quic_memory, "monotonic", lambda: now[0])
    memory = quic_memory.Memory()
    memory.verified = now[0]
    ticket = cast("Any", "ticket")
    memory.keep_ticket(ticket)
    assert (memory.take_ticket(), memory.take_ticket()) == (ticket, None)
    memory.keep_token(b"token")
    assert (memory.take_token(), memory.take_token()) == (b"token", b"")
    memory.keep_ticket(ticket)
    now[0] += quic_memory.FULL_HANDSHAKE
    assert memory.take_ticket() is None


@pytest.mark.parametrize("transport", PROTOCOLS)
@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("dns.example", {}, ""),
        ("", {}, ""),
        ("other.example", {}, "hostname mismatch, certificate is not valid for 'other.example'"),
        ("", {"names": ["dns.example"]}, "tls: failed to verify certificate: "),
        ("dns.example", {"expires": EXPIRED}, "certificate is no longer valid"),
        ("dns.example", {"is_unknown": True}, "unable to get local issuer certificate"),
        ("dns.example", {"alpn": "other"}, "remote error: tls: no application protocol"),
    ],
    ids=["name", "address", "other name", "other address", "expired", "unknown CA", "other ALPN"],
)
def test_certificates(tmp_path, files, ca, transport, name, changes, reason):
    issuer = Authority() if "is_unknown" in changes else AUTHORITY
    names = changes.get("names", ["dns.example", "127.0.0.1"])
    own = issuer.issue(tmp_path, *names, expires=changes.get("expires"))
    server = Server(own, protocol=PROTOCOLS[transport], alpn=changes.get("alpn"))

    async def scenario(client):
        found = await client.ask()
        if reason:
            assert reason in found
        else:
            assert found.rcode == 0

    run(server, ca, scenario, transport=transport, server_name=name)
    assert bool(server.calls) is not bool(reason)


def test_a_silent_connection_is_given_up(files, ca):
    """The server lost the connection without a sign: a query goes over another one."""
    server = Server(files)

    async def scenario(client):
        assert (await client.ask()).rcode == 0
        server.peers[0].datagram_received = lambda data, addr: None
        stream = client.stream
        exchange = client.begin("b")
        (attempt,) = exchange._open
        assert stream._silence.when() > 0
        stream._check_silence(attempt.sent)
        await until(lambda: exchange.done)
        assert (exchange.reply.rcode, attempt.redials) == (0, 1)

    run(server, ca, scenario)
    assert len(server.peers) == 2


def test_a_connection_that_answers_slowly_is_kept(files, ca):
    """The acknowledgement of a query is a sign of the server."""
    server = Server(files, lambda call: None)

    async def scenario(client):
        exchange = client.begin("a")
        await until(lambda: server.calls)
        stream = client.stream
        await until(lambda: stream.heard > stream.last_used)
        stream._check_silence(stream.last_used)
        assert stream._silence is None
        server.calls[0].answer()
        await until(lambda: exchange.done)
        assert exchange.reply.rcode == 0

    run(server, ca, scenario)
    assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("code", "no_error", "reason"),
    [
        (0, 0, "EOF"),
        (0x100, 0x100, "EOF"),  # HTTP/3
        (0x100, 0, "connection closed by error 0x100"),
        (0x102, 0x100, "connection closed by error 0x102"),
    ],
)
def test_reasons_of_closed_connections(code, no_error, reason):
    event = ConnectionTerminated(error_code=code, frame_type=None, reason_phrase="")
    assert reason_of(event, no_error) == reason


def test_names_of_errors():
    assert go_error("192.0.2.1:853", "quic", "i/o timeout", "x") == (
        "read udp 192.0.2.1:853 (over quic, x): i/o timeout"
    )


@pytest.mark.parametrize("size", range(120, 135))
def test_padding(size):
    question = bytes((size - 23 - 11 - 10,)) + b"a" * (size - 23 - 11 - 10) + b"\0\0\1\0\1"
    body = b"\1\0\0\1\0\0\0\0\0\1" + question + peers.OPT
    assert (2 + len(padded(body, question))) % 128 == 0
    assert padded(body[:9] + b"\0" + question, question) == body[:9] + b"\0" + question


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("quic://192.0.2.1", "192.0.2.1:853", ""),
        ("quic://192.0.2.1%dns.example:8853", "192.0.2.1:8853", "dns.example"),
        ("https3://2001:db8::1", "[2001:db8::1]:443", ""),
    ],
)
def test_upstreams(text, address, name):
    (handler,) = set_up(f"forward . {text}").handlers
    (target,) = handler.static_targets()
    assert (target.address, target.server_name) == (address, name)
    assert set(handler.settings.tls_contexts) == {text.partition(":")[0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forward . https3://192.0.2.1/dns-query", "paths are not allowed in HTTPS upstream"),
        ("forward . quic://fe80::1", "a link-local address cannot be used over quic"),
        (
            "forward . quic://192.0.2.1%a.example {\ntls_servername b.example\n}",
            "TLS servernames are set for upstream proxy 'quic://192.0.2.1:853'",
        ),
        ("forward . quic://192.0.2.1 {\ntls /no/such/ca.pem\n}", "/no/such/ca.pem"),
    ],
)
def test_refused(text, message):
    found = refusal(text)
    assert message in f"{found.message} {found.hint}"


@pytest.mark.pure_form("a compiled module is executed once in a process")
@pytest.mark.parametrize("transport", PROTOCOLS)
def test_without_aioquic_the_mistake_names_the_extra(monkeypatch, transport):
    for name in ("corepy_forward.quic", "corepy_forward.doh3", "corepy_forward.quic_trust"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [name for name in sys.modules if name.startswith("aioquic.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aioquic", None)
    found = refusal(f"forward . {transport}://192.0.2.1")
    assert found.message.startswith(f"{transport}:// needs ")
    assert found.hint == "pip install 'corepy-dns[forward]'"


def test_aioquic_is_imported_where_it_is_used():
    program = (
        "import sys; from corepy.testing import set_up;"
        "set_up('forward . 192.0.2.1 tls://192.0.2.1 https://192.0.2.1');"
        "print({'aioquic', 'cryptography'} & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "set()"
