"""The client's side of HTTP/2 connections; the server is h2 in this process."""

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hyperframe.frame import GoAwayFrame
from hypothesis import given
from hypothesis import strategies as st

from corepy.net.http2_client import CLOSING, TOO_LARGE, Failure, HTTP2Client, Response

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]


class Server:
    def __init__(self, most_body=65535, **settings):
        self.client = HTTP2Client(most_body)
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.http = h2.connection.H2Connection(config)
        values = {h2.settings.SettingCodes[name]: value for name, value in settings.items()}
        self.http.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.http.initiate_connection()
        self.events = []
        self.exchange()

    def exchange(self):
        """Carry the bytes in both directions; return what the client makes of its part."""
        ended = []
        for _ in range(3):
            self.events += self.http.receive_data(self.client.data_to_send())
            ended += self.client.receive(self.http.data_to_send())
        return ended

    def seen(self, kind):
        return [event.stream_id for event in self.events if isinstance(event, kind)]

    def answer(self, number, body=b"", trailers=()):
        self.http.send_headers(number, [(":status", "200")], end_stream=not body and not trailers)
        if body:
            self.http.send_data(number, body, end_stream=not trailers)
        if trailers:
            self.http.send_headers(number, trailers, end_stream=True)


def test_a_response_has_headers_body_and_trailers():
    server = Server()
    number = server.client.request(GET)
    assert server.exchange() == []
    server.answer(number, b"one", [("grpc-status", "0")])
    assert server.exchange() == [
        Response(1, {b":status": b"200"}, b"one", {b"grpc-status": b"0"}),
    ]


def test_requests_above_the_limit_wait_and_can_be_cancelled():
    server = Server(MAX_CONCURRENT_STREAMS=2)
    server.exchange()
    numbers = [server.client.request(GET) for _ in range(5)]
    server.exchange()
    assert server.seen(h2.events.RequestReceived) == numbers[:2]
    server.client.cancel(numbers[2])  # it waits
    server.client.cancel(numbers[0])  # it was sent
    server.client.cancel(numbers[0])
    server.exchange()
    assert server.seen(h2.events.StreamReset) == [numbers[0]]
    assert server.seen(h2.events.RequestReceived) == [numbers[0], numbers[1], numbers[3]]


def test_a_body_is_sent_as_the_window_allows():
    server = Server(INITIAL_WINDOW_SIZE=10)
    server.exchange()
    first, second = (server.client.request(POST, bytes(25)) for _ in range(2))
    server.exchange()
    sent = [len(e.data) for e in server.events if isinstance(e, h2.events.DataReceived)]
    assert sent == [10]
    for _ in range(4):
        server.http.increment_flow_control_window(15, first)
        server.exchange()
    for _ in range(2):
        server.http.increment_flow_control_window(15, second)
        server.exchange()
    assert server.seen(h2.events.StreamEnded) == [first, second]


def test_an_answer_before_the_end_of_the_request():
    server = Server(INITIAL_WINDOW_SIZE=10)
    server.exchange()
    first, second = server.client.request(POST, bytes(25)), server.client.request(GET)
    server.exchange()
    server.answer(first, b"enough")
    (response,) = server.exchange()
    assert response.body == b"enough"
    assert server.seen(h2.events.StreamReset) == [first]
    assert server.seen(h2.events.RequestReceived) == [first, second]


def test_a_body_above_the_limit_is_reset():
    server = Server(most_body=10)
    number = server.client.request(GET)
    server.exchange()
    server.answer(number, bytes(11))
    assert server.exchange() == [Failure(number, TOO_LARGE, is_unprocessed=False)]
    assert server.seen(h2.events.StreamReset) == []  # the server had ended the stream


@pytest.mark.parametrize("fields", [[("x", "y" * 16384)], [("x", "y")] * 500])
def test_a_header_above_the_limit_ends_the_connection(fields):
    server = Server()
    number = server.client.request(GET)
    server.exchange()
    server.http.send_headers(number, [(":status", "200"), *fields], end_stream=True)
    with pytest.raises(h2.exceptions.ProtocolError, match="header list larger than 16384"):
        server.exchange()


