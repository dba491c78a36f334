"""The identity of clients through whole servers: signatures, proxies, TLS; echoed options."""

import base64
import importlib
import ipaddress
import re
import shutil
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dnslib
import pytest

from corepy.dns import ANONYMOUS, HTTPFacts
from corepy.dns.address import host_port
from corepy.dns.records import rr
from corepy.net.frames import frame
from corepy.plugin import (
    Cacheability,
    FastHandler,
    HTTPSLimits,
    ObservingHandler,
    ProxyAction,
    ProxyPolicy,
    Timeouts,
    TLSSetting,
    TSIGKeys,
)
from corepy.server.listen import transports
from corepy.server.listen.tcp import TCPConnection, TCPListener
from corepy.server.listen.tls_acceptance import facts as tls_facts
from corepy.server.listen.transport import Transport
from corepy.testing import free_port, query, serve, with_handlers
from corepy.testing.client import read_frame
from corepy.testing.inline import inline
from corepy.testing.tls import CERTIFICATE, SERVER_NAME, server_context

SOURCE = Path(__file__).with_name("signed_plugin.py")
SECRET = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(32)).decode()
KEY = f"hmac-sha256:key.example:{SECRET}"
TEMPLATE = "template IN A {\n" + ' answer "{{ .Name }} 60 IN A 192.0.2.%d"\n' * 40 + "}"
RECORDS = TEMPLATE % tuple(range(40))
FEW = 'template IN A {\n answer "{{ .Name }} 60 IN A 192.0.2.1"\n}'


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The module of the plugin *signed*, installed as a distribution of its own."""
    shutil.copy(SOURCE, tmp_path / "corepy_signed.py")
    info = tmp_path / "corepy_signed-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corepy-signed\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[corepy.plugins]\nsigned = corepy_signed\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("corepy_signed")
    sys.modules.pop("corepy_signed", None)


def corefile(body=FEW, zone="."):
    return f"{zone} {{\nbind 127.0.0.1\nsigned key.example {SECRET}\ncache 3600\n{body}\n}}\n"


def dig(server, *words):
    """The whole output of dig, which also verifies the signature."""
    host, port = server.address
    command = ["dig", f"@{host}", "-p", str(port), "+tries=1", "+time=10", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def status(text):
    return re.search(r"status: (\w+)", text)[1]


def answers(text):
    return [line for line in text.splitlines() if line and line[0] != ";"]


def is_verified(text):
    return "TSIG PSEUDOSECTION" in text and "verify" not in text


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("edns", ["+noedns", "+edns"])
def test_dig_verifies_the_reply(plugin, transport, edns):
    with serve(corefile()) as server:
        for _ in range(2):
            text = dig(server, "www.example.org", "A", transport, edns, "-y", KEY)
            assert status(text) == "NOERROR"
            assert is_verified(text)
            assert len(answers(text)) == 2  # the record, and that of the signature
        assert server.packet_entries == 0
    # Handlers see the query without its record.
    assert {size for _, size in plugin.SEEN} == {33 if edns == "+noedns" else 56}


def test_dig_retries_a_truncated_reply_over_tcp(plugin):
    with serve(corefile(RECORDS)) as server:
        text = dig(server, "www.example.org", "A", "+noedns", "+ignore", "-y", KEY)
        assert " tc" in re.search(r"flags: ([\w ]+);", text)[0]
        assert is_verified(text)
        assert len(answers(text)) == 1
        text = dig(server, "www.example.org", "A", "+noedns", "-y", KEY)
        assert "retrying in TCP mode" in text
        assert (is_verified(text), len(answers(text))) == (True, 41)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (f"hmac-sha256:unknown.example:{SECRET}", "BADKEY"),
        (f"hmac-sha256:key.example:{OTHER}", "BADSIG"),
        (f"hmac-md5:key.example:{SECRET}", "BADKEY"),
    ],
)
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_dig_reads_the_error(plugin, key, error, transport):
    with serve(corefile()) as server:
        text = dig(server, "www.example.org", "A", transport, "-y", key)
    assert status(text) == "NOTAUTH"
    assert f" {error} " in text


def test_an_unsigned_query_never_gets_a_signed_reply(plugin):
    """Not even if the bytes without the signature are those of a query in the packet cache."""
    with serve(corefile()) as server:
        dig(server, "www.example.org", "A", "+noedns", "+noad", "-y", KEY)
        assert server.ask("www.example.org", "A").header.rcode == 5
        server.reload(f". {{\nbind 127.0.0.1\ncache 3600\n{FEW}\n}}\n")
        for _ in range(3):
            plain = server.ask("www.example.org", "A")
            assert (len(plain.rr), plain.ar) == (1, [])
        assert server.packet_entries == 1
        # Without keys, a signature is ignored, as in CoreDNS.
        text = dig(server, "www.example.org", "A", "+noedns", "+noad", "-y", KEY)
        assert "192.0.2.1" in text
        assert "TSIG PSEUDOSECTION" not in text


def test_a_query_that_no_block_answers_is_refused_with_a_signature(plugin):
    with serve(corefile(zone="example.org")) as server:
        text = dig(server, "www.example.com", "A", "-y", KEY)
    assert status(text) == "REFUSED"
    assert is_verified(text)


def test_a_failure_in_the_chain_is_signed(plugin):
    class Fails(FastHandler):
        name = "fails"

        def begin_dns(self, request):
            raise ValueError("boom")

    found = with_handlers(fails=Fails)
    with serve(corefile("fails"), plugins=found) as server:
        text = dig(server, "www.example.org", "A", "-y", KEY)
    assert status(text) == "SERVFAIL"
    assert is_verified(text)


def test_blocks_at_one_listener_share_their_keys(plugin):
    port = free_port()
    other = f"a.org:{port} {{\nbind 127.0.0.1\nsigned second.example {OTHER}\n{FEW}\n}}\n"
    with serve(corefile(zone=f"example.com:{port}") + other) as server:
        assert is_verified(dig(server, "www.a.org", "A", "-y", KEY))
        second = f"hmac-sha256:second.example:{OTHER}"
        assert is_verified(dig(server, "www.example.com", "A", "-y", second))


class Echo(FastHandler):
    name = "echo"
    cacheability = Cacheability.SAFE

    def begin_dns(self, request):
        return self.next.begin_dns(request)


def set_up_echo(controller):
    for _ in controller.single():
        controller.echo_option(65001)
    controller.add_handler(Echo())


def options_of(record):
    return [(it.code, bytes(it.data)) for opt in record.ar for it in opt.rdata]


def test_registered_options_are_echoed_until_a_reload():
    body = f"bind 127.0.0.1\ncache 3600\n{FEW}\n"
    found = {**with_handlers(), "echo": inline("echo", set_up_echo)}
    opt = dnslib.EDNS0(udp_len=1232, opts=[dnslib.EDNSOption(65001, b"one")])
    other = dnslib.EDNS0(udp_len=1232, opts=[dnslib.EDNSOption(65001, b"two")])

    def ask(server, name, *edns):
        record = dnslib.DNSRecord.question(name, "A")
        record.add_ar(*edns)
        return dnslib.DNSRecord.parse(server.exchange(record.pack()))

    plain = dnslib.EDNS0(udp_len=1232)
    # The option is echoed by the whole server, also for other blocks and for refusals.
    text = f"example.org {{\necho\n{body}}}\nexample.com:%d {{\n{body}}}\n"
    with serve(f"example.org {{\necho\n{body}}}\n", plugins=found) as server:
        port = server.address[1]
        for _ in range(2):
            assert options_of(ask(server, "a.example.org", opt)) == [(65001, b"one")]
            assert options_of(ask(server, "a.example.org", other)) == [(65001, b"two")]
            assert options_of(ask(server, "a.example.org", plain)) == []
        assert server.packet_entries == 1
        assert options_of(ask(server, "refused.test", opt)) == [(65001, b"one")]
        server.reload(text.replace("example.org {", f"example.org:{port} {{") % port)
        assert options_of(ask(server, "a.example.com", opt)) == [(65001, b"one")]
        server.reload(f"example.org:{port} {{\n{body}}}\n")
        assert options_of(ask(server, "a.example.org", opt)) == []
        assert options_of(ask(server, "refused.test", opt)) == []


class FakeTLS:
    """The certificate of `corepy.testing.tls` as *tls* would set it."""

    def __init__(self, name="one"):
        self.name = name

    def __eq__(self, other):
        return isinstance(other, FakeTLS) and self.name == other.name

    def __hash__(self):
        return hash(self.name)

    @property
    def fingerprint(self):
        return self.name.encode()

    def create_context(self):
        return server_context()

    def certificate(self):
        raise OSError("only QUIC needs it")


class RelayedConnection(TCPConnection):
    """DNS over TLS behind a proxy, with facts of HTTP."""

    def secured(self, tls):
        http = HTTPFacts("GET", "/dns-query", (("x-id", "7"), ("x-id", "8")))
        self.identity = replace(self.identity, tls=tls_facts(tls), http=http, is_early_data=True)
        super().secured(tls)


class RelayedListener(TCPListener):
    protocol = "relayed"
    is_checkable = False
    application_protocols = ("relayed",)

    def new_connection(self):
        return RelayedConnection(self)

    def swap(self, router, config):
        super().swap(router, config)
        self.limits = config.get(HTTPSLimits)


def without_certificate(config):
    return None if config.get(TLSSetting).source else "no certificate is configured"


RELAYED = Transport(
    "https",
    443,
    (RelayedListener,),
    settings=(Timeouts, TSIGKeys, TLSSetting, ProxyPolicy, HTTPSLimits),
    find_listener_problem=without_certificate,
)


class Facts(FastHandler):
    """Answers with the address of the client."""

    name = "facts"

    def __init__(self):
        self.seen = []

    def begin_dns(self, request):
        self.seen.append(request)
        address = bytes(map(int, request.remote[0].split(".")))
        return request.reply(answer=[rr(request.question[:-4], 1, 60, address)])


class Watches(ObservingHandler):
    """Records the clients of all queries, also of those that the packet cache answers."""

    name = "watches"
    listens_to_hits = True

    def __init__(self):
        self.seen = []

    def observe(self, request, reply):
        self.seen.append(request.remote[0])
        if reply.deadline is not None:
            reply.hit_counters += (self,)

    def on_hit(self, ident, client, received):
        self.seen.append(host_port(client)[0])

    def count_hits(self, times):
        pass


def set_up_relay(controller):
    for _ in controller.single():
        words = [it.text for it in controller.arguments(1) if it.text != "none"]
        networks = tuple(map(ipaddress.ip_network, words))
    controller.configure(ProxyPolicy(networks, ProxyAction.IGNORE))
    controller.configure(TLSSetting(FakeTLS()))
    controller.configure(HTTPSLimits(3))


class Client:
    """A TLS connection to a server behind a proxy, which states the client's address."""

    def __init__(self, address, client):
        context = ssl.create_default_context(cadata=CERTIFICATE)
        context.set_alpn_protocols(["other", "relayed"])
        plain = socket.create_connection(address, 30)
        family, own = ("TCP6", "::1") if ":" in client else ("TCP4", "127.0.0.1")
        plain.sendall(f"PROXY {family} {client} {own} 4000 853\r\n".encode())
        self.sock = context.wrap_socket(plain, server_hostname=SERVER_NAME)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.sock.close()

    def ask(self, name):
        self.sock.sendall(frame(query(name)))
        return dnslib.DNSRecord.parse(read_frame(self.sock))


