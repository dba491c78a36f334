"""Headers at the listeners of a running server: actions, kinds of headers, hostile senders."""

import asyncio
import socket
import ssl

import dnslib
import pytest

from corepy.net.frames import frame
from corepy.net.proxy_header import MAX_HEADER
from corepy.server.listen.proxy_refusals import REFUSED
from corepy.server.selfcheck import unanswered
from corepy.testing import helper_module, query, serve
from corepy.testing.certificates import Authority

helpers = helper_module(__file__, "proxy_headers")
Proxy, ask, answers = helpers.Proxy, helpers.ask, helpers.answers
version_1, version_2 = helpers.version_1, helpers.version_2
CLIENT, OTHER, LOCAL = helpers.CLIENT, helpers.OTHER, helpers.LOCAL
STREAM, DATAGRAM = helpers.STREAM, helpers.DATAGRAM
PEER = "127.0.0.1"
TELL = 'template IN A {\n answer "{{ .Name }} 60 IN A {{ .Remote }}"\n}'


def corefile(options="", more="", bind="bind 127.0.0.1"):
    return f". {{\n{bind}\nproxyproto {{\n{options}\n}}\n{more}\n{TELL}\n}}\n"


@pytest.fixture(scope="module")
def server():
    """A server that uses the headers of loopback."""
    with serve(corefile("allow 127.0.0.0/8\nudp_session_tracking 1h 2")) as it:
        yield it


def refused(server):
    return REFUSED.labels(f"dns://127.0.0.1:{server.address[1]}").value


