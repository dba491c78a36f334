"""Collectors that connect to the server: several, refused ones, over TLS, and through reloads."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import struct
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from corepy.plugin import metrics
from corepy.testing import helper_module, serve
from corepy.testing.process_groups import LinkedProcess
from corepy_dnstap import collectors, listening, stream
from corepy_dnstap.handler import Dnstap
from corepy_dnstap.listening import CollectorListener
from corepy_dnstap.settings import Endpoint

helpers = helper_module(__file__, "dnstap_collectors")
output_of, wait_until = helpers.output_of, helpers.wait_until
certificate, make_collector, unix_path = (
    helpers.certificate, helpers.make_collector, helpers.unix_path,
)  # fmt: skip

TCP = "listen tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stream, "FLUSH_INTERVAL", 0.0)
    monkeypatch.setattr(listening, "RETRY", 0.01)


def corefile(arguments, options="", more=""):
    return f". {{\ndnstap {arguments} {{\n{options}\n}}\n{more}\nwhoami\n}}"


def connect(server):
    host, _, port = output_of(server).address.rpartition(":")
    return socket.create_connection((host, int(port)))


def test_nothing_is_sent_or_counted_without_a_collector(monkeypatch):
    with serve(corefile(TCP)) as server:
        monkeypatch.setattr(Dnstap, "send", None)
        assert server.ask("example.org.").header.rcode == 0
        assert output_of(server).dropped.value == 0
        assert output_of(server).state == "listening, 0 connected"


def test_several_collectors(make_collector):
    first, second = make_collector(), make_collector()
    with serve(corefile(TCP + " full")) as server:
        first.attach(connect(server))
        server.ask("example.org.")
        assert first.types(2) == [5, 6]
        second.attach(connect(server))
        wait_until(server, lambda: output_of(server).state == "listening, 2 connected")
        server.ask("example.org.")
        assert first.types(2) == second.types(2) == [5, 6]
    for each in (first, second):
        assert each.finished.acquire(timeout=helpers.TIMEOUT)


def test_a_collector_that_leaves(make_collector):
    collector = make_collector()
    with serve(corefile(TCP)) as server:
        connection = connect(server)
        collector.attach(connection)
        wait_until(server, lambda: output_of(server).is_taking)
        connection.shutdown(socket.SHUT_RDWR)
        wait_until(server, lambda: not output_of(server).is_taking)


def test_a_client_that_is_no_collector(caplog, monkeypatch):
    with caplog.at_level(logging.WARNING), serve(corefile(TCP)) as server:
        for sent, patience in ((b"GET / HTTP/1.1\r\n\r\n", helpers.TIMEOUT), (b"", 0.05)):
            monkeypatch.setattr(listening, "CONNECT_TIMEOUT", patience)
            with connect(server) as client:
                client.settimeout(helpers.TIMEOUT)
                client.sendall(sent)
                while client.recv(4096):
                    pass
    label = "a collector at tcp://127.0.0.1:0 is refused: "
    assert caplog.messages == [
        label + "it sent data in place of a control frame",
        label + "timeout",
    ]


def test_the_number_of_collectors_is_limited(make_collector, monkeypatch):
    monkeypatch.setattr(collectors, "MOST_COLLECTORS", 1)
    collector = make_collector()
    with serve(corefile(TCP)) as server:
        collector.attach(connect(server))
        wait_until(server, lambda: output_of(server).is_taking)
        with connect(server) as client:
            client.settimeout(helpers.TIMEOUT)
            while client.recv(4096):
                pass
        server.ask("example.org.")
        assert collector.types(2) == [5, 6]


def stall(server, collector):
    """Let a collector that is connected read no more, and send it more than the kernel keeps."""
    wait_until(server, lambda: output_of(server).is_taking)
    (queue,) = output_of(server)._listener.queues
    collector.is_reading.clear()
    frame = struct.pack("!I", 100_000) + bytes(100_000)

    def has_backlog():
        queue.put(frame)
        return len(queue) > 10

    wait_until(server, has_backlog)


def connections():
    metric = {m.name: m for m in metrics.registered()}["coredns_dnstap_connections"]
    return metric.labels("tcp://127.0.0.1:0").value


def test_the_end_with_a_collector_that_does_not_read(make_collector, monkeypatch, caplog):
    monkeypatch.setattr(listening, "FINISH_TIMEOUT", 0.01)
    collector = make_collector()
    with serve(corefile(TCP)) as server:
        collector.attach(connect(server))
        stall(server, collector)
        assert connections() == 1
    assert connections() == 0
    assert [it.getMessage() for it in caplog.records if it.levelno >= logging.ERROR] == []


def test_a_handshake_that_is_completed_while_the_server_stops(make_collector, monkeypatch, caplog):
    monkeypatch.setattr(listening, "FINISH_TIMEOUT", helpers.TIMEOUT)
    collector = make_collector()
    with ThreadPoolExecutor(1) as pool, serve(corefile(TCP)) as server:
        collector.attach(connect(server))
        stall(server, collector)
        late = connect(server)
        address = late.getpeername()
        assert helpers.read_frame(late)[0] == helpers.READY

        def complete():
            """Return what the server sends at its end."""
            with late:
                while is_listening(address):
                    pass
                late.sendall(helpers.control(helpers.ACCEPT, helpers.CONTENT))
                assert helpers.read_frame(late)[0] == helpers.START
                collector.is_reading.set()
                return late.recv(1)

        end = pool.submit(complete)
    with contextlib.suppress(ConnectionResetError):
        assert end.result() == b""
    assert connections() == 0
    assert [it.getMessage() for it in caplog.records if it.levelno >= logging.ERROR] == []


def is_listening(address):
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def test_a_flood_of_clients_keeps_no_collector_out(make_collector, monkeypatch, caplog):
    """All connections have the same address, so only those that are not collectors give way."""
    monkeypatch.setattr(collectors, "MOST_COLLECTORS", 4)
    collector, late = make_collector(), make_collector()
    with contextlib.ExitStack() as stack, serve(corefile(TCP)) as server:
        collector.attach(connect(server))
        wait_until(server, lambda: output_of(server).is_taking)
        flood = [stack.enter_context(connect(server)) for _ in range(50)]
        late.attach(connect(server))
        wait_until(server, lambda: output_of(server).state == "listening, 2 connected")
        listener = output_of(server)._listener
        assert server.call(lambda: len(listener._collectors._limit._clients)) <= 4
        server.ask("example.org.")
        assert collector.types(2) == late.types(2) == [5, 6]
        for client in flood[:40]:
            client.settimeout(helpers.TIMEOUT)
            with contextlib.suppress(ConnectionError):
                while client.recv(4096):
                    pass
    refused = [it for it in caplog.messages if "is refused: 4 collectors are connected" in it]
    assert 0 < len(refused) <= collectors.MOST_REFUSALS


def test_refusals_are_logged_again_after_a_while(monkeypatch, caplog):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(collectors, "time", clock)
    those = collectors.Collectors("tcp://h:1")
    for now in (1000.0, 1059.9, 1060.0):
        clock.now = now
        for number in range(15):
            those.log_refusal(OSError(f"{now:g}, {number}"))
    expected = [(now, number) for now in ("1000", "1060") for number in range(10)]
    assert caplog.messages == [
        f"a collector at tcp://h:1 is refused: {now}, {number}" for now, number in expected
    ]


def test_a_host_that_has_gone_does_not_keep_its_place(make_collector):
    """The kernel probes idle connections: after 30 seconds, three times, every 10 seconds."""
    with serve(corefile(TCP)) as server:
        make_collector().attach(connect(server))
        wait_until(server, lambda: output_of(server).is_taking)
        (queue,) = output_of(server)._listener.queues
        sock = queue.stream._transport.get_extra_info("socket")
        options = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [sock.getsockopt(socket.IPPROTO_TCP, it) for it in options] == [30, 10, 3]


def test_a_collector_that_does_not_read_gives_its_place(make_collector, monkeypatch):
    monkeypatch.setattr(collectors, "MOST_COLLECTORS", 1)
    monkeypatch.setattr(listening, "FINISH_TIMEOUT", 0.01)
    stalled, reading = make_collector(), make_collector()
    stalled.is_reading.clear()
    with serve(corefile(TCP)) as server:
        connected = output_of(server).connected
        before = connected.value
        stalled.attach(connect(server))
        wait_until(server, lambda: output_of(server).is_taking)
        listener = output_of(server)._listener

        def fill():
            (queue,) = listener.queues
            while queue.stream.is_writable:
                queue.put(struct.pack("!I", 60_000) + bytes(60_000))
                queue.flush()

        server.call(fill)
        reading.attach(connect(server))
        wait_until(server, lambda: output_of(server).state == "listening, 1 connected")
        server.ask("example.org.")
        assert reading.types(2) == [5, 6]
        reading.is_reading.clear()
        server.call(fill)
        assert connected.value == before + 1
    assert connected.value == before


def test_tls_handshakes_that_never_end(make_collector, certificate, monkeypatch):
    """Each has a buffer of 256 KiB, so they are bounded, and no turn of the loop is spent on them."""
    monkeypatch.setattr(listening, "MOST_HANDSHAKES", 3)
    collector = make_collector()
    options = f"tls {' '.join(map(str, certificate))}"
    with (
        contextlib.ExitStack() as stack,
        serve(corefile("listen tls://127.0.0.1:0", options)) as server,
    ):
        flood = [stack.enter_context(connect(server)) for _ in range(8)]
        acceptor = output_of(server)._listener._acceptor
        wait_until(server, lambda: acceptor._is_full)
        assert server.call(lambda: len(acceptor._opening)) == 3
        for client in flood:
            client.close()
        context = client_context(certificate, False)
        connection = context.wrap_socket(connect(server), server_hostname="127.0.0.1")
        collector.attach(connection)
        server.ask("example.org.")
        assert collector.types(2) == [5, 6]


def test_a_reload_keeps_collectors_connected(make_collector, unix_path):
    collector = make_collector()
    with serve(corefile(f"listen {unix_path}")) as server:
        collector.attach(unix_path)
        wait_until(server, lambda: output_of(server).is_taking)
        for _ in range(3):
            server.reload(corefile(f"listen {unix_path} full"))
            server.ask("example.org.")
            assert collector.types(2) == [5, 6]
        assert not collector.finished.acquire(blocking=False)
    assert collector.finished.acquire(timeout=helpers.TIMEOUT)
    assert not os.path.exists(unix_path)


def test_two_blocks_share_an_address(make_collector, unix_path):
    collector = make_collector()
    text = f"{{}} {{{{\ndnstap listen {unix_path}\nwhoami\n}}}}\n"
    with serve(text.format("example.org") + text.format("example.net")) as server:
        collector.attach(unix_path)
        wait_until(server, lambda: all(it.output.is_taking for it in server.plugins(Dnstap)))
        server.ask("example.org.")
        server.ask("example.net.")
        assert collector.types(4) == [5, 6] * 2


def test_a_socket_that_is_left_over(unix_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(unix_path)
    left.close()
    with serve(corefile(f"listen {unix_path}")) as server:
        assert output_of(server).state == "listening, 0 connected"


def test_a_socket_of_another_process_is_taken_when_it_ends(unix_path, caplog):
    other = socket.socket(socket.AF_UNIX)
    other.bind(unix_path)
    other.listen()
    with caplog.at_level(logging.INFO), serve(corefile(f"listen {unix_path}")) as server:
        assert output_of(server).state == "not listening"
        other.close()
        wait_until(server, lambda: output_of(server).state == "listening, 0 connected")
    label = f"unix://{unix_path}"
    assert caplog.messages[:1] == [f"cannot listen at {label}: Address already in use; tried again"]
    assert f"listening at {label}" in caplog.messages


def test_a_file_at_the_path_is_kept(tmp_path, caplog):
    path = tmp_path / "file"
    path.write_text("precious")
    with serve(corefile(f"listen {path}")) as server:
        assert output_of(server).state == "not listening"
        assert server.ask("example.org.").header.rcode == 0
    assert path.read_text() == "precious"


def client_context(certificate, own):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate[0])
    if own:
        context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize(
    ("authority", "option", "own", "is_accepted"),
    [
        (False, "", False, True),
        (True, "", True, True),
        (True, "", False, False),
        (True, "skipverify", False, True),
    ],
)
def test_tls(make_collector, certificate, authority, option, own, is_accepted):
    collector = make_collector()
    files = [*certificate, certificate[0]] if authority else certificate
    options = f"tls {' '.join(map(str, files))}\n{option}"
    context = client_context(certificate, own)
    with (
        serve(corefile("listen tls://127.0.0.1:0", options)) as server,
        context.wrap_socket(connect(server), server_hostname="127.0.0.1") as connection,
    ):
        if not is_accepted:
            connection.settimeout(helpers.TIMEOUT)
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                assert connection.recv(1) == b""
            return
        collector.attach(connection)
        wait_until(server, lambda: output_of(server).is_taking)
        server.ask("example.org.")
        assert collector.types(2) == [5, 6]


def test_a_certificate_that_appears_later(certificate, tmp_path, caplog):
    paths = [tmp_path / "c.pem", tmp_path / "k.pem"]
    options = f"tls {paths[0]} {paths[1]}"
    with (
        caplog.at_level(logging.INFO),
        serve(corefile("listen tls://127.0.0.1:0", options)) as server,
    ):
        assert output_of(server).state == "not listening"
        for path, content in reversed(list(zip(paths, certificate, strict=True))):
            path.write_bytes(content.read_bytes())
        wait_until(server, lambda: output_of(server).state == "listening, 0 connected")
    label = "cannot listen at tls://127.0.0.1:0: No such file or directory; tried again"
    assert caplog.messages[:1] == [label]


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_connection_that_is_accepted_at_the_end_is_closed(is_accepted):
    """Before, the collector stayed connected, and got nothing."""

    async def main():
        listener = CollectorListener(Endpoint("tcp", "127.0.0.1", 0), LinkedProcess())
        output: Any = SimpleNamespace(settings=SimpleNamespace(queue=1), dropped=None, sent=None)
        if is_accepted:
            stream = listener._accepted(output)  # its task has not begun
            await listener.close()
        else:
            await listener.close()
            stream = listener._accepted(output)
        return stream.opened.cancelled(), listener._tasks

    assert asyncio.run(main()) == (True, set())


def test_a_collector_that_connects_while_the_followers_end_gets_their_messages():
    async def main():
        listener = CollectorListener(Endpoint("tcp", "127.0.0.1", 0), LinkedProcess())
        output: Any = SimpleNamespace(settings=SimpleNamespace(queue=1), dropped=None, sent=None)
        follower = Mock(closed=asyncio.get_running_loop().create_future())
        listener._followers.add(follower)
        closing = asyncio.create_task(listener.close())
        await asyncio.sleep(0)  # it waits for the follower
        opened = listener._accepted(output).opened
        await asyncio.sleep(0)
        before = opened.cancelled()
        follower.closed.set_result(None)
        await closing
        return before, opened.cancelled()

    assert asyncio.run(main()) == (False, True)
