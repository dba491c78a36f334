"""Discovery of designated resolvers; servers and certificates are those of the test."""

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import cast

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.form_error import FormError
from corepy.dns.names import from_text
from corepy.plugin.tls_client import TLSFiles
from corepy.testing import refusal, set_up
from corepy.testing.certificates import Authority
from corepy.testing.helper_module import helper_module
from corepy.testing.polling import until
from corepy_forward import discovery, metrics
from corepy_forward.contexts import make_context
from corepy_forward.designations import NAME, read, targets
from corepy_forward.discovery import Discovery
from corepy_forward.pool import Pool
from corepy_forward.settings import Settings
from corepy_forward.targets import Target, ToAddress
from corepy_forward.usable import Watch

peers = helper_module(__file__, "quic_peers")
AUTHORITY = Authority()
PLAIN = Target("192.0.2.1", 53)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ddr")


@pytest.fixture(scope="module")
def files(folder):
    return AUTHORITY.issue(folder, "127.0.0.1")


@pytest.fixture(scope="module")
def ca(files):
    return TLSFiles(ca=files.authority)


def message(*records, additional=()):
    """Return a reply with SVCB records in presentation form, and addresses by name."""
    reply = dns.message.make_response(dns.message.make_query("_dns.resolver.arpa", "SVCB"))
    if records:
        name = "_dns.resolver.arpa."
        reply.answer = [dns.rrset.from_text(name, 300, "IN", "SVCB", *records)]
    reply.additional = [
        dns.rrset.from_text(name, 300, "IN", "AAAA" if ":" in address else "A", address)
        for name, address in additional
    ]
    return reply.to_wire()


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["1 d.example. alpn=dot"], [(1, ("tls",), 0, "", ())]),
        (["1 d.example. alpn=doq,dot port=8853"], [(1, ("tls", "quic"), 8853, "", ())]),
        (
            ['1 d.example. alpn=h3,h2 dohpath="/q{?dns}" ipv4hint=192.0.2.7 ipv6hint=2001:db8::7'],
            [(1, ("https", "https3"), 0, "/q", ("192.0.2.7", "2001:db8::7"))],
        ),
        (
            ["2 d.example. alpn=dot", "1 e.example. alpn=doq"],
            [
                (1, ("quic",), 0, "", ()),
                (2, ("tls",), 0, "", ()),
            ],
        ),
        (["1 d.example. alpn=h2,dot"], [(1, ("tls",), 0, "", ())]),  # no path
        (['1 d.example. alpn=h2 dohpath="/q{?dns,x}"'], [(1, (), 0, "", ())]),
        (['1 d.example. alpn=h2 dohpath="/a b{?dns}"'], [(1, (), 0, "", ())]),
        (['1 d.example. alpn=h2 dohpath="q{?dns}"'], [(1, (), 0, "", ())]),
        (['1 d.example. alpn=h2 dohpath="/q"'], [(1, (), 0, "", ())]),
        (["1 d.example. alpn=http/1.1"], [(1, (), 0, "", ())]),
        (["1 d.example. mandatory=alpn,port alpn=dot port=1"], [(1, ("tls",), 1, "", ())]),
        (["1 d.example. mandatory=key999 alpn=dot key999=x"], []),
        (["0 d.example."], []),
        (["1 . alpn=dot"], []),
        (["1 resolver.arpa. alpn=dot"], []),
        (["1 _dns.Resolver.arpa. alpn=dot"], []),
        ([], []),
    ],
)
def test_records(records, expected):
    found = read(message(*records))
    assert [it[:1] + it[2:] for it in found.found] == expected
    assert found.ttl == (300 if expected else 0)


def test_addresses_in_the_additional_section():
    given_there = [
        ("D.example.", "192.0.2.7"),
        ("e.example.", "192.0.2.8"),
        ("d.example.", "2001:db8::7"),
    ]
    wire = message("1 d.example. alpn=dot ipv4hint=192.0.2.6", additional=given_there)
    (designation,) = read(wire).found
    assert designation.addresses == ("192.0.2.6", "192.0.2.7", "2001:db8::7")


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_any_reply(rdata, rest):
    """Malformed records are skipped, a malformed message is an error."""
    head = b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + NAME + b"\0\x40\0\1"
    record = b"\xc0\x0c\0\x40\0\1\0\0\1\x2c" + len(rdata).to_bytes(2, "big") + rdata
    for designation in read(head + record).found:
        assert designation.priority
    with contextlib.suppress(FormError):
        read(head + rest)


