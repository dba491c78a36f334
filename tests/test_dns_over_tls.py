"""DNS over TLS: messages, options, slow clients, reloads and limits, with a client of Python."""

import asyncio
import itertools
import logging
import re
import socket
import ssl
import struct
from contextlib import suppress

import dnslib
import pytest

from corepy.corefile import CorefileError, parse
from corepy.plugin import Timeouts, control_client
from corepy.plugin.control_client import ask
from corepy.server.build.builder import build
from corepy.server.listen import tls_acceptance, transports
from corepy.server.selfcheck import unanswered
from corepy.testing import helper_module, query, serve
from corepy.testing.certificates import Authority
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until
from corepy.testing.upstream import free_port

shared = helper_module(__file__, "dns_over_tls_server")
Client, block, gated = shared.Client, shared.block, shared.gated
KEEPALIVE, PADDING = 11, 12


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    return authority.issue(tmp_path_factory.mktemp("tls"), shared.NAME, "127.0.0.1")


@pytest.fixture(scope="module")
def context(authority):
    return authority.client_context("dot")


@pytest.fixture(scope="module")
def running(files):
    """A server with a handler that holds queries, its handler and its listener."""
    with gated(files, "cache") as parts:
        yield parts


def padded(name, size=128, options=(), **question):
    """Return a query with padding to a multiple of `size`, as RFC 8467 recommends."""
    plain = dnslib.DNSRecord.parse(query(name, edns=1232, **question))
    found = [dnslib.EDNSOption(code, data) for code, data in options]
    plain.ar[0].rdata = [*found, dnslib.EDNSOption(PADDING, b"")]
    length = len(plain.pack())
    plain.ar[0].rdata[-1] = dnslib.EDNSOption(PADDING, bytes(-length % size))
    return bytes(plain.pack())


def options_of(wire):
    """Return the EDNS options of a reply by code."""
    return {it.code: it.data for it in dnslib.DNSRecord.parse(wire).ar[0].rdata}


def test_a_block_without_a_certificate_is_refused():
    text = "tls://. {\n whoami\n}\n"
    with pytest.raises(CorefileError) as caught:
        build(parse(text, schemes=transports.KNOWN))
    (mistake,) = caught.value.diagnostics
    assert mistake.message == (
        "cannot serve tls://.:853: it has no certificate (add to the server block: tls CERT KEY)"
    )


def test_a_block_without_a_certificate_uses_that_of_its_address(files):
    text = block(files).replace("tls://.", "tls://a.example") + "tls://b.example:0 {\n whoami\n}\n"
    text = text.replace(":0", ":8530").replace("whoami", "bind 127.0.0.1\n whoami")
    generation = build(parse(text, schemes=transports.KNOWN))
    assert list(generation.routers) == [("tls", "127.0.0.1", 8530)]


def test_plain_dns_is_not_answered(running):
    server, _, _ = running
    with socket.create_connection(server.address, 30) as stream:
        wire = query("www.example.org.")
        stream.sendall(struct.pack("!H", len(wire)) + wire)
        with pytest.raises(ConnectionError):
            read_frame(stream)


