"""DNS over QUIC: each query in a stream of its own, and the errors of RFC 9250."""

import subprocess

import pytest

from corepy.dns.edns import opt_record, option
from corepy.net.frames import frame
from corepy.testing.command import wait_until
from corepy.testing.helper_module import helper_module

servers = helper_module(__file__, "quic_servers")
BIG, ask, rcode, running = servers.BIG, servers.ask, servers.rcode, servers.running

NO_ERROR, INTERNAL, PROTOCOL, CANCELLED, EXCESSIVE, UNSPECIFIED = range(6)
KEEPALIVE = opt_record(1232, options=option(11))


@pytest.fixture(scope="module")
def doq(tmp_path_factory):
    limits = servers.PATIENT, "quic {\n max_streams 8\n}"
    with running(tmp_path_factory.mktemp("doq"), "cache", *limits) as server:
        yield server


@pytest.fixture
def client(doq):
    with doq.connect() as connection:
        yield connection


def test_kdig_gets_replies(doq):
    """With +keepopen its second query fails now and then, also at aioquic's own server."""
    host, port = doq.address
    command = ["kdig", f"@{host}", "-p", str(port), f"+tls-ca={doq.files.authority}"]
    options = ["+tls-hostname=dns.example", "+quic"]
    names = ["one.example.org", "big.example.org"]
    output = subprocess.run([*command, *options, *names], capture_output=True, text=True).stdout
    assert output.count("status: NOERROR; id: 0") == 2
    assert "QUIC session (QUICv1)-(TLS1.3)" in output


@pytest.mark.parametrize("kind", ["plain", "big"])
def test_replies_are_whole(client, kind):
    reply = client.ask(ask(kind))
    assert reply[:2] == b"\0\0"
    assert rcode(reply) == 0
    assert not reply[2] & 2
    assert (len(reply) > BIG) == (kind == "big")


def test_replies_come_in_any_order(client, doq):
    waiting = client.query(ask("wait", "NS"))
    assert rcode(client.ask(ask("other"))) == 0
    assert waiting not in client.ended
    doq.call(doq.answerer.released.set)
    assert rcode(client.reply(waiting)) == 0
    doq.call(doq.answerer.released.clear)


def test_a_query_in_pieces_is_answered(client):
    stream = client.quic.get_next_available_stream_id()
    for byte in frame(ask("pieces")):
        client.quic.send_stream_data(stream, bytes((byte,)))
        client.send()
    client.quic.send_stream_data(stream, b"", end_stream=True)
    assert rcode(client.reply(stream)) == 0


def test_a_series_is_sent_in_one_stream(client):
    assert len(client.replies(client.query(ask("series")))) == 3


def test_a_broken_series_ends_its_stream_with_an_error(client):
    stream = client.query(ask("broken"))
    client.until(lambda: stream in client.errors)
    assert client.errors[stream] == INTERNAL
    assert rcode(client.ask(ask("after"))) == 0


def test_a_series_is_made_as_fast_as_it_is_read(doq):
    with doq.connect(max_data=1 << 20, max_stream_data=1 << 18) as client:
        client.quic._write_stream_limits = lambda **_more: None  # the client reads no more
        before = doq.answerer.made
        stream = client.query(ask("endless"))
        client.until(lambda: len(client.data[stream]) == 1 << 18)
        assert doq.answerer.made - before <= (1 << 18) // BIG + 3
        client.quic.stop_stream(stream, CANCELLED)
        client.until(lambda: stream in client.errors)
        assert rcode(client.ask(ask("after"))) == 0


def test_a_dropped_query_ends_its_stream(client):
    stream = client.query(ask("drop"))
    client.until(lambda: stream in client.errors)
    assert client.errors[stream] == UNSPECIFIED


@pytest.mark.parametrize("how", ["reset", "stop"])
def test_a_client_cancels_a_query(client, doq, how):
    stream = client.put(frame(ask("wait", "MX")), end=how == "stop")
    while doq.answerer.asked.acquire(blocking=False):
        pass
    if how == "stop":
        client.until(lambda: doq.answerer.asked.acquire(blocking=False))
        client.quic.stop_stream(stream, CANCELLED)
    else:
        client.send()
        client.quic.reset_stream(stream, CANCELLED)
    client.until(lambda: stream in client.errors)
    assert client.errors[stream] == CANCELLED
    wait_until(lambda: not doq.call(doq.listener.waiting))
    assert rcode(client.ask(ask("after"))) == 0