@pytest.fixture
def relayed(monkeypatch):
    """The installed plugins, and those for a server behind a proxy."""
    monkeypatch.setitem(transports._loaded, "https", RELAYED)
    found = with_handlers(facts=Facts, watches=Watches)
    return {**found, "relay": inline("relay", set_up_relay)}


def relay(body, trusted="127.0.0.0/8", zone="https://.:0"):
    return f"{zone} {{\nbind 127.0.0.1\nrelay {trusted}\n{body}\n}}\n"


def test_handlers_see_the_facts_of_the_connection(relayed):
    with (
        serve(relay("facts"), plugins=relayed) as server,
        Client(server.address, "198.51.100.7") as client,
    ):
        replies = [client.ask(name) for name in ("a.example.", "b.example.")]
        port = client.sock.getsockname()[1]
        (facts,) = server.plugins(Facts)
        ((listener,),) = (endpoint.listeners for endpoint in server.server.endpoints.values())
        assert listener.limits == HTTPSLimits(3)
    assert [str(reply.rr[0].rdata) for reply in replies] == ["198.51.100.7"] * 2
    first, second = facts.seen
    assert first.identity is second.identity
    identity = first.identity
    assert identity.tls.version == "TLSv1.3"
    assert identity.tls.cipher.startswith("TLS_")
    assert (identity.tls.server_name, identity.tls.protocol) == (SERVER_NAME, "relayed")
    assert (identity.http.header("x-id"), identity.http.header("none")) == ("7", None)
    assert (identity.is_early_data, identity.tsig, identity.signer) == (True, None, None)
    assert (first.remote, first.peer) == (("198.51.100.7", 4000), ("127.0.0.1", port))