def is_closed(sock):
    """Whether the server closes a connection without an answer."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


KINDS = {
    "version 1": (version_1(), STREAM, CLIENT),
    "version 2 over TCP": (version_2(kind=STREAM), STREAM, CLIENT),
    "version 2 over UDP": (version_2(), DATAGRAM, CLIENT),
    "local over TCP": (LOCAL, STREAM, PEER),
    "local over UDP": (LOCAL, DATAGRAM, PEER),
    "none over TCP": (b"", STREAM, PEER),
    "none over UDP": (b"", DATAGRAM, PEER),
    "longest": (version_2(kind=STREAM, fields=b"\4\x0f\xe1" + bytes(4065)), STREAM, CLIENT),
}


@pytest.mark.parametrize(("header", "kind", "client"), KINDS.values(), ids=KINDS)
def test_the_client_that_a_header_states(server, header, kind, client):
    assert len(header) <= MAX_HEADER
    with Proxy(server.address, kind, header) as proxy:
        assert answers(proxy.ask()) == [client]
        assert answers(proxy.ask()) == [client]  # over TCP, without another header


def test_a_client_with_ipv6(server):
    """The listener has IPv4; the reply goes to the proxy all the same."""
    text = (
        corefile()
        + 'v6.test {\nbind 127.0.0.1\ntemplate IN TXT {\nanswer "{{ .Name }} 1 IN TXT {{ .Remote }}"\n}\n}\n'
    )
    with serve(text) as it:
        for kind in (STREAM, DATAGRAM):
            reply = ask(it.address, version_2("2001:db8::7", kind), kind, "v6.test.", qtype="TXT")
            assert answers(reply) == ['"2001:db8::7"']


def test_a_header_in_single_bytes(server):
    with Proxy(server.address, STREAM) as proxy:
        proxy.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in version_2(kind=STREAM) + frame(query("www.example.")):
            proxy.sock.sendall(bytes((byte,)))
        assert answers(proxy.receive()) == [CLIENT]


def test_queries_behind_a_header_are_not_lost(server):
    """What follows the header in the same segment belongs to the protocol."""
    names = [f"n{number}.example." for number in range(50)]
    with Proxy(server.address, STREAM) as proxy:
        wires = b"".join(frame(query(name, id=at)) for at, name in enumerate(names))
        proxy.sock.sendall(version_2(kind=STREAM) + wires)
        replies = [proxy.receive() for _ in names]
    assert {answers(reply)[0] for reply in replies} == {CLIENT}
    assert {reply.header.id for reply in replies} == set(range(50))


MALFORMED = {
    "version 1": b"PROXY TCP4 there here 1 1\r\n",
    "endless version 1": b"PROXY TCP4 " + bytes(100),
    "version 2": version_2(kind=STREAM).replace(b"\x21\x11", b"\x21\x99"),
    "datagram": version_2(kind=DATAGRAM),
    "oversize": version_2(kind=STREAM, fields=b"\4\x10\0" + bytes(4096)),
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_header_ends_the_connection(server, header):
    before = refused(server)
    with Proxy(server.address, STREAM) as proxy:
        proxy.sock.sendall(header + frame(query("www.example.")))
        assert is_closed(proxy.sock)
    assert refused(server) == before + 1


DROPPED = {
    "version 1": version_1(),
    "connection": version_2(kind=STREAM),
    "cut off": version_2(fields=b"\4\0\x09" + bytes(9)).replace(query("www.example."), b"")[:-1],
    "oversize": version_2(fields=b"\4\x10\0" + bytes(4096)),
}


@pytest.mark.parametrize("header", DROPPED.values(), ids=DROPPED)
def test_a_malformed_datagram_is_dropped_and_the_others_are_answered(server, header):
    before = refused(server)
    with Proxy(server.address) as proxy:
        proxy.sock.send(header)
        proxy.sock.send(version_2() + query("www.example."))
        assert answers(proxy.receive()) == [CLIENT]
    assert refused(server) == before + 1


def test_a_batch_with_dropped_datagrams(server):
    """Each reply goes to the sender of its own query, with its own client."""
    with Proxy(server.address) as one, Proxy(server.address) as two:
        for number in range(40):
            for proxy in (one, two):
                proxy.sock.send(version_1())
                client = f"192.0.{2 if proxy is one else 3}.{number}"
                proxy.sock.send(version_2(client) + query("www.example.", id=number))
        for proxy, prefix in ((one, "192.0.2."), (two, "192.0.3.")):
            found = [proxy.receive() for _ in range(40)]
            assert {(it.header.id, *answers(it)) for it in found} == {
                (number, f"{prefix}{number}") for number in range(40)
            }


def test_sessions_of_a_proxy_that_sends_a_header_alone(server):
    with Proxy(server.address) as one, Proxy(server.address) as two:
        one.sock.send(version_2(CLIENT))
        two.sock.send(version_2(OTHER))
        assert [answers(it.ask()) for it in (one, two, one)] == [[CLIENT], [OTHER], [CLIENT]]
        one.sock.send(LOCAL)
        assert [answers(it.ask()) for it in (one, two)] == [[PEER], [OTHER]]
        with Proxy(server.address) as three, Proxy(server.address) as four:
            three.sock.send(version_2(CLIENT))
            four.sock.send(version_2(CLIENT))  # the third session: the limit is two
            found = [answers(it.ask()) for it in (two, three, four)]
    assert found == [[PEER], [CLIENT], [CLIENT]]


ACTIONS = {"use": CLIENT, "ignore": PEER, "reject": None, "skip": None}


@pytest.mark.parametrize(("action", "client"), ACTIONS.items(), ids=ACTIONS)
def test_headers_of_others_cannot_state_a_client(action, client):
    """The sender is not in `allow`; the self-check of the server sends no header."""
    options = f"allow 192.0.2.0/24\ndefault {action}\nudp_session_tracking 1h"
    # The connection whose header is skipped waits for the rest of a query until the time is up.
    patience = "1s" if action == "skip" else "60s"
    with serve(corefile(options, f"timeouts {{\nread {patience}\n}}")) as server:
        before = refused(server)  # the port may be that of an earlier test
        with Proxy(server.address) as udp, Proxy(server.address, STREAM) as tcp:
            udp.sock.send(version_2())
            tcp.sock.sendall(version_2(kind=STREAM) + frame(query("www.example.")))
            if action == "skip":  # the header itself is a malformed query
                assert udp.receive().header.rcode
                assert is_closed(tcp.sock)
            elif action == "reject":
                assert is_closed(tcp.sock)
                udp.sock.send(version_2() + query("www.example."))
            else:
                assert answers(tcp.receive()) == [client]
                udp.sock.send(version_2() + query("www.example."))
                assert answers(udp.receive()) == [client]
            expected = client or PEER  # of a query without header
            assert answers(udp.ask()) == [expected]
        assert answers(ask(server.address, kind=STREAM)) == [PEER]
        assert refused(server) - before == (3 if action == "reject" else 0)
        endpoints = server.server.endpoints.values()
        assert server.call(lambda: list(endpoints))
        assert run(server, lambda: unanswered(endpoints, 60.0)) == []


def run(server, make):
    """Run a coroutine in the server's event loop."""
    return asyncio.run_coroutine_threadsafe(make(), server._loop).result(60)


def test_no_header_in_time(server):
    """A connection without a byte is no refusal; one with half a header is."""
    text = corefile("", "timeouts {\nread 1s\n}")
    with serve(text) as it, Proxy(it.address, STREAM) as silent, Proxy(it.address, STREAM) as half:
        half.sock.sendall(version_2(kind=STREAM)[:-1])
        assert is_closed(half.sock)
        assert is_closed(silent.sock)
        assert refused(it) == 1


