"""Replies that are a series of messages: made lazily, sent over streams, ended in every case."""

import asyncio
import base64
import contextlib
import itertools
import socket
import struct
import subprocess
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.commands.explanation import render
from corepy.dns import FormError, Identity, Reply, Request
from corepy.dns.constants import MAX_SIZE
from corepy.dns.records import rr
from corepy.dns.reply import ReplySeries
from corepy.dns.series import finish_message, messages_of
from corepy.net.frames import frame
from corepy.plugin import (
    Cacheability,
    Handler,
    ObservingHandler,
    TSIGKeys,
    control_client,
    lookup,
)
from corepy.server.listen.query_timeout import SWITCH
from corepy.testing import inline, make_request, query, run_chain, serve, with_handlers
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until

BIG = 60_000
SECRET = b"the secret of this test"
WAIT = 60.0


class Lister(Handler):
    """Answers names that begin with "series" by what the method of the first label yields."""

    name = "lister"
    cacheability = Cacheability.SAFE

    def __init__(self):
        self.made = 0
        self.open = 0
        self.closed = threading.Event()
        self.times = []
        self.stop = threading.Event()

    async def serve_dns(self, request):
        kind, _, _ = request.name.partition(".")
        kind, _, late = kind.partition("-")
        if late:
            await asyncio.sleep(0)
        if kind == "handmade":
            reply = request.error(0)
            reply.series = ReplySeries(self.small(request))
            return reply
        if kind == "surviving":
            with self, contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return request.reply_series(self.small(request))
        make = getattr(self, kind, None)
        return request.error(0) if make is None else request.reply_series(make(request))

    def message(self, request, size=100):
        self.made += 1
        text = self.made.to_bytes(4, "big") + bytes(size)
        return request.reply(answer=[rr(request.question[:-4], 65280, 0, text)], authoritative=True)

    def small(self, request):
        with self:
            for _ in range(3):
                yield self.message(request)

    async def slow(self, request):
        with self:
            for _ in range(3):
                await asyncio.sleep(0)
                yield self.message(request)

    def iterator(self, request):
        return iter([self.message(request), self.message(request)])

    def endless(self, request):
        with self:
            while not self.stop.is_set():
                yield self.message(request, BIG)

    def tiny(self, request):
        with self:
            while not self.stop.is_set():
                yield self.message(request, 0)

    async def stuck(self, request):
        with self:
            yield self.message(request)
            await asyncio.Event().wait()

    async def stubborn(self, request):
        """Withstands the first cancellation."""
        with self:
            yield self.message(request)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.Event().wait()

    async def never(self, request):
        with self:
            await asyncio.Event().wait()
            yield self.message(request)

    async def clocked(self, request):
        """Records when the server began to wait for each message."""
        with self:
            for _ in range(3):
                self.times.append((asyncio.current_task().request.received, time.monotonic()))
                await asyncio.sleep(0)
                yield self.message(request)

    def zone(self, request):
        """A zone in five messages."""
        soa = rr(request.question[:-4], 6, 60, bytes(22))
        texts = [rr(request.question[:-4], 16, 60, bytes((1, number))) for number in range(48, 58)]
        yield from messages_of(request, [soa, *texts, soa], 60)

    # -- faults

    def empty(self, request):
        return iter(())

    def raises(self, request):
        raise ValueError("before the first message")
        yield

    def breaks(self, request):
        with self:
            yield self.message(request)
            yield self.message(request)
            raise ValueError("in the middle")

    def exits(self, request):
        with self:
            yield self.message(request)
            raise SystemExit(3)

    def other(self, request):
        yield self.message(request)
        yield make_request("another.").reply()

    def nothing(self, request):
        yield self.message(request)
        yield None

    def dropped(self, request):
        yield self.message(request)
        yield request.drop()

    def nested(self, request):
        yield self.message(request)
        yield request.reply_series(self.small(request))

    def large(self, request):
        yield self.message(request)
        yield self.message(request, 65500)

    def __enter__(self):
        self.open += 1
        self.closed.clear()

    def __exit__(self, *_):
        self.open -= 1
        self.closed.set()


class Observer(ObservingHandler):
    name = "observer"

    def __init__(self):
        self.seen = []

    def observe(self, request, reply):
        series = reply.series
        numbers = None if series is None else (series.count, series.size)
        self.seen.append((request.name, reply.rcode, numbers, reply.answered_by, reply.error))


