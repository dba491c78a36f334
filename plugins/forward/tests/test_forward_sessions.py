"""Resumption of TLS sessions: with OpenSSL's server in the event loop of the test."""

import asyncio
import ssl
from types import SimpleNamespace

import pytest

from corepy.plugin.tls_client import TLSFiles
from corepy.testing.certificates import Authority
from corepy.testing.polling import until
from corepy_forward import sessions as sessions_module
from corepy_forward.sessions import FULL_HANDSHAKE, Sessions
from corepy_forward.setup import make_context

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
        sessions = Sessions(make_context(TLSFiles(ca=files.authority), "tls"))
        writers = []
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
    sessions.keep(SimpleNamespace(session=None))
    assert sessions._session is None
