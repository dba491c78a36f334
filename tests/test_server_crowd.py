"""Clients who open TCP connections and do not use them cost the others nothing."""

import asyncio
import os
import shutil
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import dnslib
import pytest

from corepy.plugin import Handler
from corepy.server.listen import stream_listener
from corepy.testing import Upstream, query, run_command, serve, with_handlers
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until

RECORDS = {f"{name}.example.org. A": [f"{name}.example.org. 60 IN A 192.0.2.1"] for name in "abc"}
QUERIES = 4000  # 40 MB of answers: more than sockets hold
WHOAMI = ". {\nbind 127.0.0.1\nwhoami\n}"


def crowd(stack, address, size):
    """Open connections, every other of which sends half of a length and no more."""
    streams = [stack.enter_context(socket.create_connection(address)) for _ in range(size)]
    for stream in streams[::2]:
        stream.send(b"\0")
    return streams


def is_ended(stream):
    try:
        return stream.recv(1) == b""
    except ConnectionResetError:  # what it had sent was not read
        return True


def limited(soft, hard):
    return (shutil.which("prlimit"), f"--nofile={soft}:{hard}")


def descriptors(command):
    return len(os.listdir(f"/proc/{command.process.pid}/fd"))


def test_a_crowd_leaves_descriptors_to_the_others():
    """With as few of them as there are connections, hits, misses and TCP go on; in the end all that
    was silent is closed.
    """
    with Upstream(RECORDS) as upstream, ExitStack() as stack:
        text = (
            ".:0 {\n bind 127.0.0.1\n timeouts {\n read 2s\n idle 2s\n }\n cache\n"
            f" forward . {upstream.to}\n}}\n"
        )
        server = stack.enter_context(run_command(text, prefix=limited(256, 256)))
        before = descriptors(server)
        crowd(stack, server.address, 500)
        for name in "abcabc":
            assert server.ask(f"{name}.example.org").header.rcode == 0
            assert server.ask(f"{name}.example.org", tcp=True).header.rcode == 0
        assert descriptors(server) < 128
        wait_until(lambda: descriptors(server) <= before + 5)
        assert "cannot accept" not in server.output


class Long(Handler):
    """Answers with ten thousand bytes, at once or a little later."""

    name = "long"

    def __init__(self, waits):
        self.waits, self.calls = waits, 0
        text = '"' + "x" * 200 + '" '
        self.records = dnslib.RR.fromZone(f"example.org. 60 TXT {text * 50}")

    async def serve_dns(self, request):
        self.calls += 1
        if self.waits:
            await asyncio.sleep(0)
        return request.reply(answer=self.records)


@pytest.mark.parametrize("waits", [False, True])
def test_answers_are_made_as_they_are_taken(waits):
    """Thousands of queries come with one read; their answers must not all lie in memory."""
    handler = Long(waits)
    wire = query("example.org.", "TXT")
    plugins = with_handlers(long=lambda: handler)
    with (
        serve(". {\nbind 127.0.0.1\nlong\n}", plugins=plugins) as server,
        socket.socket() as stream,
    ):
        stream.settimeout(20)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        stream.connect(server.address)
        stream.sendall((len(wire).to_bytes(2, "big") + wire) * QUERIES)
        stream.shutdown(socket.SHUT_WR)
        wait_until(lambda: handler.calls)
        before = 0
        while handler.calls != before:  # until no more is made
            before = handler.calls
            time.sleep(0.2)
        assert 0 < handler.calls < QUERIES / 2
        for _ in range(QUERIES):
            assert len(read_frame(stream)) > 10_000
        assert stream.recv(1) == b""
    assert handler.calls == QUERIES


def test_the_soft_limit_is_raised():
    with run_command(WHOAMI, prefix=limited(64, 512)) as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert line.split()[3:5] == ["512", "512"]


def test_each_of_a_burst_makes_another_leave(monkeypatch):
    """Many that come in one turn of the event loop: what was closed for one is not there for the
    next.
    """
    monkeypatch.setattr(stream_listener, "MAX_CONNECTIONS", 5)
    text = WHOAMI.replace("whoami", "timeouts {\nread 60s\nidle 60s\n}\nwhoami")
    with serve(text) as server, ExitStack() as stack:
        (endpoint,) = server.server.endpoints.values()
        server._loop.call_soon_threadsafe(time.sleep, 0.5)  # so that they come at once
        streams = crowd(stack, server.address, 50)
        for stream in streams[:45]:
            stream.settimeout(20)
            assert is_ended(stream)
        assert len(endpoint.listener("tcp").connections) <= 5
        assert server.ask("example.org", tcp=True).header.rcode == 0