class Passes(Handler):
    """Keeps an observer below it in the chain of the query."""

    name = "passes"
    cacheability = Cacheability.SAFE

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)


def serve_lister(*directives, above=(), control=False, still=False):
    body = "\n".join(("bind 127.0.0.1", *directives, *above, "lister"))
    plugins = with_handlers(
        lister=Lister, observer=Observer, passes=Passes, alias=Alias, faulty=Faulty
    )
    order = "lister after whoami\nobserver before log\nfaulty before observer\n"
    order += "passes before faulty\nalias before log\n"
    return serve(
        f".:0 {{\n{body}\n}}\n", plugins=plugins, order=order, control=control, still=still
    )


@pytest.fixture
def lister():
    """A running server, its handler, and a connection to it."""
    with serve_lister(above=("observer",)) as server, connect(server) as client:
        (handler,) = server.plugins(Lister)
        (observer,) = server.plugins(Observer)
        yield Running(server, handler, observer, client)
        handler.stop.set()


class Running:
    def __init__(self, server, handler, observer, client):
        self.server, self.handler, self.observer, self.client = server, handler, observer, client

    def send(self, *names, **question):
        wires = [query(name, id=number, **question) for number, name in enumerate(names, 1)]
        self.client.sendall(b"".join(map(frame, wires)))

    def read(self, count):
        return [read_frame(self.client) for _ in range(count)]

    def until_observed(self, count=1):
        wait_until(lambda: len(self.observer.seen) >= count, WAIT)
        return self.observer.seen

    @property
    def connection(self):
        (endpoint,) = self.server.server.endpoints.values()
        (connection,) = endpoint.listener("tcp").connections
        return connection


def connect(server, rcvbuf=None):
    client = socket.socket()
    if rcvbuf:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    client.settimeout(WAIT)
    client.connect(server.address)
    return client


def ids(messages):
    return [int.from_bytes(it[:2], "big") for it in messages]


def rest_of(client):
    """What the server sends until it closes, as whole messages."""
    found = []
    while True:
        try:
            found.append(read_frame(client))
        except ConnectionError:
            return found


# -- the values


def test_the_reply_is_an_empty_noerror_with_a_series():
    handler = Lister()
    reply = run_chain(make_request("small.", protocol="tcp"), handler)
    assert type(reply) is Reply
    assert (reply.rcode, reply.ancount, reply.is_dropped, handler.made) == (0, 0, False, 0)
    assert reply.copy().series is reply.series
    assert len([*reply.series.take()]) == 3
    with pytest.raises(RuntimeError, match="returned as the reply to two queries"):
        reply.series.take()


@pytest.mark.parametrize("protocol", ["udp", "https"])
def test_it_is_refused_where_a_query_has_one_reply(protocol):
    handler = Lister()
    reply = run_chain(make_request("small.", protocol=protocol), handler)
    assert (reply.rcode, reply.series, handler.made) == (5, None, 0)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=60), st.integers(1, 5000))
def test_records_are_put_into_messages(sizes, full):
    request = make_request("example.org.", "AXFR", protocol="tcp")
    records = [rr(b"\1a\0", 65280, n, bytes(size)) for n, size in enumerate(sizes)]
    messages = list(messages_of(request, records, full))
    assert b"".join(it.wire[request.question_end :] for it in messages) == b"".join(records)
    for message in messages:
        assert message.aa
        length = len(message.wire) - request.question_end
        assert message.ancount == 1 or length <= full
        assert message.ancount >= 1


def test_a_full_message_leaves_room():
    """For header, the longest question, OPT with some options, and TSIG."""
    name = b"\x3f" + b"a" * 63
    request = Request.from_wire(bytes(4) + b"\0\1" + bytes(6) + name * 3 + b"\0\0\xfc\0\1")
    records = (rr(b"\1a\0", 65280, 0, bytes(1000)) for _ in range(100))
    first = next(messages_of(request, records))
    assert MAX_SIZE - len(first.wire) > 1500


def test_a_message_has_the_id_the_question_and_opt():
    request = make_request("eXample.org.", "AXFR", protocol="tcp", edns=1232, id=77)
    message = next(messages_of(request, [rr(b"\1a\0", 1, 60, bytes(4))] * 200))
    wire = finish_message(request, message)
    assert wire[:2] == b"\0\x4d"
    assert wire[4:12] == b"\0\1\0\xc8\0\0\0\1"
    assert wire[12 : request.question_end] == request.question
    assert wire[request.question_end :].startswith(b"\1a\0")


