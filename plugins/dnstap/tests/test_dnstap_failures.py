"""Failures of collectors, and changes under load: no query fails, and what is lost is counted.

Each test is a row of the table of failures; those of a dead, a slow, and a refusing collector are
in `test_dnstap_streams.py`, those of listeners in `test_dnstap_listening.py`.
"""

import logging
import os
import socket
import struct
import threading
from pathlib import Path

import dnslib
import pytest

from corepy.plugin import Handler, StartupError, hookimpl, metrics
from corepy.testing import helper_module, make_request, serve, with_handlers
from corepy_dnstap import listening, output, stream
from corepy_dnstap.encoding import LONGEST_TEXT
from corepy_dnstap.handler import Extra

helpers = helper_module(__file__, "dnstap_collectors")
output_of, wait_until = helpers.output_of, helpers.wait_until
make_collector, unix_path, tcp_collector = (
    helpers.make_collector, helpers.unix_path, helpers.tcp_collector,
)  # fmt: skip

LONGEST_FRAME = 1 << 20
"""Where fstrm and golang-framestream end a connection."""

RESET = struct.pack("ii", 1, 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stream, "FLUSH_INTERVAL", 0.0)
    monkeypatch.setattr(output, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(listening, "RETRY", 0.01)
    monkeypatch.setattr(listening, "CHECK_INTERVAL", 0.01)


def corefile(arguments, options="", rest="whoami"):
    return f". {{\nbind 127.0.0.1\ndnstap {arguments} {{\n{options}\n}}\n{rest}\n}}"


def counted(name, endpoint):
    (metric,) = [it for it in metrics.registered() if it.name == f"coredns_dnstap_{name}"]
    return metric.labels(endpoint).value


@pytest.fixture
def silent_collector(make_collector):
    """The address of a collector that accepts connections, and never reads."""
    ends = threading.Event()
    sock = socket.create_server(("127.0.0.1", 0))
    make_collector(lambda _connection: ends.wait(helpers.TIMEOUT)).listen(sock)
    yield f"127.0.0.1:{sock.getsockname()[1]}"
    ends.set()


def test_a_collector_that_never_answers_the_handshake(silent_collector, monkeypatch, caplog):
    monkeypatch.setattr(output, "CONNECT_TIMEOUT", 0.05)
    endpoint = f"tcp://{silent_collector}"
    with caplog.at_level(logging.ERROR), serve(corefile(endpoint)) as server:
        it = output_of(server)
        wait_until(server, lambda: it._is_failing)
        assert server.ask("example.org.").header.rcode == 0
        assert it.state == "not connected"
    assert caplog.messages == [f"no connection to {endpoint}: timeout; messages are dropped"]


def test_a_collector_that_resets_its_connection(make_collector):
    endings = [RESET, RESET]

    def talk(connection):
        if not endings:
            collector.collect(connection)
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, endings.pop())
        helpers.read_frame(connection)
        connection.sendall(helpers.control(helpers.ACCEPT, helpers.CONTENT))
        helpers.read_frame(connection)

    sock = socket.create_server(("127.0.0.1", 0))
    collector = make_collector(talk)
    collector.listen(sock)
    with serve(corefile(f"tcp://127.0.0.1:{sock.getsockname()[1]}")) as server:
        collector.wait()
        server.ask("example.org.")
        assert collector.types(2) == [5, 6]


def test_a_failure_of_any_kind_is_tried_again(tcp_collector, monkeypatch, caplog):
    """Such as RuntimeError: "can't start new thread", where the number of threads is limited."""
    collector, address = tcp_collector
    failures: list[str] = []
    real = output._look_up

    async def look_up(host, port):
        if not failures:
            failures.append(host)
            raise RuntimeError("can't start new thread")
        return await real(host, port)

    monkeypatch.setattr(output, "_look_up", look_up)
    with serve(corefile(f"tcp://{address}")) as server:
        collector.wait()
        wait_until(server, lambda: output_of(server).state == "connected")
    assert any("can't start new thread; messages are dropped" in it for it in caplog.messages)


