"""Connections to a collector: lost, refused, slow, dead; and what every message contains."""

import asyncio
import logging
import socket
import struct
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.plugin import metrics
from corepy.testing import Upstream, free_port, helper_module, http_get, make_request, serve
from corepy_dnstap import output, stream
from corepy_dnstap.handler import Dnstap

helpers = helper_module(__file__, "dnstap_collectors")
certificate, make_collector, unix_path = (
    helpers.certificate, helpers.make_collector, helpers.unix_path,
)  # fmt: skip
tcp_collector, tls_collector = helpers.tcp_collector, helpers.tls_collector
wait_until = helpers.wait_until
ACCEPT, FINISH = helpers.ACCEPT, helpers.FINISH

QUERY, RESPONSE, FORWARDED, ANSWERED = 5, 6, 7, 8
LOOPBACK = bytes((127, 0, 0, 1))
ANSWERS = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stream, "FLUSH_INTERVAL", 0.0)
    monkeypatch.setattr(output, "FIRST_PAUSE", 0.01)


def counted(name, endpoint):
    return {m.name: m for m in metrics.registered()}[name].labels(endpoint).value


def dropped(endpoint):
    return counted("coredns_dnstap_messages_dropped_total", endpoint)


def output_of(server):
    (handler,) = server.plugins(Dnstap)
    return handler.output


def corefile(endpoint, *more, options="", zone=".", block=""):
    return f"{zone} {{\n dnstap {endpoint} {{\n{options}\n}}\n{chr(10).join(more)}\n}}\n{block}"


def test_all_messages_of_a_query(tcp_collector):
    collector, address = tcp_collector
    with Upstream(ANSWERS) as upstream:
        text = corefile(
            f"tcp://{address} full",
            "cache",
            f"forward . {upstream.to}",
            options="identity me\nversion 7",
        )
        before = time.time_ns()
        with serve(text) as server:
            collector.wait()
            first = server.ask("example.org.", id=1)
            again = server.ask("example.org.", id=2)
            assert server.packet_entries == 1
            found = collector.take(6)
        after, port = time.time_ns(), int(upstream.to.rpartition(":")[2])
    assert collector.finished.acquire(timeout=helpers.TIMEOUT)
    assert [message[1] for _, message in found] == [
        QUERY, FORWARDED, ANSWERED, RESPONSE, QUERY, RESPONSE,
    ]  # fmt: skip
    for fields, message in found:
        assert (fields[1], fields[2], fields[15]) == (b"me", b"7", 1)
        assert (message[2], message[3]) == (1, 1)
        assert before <= message[8] * 10**9 + message[9] <= after
        if message[1] in (RESPONSE, ANSWERED):
            answered = message[12] * 10**9 + message[13]
            assert message[8] * 10**9 + message[9] <= answered <= after
    messages = [message for _, message in found]
    assert [message.get(10, b"")[:2] for message in messages if message[1] == QUERY] == [
        b"\0\1",
        b"\0\2",
    ]
    assert [message[14] for message in messages if message[1] == RESPONSE] == [
        first.pack(), again.pack(),
    ]  # fmt: skip
    sent, received = messages[1], messages[2]
    assert sent[10][:2] == received[14][:2]
    assert (sent[4], sent[5]) == (received[4], received[5]) == (LOOPBACK, LOOPBACK)
    assert (sent[6], sent[7]) == (received[6], received[7]) == (sent[6], port)
    assert sent[6] not in (messages[0][6], 0)
    assert [set(message) & {5, 7} for message in (messages[0], messages[3])] == [set(), set()]


def test_only_full_messages_have_the_dns_messages(tcp_collector):
    collector, address = tcp_collector
    with serve(corefile(f"tcp://{address}", "whoami")) as server:
        collector.wait()
        server.ask("example.org.", tcp=True)
        (fields, query), (_, response) = collector.take(2)
    assert set(query) == {1, 2, 3, 4, 6, 8, 9}
    assert set(response) == set(query) | {12, 13}
    assert query[3] == response[3] == 2
    assert (fields[1], 3 in fields) == (socket.gethostname().encode(), False)


