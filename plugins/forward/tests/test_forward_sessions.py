"""Resumption of TLS sessions: with OpenSSL's server in the event loop of the test."""

import asyncio
import ssl
from types import SimpleNamespace
from typing import cast

import pytest

from corepy.plugin.tls_client import TLSFiles
from corepy.testing.certificates import EXPIRED, Authority
from corepy.testing.polling import until
from corepy_forward import sessions as sessions_module
from corepy_forward.pool import Pool
from corepy_forward.sessions import FULL_HANDSHAKE, Sessions
from corepy_forward.settings import Settings
from corepy_forward.setup import make_context
from corepy_forward.targets import Target

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Authority().issue(tmp_path_factory.mktemp("tls"), "dns.example")


class Server:
    """Answers each byte with a byte, and notes which handshakes were resumed."""

    def __init__(self, files, version, *, with_tickets=True):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.certificate, files.key)
        self.context.maximum_version = VERSIONS[version]
        if not with_tickets:
            self.context.options |= ssl.OP_NO_TICKET
            self.context.num_tickets = 0
        self.resumed = []

    async def serve(self, reader, writer):
        self.resumed.append(writer.get_extra_info("ssl_object").session_reused)
        while data := await reader.read(1):
            writer.write(data)
        writer.close()


async def connect(port, sessions):
    """Return the client's end of a connection that has carried data."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=sessions, server_hostname="dns.example"
    )
    sessions.connected(writer.get_extra_info("ssl_object"))
    writer.write(b"a")
    assert await reader.readexactly(1) == b"a"
    return writer


def run(server, files, scenario):
    async def main():
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=server.context)
        context = make_context(TLSFiles(ca=files.authority), "tls")
        assert isinstance(context, ssl.SSLContext)
        sessions, writers = Sessions(context), list[asyncio.StreamWriter]()
        try:
            await scenario(listener.sockets[0].getsockname()[1], sessions, writers)
        finally:
            for writer in writers:
                writer.transport.abort()
            listener.close()
            await listener.wait_closed()
            await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_next_connection_resumes_the_session(files, version):
    """Also after an abort, as the end of most connections is."""
    server = Server(files, version)

    async def scenario(port, sessions, writers):
        for _ in range(3):
            writers.append(await connect(port, sessions))
            sessions.keep(writers[-1].get_extra_info("ssl_object"))
            writers[-1].transport.abort()

    run(server, files, scenario)
    assert server.resumed == [False, True, True]


@pytest.mark.parametrize(("version", "resumed"), [("1.2", True), ("1.3", False)])
def test_a_ticket_of_tls_1_3_is_used_once(files, version, resumed):
    server = Server(files, version)

    async def scenario(port, sessions, writers):
        writers.append(await connect(port, sessions))
        for _ in range(2):
            sessions.keep(writers[0].get_extra_info("ssl_object"))
            writers.append(await connect(port, sessions))

    run(server, files, scenario)
    assert server.resumed == [False, True, resumed]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_full_handshake_is_due_after_some_time(files, version, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(sessions_module, "monotonic", lambda: now[0])
    server = Server(files, version)

    async def scenario(port, sessions, writers):
        for _ in range(4):
            writers.append(await connect(port, sessions))
            sessions.keep(writers[-1].get_extra_info("ssl_object"))
            now[0] += 0.5 * FULL_HANDSHAKE

    run(server, files, scenario)
    assert server.resumed == [False, True, False, True]


def test_a_server_without_tickets(files):
    server = Server(files, "1.3", with_tickets=False)

    async def scenario(port, sessions, writers):
        for _ in range(2):
            writers.append(await connect(port, sessions))
            sessions.keep(writers[-1].get_extra_info("ssl_object"))

    run(server, files, scenario)
    assert server.resumed == [False, False]


def test_a_server_with_other_keys_makes_a_full_handshake(files):
    """As another one behind the same address, or the same one after a restart."""
    first, second = Server(files, "1.3"), Server(files, "1.3")

    async def scenario(port, sessions, writers):
        writers.append(await connect(port, sessions))
        sessions.keep(writers[0].get_extra_info("ssl_object"))
        listener = await asyncio.start_server(second.serve, "127.0.0.1", 0, ssl=second.context)
        writers.append(await connect(listener.sockets[0].getsockname()[1], sessions))
        listener.close()

    run(first, files, scenario)
    assert (first.resumed, second.resumed) == ([False], [False])


def test_without_a_session():
    sessions = Sessions(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    sessions.keep(cast("ssl.SSLObject", SimpleNamespace(session=None)))
    assert sessions._session is None


class Closing:
    """A TLS server that counts connections, and closes each after the query."""

    def __init__(self, files, protocol):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.certificate, files.key)
        self.context.set_alpn_protocols([protocol])
        self.connections = 0

    async def serve(self, reader, writer):
        self.connections += 1
        await reader.read(65536)
        writer.close()


@pytest.mark.parametrize("transport", ["tls", "https"])
@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("dns.example", {}, "EOF"),
        ("", {"names": ["127.0.0.1"]}, "EOF"),
        ("other.example", {}, "hostname mismatch, certificate is not valid for 'other.example'"),
        ("", {}, "ip address mismatch, certificate is not valid for '127.0.0.1'"),
        ("dns.example", {"expires": EXPIRED}, "certificate has expired"),
        ("dns.example", {"is_unknown": True}, "x509: certificate signed by unknown authority"),
    ],
    ids=["name", "address", "other name", "other address", "expired", "unknown CA"],
)
def test_certificates(tmp_path, transport, name, changes, reason):
    """A good one is noticed by the end of the connection, after the handshake."""
    trusted = Authority()
    issuer = Authority() if "is_unknown" in changes else trusted
    names = changes.get("names", ["dns.example"])
    own = issuer.issue(tmp_path, *names, expires=changes.get("expires"))
    ca = trusted.issue(tmp_path, "x.example", label="trusted").authority
    protocol = {"tls": "dot", "https": "h2"}[transport]
    server = Closing(own, protocol)

    async def main():
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=server.context)
        host, port = listener.sockets[0].getsockname()
        target = Target(host, port, transport, name)
        contexts = {transport: make_context(TLSFiles(ca=ca), transport)}
        pool = Pool(
            Settings(max_fails=0, read_timeout=60.0, max_connect_attempts=1, tls_contexts=contexts),
            [target],
        )
        exchange = pool.begin(b"\1a\0\0\1\0\1", b"\1\0\0\1" + bytes(6) + b"\1a\0\0\1\0\1", False)
        await until(lambda: exchange.done)
        pool.close()
        listener.close()
        await listener.wait_closed()
        await until(lambda: len(asyncio.all_tasks()) == 1)
        return exchange.reason

    assert reason in asyncio.run(main())
    assert bool(server.connections) == (reason == "EOF")