def test_a_collector_that_stops_reading_delays_the_end_for_a_moment(make_collector, monkeypatch):
    """The server stops while it flushes: what is left after `FINISH_TIMEOUT` is counted."""
    monkeypatch.setattr(stream, "_HIGH_WATER", 0)
    monkeypatch.setattr(output, "FINISH_TIMEOUT", 0.05)
    monkeypatch.setattr(output, "MEBIBYTE", 1)
    collector, sock = make_collector(), socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel takes little
    collector.listen(sock)
    endpoint = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    before = counted("messages_dropped_total", endpoint)
    with serve(corefile(endpoint)) as server:
        collector.wait()
        collector.is_reading.clear()
        it, size = output_of(server), 1_000_000

        def flood():
            it.put(struct.pack("!I", size) + bytes(size))
            return len(it._queue) > 2  # the collector may still read one

        while not server.call(flood):
            pass
        assert server.ask("example.org.").header.rcode == 0
    assert counted("messages_dropped_total", endpoint) > before
    assert counted("connections", endpoint) == 0


def listen_at(path, collector):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    collector.listen(sock)


def test_a_collector_that_makes_its_socket_again(make_collector, unix_path):
    first, second = make_collector(), make_collector()
    listen_at(unix_path, first)
    with serve(corefile(unix_path)) as server:
        it = output_of(server)
        first.wait()
        os.unlink(unix_path)
        server.ask("example.org.")  # the connection stays
        assert first.types(2) == [5, 6]
        listen_at(unix_path, second)
        server.call(lambda: it._queue.stream.abort())
        second.wait()
        server.ask("example.org.")
        assert second.types(2) == [5, 6]


@pytest.mark.parametrize("replaced", [False, True])
def test_the_socket_of_a_listener_is_made_again(make_collector, unix_path, caplog, replaced):
    early, late = make_collector(), make_collector()
    label = f"unix://{unix_path}"
    with caplog.at_level(logging.INFO), serve(corefile(f"listen {unix_path}")) as server:
        early.attach(unix_path)
        os.unlink(unix_path)
        if replaced:  # by a file, which is not ours to remove
            Path(unix_path).touch()
            wait_until(server, lambda: bool(caplog.messages))
            os.unlink(unix_path)
        wait_until(server, lambda: os.path.exists(unix_path))
        late.attach(unix_path)
        wait_until(server, lambda: output_of(server).state == "listening, 2 connected")
        server.ask("example.org.")
        assert early.types(2) == late.types(2) == [5, 6]
    assert not os.path.exists(unix_path)
    failure = f"{label} was removed: Address already in use; tried again"
    assert caplog.messages == [failure] * replaced + [f"{label} was removed; listening there again"]


def test_a_reload_changes_the_collector_under_load(make_collector):
    collectors, endpoints = [make_collector() for _ in range(2)], []
    for collector in collectors:
        sock = socket.create_server(("127.0.0.1", 0))
        collector.listen(sock)
        endpoints.append(f"tcp://127.0.0.1:{sock.getsockname()[1]}")
    asked = []
    with serve(corefile(endpoints[0])) as server:
        collectors[0].wait()

        def ask():
            assert server.ask("example.org.").header.rcode == 0
            asked.append(1)

        for endpoint in (*reversed(endpoints), *reversed(endpoints)):
            server.reload_under(ask, corefile(endpoint), times=1)
    for _ in range(5):  # one connection for each generation
        assert any(it.finished.acquire(timeout=0.1) for it in collectors * 100)
    kinds = [kind for it in collectors for kind in it.types(it.payloads.qsize())]
    assert sorted(kinds) == sorted([5, 6] * len(asked))