def test_extra(tcp_collector):
    collector, address = tcp_collector
    options = 'extra "{name} {type} {>id} {remote} {rcode} {/forward/upstream} {x}"'
    with Upstream(ANSWERS) as upstream:
        text = corefile(f"tcp://{address}", "metadata", f"forward . {upstream.to}", options=options)
        with serve(text) as server:
            collector.wait()
            server.ask("example.org.", id=7)
            texts = [fields[3].decode() for fields, _ in collector.take(4)]
    fixed = "example.org. A 7 127.0.0.1 -"
    assert texts == [
        f"{fixed} - {{x}}",
        f"{fixed} - {{x}}",
        f"{fixed} - {{x}}",
        f"{fixed} {upstream.to} {{x}}",
    ]


def test_extra_of_a_reply_from_the_packet_cache(tcp_collector):
    collector, address = tcp_collector
    with Upstream(ANSWERS) as upstream:
        options = 'extra "{name} {>id} {rcode}"'
        text = corefile(f"tcp://{address}", "cache", f"forward . {upstream.to}", options=options)
        with serve(text) as server:
            collector.wait()
            for ident in (1, 2):
                server.ask("example.org.", id=ident, tcp=True)
            found = collector.take(6)
    assert [(fields[3], message[3]) for fields, message in found[-2:]] == [
        (b"example.org. 2 -", 2)
    ] * 2


def test_a_dropped_query_and_a_failure(tcp_collector):
    collector, address = tcp_collector
    text = corefile(f"tcp://{address} full", "erratic {\ndrop 2\n}")
    with serve(text) as server:
        collector.wait()
        replies = [server.drops("example.org.") for _ in range(2)]
        kinds = collector.types(3)
    assert sorted(kinds) == [QUERY, QUERY, RESPONSE]
    assert sorted(replies) == [False, True]


def test_several_directives(tcp_collector, unix_path, make_collector):
    collector, address = tcp_collector
    other, sock = make_collector(), socket.socket(socket.AF_UNIX)
    sock.bind(unix_path)
    sock.listen()
    other.listen(sock)
    text = corefile(f"tcp://{address} full", f"dnstap {unix_path}", "whoami")
    with serve(text) as server:
        collector.wait()
        other.wait()
        server.ask("example.org.")
        assert [10 in message for _, message in collector.take(2)] == [True, False]
        assert [10 in message for _, message in other.take(2)] == [False, False]
    for each in (collector, other):
        assert each.finished.acquire(timeout=helpers.TIMEOUT)


def test_tls(tls_collector, certificate, monkeypatch):
    collector, address = tls_collector
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with serve(corefile(f"tls://{address}", "whoami")) as server:
        collector.wait()
        server.ask("example.org.")
        assert collector.types(2) == [QUERY, RESPONSE]
    assert collector.finished.acquire(timeout=helpers.TIMEOUT)


def test_tls_without_verification(tls_collector):
    collector, address = tls_collector
    with serve(corefile(f"tls://{address}", "whoami", options="skipverify")) as server:
        collector.wait()
        server.ask("example.org.")
        assert collector.types(2) == [QUERY, RESPONSE]


def refused_handshake(stream_):
    helpers.read_frame(stream_)
    stream_.sendall(helpers.control(ACCEPT, b"protobuf:other"))
    stream_.recv(1)


def closed_at_once(stream_):
    helpers.read_frame(stream_)


def finished_at_once(stream_):
    helpers.read_frame(stream_)
    stream_.sendall(helpers.control(FINISH))


def other_protocol(stream_):
    stream_.sendall(b"220 mail.example ESMTP\r\n")
    stream_.recv(4096)


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (refused_handshake, "it does not accept the content type protobuf:dnstap.Dnstap"),
        (closed_at_once, "it closed the connection"),
        (finished_at_once, "it closed the connection"),
        (other_protocol, "it sent data in place of a control frame"),
    ],
)
def test_a_failed_handshake_costs_no_query(make_collector, caplog, talk, reason):
    sock = socket.create_server(("127.0.0.1", 0))
    collector = make_collector(talk)
    collector.listen(sock)
    endpoint = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    with caplog.at_level(logging.ERROR), serve(corefile(endpoint, "whoami")) as server:
        it = output_of(server)
        wait_until(server, lambda: it._is_failing)
        assert server.ask("example.org.").header.rcode == 0
    assert f"no connection to {endpoint}: {reason}; messages are dropped" in caplog.messages