def upstreams(plain, **options):
    (designation,) = read(message("1 d.example. alpn=dot,doq port=853")).found
    addresses = ["192.0.2.9", plain.host, "2001:db8::1", "224.0.0.1"]
    return list(targets(plain, designation, addresses, **options))


def test_the_certificate_must_have_the_address_of_the_plain_upstream():
    found = upstreams(PLAIN, is_opportunistic=False)
    assert [(it.transport, it.host) for it in found] == [
        ("tls", "192.0.2.1"),
        ("quic", "192.0.2.1"),
        ("tls", "192.0.2.9"),
        ("quic", "192.0.2.9"),
    ]
    assert {(it.server_name, it.authority, it.is_verified) for it in found} == {
        ("192.0.2.1", "d.example", True)
    }


@pytest.mark.parametrize(("host", "count"), [("10.0.0.1", 2), ("8.8.8.8", 0)])
def test_opportunistic_upstreams_have_the_same_address_which_is_private(host, count):
    found = upstreams(Target(host, 53), is_opportunistic=True)
    unverified = [it for it in found if not it.is_verified]
    assert [it.host for it in unverified] == [host] * count
    assert len(found) == 4 + count


class Plain(asyncio.DatagramProtocol):
    """A plain resolver that answers SVCB queries with `records`, and others without records."""

    def __init__(self):
        self.records, self.asked, self.addresses = [], [], []
        self.is_silent = False

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.asked.append(question.rdtype.name)
        if not self.is_silent:
            self.transport.sendto(answer(query, self), addr)


def answer(query, plain):
    reply = dns.message.make_response(query)
    name, rdtype = query.question[0].name, query.question[0].rdtype.name
    texts = {"SVCB": plain.records, "A": plain.addresses}.get(rdtype)
    if texts:
        reply.answer = [dns.rrset.from_text(name, 300, "IN", rdtype, *texts)]
    return reply.to_wire()


class Secure:
    """The TLS server of the same resolver."""

    def __init__(self, plain, files):
        self.plain, self.asked = plain, []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.certificate, files.key)
        self.context.set_alpn_protocols(["dot"])

    async def serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                query = dns.message.from_wire(wire)
                self.asked.append(query.question[0].rdtype.name)
                reply = answer(query, self.plain)
                writer.write(len(reply).to_bytes(2, "big") + reply)
        writer.close()


class Scene:
    """A plain resolver, its TLS server, and a pool that uses it with discovery."""

    def __init__(self, plain, secure, pool, port):
        self.plain, self.secure, self.pool, self.port = plain, secure, pool, port
        self.target = pool.upstreams[0].target
        self.discovery = Discovery(pool)

    def start(self, *records):
        self.plain.records = [record.format(port=self.port) for record in records]
        self.discovery.replace([self.target])

    @property
    def used(self):
        (upstream,) = self.pool.upstreams
        return upstream.target

    async def upgraded(self):
        await until(lambda: self.used.transport != "dns")
        return self.used

    def designated(self):
        return [labels for labels, _ in metrics.DESIGNATED.children()]


def run(files, ca, scenario, **settings):
    async def main():
        loop = asyncio.get_running_loop()
        transport, plain = await loop.create_datagram_endpoint(Plain, local_addr=("127.0.0.1", 0))
        secure = Secure(plain, files)
        listener = await asyncio.start_server(secure.serve, "127.0.0.1", 0, ssl=secure.context)
        given = {"ddr": "verified", "tls": ca, "read_timeout": 60.0} | settings
        target = Target(*transport.get_extra_info("sockname"))
        pool = Pool(Settings(**given), [target])
        scene = Scene(plain, secure, pool, listener.sockets[0].getsockname()[1])
        try:
            await scenario(scene)
        finally:
            scene.discovery.stop()
            pool.close()
            transport.close()
            listener.close()
            await listener.wait_closed()
            await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(main())


LOCAL = "1 d.example. alpn=dot port={port} ipv4hint=127.0.0.1"


def ask(scene):
    return scene.pool.begin(b"\1a\0\0\1\0\1", b"\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", False)