def test_a_header_of_an_untrusted_peer_is_not_used(relayed):
    with (
        serve(relay("facts", trusted="192.0.2.0/24"), plugins=relayed) as server,
        Client(server.address, "198.51.100.7") as client,
    ):
        assert str(client.ask("a.example.").rr[0].rdata) == "127.0.0.1"


def test_plain_dns_is_anonymous(relayed):
    text = ". {\nbind 127.0.0.1\nfacts\n}\n"
    with serve(text, plugins=relayed) as server:
        server.ask("a.example.")
        server.ask("a.example.", tcp=True)
        (facts,) = server.plugins(Facts)
    assert [request.identity for request in facts.seen] == [ANONYMOUS, ANONYMOUS]


def test_hits_of_the_packet_cache_show_the_client(relayed):
    with serve(relay(f"watches\ncache 3600\n{FEW}"), plugins=relayed) as server:
        for address in ("198.51.100.7", "198.51.100.8"):
            with Client(server.address, address) as client:
                for _ in range(3):
                    assert client.ask("a.example.").rr
        assert server.packet_entries == 1
        (watches,) = server.plugins(Watches)
        assert watches.seen == ["198.51.100.7"] * 3 + ["198.51.100.8"] * 3


def test_acl_judges_the_client_and_not_the_proxy(relayed):
    rules = "acl {\nblock net 198.51.100.7\nallow net 198.51.100.0/24\nblock\n}"
    with serve(relay(f"{rules}\ncache 3600\n{FEW}"), plugins=relayed) as server:
        for _ in range(3):
            for address, rcode in (("198.51.100.8", 0), ("198.51.100.7", 5), ("192.0.2.1", 5)):
                with Client(server.address, address) as client:
                    assert client.ask("a.example.").header.rcode == rcode