def test_a_client_that_closes_within_a_header(server):
    for part in (b"", version_2(kind=STREAM)[:13], version_2(kind=STREAM)):
        with Proxy(server.address, STREAM) as proxy:
            proxy.sock.sendall(part)
            proxy.sock.shutdown(socket.SHUT_WR)
            assert is_closed(proxy.sock)
    ((_, tcp),) = (it.listeners for it in server.server.endpoints.values())
    assert server.call(lambda: tcp._proxied.is_empty)


def test_connections_without_headers_do_not_keep_others_out(server, monkeypatch):
    """At most two wait, so each further one closes the one that has waited longest."""
    ((_, tcp),) = (it.listeners for it in server.server.endpoints.values())
    monkeypatch.setattr(tcp._proxied._limit, "_most", 2)
    monkeypatch.setattr(tcp._proxied._limit, "_most_of_one", 2)
    proxies = [Proxy(server.address, STREAM) for _ in range(5)]
    try:
        assert answers(ask(server.address, version_1(), STREAM)) == [CLIENT]
        assert sum(is_closed(it.sock) for it in proxies[:3]) == 3
        assert answers(proxies[4].ask()) == [PEER]
    finally:
        for proxy in proxies:
            proxy.sock.close()


def test_a_warning_a_minute(caplog):
    with serve(corefile("default reject")) as server, Proxy(server.address) as proxy:
        for _ in range(3):
            proxy.sock.send(version_2() + query("www.example."))
        assert answers(proxy.ask()) == [PEER]
        assert refused(server) == 3
    lines = [it.getMessage() for it in caplog.records if "PROXY" in it.getMessage()]
    assert len(lines) == 1
    assert "from 127.0.0.1: this peer is not allowed to send one" in lines[0]


def test_all_keys_of_a_block_and_wildcard_sockets():
    text = corefile(bind="").replace(". {", ".:0 example.net:0 {", 1)
    with serve(text) as server:
        for address in server.addresses:
            for kind in (STREAM, DATAGRAM):
                header = version_2(kind=kind)
                assert answers(ask(address, header, kind, "www.example.net.")) == [CLIENT]


def test_a_reload_changes_the_policy():
    """Open connections keep their client, and sessions continue."""
    used = corefile("allow 127.0.0.0/8\nudp_session_tracking 1h")
    with serve(used) as server:
        with Proxy(server.address) as udp, Proxy(server.address, STREAM, version_1()) as tcp:
            udp.sock.send(version_2())
            assert [answers(it.ask()) for it in (udp, tcp)] == [[CLIENT], [CLIENT]]
            server.reload(corefile("allow 127.0.0.0/8 192.0.2.0/24\nudp_session_tracking 2h"))
            assert [answers(it.ask()) for it in (udp, tcp)] == [[CLIENT], [CLIENT]]
            server.reload(f". {{\nbind 127.0.0.1\n{TELL}\n}}\n")
            assert [answers(it.ask()) for it in (udp, tcp)] == [[PEER], [CLIENT]]
            server.reload(used)
            assert [answers(it.ask()) for it in (udp, tcp)] == [[PEER], [CLIENT]]
        assert answers(ask(server.address, version_2())) == [CLIENT]


@pytest.mark.parametrize("pieces", [1, 2], ids=["together", "apart"])
def test_a_header_before_the_tls_handshake(tmp_path, pieces):
    """The handshake begins behind the header, also if both come in one segment."""
    authority = Authority()
    files = authority.issue(tmp_path, "dns.example")
    text = corefile("allow 127.0.0.0/8", f"tls {files.certificate} {files.key}")
    header = version_2(kind=STREAM)
    with serve(text.replace(". {", "tls://.:0 {", 1)) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = authority.client_context("dot").wrap_bio(
            incoming, outgoing, server_hostname="dns.example"
        )
        with Proxy(server.address, STREAM) as proxy:
            if pieces == 2:
                proxy.sock.sendall(header)
                header = b""

            def run_tls(step, *args):
                nonlocal header
                while True:
                    try:
                        return step(*args)
                    except ssl.SSLWantReadError:
                        proxy.sock.sendall(header + outgoing.read())
                        header = b""
                        incoming.write(proxy.sock.recv(4096))

            run_tls(tls.do_handshake)
            tls.write(frame(query("www.example.")))
            reply = run_tls(tls.read, 4096)
        assert answers(dnslib.DNSRecord.parse(reply[2:])) == [CLIENT]
        with Proxy(server.address, STREAM, version_1("x")) as proxy:
            proxy.sock.sendall(proxy.header)
            assert is_closed(proxy.sock)