@pytest.mark.parametrize(
    ("offered", "chosen"), [((), None), (("dot",), "dot"), (("h2",), None), (("h2", "dot"), "dot")]
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_may_offer_any_protocol(running, authority, offered, chosen, version):
    """As in CoreDNS, where ALPN has no effect on DNS over TLS."""
    server, gate, _ = running
    context = authority.client_context(*offered)
    context.maximum_version = version
    with Client(server.address, context) as client:
        assert client.ask() == "192.0.2.1"
        assert client.sock.selected_alpn_protocol() == chosen
        client.ask(f"{version.name}.{len(offered)}{chosen}.example.")
        tls = gate.seen[-1].identity.tls
        assert (tls.version, tls.protocol) == (client.sock.version(), chosen or "")
        assert (tls.cipher, tls.server_name) == (client.sock.cipher()[0], shared.NAME)
        assert tls.peer_certificate is None


def test_replies_come_in_the_order_in_which_they_are_ready(running, context):
    server, gate, listener = running
    with Client(server.address, context) as client:
        names = ("busy1.example.", "www.example.", "busy2.example.", "www.example.")
        client.send(*(query(name, id=number) for number, name in enumerate(names)))
        ready = [client.receive()[:2], client.receive()[:2]]
        assert ready == [b"\0\1", b"\0\3"]
        assert len(listener.waiting()) == 2
        server.call(gate.open.set)
        assert sorted(client.receive()[:2] for _ in range(2)) == [b"\0\0", b"\0\2"]
        server.call(gate.open.clear)


def test_a_query_may_come_in_pieces(running, context):
    server, _, _ = running
    wire = query("pieces.example.")
    with Client(server.address, context) as client:
        for byte in struct.pack("!H", len(wire)) + wire:
            client.sock.sendall(bytes((byte,)))
        assert client.receive()[:2] == wire[:2]


def test_queries_before_the_end_of_the_stream_are_answered(running, context):
    """The client ends its side with an alert (close_notify) and waits for the reply."""
    server, gate, listener = running
    with Client(server.address, context) as client:
        client.send(query("busy3.example.", id=3))
        wait_until(lambda: len(listener.waiting()) == 1)
        client.sock.settimeout(0.0)
        with pytest.raises(ssl.SSLWantReadError):
            client.sock._sslobj.shutdown()
        client.sock.settimeout(30)
        server.call(gate.open.set)
        assert client.receive()[:2] == b"\0\3"
        assert client.is_closed()
        server.call(gate.open.clear)


@pytest.mark.parametrize("name", ["a.example.", "b" * 60 + ".example."])
def test_replies_to_padded_queries_are_padded(running, context, name):
    server, _, _ = running
    with Client(server.address, context) as client:
        client.send(padded(name))
        reply = client.receive()
        assert len(reply) == 468
        assert not options_of(reply)[PADDING].strip(b"\0")
        client.send(query(name, edns=1232))
        assert len(client.receive()) < 200


def test_the_packet_cache_answers_padded_queries(running, context):
    server, _, listener = running
    wire = padded("cached.example.", options=[(KEEPALIVE, b"")])
    before = server.packet_entries
    with Client(server.address, context) as client:
        replies = []
        for _ in range(3):  # a miss, a hit in *cache*, a hit in the packet cache
            client.send(wire)
            replies.append(client.receive())
    assert len({len(reply) for reply in replies}) == 1
    assert server.packet_entries == before + 1
    assert listener.pipeline.packets.entries[wire[2:]].hits == 1


@pytest.mark.parametrize(
    "wire",
    [
        padded("odd1.example.").replace(bytes(20), bytes(19) + b"x"),
        padded("odd2.example.", options=[(KEEPALIVE, b"\0\1")]),
        padded("odd3.example.", options=[(10, bytes(8))]),
    ],
    ids=["other-bytes", "a-timeout", "a-cookie"],
)
def test_the_packet_cache_leaves_out_other_options(running, context, wire):
    server, _, listener = running
    with Client(server.address, context) as client:
        for _ in range(2):
            client.send(wire)
            assert len(client.receive()) == 468
    assert wire[2:] not in listener.pipeline.packets.entries


def test_a_client_learns_the_idle_timeout(running, context):
    server, _, _ = running
    with Client(server.address, context) as client:
        client.send(padded("idle.example.", options=[(KEEPALIVE, b"")]))
        assert options_of(client.receive())[KEEPALIVE] == (100).to_bytes(2, "big")  # 10 s
        client.send(padded("idle.example."))
        assert KEEPALIVE not in options_of(client.receive())


def test_the_self_check_asks_it(running):
    server, _, _ = running
    endpoints = server.server.endpoints.values()
    silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, 30.0, 30.0), server._loop)
    assert silent.result(60) == []