@pytest.mark.parametrize("edns", [0, 1232])
def test_a_message_is_never_truncated(edns):
    request = make_request("example.org.", protocol="tcp", edns=edns)
    room = MAX_SIZE - request.question_end - 12 - (11 if edns else 0)
    fits = request.reply(answer=[rr(b"\0", 65280, 0, bytes(room + 1))])
    assert len(finish_message(request, fits)) == MAX_SIZE
    large = request.reply(answer=[rr(b"\0", 65280, 0, bytes(room + 2))])
    with pytest.raises(FormError, match=f"{MAX_SIZE + 1} bytes"):
        finish_message(request, large)


# -- over a stream


@pytest.mark.parametrize("name", ["small.", "small-late.", "slow.", "slow-late.", "iterator."])
@pytest.mark.parametrize("edns", [0, 1232])
def test_all_messages_are_sent(lister, name, edns):
    lister.send(name, "a.", edns=edns)
    count = 2 if name == "iterator." else 3
    found = lister.read(count + 1)
    assert sorted(ids(found)) == [1] * count + [2]
    messages = [it for it in found if it[1] == 1]
    assert [it[6:8] for it in messages] == [b"\0\1"] * count
    assert all(it[2] & 0x86 == 0x84 for it in messages)  # QR and AA, no TC
    assert all((it[10:12] == b"\0\1") == bool(edns) for it in messages)
    end = 12 + len(name) + 5
    assert [it[end + 12 : end + 16] for it in messages] == [
        number.to_bytes(4, "big") for number in range(1, count + 1)
    ]  # the owner is a pointer
    wait_until(lambda: not lister.handler.open, WAIT)
    lister.send("b.")
    assert ids(lister.read(1)) == [1]


def test_over_udp_it_is_refused(lister):
    assert lister.server.ask("small.").header.rcode == 5
    assert lister.server.ask("handmade.").header.rcode == 5
    assert lister.server.ask("handmade-late.").header.rcode == 5
    assert (lister.handler.made, lister.server.ask("a.").header.rcode) == (0, 0)


def test_other_queries_are_answered_meanwhile(lister):
    lister.send("endless.", "a.", "b.")
    found: list[int] = []
    while len(found) < 2:
        (ident,) = ids(lister.read(1))
        if ident != 1:
            found.append(ident)
    lister.send("c.")  # in the middle of the series
    while lister.read(1)[0][12:14] != b"\1c":
        pass
    assert lister.handler.open == 1


def test_series_of_one_connection_follow_each_other(lister):
    lister.send("small.", "slow.", "small.", "a.")
    found = ids(lister.read(10))
    assert sorted(found) == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    assert [it for it in found if it != 4] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_client_that_has_sent_its_last_query_gets_all(lister):
    lister.send("small.", "slow.")
    lister.client.shutdown(socket.SHUT_WR)
    assert ids(rest_of(lister.client)) == [1, 1, 1, 2, 2, 2]


def test_the_limit_of_queries_per_connection():
    with serve_lister("timeouts {\n maxtcpqueries 2\n}") as server, connect(server) as client:
        client.sendall(frame(query("small.", id=1)) + frame(query("slow.", id=2)))
        assert ids(rest_of(client)) == [1, 1, 1, 2, 2, 2]


def set_keys(controller):
    for _ in controller.single():
        controller.configure(TSIGKeys({b"\3key\0": SECRET}))


