"""Collectors that connect to a server of several processes get the messages of all of them."""

import asyncio
import os
import signal
import socket
import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.plugin import ProcessGroup
from corepy.testing import helper_module, run_command, until
from corepy.testing.client import query
from corepy.testing.command import wait_until
from corepy.testing.listening import children, is_whole
from corepy_dnstap import relay
from corepy_dnstap.relay import FollowerStream, RelayOutput
from corepy_dnstap.settings import Endpoint, Settings

helpers = helper_module(__file__, "dnstap_collectors")
make_collector, unix_path = helpers.make_collector, helpers.unix_path

PROCESSES = 3
CLIENTS = 12
"""Sockets of clients; the kernel gives those of one client always to the same process."""

TEXT = (
    ". {{\n bind 127.0.0.1\n multisocket 3\n dnstap listen unix://{path} full {more}\n whoami\n}}\n"
)
COLLECTORS = 2


class Clients:
    """Asks from many sockets, and knows which messages each collector has got."""

    def __init__(self, address, collectors):
        self.collectors = collectors
        self.seen: list[set[tuple[int, str]]] = [set() for _ in collectors]
        self.rounds = 0
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CLIENTS)]
        for each in self.sockets:
            each.settimeout(helpers.TIMEOUT)
            each.connect(address)

    def ask(self):
        """Ask from each socket; return the messages that result."""
        self.rounds += 1
        names = [f"r{self.rounds}-{number}.example.org." for number in range(CLIENTS)]
        for sock, name in zip(self.sockets, names, strict=True):
            sock.send(query(name))
        for sock in self.sockets:
            sock.recv(4096)
        return {(kind, name) for name in names for kind in (5, 6)}

    def have(self, expected):
        """Whether all collectors have the messages."""
        for seen, collector in zip(self.seen, self.collectors, strict=True):
            while not collector.payloads.empty():
                ((_, message),) = collector.take(1)
                wire = message[10 if message[1] == 5 else 14]
                seen.add((message[1], str(dnslib.DNSRecord.parse(wire).q.qname)))
        return all(expected <= seen for seen in self.seen)

    def warm_up(self):
        """Ask until all processes know that there are collectors."""
        asked = set()

        def is_warm():
            asked.update(self.ask())
            return any(self.have(set(chunk)) for chunk in self.by_round(asked))

        wait_until(is_warm, helpers.TIMEOUT)

    @staticmethod
    def by_round(asked):
        rounds: dict[str, list[tuple[int, str]]] = {}
        for kind, name in asked:
            rounds.setdefault(name.partition("-")[0], []).append((kind, name))
        return rounds.values()

    def close(self):
        for each in self.sockets:
            each.close()


@pytest.fixture
def clients():
    """Return a function that makes `Clients`, which are closed at the end."""
    made: list[Clients] = []

    def make(*arguments):
        made.append(Clients(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_each_collector_gets_the_messages_of_all_processes(make_collector, clients, unix_path):
    """Also after a reload, and after a process was killed; the last ones at the end."""
    collectors = [make_collector() for _ in range(COLLECTORS)]
    with run_command(TEXT.format(path=unix_path, more="")) as command:
        pid, port = command.process.pid, command.address[1]
        wait_until(lambda: is_whole(pid, port, PROCESSES), helpers.TIMEOUT)
        for each in collectors:
            each.attach(unix_path)
        asking = clients(command.address, collectors)
        asking.warm_up()
        expected = asking.ask()
        wait_until(lambda: asking.have(expected), helpers.TIMEOUT)

        command.conf.write_text(TEXT.format(path=unix_path, more="2 2"))
        command.send_signal(signal.SIGUSR1)
        command.wait_for("Reloading complete")
        expected = asking.ask()  # no warming up: a reload loses no message
        wait_until(lambda: asking.have(expected), helpers.TIMEOUT)

        killed = children(pid)[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in children(pid), helpers.TIMEOUT)
        wait_until(lambda: is_whole(pid, port, PROCESSES), helpers.TIMEOUT)
        expected = asking.ask()
        wait_until(lambda: asking.have(expected), helpers.TIMEOUT)
        last = asking.ask()
        assert command.stop() == 0
    for each in collectors:
        assert each.finished.acquire(timeout=helpers.TIMEOUT)
    assert asking.have(last)
    assert not os.path.exists(unix_path)


class NoThread(ProcessGroup):
    """A follower's group whose connections fail in an unexpected way, the first two times."""

    is_leader = False
    tries = 0

    async def connect(self, name):
        self.tries += 1
        if self.tries < 3:
            raise RuntimeError("can't start new thread")
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        theirs.send(b"\1")
        self.leader = theirs
        return mine


def test_any_failure_of_a_connection_to_the_leader_is_tried_again(monkeypatch, caplog):
    monkeypatch.setattr(relay, "RETRY", 0.0)

    async def run():
        group, output = NoThread(), RelayOutput(Settings(Endpoint("unix", "/x"), listens=True))
        await output.start(group)
        await until(lambda: output.is_taking)  # the third attempt
        assert output.state == "sends to the first process"
        output.put(b"\0\0\0\1a")
        await output.close()
        assert output.state == "not connected to the first process"
        with group.leader as leader:
            return leader.recv(100)

    assert asyncio.run(run()) == b"\0\0\0\1a"
    message = "no messages for unix:///x: can't start new thread; tried again"
    assert caplog.messages == [message] * 2


class Pipe(asyncio.Transport):
    """A transport that remembers what was written."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += data


FRAMES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_of_a_follower_arrive_in_pieces(payloads, sizes):
    frames = [struct.pack("!I", len(each)) + each for each in payloads]

    async def run():
        found: list[bytes] = []
        stream, pipe = FollowerStream(found.append, needed=False), Pipe()
        stream.connection_made(pipe)
        stream.tell(needed=True)
        data, turn = b"".join(frames), 0
        while data:
            size = sizes[turn % len(sizes)]
            stream.data_received(data[:size])
            data, turn = data[size:], turn + 1
        stream.connection_lost(None)
        assert stream.closed.done()
        stream.tell(needed=False)  # has no effect
        return found, pipe.written

    assert asyncio.run(run()) == (frames, b"\0\1")