def test_a_plain_upstream_is_replaced(files, ca, caplog):
    caplog.set_level(logging.INFO)

    async def scenario(scene):
        scene.start(LOCAL)
        found = await scene.upgraded()
        assert (found.transport, found.port) == ("tls", scene.port)
        exchange = ask(scene)
        await until(lambda: exchange.done)
        assert exchange.reply is not None
        assert "A" in scene.secure.asked
        assert scene.designated() == [(scene.target.address, "tls")]
        text = f"{scene.target.address}: using tls://127.0.0.1:{scene.port} (verified)"
        assert text in caplog.text
        assert list(scene.discovery.configured) == [scene.target]
        scene.discovery.stop()
        assert scene.designated() == []

    run(files, ca, scenario)


@pytest.mark.parametrize("transport", ["quic", "https3"])
def test_other_transports(files, ca, transport):
    protocol = {"quic": "doq", "https3": "h3"}[transport]
    server = peers.Server(files, protocol=protocol)

    async def scenario(scene):
        async with peers.listening(server) as port:
            scene.start(
                f"1 d.example. alpn={protocol} port={port} ipv4hint=127.0.0.1"
                ' dohpath="/here{{?dns}}"'
            )
            assert (await scene.upgraded()).transport == transport
            scene.pool.close()
        if transport == "https3":
            headers = server.calls[0].headers
            assert headers[b":path"] == b"/here"
            assert headers[b":authority"] == f"d.example:{port}".encode()

    run(files, ca, scenario)


@pytest.mark.parametrize("hint", ["", " ipv6hint=2001:db8::7"])
@pytest.mark.parametrize("is_there", [True, False])
def test_the_address_of_the_name_is_asked_for(files, ca, is_there, hint, caplog):
    """Also if the record has only addresses of the other family."""

    async def scenario(scene):
        scene.plain.addresses = ["127.0.0.1"] if is_there else []
        scene.start("1 d.example. alpn=dot port={port}" + hint)
        if is_there:
            assert (await scene.upgraded()).host == "127.0.0.1"
        else:
            await until(lambda: "no transport of the designated" in caplog.text)
        assert "A" in scene.plain.asked

    run(files, ca, scenario)


def test_the_next_record_is_tried(files, ca):
    async def scenario(scene):
        with contextlib.closing(socket.socket()) as unused:
            unused.bind(("127.0.0.1", 0))
            dead = unused.getsockname()[1]
            scene.start(f"1 x.example. alpn=dot port={dead} ipv4hint=127.0.0.1", f"2{LOCAL[1:]}")
            assert (await scene.upgraded()).port == scene.port

    run(files, ca, scenario)