def test_a_server_that_demands_certificates_can_check_itself(authority, files, tmp_path):
    issued = authority.issue(tmp_path, "client.example", label="client")
    tls = f"{files.authority} {{\nclient_auth require_and_verify\n}}"
    with gated(files, tls=tls) as (server, gate, _):
        endpoints = server.server.endpoints.values()
        silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, 30.0, 30.0), server._loop)
        assert silent.result(60) == []
        with Client(server.address, authority.client_context(files=issued)) as client:
            assert client.ask() == "192.0.2.1"
        chain = issued.certificate.read_text()
        first = chain[: chain.index("-----END")] + "-----END CERTIFICATE-----\n"
        assert gate.seen[-1].identity.tls.peer_certificate == ssl.PEM_cert_to_DER_cert(first)
        stranger = Authority().issue(tmp_path, "client.example", label="stranger")
        for wrong in (None, stranger):
            with (
                Client(server.address, authority.client_context(files=wrong)) as client,
                pytest.raises(ssl.SSLError, match="alert"),
            ):
                client.ask()


def test_explain_asks_it(files, context, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    with serve(block(files, 1, "cache"), control=True) as server:
        label = f"tls://127.0.0.1:{server.address[1]}"
        with Client(server.address, context) as client:
            for _ in range(2):
                client.ask()
        (path,) = control_client.sockets()
        question = {"name": "www.example.org.", "at": label, "edns": 0, "times": 2}
        found = ask(path, "explain", question)
        assert (found["server"], found["question"]["protocol"]) == (label, "tls")
        assert found["packet_cache"]["admitted"], found["packet_cache"]
        assert "holds" in found["packet_cache"]


SILENT = {
    "nothing": b"",
    "one-byte": b"\x16",
    "half-a-record": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.parametrize("start", SILENT.values(), ids=SILENT)
def test_a_client_that_does_not_finish_its_handshake_is_closed(running, start):
    server, _, listener = running
    server.call(setattr, listener, "timeouts", Timeouts(read=0.01))
    with socket.create_connection(server.address, 30) as stream:
        stream.sendall(start)
        assert stream.recv(100) == b""
    server.call(setattr, listener, "timeouts", Timeouts())
    wait_until(lambda: not listener.connections)


@pytest.mark.parametrize("start", [b"", b"\0", b"\0\x20abc"], ids=["nothing", "byte", "half"])
def test_a_client_that_sends_no_whole_query_is_closed(running, context, start):
    server, _, listener = running
    with Client(server.address, context) as client:
        server.call(setattr, listener, "timeouts", Timeouts(read=0.01))
        client.sock.sendall(start)
        # The timer of the connection runs for the timeout that it began with.
        server.call(lambda: [it._check_idle() for it in list(listener.connections)])
        assert client.is_closed()
    server.call(setattr, listener, "timeouts", Timeouts())
    wait_until(lambda: not listener.connections)


def test_failed_handshakes_are_logged_seldom(running, caplog, monkeypatch):
    server, _, listener = running
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    server.call(setattr, listener._tls, "_quiet_until", 0.0)
    for _ in range(3):
        with socket.create_connection(server.address, 30) as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while stream.recv(100):
                pass
    (record,) = caplog.records
    message = record.getMessage()
    label = f"tls://127.0.0.1:{server.address[1]}"
    reason = r"http request \(the client does not use TLS\)"
    assert re.fullmatch(
        rf"{label}: a TLS handshake with 127\.0\.0\.1:\d+ failed: {reason}", message
    )


def test_the_reason_of_a_closed_handshake_names_the_likely_cause():
    for kind in (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        error = kind(6, "TLS/SSL connection has been closed (EOF) (_ssl.c:1006)")
        assert tls_acceptance._reason(error) == tls_acceptance._CLOSED
    assert tls_acceptance._reason(OSError("other")) == "other"


def test_a_server_may_wait_for_its_first_certificate(files, context, caplog, monkeypatch):
    """A plugin may have to obtain it while the server runs."""
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    with gated(files) as (server, _, listener):
        endpoints = server.server.endpoints.values()

        def is_checked():
            silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, 30.0), server._loop)
            return silent.result(60) == []

        source = listener._tls._source
        create = source.create_context
        monkeypatch.setattr(source, "_fingerprint", b"other")
        monkeypatch.setattr(source, "create_context", lambda: raise_("no certificate yet"))
        assert is_checked()
        with pytest.raises(OSError):  # noqa: PT011 - closed or reset, before or in the handshake
            Client(server.address, context)
        (record,) = caplog.records
        assert record.getMessage().endswith("a TLS handshake failed: no certificate yet")
        monkeypatch.setattr(source, "create_context", create)
        assert is_checked()
        with Client(server.address, context) as client:
            assert client.ask() == "192.0.2.1"


def raise_(message):
    raise OSError(message)


def test_a_client_that_does_not_read_is_closed(running, context):
    server, _, listener = running
    server.call(setattr, listener, "timeouts", Timeouts(write=0.01))
    questions = [query("flood.example.")] * 1000
    with Client(server.address, context) as client, suppress(OSError):
        for _ in itertools.repeat(None):
            client.send(*questions)
    server.call(setattr, listener, "timeouts", Timeouts())
    wait_until(lambda: not listener.connections)


def test_a_reload_keeps_connections_and_sessions(files, context):
    port = free_port()
    with serve(block(files, 1, port=port)) as server, Client(server.address, context) as client:
        (endpoint,) = server.server.endpoints.values()
        assert client.ask() == "192.0.2.1"
        session = client.sock.session
        server.reload(block(files, 2, port=port))
        assert client.ask() == "192.0.2.2"
        assert list(server.server.endpoints.values()) == [endpoint]
        with Client(server.address, context, session=session) as again:
            assert again.ask() == "192.0.2.2"
            assert again.sock.session_reused
        server.reload(block(files, 3))  # at another port
        assert client.is_closed()


def test_a_new_certificate_is_for_new_connections(authority, context, tmp_path):
    files = authority.issue(tmp_path, shared.NAME)
    with gated(files) as (server, _, listener), Client(server.address, context) as old:
        assert old.ask() == "192.0.2.1"
        before = old.sock.getpeercert(binary_form=True)
        authority.issue(tmp_path, shared.NAME)
        source = listener._tls._source
        source._take(*source._load())
        with Client(server.address, context, session=old.sock.session) as new:
            assert new.ask() == "192.0.2.1"
            assert not new.sock.session_reused
            assert new.sock.getpeercert(binary_form=True) != before
        assert old.ask("other.example.") == "192.0.2.1"


def test_a_stopping_server_answers_pending_queries(files, context):
    with gated(files) as (server, gate, listener), Client(server.address, context) as client:
        client.send(query("busy.example.", id=5))
        wait_until(lambda: len(listener.waiting()) == 1)
        server.call(listener.stop)
        server.call(gate.open.set)
        assert client.receive()[:2] == b"\0\5"
        assert client.is_closed()


def test_connections_of_one_client_keep_no_other_out(files, context):
    limit = "timeouts {\nmaxconnections 6 3\n}"
    with gated(files, limit) as (server, _, listener):
        greedy = [socket.create_connection(server.address, 30) for _ in range(5)]
        assert {stream.recv(1) for stream in greedy[:2]} == {b""}  # none finished its handshake
        with Client(server.address, context, source=("127.0.0.2", 0)) as client:
            assert client.ask() == "192.0.2.1"
        wait_until(lambda: len(listener.connections) == 3)
        for stream in greedy:
            stream.close()


def test_pending_queries_of_one_client_are_limited_over_all_its_connections(files, context):
    limit = "timeouts {\nmaxpending 4\n}"  # three for one client, and one for others
    with (
        gated(files, limit) as (server, gate, listener),
        Client(server.address, context) as first,
        Client(server.address, context) as second,
        Client(server.address, context, source=("127.0.0.2", 0)) as other,
    ):
        first.send(*(query(f"busy{number}.example.") for number in range(2)))
        wait_until(lambda: len(gate.seen) == 2)
        second.send(query("busy2.example."), query("busy3.example.", id=9, edns=1232))
        refused = dnslib.DNSRecord.parse(second.receive())
        assert (refused.header.id, refused.header.rcode) == (9, 2)
        assert b"too many queries of this client" in refused.ar[0].rdata[0].data
        other.send(query("busy4.example.", id=10))
        wait_until(lambda: len(gate.seen) == 4)
        server.call(gate.open.set)
        assert other.receive()[:2] == b"\0\x0a"
        assert all(first.receive() for _ in range(2))
        assert second.receive()
        assert listener._pending.used == 0
        assert not listener._pending._shares.held
        assert second.ask() == "192.0.2.1"