@pytest.mark.parametrize("edns", ["+noedns", "+edns=0"])
@pytest.mark.parametrize("secret", [SECRET, b"another"])
def test_the_messages_of_a_signed_query_are_signed(secret, edns):
    """Dig verifies them, the first message and the later ones by other rules (RFC 8945)."""
    key = f"hmac-sha256:key:{base64.b64encode(secret).decode()}"
    plugins = with_handlers(lister=Lister) | {"keys": inline("keys", set_keys)}
    text = ".:0 {\nbind 127.0.0.1\nkeys\nlister\n}\n"
    with serve(text, plugins=plugins, order="lister after whoami\n") as server:
        host, port = server.address
        command = ["dig", f"@{host}", "-p", f"{port}", "-y", key, edns, "+time=60", "zone.", "AXFR"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    records = [line for line in done.stdout.splitlines() if line and not line.startswith(";")]
    if secret != SECRET:
        assert "WARNING -- Some TSIG could not be validated" in done.stdout
        return
    assert [line.split()[3] for line in records if "TSIG" not in line] == (
        ["SOA", *["TXT"] * 10, "SOA"]
    )  # fmt: skip
    assert "(messages " in done.stdout
    assert not any(word in done.stdout for word in ("verify", "failed", "validated", "BADSIG"))


def test_a_signed_message_has_room_for_its_signature():
    class Signer:
        reserved = 100

        def applies_to(self, message):
            return True

        def sign(self, message):
            return message + bytes(self.reserved)

    request = make_request("example.org.", protocol="tcp")
    request.identity = Identity(signer=Signer())
    room = MAX_SIZE - request.question_end - 12 - 100
    fits = request.reply(answer=[rr(b"\0", 65280, 0, bytes(room + 1))])
    assert len(finish_message(request, fits)) == MAX_SIZE
    large = request.reply(answer=[rr(b"\0", 65280, 0, bytes(room + 2))])
    with pytest.raises(FormError, match=f"{MAX_SIZE + 1} bytes"):
        finish_message(request, large)


# -- back-pressure


@pytest.mark.parametrize("name", ["endless.", "tiny."])
def test_a_client_that_does_not_read_has_one_message_waiting(name):
    with serve_lister(still=True) as server, connect(server, rcvbuf=4096) as client:
        (handler,) = server.plugins(Lister)
        client.sendall(frame(query(name)))
        (endpoint,) = server.server.endpoints.values()

        def is_full():
            connections = list(endpoint.listener("tcp").connections)
            return bool(connections) and connections[0]._write_timer is not None

        wait_until(lambda: server.call(is_full), WAIT)
        (connection,) = endpoint.listener("tcp").connections
        waiting = server.call(connection._transport.get_write_buffer_size)
        assert 0 < waiting <= BIG + 100
        made = handler.made
        for _ in range(5):  # nothing more is made, however often the loop turns
            server.call(lambda: None)
        assert handler.made == made
        read_frame(client)
        while handler.made < made + 3:  # it goes on when the client reads
            read_frame(client)
        handler.stop.set()


def test_a_client_that_does_not_read_is_dropped():
    body = "timeouts {\n write 1s\n}"
    with serve_lister(body, above=("observer",)) as server, connect(server, rcvbuf=4096) as client:
        (handler,) = server.plugins(Lister)
        client.sendall(frame(query("endless.")))
        wait_until(lambda: handler.open == 1, WAIT)
        assert handler.closed.wait(WAIT)
        (observer,) = server.plugins(Observer)
        wait_until(lambda: observer.seen, WAIT)
        ((name, rcode, (count, size), by, error),) = observer.seen
        assert (name, rcode, by) == ("endless.", 2, "lister")
        assert size > count * BIG
        assert error == f"the connection was closed after {count} messages of the reply"


# -- the end of a series


def test_a_client_that_goes_away_closes_the_generator(lister):
    lister.send("endless.", "small.")
    lister.read(2)
    reset(lister.client)
    assert lister.handler.closed.wait(WAIT)
    first, second = sorted(lister.until_observed(2))
    assert (first[0], first[1], first[3]) == ("endless.", 2, "lister")
    assert second == (
        "small.", 2, None, "lister", "the connection was closed after 0 messages of the reply"
    )  # fmt: skip
    assert lister.handler.open == 0


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_generator_that_survives_its_connection_has_a_time_limit(monkeypatch):
    monkeypatch.setenv(SWITCH, "0.2")
    with serve_lister(above=("observer",)) as server:
        client = connect(server)
        (handler,) = server.plugins(Lister)
        client.sendall(frame(query("stubborn.")))
        read_frame(client)
        reset(client)
        assert handler.closed.wait(WAIT)
        wait_until(lambda: server.plugins(Observer)[0].seen, WAIT)
        (endpoint,) = server.server.endpoints.values()
        assert server.call(endpoint.waiting) == set()


def test_a_series_for_a_closed_connection_ends(lister):
    lister.send("surviving.")
    wait_until(lambda: lister.handler.open, WAIT)
    reset(lister.client)
    assert lister.until_observed() == [
        (
            "surviving.", 2, None, "lister",
            "the connection was closed after 0 messages of the reply"
        )
    ]  # fmt: skip
    assert lister.handler.made == 0


@pytest.mark.parametrize("name", ["stuck.", "never.", "endless."])
def test_it_ends_when_the_server_stops(name, monkeypatch):
    monkeypatch.setattr("corepy.server.server.DRAIN_TIMEOUT", 0.1)
    with serve_lister() as server:
        client = connect(server)
        (handler,) = server.plugins(Lister)
        client.sendall(frame(query(name)))
        wait_until(lambda: handler.open, WAIT)
        reading = threading.Thread(target=rest_of, args=(client,))
        reading.start()
    reading.join(WAIT)
    assert not reading.is_alive()
    client.close()
    assert (handler.open, handler.closed.is_set()) == (0, True)


def test_a_stopped_server_closes_the_connection_of_a_client_that_does_not_read(monkeypatch):
    monkeypatch.setattr("corepy.server.server.DRAIN_TIMEOUT", 0.1)
    with serve_lister() as server:
        client = connect(server, rcvbuf=4096)
        client.sendall(frame(query("endless.")))
        (endpoint,) = server.server.endpoints.values()
        connections = endpoint.listener("tcp").connections
        wait_until(lambda: any(it._transport.get_write_buffer_size() for it in connections), WAIT)
    with client:
        assert not connections
        rest_of(client)


def test_a_reload_drains_it_with_the_old_configuration(lister, monkeypatch):
    monkeypatch.setattr("corepy.server.server.DRAIN_TIMEOUT", 0.1)
    lister.send("endless.")
    lister.read(1)
    reading = threading.Thread(target=rest_of, args=(lister.client,))
    reading.start()
    lister.server.reload(".:0 {\nbind 127.0.0.1\nlister\n}\n")
    reading.join(WAIT)
    assert not reading.is_alive()  # the rest of the series would be of no use
    assert lister.handler.closed.wait(WAIT)
    with connect(lister.server) as client:
        client.sendall(frame(query("small.", id=5)))
        assert ids([read_frame(client) for _ in range(3)]) == [5, 5, 5]


# -- failures


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [
        ("breaks.", 2, "ValueError: in the middle"),
        ("exits.", 1, "raised SystemExit: 3"),
        ("other.", 1, "in a series: returned a reply to a different question"),
        ("nothing.", 1, "in a series: returned NoneType instead of a Reply"),
        ("dropped.", 1, "in a series: made a message that is dropped or a series itself"),
        ("nested.", 1, "in a series: made a message that is dropped or a series itself"),
        ("large.", 1, "in a series: returned a reply that is not a response message"),
    ],
)
def test_a_failure_in_the_middle_closes_the_connection(lister, caplog, name, count, text):
    lister.send(name)
    assert ids(rest_of(lister.client)) == [1] * count
    ((_, rcode, numbers, by, error),) = lister.until_observed()
    assert (rcode, numbers[0], by) == (2, count, "lister")
    assert error.startswith("plugin/lister: ")
    assert text in error
    (line,) = [it for it in caplog.messages if name in it]
    assert text in line
    assert line.endswith("; closed the connection")
    assert lister.server.ask("a.").header.rcode == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raises.", "ValueError: before the first message"),
        ("empty.", "returned a series without a message"),
    ],
)
def test_a_failure_before_the_first_message_is_servfail(lister, caplog, name, text):
    lister.send(name, "a.")
    found = dict(zip(ids(both := lister.read(2)), both, strict=True))
    assert {ident: it[3] & 15 for ident, it in found.items()} == {1: 2, 2: 0}
    (seen,) = [it for it in lister.until_observed(2) if it[0] == name]
    assert seen[:4] == (name, 2, None, "lister")
    (line,) = [it for it in caplog.messages if name in it]
    assert (text in line, line.endswith("; answered SERVFAIL")) == (True, True)


