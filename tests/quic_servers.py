"""Servers of quic:// for tests, with a handler that answers as the first label of a name demands."""

import asyncio
import threading
from contextlib import contextmanager

from corepy.dns.records import rr
from corepy.plugin import Cacheability, Handler
from corepy.testing import query, serve, with_handlers
from corepy.testing.certificates import Authority
from corepy.testing.quic_peer import QUICPeer

BIG = 60_000
WAIT = 60.0
PATIENT = "timeouts {\n read 60s\n idle 60s\n}"
"""For servers whose clients may be slower than the defaults allow."""


class Answerer(Handler):
    """Answers "big", "drop", "wait", "series", "broken" and "endless" in ways of their own."""

    name = "answerer"
    cacheability = Cacheability.SAFE

    def __init__(self):
        self.released = asyncio.Event()
        self.asked = threading.Semaphore(0)
        self.made = 0
        self.peers = []
        self.identities = []
        self.clients = []

    async def serve_dns(self, request):
        self.asked.release()
        self.peers.append(request.remote)
        self.identities.append(request.identity)
        self.clients.append(request.client)
        kind = request.name.partition(".")[0]
        if kind == "drop":
            return request.drop()
        if kind == "wait":
            await self.released.wait()
        if kind in ("series", "broken", "endless"):
            return request.reply_series(getattr(self, kind)(request))
        return self.message(request, BIG if kind == "big" else 4)

    def message(self, request, size):
        self.made += 1
        return request.reply(answer=[rr(request.question[:-4], 65280, 60, bytes(size))])

    def series(self, request):
        for _ in range(3):
            yield self.message(request, 100)

    def broken(self, request):
        yield self.message(request, 100)
        raise ValueError("the second message")

    def endless(self, request):
        while True:
            yield self.message(request, BIG)


class Running:
    """A server, its files, and a way to connect."""

    def __init__(self, server, files):
        self.server = server
        self.files = files
        self.address = server.address
        self.listener = next(iter(server.server.endpoints.values())).listeners[0]
        self.answerer = next(iter(server.plugins(Answerer)), None)

    def connect(self, **options):
        return QUICPeer(self.address, self.files.authority, **options).connect()

    def call(self, function, *arguments):
        return self.server.call(function, *arguments)


def block(files, *directives, scheme="quic", answer="answerer"):
    lines = ["bind 127.0.0.1", f"tls {files.certificate} {files.key}", *directives, answer]
    body = "\n".join(lines)
    return f"{scheme}://.:0 {{\n{body}\n}}\n"


def certificate(folder, **options):
    return Authority().issue(folder, "dns.example", "127.0.0.1", **options)


@contextmanager
def running(folder, *directives, **options):
    """Serve a block with `directives` and the handler below them."""
    files = certificate(folder)
    plugins = with_handlers(answerer=Answerer)
    scheme = options.pop("scheme", "quic")
    text = block(files, *directives, scheme=scheme)
    with serve(text, plugins=plugins, order="answerer after whoami\n", **options) as server:
        yield Running(server, files)


def ask(kind="plain", qtype="A", **flags):
    return query(f"{kind}.example.org.", qtype, id=0, **flags)


def rcode(wire):
    return wire[3] & 15
