"""A client of HTTP/2 for tests, made by hand: it can break every rule of the protocol."""

import socket
import struct
from contextlib import contextmanager
from typing import Any

from hpack import Decoder, Encoder
from hyperframe.frame import SettingsFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 0, 1, 3, 6
STREAM_CLOSED, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CALM = 5, 7, 8, 9, 11
WAIT = 60.0


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack("!BHBBI", 0, len(payload), kind, flags, stream) + payload


def reset(stream, error=CANCEL):
    return frame(RST_STREAM, 0, stream, error.to_bytes(4, "big"))


def window_update(stream, size):
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


class Closed(Exception):
    """The server has closed the connection."""


class Client:
    """One connection; `receive` returns the frames of the server as (kind, flags, stream, payload)."""

    def __init__(self, address, context=None, settings=None):
        self.sock = socket.create_connection(address, WAIT)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="dns.example")
        self.encoder, self.decoder = Encoder(), Decoder()
        self.next = 1
        self.received = b""
        self.goaway = None
        if settings is not None:
            self.send(PREFACE, SettingsFrame(0, settings=settings).serialize())

    def send(self, *frames):
        self.sock.sendall(b"".join(frames))

    def head(self, **more):
        """The fields of a POST request."""
        fields = {
            ":method": "POST",
            ":scheme": "https",
            ":authority": "dns.example",
            ":path": "/dns-query",
            "content-type": "application/dns-message",
        }
        return [*{**fields, **more}.items()]

    def request(self, message=b"", fields=None):
        """Return the frames of a request, and its stream."""
        stream = self.next
        self.next += 2
        block = self.encoder.encode(self.head() if fields is None else fields)
        frames = frame(HEADERS, END_HEADERS | (0 if message else END_STREAM), stream, block)
        if message:
            frames += frame(DATA, END_STREAM, stream, message)
        return frames, stream

    def ask(self, message=b"", fields=None):
        """Return the status, the fields and the content of a response."""
        frames, stream = self.request(message, fields)
        self.send(frames)
        return self.response(stream)

    def frames(self):
        """Yield the frames of the server until it closes the connection."""
        while True:
            while len(self.received) < 9 or len(self.received) < 9 + self._size:
                try:
                    data = self.sock.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    raise Closed(self.goaway)
                self.received += data
            _, _, kind, flags, stream = struct.unpack_from("!BHBBI", self.received)
            payload = self.received[9 : 9 + self._size]
            self.received = self.received[9 + self._size :]
            if kind == GOAWAY:
                self.goaway = int.from_bytes(payload[4:8], "big")
            yield kind, flags, stream, payload

    @property
    def _size(self):
        return int.from_bytes(self.received[:3], "big")

    def until(self, wanted):
        """Return the payload of the next frame of a kind."""
        return next(payload for kind, _, _, payload in self.frames() if kind == wanted)

    def response(self, stream):
        """Return the response on a stream; those on others are lost."""
        fields: list[Any] = []
        content = b""
        for kind, flags, its_stream, payload in self.frames():
            if kind == HEADERS:  # all of them change the table
                decoded = self.decoder.decode(payload)
                fields += decoded if its_stream == stream else []
            elif its_stream == stream and kind == DATA:
                content += payload
            elif its_stream == stream and kind == RST_STREAM:
                return "reset", int.from_bytes(payload, "big"), content
            if its_stream == stream and kind in (HEADERS, DATA) and flags & END_STREAM:
                found = dict(fields)
                return int(found.pop(":status")), found, content
        raise AssertionError  # the frames end with an exception

    def response_data(self, stream):
        """Return the rest of the content of a response whose fields were received."""
        content = b""
        for kind, flags, its_stream, payload in self.frames():
            if its_stream == stream and kind == DATA:
                content += payload
                if flags & END_STREAM:
                    break
        return content

    def error(self):
        """Return the error with which the server closes the connection, None without one."""
        try:
            for _ in self.frames():
                pass
        except Closed:
            return self.goaway

    def close(self):
        self.sock.close()


@contextmanager
def connected(address, context=None, settings=()):
    """A client that has sent its settings; nothing with settings=None."""
    client = Client(address, context, None if settings is None else dict(settings))
    try:
        yield client
    finally:
        client.close()
