"""Servers with https:// and grpc://: certificates, reloads, drains, upgrades, and the self-check."""

import asyncio
import signal
import socket

import dnslib
import pytest
from hpack import Encoder

from corepy.corefile import CorefileError, parse
from corepy.dns.address import host_port
from corepy.server.build.builder import build
from corepy.server.listen import transports
from corepy.server.listen.http.https import RESPONSES
from corepy.server.selfcheck import unanswered
from corepy.testing import (
    Recorder,
    free_port,
    helper_module,
    http_get,
    query,
    run_command,
    serve,
    with_handlers,
)
from corepy.testing.certificates import Authority
from corepy.testing.command import wait_until
from corepy.testing.listening import children

h2 = helper_module(__file__, "http2_client")
PATHS = {"https": "/dns-query", "grpc": "/coredns.dns.DnsService/Query"}
PLUGINS = {"https": "https", "grpc": "grpc_server"}
GOODBYE = 2**31 - 1


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A line with *tls*, the context of a client, and the authority."""
    authority = Authority()
    files = authority.issue(tmp_path_factory.mktemp("tls"), "dns.example", "127.0.0.1")
    return f"tls {files.certificate} {files.key}", authority.client_context("h2"), authority


def block(scheme, port, *lines, number=1):
    record = f'template IN A {{\nanswer "{{{{ .Name }}}} 60 IN A 192.0.2.{number}"\n}}'
    body = "\n".join(["bind 127.0.0.1", *lines, "cache", record])
    return f"{scheme}://.:{port} {{\n{body}\n}}\n"


def plain(scheme):
    return f"{PLUGINS[scheme]} {{\nplaintext\n}}"


def ask(client, scheme, name="www.example.org."):
    """Return the address in the reply to a query."""
    frames, stream = request(client, scheme, name)
    client.send(frames)
    return address(client, scheme, stream)


def request(client, scheme, name="www.example.org."):
    message = query(name, id=0)
    if scheme == "https":
        return client.request(message)
    packet = b"\x0a" + bytes((len(message),)) + message
    fields = client.head(**{":path": PATHS[scheme], "content-type": "application/grpc"})
    return client.request(b"\0" + len(packet).to_bytes(4, "big") + packet, fields)


def address(client, scheme, stream):
    status, fields, content = client.response(stream)
    assert status == 200, fields
    if scheme == "grpc":
        assert fields["grpc-status"] == "0"
        content = content[7:] if content[6] < 128 else content[8:]
    return str(dnslib.DNSRecord.parse(content).rr[0].rdata)


def mistakes(text):
    with pytest.raises(CorefileError) as caught:
        build(parse(text, schemes=transports.KNOWN))
    return [str(mistake.message) for mistake in caught.value.diagnostics]


@pytest.mark.parametrize("scheme", PATHS)
def test_a_block_without_certificate_is_refused(scheme):
    (message,) = mistakes(block(scheme, 1))
    assert "it has no certificate (add to the server block: tls CERT KEY" in message
    assert message.endswith(f"the option plaintext of the directive that limits {scheme}://)")


@pytest.mark.parametrize("scheme", PATHS)
def test_plain_text_and_a_certificate_exclude_each_other(scheme, tls):
    (message,) = mistakes(block(scheme, 1, tls[0], plain(scheme)))
    assert "it has a certificate and the option plaintext" in message


@pytest.mark.parametrize("scheme", PATHS)
def test_a_connection_continues_over_a_reload(scheme, tls):
    port = free_port()
    with (
        serve(block(scheme, port, tls[0])) as server,
        h2.connected(server.address, tls[1]) as client,
    ):
        for _ in range(3):
            assert ask(client, scheme) == "192.0.2.1"
        server.reload(block(scheme, port, tls[0], number=2))
        for _ in range(3):
            assert ask(client, scheme) == "192.0.2.2"


@pytest.mark.parametrize("scheme", PATHS)
def test_a_drained_connection_answers_what_was_asked(scheme):
    """Also a query that the client sends before it can know of the drain."""
    text = block(scheme, free_port(), plain(scheme))
    with serve(text) as server, h2.connected(server.address, settings={}) as client:
        assert ask(client, scheme) == "192.0.2.1"
        frames, stream = request(client, scheme, "late.example.org.")
        server.call(lambda: next(iter(server.server.endpoints.values())).stop())
        goodbye = client.until(h2.GOAWAY)
        assert int.from_bytes(goodbye[:4], "big") == GOODBYE
        client.send(frames)
        assert address(client, scheme, stream) == "192.0.2.1"
        last = client.until(h2.GOAWAY)
        assert int.from_bytes(last[:4], "big") == stream
        assert client.error() == h2.NO_ERROR


def test_an_upgrade_loses_no_query(tls):
    port = free_port()
    with run_command(block("https", port, tls[0]), "-supervise") as command:
        command.wait_for(" serves")
        wait_until(lambda: len(children(command.process.pid)) == 1)
        before = children(command.process.pid)[0]
        with h2.connected(("127.0.0.1", port), tls[1]) as old:
            assert ask(old, "https") == "192.0.2.1"
            command.send_signal(signal.SIGHUP)
            command.wait_for(f"stopping {before}")
            with h2.connected(("127.0.0.1", port), tls[1]) as new:
                assert ask(new, "https") == "192.0.2.1"
            assert old.error() == h2.NO_ERROR
        wait_until(lambda: before not in children(command.process.pid))


def test_processes_share_the_address_and_the_metrics(tls):
    port, metrics = free_port(), free_port()
    lines = [tls[0], "multisocket 2", f"prometheus 127.0.0.1:{metrics}"]
    with run_command(block("https", port, *lines)) as command:
        wait_until(lambda: len(children(command.process.pid)) == 1)
        assert f"https://.:{port} on 127.0.0.1" in command.output
        for _ in range(8):
            with h2.connected(("127.0.0.1", port), tls[1]) as client:
                assert ask(client, "https") == "192.0.2.1"
        name = "coredns_dns_https_responses_total"
        line = f'{name}{{server="https://127.0.0.1:{port}",status="200"}} 8'
        wait_until(lambda: line in http_get(metrics, "/metrics").text)
        page = http_get(metrics, "/metrics").text
        assert f'server="https://127.0.0.1:{port}"' in page
        assert 'proto="tcp"' in page


@pytest.mark.parametrize("scheme", PATHS)
@pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "plain"])
def test_the_self_check_asks_it(scheme, encrypted, tls):
    line = tls[0] if encrypted else plain(scheme)
    with serve(block(scheme, free_port(), line)) as server:
        endpoints = list(server.server.endpoints.values())
        refused = RESPONSES.labels(endpoints[0].label, "400")
        before = refused.value
        silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, 20.0), server._loop)
        assert silent.result(30) == []
        assert refused.value == before  # the metric is that of clients
        server.call(lambda: endpoints[0].pause())
        silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, 0.2), server._loop)
        assert silent.result(30) == [f"{scheme} {endpoints[0].label}"]


LIMITED = {
    "https": plain("https").replace("plaintext", "plaintext\nmax_connections 2"),
    "timeouts": plain("https") + "\ntimeouts {\nmaxconnections 2\n}",
}


@pytest.mark.parametrize("plugin", LIMITED)
def test_the_limits_are_those_of_the_plugins(plugin):
    text = block("https", free_port(), LIMITED[plugin])
    with serve(text) as server:
        (endpoint,) = server.server.endpoints.values()
        clients = [h2.Client(server.address, settings={}) for _ in range(4)]
        for client in clients:
            try:
                client.until(h2.SETTINGS)
            except h2.Closed:
                pass
        wait_until(lambda: server.call(lambda: len(endpoint.listeners[0].connections)) <= 2)
        for client in clients:
            client.close()


@pytest.mark.parametrize("version", ["h2", "http/1.1"])
def test_plugins_see_the_request_and_the_connection(tls, version):
    """A trace continues that of the client, whose address may be stated by a proxy."""
    seen = []

    def answer(asked):
        seen.append((asked.client, asked.identity))
        return asked.reply()

    plugins = with_handlers(see=lambda: Recorder(answer))
    text = f"https://. {{\nbind 127.0.0.1\n{tls[0]}\nproxyproto\nsee\n}}\n"
    authority = tls[2].client_context(version)
    with (
        serve(text.replace("//.", "//.:0"), plugins=plugins) as server,
        socket.create_connection(server.address, 30) as plain,
    ):
        plain.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
        with authority.wrap_socket(plain, server_hostname="dns.example") as sock:
            sock.sendall(REQUESTS[version])
            while b"application/dns-message" not in sock.recv(4096) and not seen:
                pass
    ((client, identity),) = seen
    assert host_port(client) == ("192.0.2.7", 1234)
    assert identity.http.method == "POST"
    assert identity.http.path == "/dns-query"
    assert identity.http.header("x-b3-traceid") == "80f198ee56343ba864fe8b2a57d3eff7"
    assert (identity.tls.version, identity.tls.protocol) == ("TLSv1.3", version)
    assert identity.tls.server_name == "dns.example"


QUERY = query("www.example.org.", id=0)
TRACE = ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7")
FIELDS = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "dns.example"),
    (":path", "/dns-query?a"),
    TRACE,
]
REQUESTS = {
    "h2": h2.PREFACE
    + h2.frame(h2.SETTINGS)
    + h2.frame(h2.HEADERS, h2.END_HEADERS, 1, Encoder().encode(FIELDS))
    + h2.frame(h2.DATA, h2.END_STREAM, 1, QUERY),
    "http/1.1": (
        f"POST /dns-query HTTP/1.1\r\nHost: a\r\n{': '.join(TRACE)}\r\n"
        f"Content-Length: {len(QUERY)}\r\n\r\n"
    ).encode()
    + QUERY,
}