class OnlyIPv4(FastHandler):
    """Refuses clients with IPv6 addresses."""

    name = "onlyipv4"
    cacheability = Cacheability.DEPENDS_ON_FAMILY

    def __init__(self):
        self.seen = set()

    def begin_dns(self, request):
        self.seen.add(request.context.family)
        return self.next.begin_dns(request) if request.family == 1 else request.error(5)


def test_a_proxy_relays_clients_of_both_families(relayed):
    """The family of the socket is that of the proxy, and says nothing about the clients."""
    plugins = {**relayed, **with_handlers(onlyipv4=OnlyIPv4)}
    order = "onlyipv4 before cache\n"
    body = f"onlyipv4\ncache 3600\n{FEW}"
    with serve(relay(body), plugins=plugins, order=order) as server:
        for _ in range(3):
            for address, rcode in (("198.51.100.7", 0), ("2001:db8::7", 5)):
                with Client(server.address, address) as client:
                    assert client.ask("a.example.").header.rcode == rcode
        (handler,) = server.plugins(OnlyIPv4)
        assert (handler.seen, server.packet_entries) == ({0}, 0)


def test_without_a_trusted_proxy_the_socket_decides(relayed):
    plugins = {**relayed, **with_handlers(onlyipv4=OnlyIPv4)}
    body = relay(f"onlyipv4\ncache 3600\n{FEW}").replace("relay 127.0.0.0/8", "relay none")
    with serve(body, plugins=plugins, order="onlyipv4 before cache\n") as server:
        with Client(server.address, "2001:db8::7") as client:
            for _ in range(3):
                assert client.ask("a.example.").header.rcode == 0
        (handler,) = server.plugins(OnlyIPv4)
        assert (handler.seen, server.packet_entries) == ({1}, 1)
