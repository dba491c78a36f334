"""Servers of DNS over QUIC and over HTTP/3 for tests, on aioquic in the event loop of the test."""

import asyncio
import contextlib
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived

from corepy.plugin import Pending
from corepy.testing.polling import until
from corepy_forward.pool import Pool
from corepy_forward.quic_trust import QUICTrust
from corepy_forward.settings import Settings
from corepy_forward.targets import Target

OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"


def reply_to(wire):
    """Return an empty reply to a query, without EDNS."""
    end = wire.index(b"\0", 12) + 5
    return wire[:2] + bytes((wire[2] | 0x80, 0x80)) + b"\0\1\0\0\0\0\0\0" + wire[12:end]


class Call:
    """A query that the server has received."""

    def __init__(self, peer, number, wire, headers=None):
        self.peer, self.number, self.wire, self.headers = peer, number, wire, headers

    def send(self, data, *, is_end=True):
        self.peer._quic.send_stream_data(self.number, data, end_stream=is_end)
        self.peer.transmit()

    def answer(self):
        wire = reply_to(self.wire)
        if self.headers is None:
            self.send(len(wire).to_bytes(2, "big") + wire)
        else:
            self.respond("200", wire)

    def respond(self, status, body, media_type="application/dns-message"):
        http = self.peer.http
        headers = [(b":status", status.encode()), (b"content-type", media_type.encode())]
        http.send_headers(self.number, headers, end_stream=not body)
        if body:
            http.send_data(self.number, body, end_stream=True)
        self.peer.transmit()


class Peer(QuicConnectionProtocol):
    """One connection."""

    server = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.server.peers.append(self)
        self.http = H3Connection(self._quic) if self.server.protocol == "h3" else None
        self.parts, self.heads = {}, {}

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.server.closed.append(event.error_code)
        elif isinstance(event, StopSendingReceived):
            self.server.stopped.append((event.stream_id, event.error_code))
        if self.http is not None:
            for found in self.http.handle_event(event):
                self._take_http(found)
        elif isinstance(event, StreamDataReceived):
            part = self.parts.setdefault(event.stream_id, bytearray())
            part += event.data
            if event.end_stream:
                assert int.from_bytes(part[:2], "big") == len(part) - 2
                self._call(Call(self, event.stream_id, bytes(part[2:])))

    def _take_http(self, event):
        if isinstance(event, HeadersReceived):
            self.heads[event.stream_id] = dict(event.headers)
        elif isinstance(event, DataReceived):
            self.parts.setdefault(event.stream_id, bytearray()).extend(event.data)
        if event.stream_ended:
            wire = bytes(self.parts.get(event.stream_id, b""))
            self._call(Call(self, event.stream_id, wire, self.heads[event.stream_id]))

    def _call(self, call):
        self.server.calls.append(call)
        self.server.act(call)


class Server:
    """Calls `act` for each query; without it, answers each with an empty NOERROR."""

    def __init__(self, files, act=Call.answer, protocol="doq", *, with_tickets=False, alpn=None):
        self.act, self.protocol = act, protocol
        self.configuration = QuicConfiguration(
            is_client=False, alpn_protocols=[alpn or protocol], max_datagram_size=1200
        )
        self.configuration.load_cert_chain(files.certificate, files.key)
        self.calls, self.peers, self.closed, self.stopped = [], [], [], []
        self.tickets = {}
        self.with_tickets = with_tickets
        self.takes_tickets = True

    def fetch_ticket(self, label):
        return self.tickets.pop(label, None) if self.takes_tickets else None


@contextlib.asynccontextmanager
async def listening(server, port=0):
    """Let a server listen; yields its port."""
    options: dict[str, Any] = {}
    if server.with_tickets:
        options["session_ticket_handler"] = lambda it: server.tickets.update({it.ticket: it})
        options["session_ticket_fetcher"] = server.fetch_ticket
    listener = await serve(
        "127.0.0.1",
        port,
        configuration=server.configuration,
        create_protocol=type("ServerPeer", (Peer,), {"server": server}),
        **options,
    )
    try:
        yield listener._transport.get_extra_info("sockname")[1]
    finally:
        listener.close()


class Client:
    """A pool with one upstream."""

    def __init__(self, port, ca, server_name="dns.example", transport="quic", **settings):
        trust = QUICTrust(ca, "doq" if transport == "quic" else "h3")
        given: dict[str, Any] = {"max_fails": 0, "read_timeout": 60.0, "max_connect_attempts": 1}
        given["tls_contexts"] = {transport: trust}
        target = Target("127.0.0.1", port, transport, server_name)
        self.pool = Pool(Settings(**(given | settings)), [target])
        (self.upstream,) = self.pool.upstreams
        self.upstream.streams.dial_timeout = 60.0  # no test depends on the speed of handshakes

    def begin(self, name="a", *, with_edns=False):
        question = bytes((len(name),)) + name.encode() + b"\0\0\1\0\1"
        body = b"\1\0\0\1\0\0\0\0\0" + (b"\1" if with_edns else b"\0") + question
        exchange = self.pool.begin(question, body + (OPT if with_edns else b""), for_tcp=False)
        exchange.waiters.append(Pending(self.pool.wakeups, lambda _: None))
        return exchange

    async def ask(self, name="a", **options):
        """Return the reply, or the reason why there is none."""
        exchange = self.begin(name, **options)
        await until(lambda: exchange.done)
        return exchange.reason if exchange.reply is None else exchange.reply

    @property
    def stream(self):
        (stream,) = self.upstream.streams._streams
        return stream


def run(server, ca, scenario, **options):
    """Run a coroutine function with a client of a server."""

    async def main():
        async with listening(server) as port:
            client = Client(port, ca, **options)
            try:
                await scenario(client)
            finally:
                client.pool.close()
                await asyncio.sleep(0)

    asyncio.run(main())