def test_the_rest_of_a_cancelled_query_is_ignored(client, doq):
    (connection,) = doq.call(lambda: list(doq.listener.connections))[-1:]
    data = frame(ask("never"))
    stream = client.put(data[:9], end=False)
    client.send()
    wait_until(lambda: doq.call(lambda: connection.partial) == 9)
    client.quic.stop_stream(stream, CANCELLED)
    client.quic.send_stream_data(stream, data[9:], end_stream=True)
    client.until(lambda: stream in client.errors)
    assert rcode(client.ask(ask("after"))) == 0
    assert not connection.streams


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\0\7" + ask()[2:]), PROTOCOL),
        (frame(ask()[:10] + b"\0\1" + ask()[12:] + KEEPALIVE), PROTOCOL),
        (frame(ask()) + frame(ask()), PROTOCOL),
        (frame(ask()) + b"\0", PROTOCOL),
        (frame(ask())[:-1], PROTOCOL),
        (frame(b""), PROTOCOL),
        (b"\0", PROTOCOL),
        (b"", PROTOCOL),
        (frame(ask()[:11]), PROTOCOL),
        (frame(b"\0\0\x84" + ask()[3:]), PROTOCOL),
    ],
    ids=["id", "keepalive", "two", "more", "less", "empty", "length", "nothing", "short", "reply"],
)
def test_a_client_that_breaks_the_rules_loses_its_connection(client, data, code):
    client.put(data)
    assert client.close_code() == code


def test_a_message_that_cannot_be_parsed_gets_formerr(client):
    assert rcode(client.ask(ask()[:-1])) == 1


def test_another_opcode_gets_notimp(client):
    assert rcode(client.ask(ask(opcode=5))) == 4


@pytest.mark.parametrize("number", [2, 1, 3], ids=["unidirectional", "server", "server-uni"])
def test_a_client_opens_only_bidirectional_streams(client, number):
    client.quic._remote_max_streams_uni = 9
    stream = client.quic._get_or_create_stream_for_send(2 if number == 2 else 0)
    stream.stream_id = stream.sender._stream_id = number
    stream.is_blocked = False
    stream.max_stream_data_remote = 1000
    stream.sender.write(frame(ask()), end_stream=True)
    assert client.close_code() in (4, 5)  # STREAM_LIMIT_ERROR, STREAM_STATE_ERROR of RFC 9000


def test_more_streams_than_permitted_wait_at_the_client(client, doq):
    while doq.answerer.asked.acquire(blocking=False):
        pass
    streams = [client.query(ask("wait", "TXT")) for _ in range(12)]
    for _ in range(8):
        client.until(lambda: doq.answerer.asked.acquire(blocking=False))
    doq.call(doq.answerer.released.set)
    assert [rcode(client.reply(stream)) for stream in streams] == [0] * 12
    doq.call(doq.answerer.released.clear)


def test_the_identity_of_queries_is_that_of_their_connection(client, doq):
    for name in ("first", "second"):
        client.ask(ask(name, "NS"))
    first, second = doq.answerer.identities[-2:]
    assert first is second
    assert first.tls.version == "TLSv1.3"
    assert first.tls.protocol == "doq"
    assert first.tls.cipher.startswith("TLS_")


def test_metrics_count_replies_and_errors(tmp_path):
    with running(tmp_path, "prometheus 127.0.0.1:0") as server:
        with server.connect() as client:
            client.ask(ask())
            client.replies(client.query(ask("drop")))
        with server.connect() as client:
            client.put(b"\0")
            client.close_code()
        counted = server.listener._counters
        found = {code.value: counter.value for code, counter in counted.items()}
        assert found == {0: 1, 1: 0, 2: 1, 3: 0, 4: 0, 5: 1}


def test_the_time_of_a_query_that_does_not_end_is_limited(tmp_path):
    with running(tmp_path, "timeouts {\n read 1s\n}") as server, server.connect() as client:
        client.put(frame(ask()), end=False)
        assert client.close_code() == PROTOCOL


def test_unfinished_queries_are_limited(client):
    for _ in range(6):
        client.put(frame(bytes(60_000))[:-1], end=False)
    assert client.close_code() == EXCESSIVE


def test_a_connection_ends_after_its_queries(tmp_path):
    with running(tmp_path, "timeouts {\n maxtcpqueries 2\n}") as server, server.connect() as client:
        for name in ("a", "b"):
            assert rcode(client.ask(ask(name))) == 0
        assert client.close_code() == NO_ERROR


def test_queries_in_flight_are_limited(tmp_path):
    with (
        running(tmp_path, "quic {\n worker_pool_size 2\n}") as server,
        server.connect() as one,
        server.connect() as two,
    ):
        streams = [one.query(ask("wait")) for _ in range(2)]
        for _ in range(2):
            one.until(lambda: server.answerer.asked.acquire(blocking=False))
        late = two.query(ask("late"))
        two.until(lambda: bool(server.call(lambda: list(server.listener.starving))))
        assert not server.answerer.asked.acquire(blocking=False)
        server.call(server.answerer.released.set)
        assert rcode(two.reply(late)) == 0
        assert [rcode(one.reply(stream)) for stream in streams] == [0, 0]
        assert server.call(lambda: server.listener.pending) == 0


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_client_cancels_a_query_in_the_cache(client, doq, is_sent):
    client.ask(ask("cached"))
    stream = client.query(ask("cached"))
    if is_sent:
        client.send()
    client.quic.stop_stream(stream, CANCELLED)
    client.until(lambda: stream in client.errors or stream in client.ended)
    (connection,) = doq.call(lambda: list(doq.listener.connections))[-1:]
    wait_until(lambda: not connection.streams)
    assert rcode(client.ask(ask("after"))) == 0
