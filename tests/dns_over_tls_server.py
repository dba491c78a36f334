"""What the tests of DNS over TLS share: a server with a certificate, and a client."""

import asyncio
import socket
import ssl
from contextlib import contextmanager

import dnslib

from corepy.plugin import Handler
from corepy.testing import query, serve, with_handlers
from corepy.testing.client import read_frame

NAME = "dns.example"
RECORDS = 'template IN A {\n answer "{{ .Name }} 60 IN A 192.0.2.%d"\n}'


class Gate(Handler):
    """Holds names that begin with "busy" until `open` is set, and records all requests."""

    name = "gate"

    def __init__(self):
        self.open = asyncio.Event()
        self.seen = []

    async def serve_dns(self, request):
        self.seen.append(request)
        if request.name.startswith("busy"):
            await self.open.wait()
        return request.reply(answer=dnslib.RR.fromZone(f"{request.qname} 60 A 192.0.2.1"))


def block(files, number=1, *directives, port=0, tls=""):
    """Return a server block for tls://; `tls` is the rest of that line."""
    lines = (f"tls {files.certificate} {files.key} {tls}", "bind 127.0.0.1", *directives)
    return f"tls://.:{port} {{\n" + "\n".join(lines) + f"\n{RECORDS % number}\n}}\n"


@contextmanager
def gated(files, *directives, tls=""):
    """Run a server whose handler is a `Gate`; yield both and the listener."""
    gates = []

    def make():
        gates.append(Gate())
        return gates[-1]

    lines = (f"tls {files.certificate} {files.key} {tls}", "bind 127.0.0.1", *directives, "gate")
    text = "tls://.:0 {\n" + "\n".join(lines) + "\n}\n"
    plugins = with_handlers(gate=make)
    with serve(text, plugins=plugins, order="gate after cache") as server:
        (endpoint,) = server.server.endpoints.values()
        yield server, gates[-1], endpoint.listeners[0]


class Client:
    """A connection over TLS."""

    def __init__(self, address, context, name=NAME, source=None, **more):
        plain = socket.create_connection(address, 30, source_address=source)
        self.sock = context.wrap_socket(plain, server_hostname=name, **more)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.sock.close()

    def send(self, *wires):
        """Send messages in one record."""
        self.sock.sendall(b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires))

    def receive(self):
        """Return the next message."""
        return read_frame(self.sock)

    def ask(self, name="www.example.org."):
        """Return the address in the reply to a query."""
        self.send(query(name))
        return str(dnslib.DNSRecord.parse(self.receive()).rr[0].rdata)

    def is_closed(self):
        """Wait for the end of the connection; return whether it came without a message."""
        try:
            return self.sock.recv(1) == b""
        except (ConnectionError, ssl.SSLZeroReturnError):
            return True