@pytest.mark.parametrize("name", ["stuck.", "stubborn."])
def test_a_message_that_takes_too_long(name, monkeypatch, caplog):
    monkeypatch.setenv(SWITCH, "0.2")
    with serve_lister() as server, connect(server) as client:
        client.sendall(frame(query(name)))
        assert len(rest_of(client)) == 1
        (handler,) = server.plugins(Lister)
        assert handler.closed.wait(WAIT)
    (line,) = [it for it in caplog.messages if name in it]
    assert line.startswith(f"{name} A from 127.0.0.1: no answer after 0.2 s (waiting at ")
    assert f"in {name[:-1]})" in line
    assert line.endswith("; closed the connection")


def test_a_first_message_that_takes_too_long_is_servfail(monkeypatch):
    monkeypatch.setenv(SWITCH, "0.2")
    with serve_lister() as server:
        assert server.ask("never.", tcp=True).header.rcode == 2


def test_the_time_limit_is_that_of_one_message(lister):
    """The clock of a query begins anew with each message, and stands while the client reads."""
    lister.send("clocked.")
    lister.read(3)
    times = lister.handler.times
    assert all(began <= now for began, now in times)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))


# -- caches, look-ups, observers, explanations


def test_no_cache_keeps_it():
    with serve_lister("cache") as server, connect(server) as client:
        for _ in range(4):
            client.sendall(frame(query("small.")))
            for _ in range(3):
                read_frame(client)
        (handler,) = server.plugins(Lister)
        assert (handler.made, server.packet_entries) == (12, 0)