def test_responses_above_the_limit_do_not_use_up_the_window_of_the_connection():
    """The rest of such a body may have arrived already, and is not part of any request."""
    server = Server(most_body=100)
    for _ in range(5):
        number = server.client.request(GET)
        server.exchange()
        server.http.send_headers(number, [(":status", "200")])
        for _ in range(2):
            server.http.send_data(number, bytes(15000))
        assert server.exchange() == [Failure(number, TOO_LARGE, is_unprocessed=False)]
    assert server.http.outbound_flow_control_window > 30000


@pytest.mark.parametrize(
    ("code", "reason", "is_unprocessed"),
    [
        (h2.errors.ErrorCodes.REFUSED_STREAM, "REFUSED_STREAM", True),
        (h2.errors.ErrorCodes.INTERNAL_ERROR, "INTERNAL_ERROR", False),
        (0x1234, "4660", False),
    ],
)
def test_a_stream_that_is_reset(code, reason, is_unprocessed):
    server = Server()
    number = server.client.request(GET)
    server.exchange()
    server.http.reset_stream(number, code)
    assert server.exchange() == [Failure(number, f"stream reset ({reason})", is_unprocessed)]


def test_a_server_that_closes_answers_what_it_has_begun():
    server = Server(MAX_CONCURRENT_STREAMS=2)
    server.exchange()
    first, second, third = (server.client.request(GET) for _ in range(3))
    server.exchange()
    server.http.send_headers(first, [(":status", "200")])
    answer = server.http.data_to_send()
    server.http.close_connection(last_stream_id=first)
    goaway = server.http.data_to_send()
    unprocessed = [Failure(number, CLOSING, is_unprocessed=True) for number in (second, third)]
    assert server.client.receive(goaway) == unprocessed
    assert server.client.is_closing
    assert server.client.receive(answer + b"\0\0\3\0\1" + first.to_bytes(4, "big") + b"end") == [
        Response(first, {b":status": b"200"}, b"end", {})
    ]


@pytest.mark.parametrize("size", [1, 5, 9, 20, 1000])
def test_answers_may_follow_a_goaway_at_once(size):
    """A server that stops sends both together, and GOAWAY twice (RFC 9113 section 6.8)."""
    server = Server()
    first, second = server.client.request(GET), server.client.request(GET)
    server.exchange()
    announced = b"\0\0\x08\7\0\0\0\0\0\x7f\xff\xff\xff" + bytes(4)
    server.answer(first, b"one")
    data = announced + server.http.data_to_send() + announced
    server.answer(second, b"two")
    data += server.http.data_to_send()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    found = [it for piece in pieces for it in server.client.receive(piece)]
    assert [(it.number, it.body) for it in found] == [(first, b"one"), (second, b"two")]


@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
def test_any_bytes_of_a_server(chunks, is_framed):
    client = HTTP2Client(100)
    client.request(GET)
    client.request(POST, b"body")
    client.data_to_send()
    try:
        for chunk in chunks:
            frame = len(chunk).to_bytes(3, "big") + b"\0\1\0\0\0\1" + chunk if is_framed else chunk
            client.receive(frame)
    except h2.exceptions.ProtocolError:
        pass


@pytest.mark.parametrize("size", [1, 4, 9, 1000])
def test_sizes_of_frames(size):
    """They are checked at the header of a frame, however its bytes arrive."""
    settings, ping = b"\0\0\0\4\0\0\0\0\0", b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
    large = b"\0\x40\1\0\0\0\0\0\1"
    client = HTTP2Client(100)
    stream = settings + ping + ping + large
    *before, last = range(0, len(stream), size)
    for start in before:
        assert client.receive(stream[start : start + size]) == []
    with pytest.raises(h2.exceptions.ProtocolError, match="frame of 16385 bytes"):
        client.receive(stream[last:])


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_a_server_of_another_protocol(data):
    with pytest.raises(h2.exceptions.ProtocolError, match="does not speak HTTP/2"):
        HTTP2Client(100).receive(data)


def test_responses_may_arrive_together_with_the_end():
    """A server that stops gracefully ends the connection first, and answers then."""
    server = Server()
    first = server.client.request(GET)
    server.exchange()
    unsent = server.client.request(GET)
    goaway = GoAwayFrame(0, last_stream_id=2**31 - 1).serialize()
    server.answer(first, b"answer")
    (response,) = server.client.receive(goaway + server.http.data_to_send())
    assert (response.number, response.body) == (first, b"answer")
    assert server.client.is_closing
    server.exchange()
    server.answer(unsent, b"late")
    (response,) = server.exchange()
    assert (response.number, response.body) == (unsent, b"late")
