"""Servers of coredns.dns.DnsService for tests, on h2 in the event loop of the test."""

import asyncio
import contextlib

import h2.config
import h2.connection
import h2.events
import h2.settings

from corepy.net.dns_packet import pack
from corepy.testing import query

OK_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0")]


def reply_to(wire, rcode=0):
    """Return an empty reply to a query, which has no EDNS."""
    return wire[:2] + bytes((wire[2] | 0x80, 0x80 | rcode)) + wire[4:]


class Call:
    """A call that the server has received."""

    def __init__(self, peer, number, headers, body):
        self.peer, self.number, self.headers = peer, number, dict(headers)
        self.wire = bytes(body[5 + (3 if body[6] > 127 else 2) :])

    def head(self, headers=OK_HEADERS, *, is_end=False):
        self.peer.http.send_headers(self.number, headers, end_stream=is_end)
        self.peer.flush()

    def data(self, data):
        self.peer.http.send_data(self.number, data)
        self.peer.flush()

    def end(self, trailers=OK):
        self.peer.http.send_headers(self.number, trailers, end_stream=True)
        self.peer.flush()

    def answer(self, wire=None):
        self.head()
        self.data(pack(reply_to(self.wire) if wire is None else wire))
        self.end()


class Peer(asyncio.Protocol):
    """One connection of a server."""

    def __init__(self, server):
        self.server = server
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.http = h2.connection.H2Connection(config)
        self.http.local_settings = h2.settings.Settings(
            client=False,
            initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: server.streams},
        )
        self.calls = {}

    def connection_made(self, transport):
        self.transport = transport
        self.server.peers.append(self)
        self.http.initiate_connection()
        self.flush()

    def flush(self):
        self.transport.write(self.http.data_to_send())

    def data_received(self, data):
        for event in self.http.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.calls[event.stream_id] = event.headers, bytearray()
            elif isinstance(event, h2.events.DataReceived):
                self.calls[event.stream_id][1].extend(event.data)
            elif isinstance(event, h2.events.StreamReset):
                self.server.resets.append(event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                call = Call(self, event.stream_id, *self.calls.pop(event.stream_id))
                self.server.calls.append(call)
                self.server.act(call)
        self.flush()


class Server:
    """Calls `act` for each call; without it, answers each with an empty NOERROR."""

    def __init__(self, act=Call.answer, streams=100):
        self.act = act
        self.streams = streams
        self.calls, self.resets, self.peers = [], [], []


@contextlib.asynccontextmanager
async def listening(server, path=None, context=None):
    """Let a server listen; yields its port, or `path`."""
    loop = asyncio.get_running_loop()

    def make():
        return Peer(server)

    if path is None:
        listener = await loop.create_server(make, "127.0.0.1", 0, ssl=context)
    else:
        listener = await loop.create_unix_server(make, str(path), ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1] if path is None else path
    finally:
        listener.close()
        for peer in server.peers:
            peer.transport.abort()
        await listener.wait_closed()


def ask_wire(name="www.example."):
    """Return a query with the ID 0."""
    return b"\0\0" + query(name)[2:]
