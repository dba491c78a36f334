"""Receive windows that follow the delivered data, between two connections in memory."""

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived

from corepy.net.quic.bounded_connection import BoundedConnection
from corepy.testing.certificates import Authority

WINDOW = 4000
STREAM_WINDOW = 1000
ADDRESS = ("192.0.2.1", 853)


class Pair:
    """A client with small windows, and a server that sends what it likes."""

    def __init__(self, files):
        client = QuicConfiguration(
            alpn_protocols=["doq"],
            server_name="dns.example",
            max_data=WINDOW,
            max_stream_data=STREAM_WINDOW,
        )
        client.load_verify_locations(str(files.authority))
        self.client = BoundedConnection(configuration=client)
        self.client.limit_streams(0, 3)
        server = QuicConfiguration(is_client=False, alpn_protocols=["doq"])
        server.load_cert_chain(files.certificate, files.key)
        self.server = QuicConnection(
            configuration=server,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.now = 0.0
        self.received = b""
        self.client.connect(ADDRESS, self.now)
        self.exchange()
        self.client.send_stream_data(0, b"query")
        self.exchange()

    def exchange(self):
        """Pass datagrams between both until they have nothing to send."""
        sides = self.client, self.server
        is_busy = True
        while is_busy:
            is_busy = False
            for sender, receiver in (sides, sides[::-1]):
                self.now += 0.01
                for data, _ in sender.datagrams_to_send(self.now):
                    is_busy = True
                    receiver.receive_datagram(data, ADDRESS, self.now)
        while (event := self.client.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self.received += event.data

    def skip(self, stream_id, size):
        """Let the server's next data on a stream begin `size` bytes later."""
        stream = self.server._get_or_create_stream_for_send(stream_id)
        sender = stream.sender
        sender._buffer_start = sender._buffer_stop = sender._buffer_stop + size
        sender.highest_offset = sender._buffer_stop
        sender._pending.subtract(0, sender._buffer_stop)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Authority().issue(tmp_path_factory.mktemp("bounded"), "dns.example")


def test_the_windows_follow_what_is_delivered(files):
    pair = Pair(files)
    pair.server.send_stream_data(0, bytes(10 * WINDOW))
    pair.exchange()
    assert pair.received == bytes(10 * WINDOW)
    stream = pair.client._streams[0]
    assert stream.max_stream_data_local <= 10 * WINDOW + STREAM_WINDOW


def test_a_stream_with_a_gap_gets_no_larger_window(files):
    """aioquic would double it, and make room for the gap."""
    pair = Pair(files)
    pair.skip(0, STREAM_WINDOW - 10)
    pair.server.send_stream_data(0, b"x")
    pair.exchange()
    stream = pair.client._streams[0]
    assert stream.receiver.highest_offset == STREAM_WINDOW - 9
    assert stream.max_stream_data_local == STREAM_WINDOW


def test_many_streams_with_gaps_share_one_window(files):
    pair = Pair(files)
    numbers = range(0, 32, 4)
    for number in numbers[1:]:
        pair.client.send_stream_data(number, b"query")
    pair.exchange()
    for number in numbers:
        pair.skip(number, STREAM_WINDOW - 1)
        pair.server.send_stream_data(number, b"x")
    pair.server._remote_max_data = 1 << 20  # it ignores the limit
    pair.exchange()
    assert pair.client._close_event.error_code == 3  # FLOW_CONTROL_ERROR
    buffers = [len(it.receiver._buffer) for it in pair.client._streams.values()]
    assert sum(buffers) <= WINDOW


def test_the_peer_opens_the_permitted_streams_only(files):
    pair = Pair(files)
    assert pair.server._remote_max_streams_bidi == 0
    assert pair.server._remote_max_streams_uni == 3