class Alias(Handler):
    name = "alias"

    async def serve_dns(self, request):
        if request.name != "alias.":
            return await self.next.serve_dns(request)
        found = await lookup(request, b"\5small\0")
        return request.error(found.rcode, None if found.series is None else "a series")


def test_a_look_up_of_it_is_refused():
    with serve_lister("alias") as server:
        assert server.ask("alias.", tcp=True).header.rcode == 5
        (handler,) = server.plugins(Lister)
        assert handler.made == 0


@pytest.mark.parametrize("above", [("observer",), ("passes", "observer")])
def test_observers_see_it_once_at_its_end(above):
    with serve_lister(above=above) as server, connect(server) as client:
        client.sendall(frame(query("small.")))
        sent = [read_frame(client) for _ in range(3)]
        (observer,) = server.plugins(Observer)
        wait_until(lambda: observer.seen, WAIT)
        size = sum(map(len, sent))
        assert observer.seen == [("small.", 0, (3, size), "lister", None)]


class Faulty(ObservingHandler):
    name = "faulty"

    def observe(self, request, reply):
        raise SystemExit(f"{reply.series.count} messages")


@pytest.mark.parametrize("above", [("faulty",), ("passes", "faulty")])
def test_an_observer_that_fails_harms_no_other(above, caplog):
    above = (*above, "observer")
    with serve_lister(above=above) as server, connect(server) as client:
        for ident in (1, 2):
            client.sendall(frame(query("small.", id=ident)))
            assert ids([read_frame(client) for _ in range(3)]) == [ident] * 3
        (observer,) = server.plugins(Observer)
        wait_until(lambda: len(observer.seen) == 2, WAIT)
    assert "SystemExit: 3 messages" in caplog.text


def test_log_and_prometheus_count_its_bytes(capfd):
    directives = ('log . "{name} {rcode} {>rflags} {rsize}"', "prometheus 127.0.0.1:0")
    with serve_lister(*directives) as server, connect(server) as client:
        client.sendall(frame(query("slow.")))
        size = sum(len(read_frame(client)) for _ in range(3))
        server.ask("a.")
    assert f"slow. NOERROR qr,aa,rd {size}\n" in capfd.readouterr().out


def test_explain(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    with serve_lister("cache", control=True) as server:
        (path,) = control_client.sockets()
        asked = {"name": "small.", "protocol": "tcp"}
        explanation = control_client.ask(path, "explain", asked)
        refused = control_client.ask(path, "explain", {"name": "small."})
        (handler,) = server.plugins(Lister)
        assert handler.made == 0
    assert explanation["reply"] == {
        "dropped": False,
        "error": None,
        "series": True,
        "size": 0,
        "text": ";; the reply is a series of messages, which is made only for a client\n",
    }
    did = {step["plugin"]: step["did"] for step in explanation["steps"]}
    assert did == {"cache": "passed on", "lister": "answered a series of messages"}
    assert explanation["steps"][0]["after"]["not kept"] == "it is a series of messages"
    assert explanation["packet_cache"]["reason"] == "it is a series of messages"
    assert render(explanation).endswith(explanation["reply"]["text"])
    assert refused["reply"]["rcode"] == "REFUSED"
