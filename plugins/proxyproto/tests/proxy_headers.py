"""Makes PROXY headers, and asks a server as a proxy would."""

import socket
import struct

import dnslib

from corepy.net.frames import frame
from corepy.testing import query
from corepy.testing.client import read_frame

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT, OTHER = "198.51.100.7", "203.0.113.9"
LOCAL = SIGNATURE + b"\x20\0\0\0"
STREAM, DATAGRAM = 1, 2


def version_1(client=CLIENT, port=4000):
    return f"PROXY TCP4 {client} 192.0.2.1 {port} 53\r\n".encode()


def version_2(client=CLIENT, kind=DATAGRAM, *, port=4000, fields=b""):
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    own = socket.inet_pton(family, "2001:db8::1" if ":" in client else "192.0.2.1")
    addresses = socket.inet_pton(family, client) + own + struct.pack("!HH", port, 53)
    protocol = (0x20 if ":" in client else 0x10) | kind
    return (
        SIGNATURE
        + struct.pack("!BBH", 0x21, protocol, len(addresses + fields))
        + (addresses + fields)
    )


class Proxy:
    """One socket to a server; `header` is sent before the query of a client."""

    def __init__(self, address, kind=DATAGRAM, header=b"", bind=""):
        self.kind = kind
        self.sock = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM if kind == STREAM else socket.SOCK_DGRAM
        )
        self.sock.settimeout(60)
        self.sock.bind((bind, 0))
        self.sock.connect(address)
        self.header = header

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.sock.close()

    def send(self, name="www.example.", **question):
        """Send a query; over a connection, the header precedes only the first one."""
        wire = query(name, **question)
        if self.kind == STREAM:
            self.sock.sendall(self.header + frame(wire))
            self.header = b""
        else:
            self.sock.send(self.header + wire)

    def receive(self):
        data = read_frame(self.sock) if self.kind == STREAM else self.sock.recv(4096)
        return dnslib.DNSRecord.parse(data)

    def ask(self, name="www.example.", **question):
        self.send(name, **question)
        return self.receive()


def ask(address, header=b"", kind=DATAGRAM, name="www.example.", **question):
    """Send one query behind a header, and return the reply."""
    with Proxy(address, kind, header) as proxy:
        return proxy.ask(name, **question)


def answers(reply):
    return [str(record.rdata) for record in reply.rr]