FAULTS = {
    "another address": (AUTHORITY, ["127.0.0.2"], "ip address mismatch"),
    "only a name": (AUTHORITY, ["d.example"], "ip address mismatch"),
    "unknown CA": (Authority(), ["127.0.0.1"], "certificate signed by unknown authority"),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("is_opportunistic", [False, True])
def test_certificates(folder, ca, case, is_opportunistic, caplog):
    """Without verification, an upstream is only used if that is allowed."""
    authority, names, reason = FAULTS[case]
    own = authority.issue(folder, *names, label=f"own {is_opportunistic}")

    async def scenario(scene):
        scene.start(LOCAL)
        if is_opportunistic:
            found = await scene.upgraded()
            assert (found.transport, found.is_verified) == ("tls", False)
        else:
            await until(lambda: reason in caplog.text)
            assert scene.used == scene.target
            assert "no designated upstream" in caplog.text

    ddr = "opportunistic" if is_opportunistic else "verified"
    run(own, ca, scenario, ddr=ddr)


@pytest.mark.parametrize("records", [(), ("0 d.example.",)])
def test_an_upstream_without_designated_resolvers_is_used_plainly(files, ca, records):
    async def scenario(scene):
        waits = asyncio.Event()
        scene.discovery._wait = lambda plain, seconds: waits.set() or asyncio.Event().wait()
        scene.start(*records)
        await waits.wait()
        assert scene.used == scene.target

    run(files, ca, scenario)


def test_a_designated_upstream_that_is_down_is_replaced_by_the_plain_one(
    files, ca, caplog, monkeypatch
):
    monkeypatch.setattr(discovery, "INTERVAL", 0.0)

    async def scenario(scene):
        scene.start(LOCAL)
        await scene.upgraded()
        scene.pool.upstreams[0].fails = 99
        await until(lambda: scene.used == scene.target)
        assert f"{scene.target.address}: using plain DNS again" in caplog.text
        assert scene.designated() == []

    run(files, ca, scenario)


def test_the_encrypted_upstream_is_asked_when_the_records_expire(files, ca, monkeypatch):
    monkeypatch.setattr(discovery, "INTERVAL", 0.0)
    monkeypatch.setattr(discovery, "LEAST_TTL", 0.0)
    monkeypatch.setattr(discovery, "MOST_TTL", 0.0)

    async def scenario(scene):
        scene.start(LOCAL)
        await scene.upgraded()
        plain = scene.plain.asked.count("SVCB")
        before = scene.secure.asked.count("SVCB")
        await until(lambda: scene.secure.asked.count("SVCB") > before + 3)
        assert scene.plain.asked.count("SVCB") == plain
        scene.plain.records = []
        await until(lambda: scene.used == scene.target)

    run(files, ca, scenario)


def test_upstreams_come_and_go(files, ca):
    other = Target("192.0.2.7", 853, "tls", "dns.example")

    async def scenario(scene):
        scene.pool.settings.tls_contexts["tls"] = make_context(ca, "tls")
        scene.start(LOCAL)
        first = await scene.upgraded()
        scene.discovery.replace([scene.target, other])
        assert [it.target for it in scene.pool.upstreams] == [first, other]
        scene.discovery._report(scene.target, "a problem")
        scene.discovery.replace([other])
        assert [it.target for it in scene.pool.upstreams] == [other]
        assert (scene.designated(), scene.discovery._tasks) == ([], {})
        assert scene.discovery._problems == {}

    run(files, ca, scenario)


def test_upstreams_of_a_file_are_passed_to_the_discovery(files, ca):
    class Replaced:
        configured = ()

        def replace(self, configured):
            self.configured = tuple(configured)

    async def scenario(scene):
        replaced, target = Replaced(), Target("192.0.2.7", 53)
        settings = Settings(entries=[ToAddress("192.0.2.7", [target])])
        watch = Watch(settings, scene.pool, [], [], cast("Discovery", replaced))
        watch._use()
        assert replaced.configured == (target,)
        assert scene.used == scene.target
        watch.stop()

    run(files, ca, scenario)


def test_an_upstream_that_does_not_answer(files, ca, caplog, monkeypatch):
    monkeypatch.setattr(discovery, "TIMEOUT", 0.01)

    async def scenario(scene):
        scene.plain.is_silent = True
        scene.start(LOCAL)
        await until(lambda: "no designated upstream: i/o timeout" in caplog.text)
        assert scene.used == scene.target

    run(files, ca, scenario)


def test_an_exception_does_not_end_the_discovery(files, ca, caplog, monkeypatch):
    monkeypatch.setattr(discovery, "RETRY", 0)
    results = iter([RuntimeError("unforeseen")])

    def read_or_fail(wire):
        for error in results:
            raise error
        return read(wire)

    monkeypatch.setattr(discovery.designations, "read", read_or_fail)

    async def scenario(scene):
        scene.start(LOCAL)
        await scene.upgraded()
        assert "discovery failed: RuntimeError: unforeseen" in caplog.text

    run(files, ca, scenario)


@pytest.mark.parametrize(
    ("option", "value"), [("", ""), ("ddr", "verified"), ("ddr opportunistic", "opportunistic")]
)
def test_the_option(option, value):
    (handler,) = set_up(f"forward . 192.0.2.1 {{\n{option}\n}}").handlers
    assert handler.settings.ddr == value
    assert set(handler.settings.tls_contexts) == ({"tls"} if value else set())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("ddr always", "ddr: unknown option always"),
        ("ddr opportunistic verified", "wrong argument count"),
        ("ddr\ntls_servername a.example", "tls_servername cannot be combined with ddr"),
        ("ddr\nmax_fails 0", "max_fails 0 cannot be combined with ddr"),
        ("ddr\ntls /no/such.pem", "/no/such.pem"),
    ],
)
def test_refused(lines, message):
    assert message in refusal(f"forward . 192.0.2.1 {{\n{lines}\n}}").message


def test_the_name():
    assert from_text("_dns.resolver.arpa.") == NAME