def test_an_untrusted_certificate(tls_collector, caplog):
    _, address = tls_collector
    with caplog.at_level(logging.ERROR), serve(corefile(f"tls://{address}", "whoami")) as server:
        it = output_of(server)
        wait_until(server, lambda: it._is_failing)
    assert caplog.messages == [
        f"no connection to tls://{address}: self-signed certificate; messages are dropped"
    ]


def test_a_dead_collector_costs_no_encoding(monkeypatch, caplog):
    monkeypatch.setattr(output, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(stream, "DROP_LOG_INTERVAL", 0.0)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with Upstream(ANSWERS) as upstream, caplog.at_level(logging.WARNING):
        text = corefile(endpoint, "cache", f"forward . {upstream.to}")
        with serve(text) as server:
            it = output_of(server)
            wait_until(server, lambda: not it.is_taking)
            monkeypatch.setattr(Dnstap, "send", None)
            before = dropped(endpoint)
            for _ in range(2):
                assert server.ask("example.org.").rr
            assert dropped(endpoint) - before == 6
            assert it.state == "not connected"
    assert "Dropped dnstap messages: 2" in "\n".join(caplog.messages)


def test_a_collector_that_comes_back(make_collector):
    address = ("127.0.0.1", free_port())  # not one that the kernel may assign to others meanwhile
    sock = socket.create_server(address)
    endpoint = f"tcp://127.0.0.1:{address[1]}"

    def lost(stream_):
        helpers.read_frame(stream_)
        stream_.sendall(helpers.control(ACCEPT, helpers.CONTENT))
        helpers.read_frame(stream_)
        first.connections.put(None)

    first, second = make_collector(lost), make_collector()
    first.listen(sock)
    with serve(corefile(endpoint, "whoami")) as server:
        first.wait()
        first.close()
        again = socket.create_server(address)
        second.listen(again)
        second.wait()
        server.ask("example.org.")
        assert second.types(2) == [QUERY, RESPONSE]


def test_a_slow_collector_costs_messages_and_not_queries(tcp_collector, monkeypatch):
    collector, address = tcp_collector
    monkeypatch.setattr(stream, "_HIGH_WATER", 0)
    monkeypatch.setattr(stream, "MEAN_SIZE", 200_000)
    monkeypatch.setattr(output, "MESSAGES", 10)
    monkeypatch.setattr(output, "MEBIBYTE", 1)
    endpoint = f"tcp://{address}"
    before = dropped(endpoint)
    with serve(corefile(f"{endpoint} full", "whoami")) as server:
        collector.wait()
        collector.is_reading.clear()
        handler = server.plugins(Dnstap)[0]

        def flood():
            for _ in range(100):
                handler.output.put(struct.pack("!I", 100_000) + bytes(100_000))
            return handler.output._queue

        queue = server.call(flood)
        while not dropped(endpoint) - before:
            server.call(flood)
        assert len(queue) <= 10
        assert server.ask("example.org.").header.rcode == 0
        collector.close()


def untyped(**attributes: Any) -> Any:
    """Return an object with these attributes in place of another one."""
    return SimpleNamespace(**attributes)


def test_messages_that_wait_are_limited_in_bytes():
    async def run():
        lost: list[int] = []
        sent, drops = untyped(value=0), untyped(add=lost.append)
        queue = stream.MessageQueue(100, sent, drops)
        most = 100 * stream.MEAN_SIZE
        for _ in range(50):
            queue.put(bytes(most // 20))
        assert (len(queue), sum(lost)) == (20, 30)
        written: list[bytes] = []
        queue.stream = untyped(is_writable=True, write=written.append, closed=None)
        queue.flush()
        assert (len(queue), sent.value, sum(map(len, written))) == (0, 20, most)
        queue.stream = None
        for _ in range(150):
            queue.put(b"")
        assert (len(queue), sum(lost)) == (100, 80)
        queue.discard()
        queue.put(bytes(most))
        assert len(queue) == 1
        queue.discard()

    asyncio.run(run())


def test_batches_are_limited_in_bytes():
    """The transport keeps a whole batch."""

    async def run():
        written: list[bytes] = []
        drops = untyped(add=lambda messages: None)
        queue = stream.MessageQueue(10_000, untyped(value=0), drops)
        for _ in range(40):
            queue.put(bytes(65_536))
        queue.stream = untyped(is_writable=True, write=written.append)
        queue.flush()
        assert list(map(len, written)) == [262_144] * 10

    asyncio.run(run())


def test_a_collector_that_never_reads_costs_a_second_at_the_end(make_collector, monkeypatch):
    monkeypatch.setattr(output, "FINISH_TIMEOUT", 0.05)
    problems, held, sock = [], threading.Event(), socket.create_server(("127.0.0.1", 0))

    def talk(connection):
        assert helpers.read_frame(connection)[0] == helpers.READY
        connection.sendall(helpers.control(ACCEPT, helpers.CONTENT))
        assert helpers.read_frame(connection)[0] == helpers.START
        collector.connections.put(None)
        held.wait(helpers.TIMEOUT)

    collector = make_collector(talk)
    collector.listen(sock)
    with serve(corefile(f"tcp://127.0.0.1:{sock.getsockname()[1]}", "whoami")) as server:
        collector.wait()
        while server.call(lambda: output_of(server)._queue.stream is None):
            pass

        def fill():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: problems.append(context))
            queue = output_of(server)._queue
            while queue.stream.is_writable or len(queue) < 50:
                queue.put(bytes(60_000))
                queue.flush()

        server.call(fill)
    held.set()
    assert problems == []


def test_a_reload_loses_no_message(tcp_collector):
    collector, address = tcp_collector
    text = corefile(f"tcp://{address}", "whoami")
    with serve(text) as server:
        collector.wait()
        for number in range(5):
            server.ask("example.org.")
            server.reload(text if number % 2 else text + " ")
            assert collector.types(2) == [QUERY, RESPONSE]
    for _ in range(5):
        assert collector.finished.acquire(timeout=helpers.TIMEOUT)


def test_the_last_messages_are_sent_at_the_end(tcp_collector, monkeypatch):
    monkeypatch.setattr(stream, "FLUSH_INTERVAL", 3600.0)
    collector, address = tcp_collector
    with serve(corefile(f"tcp://{address}", "whoami")) as server:
        collector.wait()
        for _ in range(10):
            server.ask("example.org.")
    assert collector.types(20) == [QUERY, RESPONSE] * 10
    assert collector.finished.acquire(timeout=helpers.TIMEOUT)


def test_metrics_and_explain(tcp_collector):
    collector, address = tcp_collector
    endpoint, port = f"tcp://{address}", free_port()
    with serve(corefile(endpoint, f"prometheus 127.0.0.1:{port}", "whoami")) as server:
        collector.wait()
        sent = counted("coredns_dnstap_messages_sent_total", endpoint)
        server.ask("example.org.")
        collector.take(2)
        text = http_get(port, "/metrics").text
        assert f'coredns_dnstap_messages_sent_total{{endpoint="{endpoint}"}} {sent + 2:g}' in text
        assert f'coredns_dnstap_connections{{endpoint="{endpoint}"}} 1' in text
        (handler,) = server.plugins(Dnstap)
        assert handler.explain_state(make_request("example.org.")) == {
            "state": "connected",
            "endpoint": endpoint,
            "messages dropped": int(dropped(endpoint)),
        }
    assert counted("coredns_dnstap_connections", endpoint) == 0


def test_a_start_with_an_unreachable_collector(unix_path):
    with serve(corefile(unix_path, "whoami")) as server:
        assert server.ask("example.org.").header.rcode == 0