def test_a_reload_changes_the_address_of_a_listener(make_collector, unix_path):
    first, second = make_collector(), make_collector()
    with serve(corefile(f"listen {unix_path}")) as server:
        first.attach(unix_path)
        server.reload(corefile(f"listen {unix_path}2"))
        assert first.finished.acquire(timeout=helpers.TIMEOUT)
        assert not os.path.exists(unix_path)
        second.attach(f"{unix_path}2")
        wait_until(server, lambda: output_of(server).is_taking)
        server.ask("example.org.")
        assert second.types(2) == [5, 6]


def test_listeners_lose_nothing_in_reloads_under_load(make_collector, unix_path):
    collector, asked = make_collector(), []
    with serve(corefile(f"listen {unix_path}")) as server:
        collector.attach(unix_path)
        wait_until(server, lambda: output_of(server).is_taking)

        def ask():
            server.ask("example.org.")
            asked.append(1)

        server.reload_under(ask, corefile(f"listen {unix_path}"), times=3)
    assert collector.finished.acquire(timeout=helpers.TIMEOUT)
    kinds = collector.types(collector.payloads.qsize())
    assert sorted(kinds) == sorted([5, 6] * len(asked))


class Refusing(Handler):
    """Fails to start, after *dnstap* has started."""

    name = "refusing"

    @hookimpl
    def before_listen(self):
        raise StartupError("not today")


def test_a_reload_that_fails_keeps_the_listener(make_collector, unix_path):
    collector, plugins = make_collector(), with_handlers(refusing=Refusing)
    with serve(corefile(f"listen {unix_path}"), plugins=plugins) as server:
        collector.attach(unix_path)
        wait_until(server, lambda: output_of(server).is_taking)
        with pytest.raises(StartupError, match="not today"):
            server.reload(corefile(f"listen {unix_path} full", rest="refusing"))
        assert output_of(server).state == "listening, 1 connected"
        server.ask("example.org.")
        assert [10 in message for _, message in collector.take(2)] == [False, False]
        other = make_collector()
        other.attach(unix_path)  # with the settings of the generation that runs


LABEL = "x" * 63
HUGE = f"{LABEL}.{LABEL}.{LABEL}.{'y' * 61}."
ODD = bytes(range(1, 64))


@pytest.mark.parametrize("name", [HUGE, dnslib.DNSLabel([ODD, ODD, ODD])])
def test_the_longest_and_oddest_names(tcp_collector, name):
    collector, address = tcp_collector
    options = 'extra "{name}"'
    with serve(corefile(f"tcp://{address} full", options)) as server:
        collector.wait()
        server.ask(name)
        (fields, question), (_, answer) = collector.take(2)
    for wire in (question[10], answer[14]):
        assert dnslib.DNSRecord.parse(wire).q.qname == dnslib.DNSLabel(name)
    shown = make_request(name).name
    assert fields[3].decode() == shown


class Verbose(Handler):
    """Sets a label that is longer than any frame."""

    name = "verbose"

    async def serve_dns(self, request):
        request.metadata["verbose/text"] = "ä" * LONGEST_FRAME
        return await self.next.serve_dns(request)


def test_no_frame_is_longer_than_collectors_accept(tcp_collector):
    collector, address = tcp_collector
    text = "i" * LONGEST_TEXT
    options = f"identity {text}\nversion {text}\nextra {{/verbose/text}}"
    plugins = with_handlers(verbose=Verbose)
    rest = "metadata\nverbose\nwhoami"
    order = "verbose after metadata\nverbose before dnstap"
    with serve(
        corefile(f"tcp://{address} full", options, rest), plugins=plugins, order=order
    ) as server:
        collector.wait()
        server.ask("example.org.")
        payloads = [collector.payloads.get(timeout=helpers.TIMEOUT) for _ in range(2)]
    assert len(helpers.read_fields(payloads[1])[3]) == LONGEST_TEXT
    assert max(map(len, payloads)) + (1 << 16) < LONGEST_FRAME


def test_extra_is_cut():
    request = make_request("example.org.")
    assert len(Extra("e" * 2 * LONGEST_TEXT).of(request)) == LONGEST_TEXT
