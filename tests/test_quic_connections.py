"""Connections over QUIC: early data, forged addresses, changed addresses, loss, and limits."""

import itertools
import random
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.tls import CipherSuite, Epoch, SessionTicket
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.address import host_port
from corepy.net.quic import handshakes, server_connection
from corepy.net.quic.datagram_relay import Datagram
from corepy.net.quic.demultiplexer import _Farewell
from corepy.net.quic.identifiers import ID_SIZE, destination
from corepy.net.quic.tickets import Tickets
from corepy.net.quic.version_probe import probe
from corepy.server.listen import quic_listener
from corepy.testing.command import wait_until
from corepy.testing.helper_module import helper_module
from corepy.testing.quic_peer import ClosedError, QUICPeer

servers = helper_module(__file__, "quic_servers")
ask, rcode, running = servers.ask, servers.rcode, servers.running

EXCESSIVE = 4
WAIT = 60.0


@pytest.fixture(scope="module")
def doq(tmp_path_factory):
    with running(tmp_path_factory.mktemp("doq"), servers.PATIENT) as server:
        yield server


@pytest.fixture
def client(doq):
    with doq.connect() as connection:
        yield connection


def datagram(address, data):
    """Send a datagram of no connection; return the replies."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(WAIT)
        sock.send(data)
        found: list[bytes] = []
        for _ in range(2):  # the server may receive the first of these with the datagram
            packet, answer = probe()
            sock.send(packet)
            while not found or not found[-1][1:].startswith(answer):
                found.append(sock.recv(2000))
            found.pop()
        return found


def header(data):
    return pull_quic_header(Buffer(data=data), host_cid_length=ID_SIZE)


# Early data


def resumed(doq, **options):
    """Return a client that has not sent anything yet, and can send early data."""
    with doq.connect() as first:
        first.ask(ask("first"))
        first.until(lambda: bool(first.tickets))
        ticket = first.tickets[-1]
    return QUICPeer(doq.address, doq.files.authority, ticket=ticket, **options)


def newest(doq):
    return list(doq.listener.connections)[-1]


def test_a_query_in_early_data_is_answered_before_the_handshake(doq):
    with resumed(doq) as client:
        stream = client.query(ask("early"))
        client.send()
        client.loses = lambda _datagram: True
        assert rcode(client.reply(stream)) == 0
        assert client.handshake.early_data_accepted
        assert not newest(doq).quic.is_established


@pytest.mark.parametrize(
    "wire", [ask("early", "AXFR"), ask("early", opcode=4), ask()[:12] + b"\xff" * 5]
)
def test_what_is_not_safe_to_replay_waits_for_the_handshake(doq, wire):
    with resumed(doq) as client:
        late, early = client.query(wire), client.query(ask("early"))
        client.send()
        client.loses = lambda _datagram: True
        client.reply(early)
        assert late in newest(doq).streams
        client.loses = lambda _datagram: False
        client.reply(late)


def test_a_ticket_is_used_once(doq):
    """So early data that an attacker sends again is not accepted."""
    with resumed(doq) as client:
        ticket = client.quic.configuration.session_ticket
        client.connect()
        assert client.handshake.session_resumed
        with doq.connect(ticket=ticket) as again:
            assert not again.handshake.session_resumed
            assert rcode(again.ask(ask())) == 0


def test_the_number_of_sessions_is_bounded():
    now = datetime.now(UTC)
    suite = CipherSuite.AES_128_GCM_SHA256
    tickets = Tickets(2)
    for ticket in (b"1", b"2", b"3"):
        tickets.keep(SessionTicket(0, suite, now, now, b"", "", ticket))
    assert len(tickets) == 2
    assert tickets.take(b"1") is None
    assert tickets.take(b"3").ticket == b"3"
    assert tickets.take(b"3") is None


# Clients that are not known yet


def test_a_client_proves_its_address_while_there_are_many_handshakes(doq, monkeypatch):
    monkeypatch.setattr(handshakes, "RETRY_FROM", 0)
    with doq.connect() as client:
        assert client.quic._retry_count == 1
        assert rcode(client.ask(ask())) == 0


def test_a_client_of_version_2_proves_its_address(doq, monkeypatch):
    """The Retry packets of both versions have keys of their own."""
    monkeypatch.setattr(handshakes, "RETRY_FROM", 0)
    with doq.connect(original_version=0x6B3343CF) as client:
        assert client.quic._retry_count == 1


def initial(doq):
    """Return the first datagram of a client."""
    client = QUICPeer(doq.address, doq.files.authority)
    client.sock.close()
    ((data, _),) = client.quic.datagrams_to_send(time.monotonic())
    return data


def test_forged_addresses_take_a_bounded_number_of_connections(doq):
    now = time.monotonic()  # no handshake takes too long meanwhile
    doq.call(lambda: setattr(doq.listener.demultiplexer, "_clock", lambda: now))
    first = [datagram(doq.address, initial(doq)) for _ in range(handshakes.RETRY_FROM + 3)]
    assert len(doq.call(lambda: list(doq.listener.connections))) <= handshakes.RETRY_FROM + 3
    assert [header(it[0]).packet_type for it in first[-3:]] == [QuicPacketType.RETRY] * 3
    for answers in first:  # at most three times the size of the client's datagram
        assert sum(map(len, answers)) <= 3 * 1200
    doq.call(lambda: setattr(doq.listener.demultiplexer, "_clock", lambda: now + 9))
    wait_until(lambda: not doq.call(lambda: list(doq.listener.demultiplexer._in_progress)))
    doq.call(lambda: setattr(doq.listener.demultiplexer, "_clock", time.monotonic))
    assert doq.call(lambda: doq.listener.demultiplexer.handshakes.count) == 0


def test_there_is_no_place_for_more_handshakes_of_one_client(doq, monkeypatch):
    monkeypatch.setattr(handshakes, "MOST", 0)
    before = doq.call(lambda: doq.listener.demultiplexer.size)
    assert datagram(doq.address, initial(doq)) == []
    assert doq.call(lambda: doq.listener.demultiplexer.size) == before


def test_a_flood_of_strangers_leaves_connections_alone(doq, client, monkeypatch):
    monkeypatch.setattr(doq.listener._strangers, "most", 0)  # as many as may wait
    before = doq.call(lambda: doq.listener.demultiplexer.size)
    first = initial(doq)
    for _ in range(50):
        client.sock.send(first)
    assert rcode(client.ask(ask("calm"))) == 0
    assert doq.call(lambda: doq.listener.demultiplexer.size) == before


def test_strangers_rest_while_they_are_many(doq, client, monkeypatch):
    """Connections go on meanwhile."""
    monkeypatch.setattr(handshakes, "RETRY_FROM", 0)
    monkeypatch.setattr(quic_listener, "REST", 1e6)
    times = itertools.count()
    monkeypatch.setattr(quic_listener, "thread_time", lambda: float(next(times)))
    strangers = doq.listener._strangers
    flood = [(bytes((number,)), stranger(doq)) for number in range(quic_listener.PER_TURN + 5)]

    def fill():
        for each in flood:
            strangers.put(*each)
        doq.listener._is_admitting = True
        doq.listener._admit_strangers()

    doq.call(fill)
    for name in ("calm", "quiet"):
        assert rcode(client.ask(ask(name))) == 0
    assert doq.call(lambda: len(strangers)) == 5
    doq.call(strangers.clear)
    doq.listener._is_admitting = False


def stranger(doq, data=None):
    """Return a first datagram as the server receives it."""
    peer = b"\2\0\0\x09" + socket.inet_aton("127.9.9.9") + bytes(8)
    return Datagram(data or initial(doq), peer, None)


def test_only_proven_addresses_share_the_queue_of_connections(doq, client, monkeypatch):
    """Anyone can send to an ID that a client has chosen itself; ours are known to clients only."""
    demultiplexer = doq.listener.demultiplexer
    place = socket.inet_aton("127.0.0.1")
    known = client.quic._peer_cid.cid
    assert demultiplexer.client(stranger(doq, b"\x40" + known + bytes(30))) == place
    first = stranger(doq)
    assert demultiplexer.client(first) is None
    doq.call(demultiplexer.receive, [first])
    assert demultiplexer.client(first) is None
    monkeypatch.setattr(handshakes, "RETRY_FROM", 0)
    with QUICPeer(doq.address, doq.files.authority) as other:
        other.send()
        other._take_datagram(other.sock.recv(2000))
        ((data, _),) = other.quic.datagrams_to_send(time.monotonic())
        raw = b"\2\0" + other.sock.getsockname()[1].to_bytes(2, "big") + place + bytes(8)
        assert demultiplexer.client(Datagram(data, raw, None)) == place
        assert demultiplexer.client(stranger(doq, data)) is None


def test_a_stranger_whose_first_datagram_is_damaged_gets_no_further_work(doq):
    demultiplexer = doq.listener.demultiplexer
    real = initial(doq)
    damaged = stranger(doq, real[:200] + bytes((real[200] ^ 1,)) + real[201:])
    before = set(doq.call(lambda: list(doq.listener.connections)))
    doq.call(demultiplexer.receive, [damaged])
    (added,) = set(doq.call(lambda: list(doq.listener.connections))) - before
    keys = added.quic._cryptos
    doq.call(demultiplexer.receive, [damaged, stranger(doq, real)])
    assert added.quic._cryptos is keys
    assert not added.quic.takes_unproven()


def test_a_client_uses_our_id_soon(doq):
    """The datagrams to the ID that it has chosen are counted."""
    demultiplexer = doq.listener.demultiplexer
    first = stranger(doq)
    before = set(doq.call(lambda: list(doq.listener.connections)))
    doq.call(demultiplexer.receive, [first])
    (added,) = set(doq.call(lambda: list(doq.listener.connections))) - before
    assert added.quic.takes_unproven()
    doq.call(demultiplexer.receive, [first] * server_connection.MOST_UNPROVEN)
    assert not added.quic.takes_unproven()


def test_an_id_that_is_too_short_is_ignored(doq):
    """RFC 9000 section 7.2."""
    packet = b"\xc0\0\0\0\1\7" + bytes(7) + b"\0\0\x44\x00" + bytes(1300)
    assert datagram(doq.address, packet) == []


def test_the_last_packet_is_no_amplification():
    farewell = _Farewell([bytes(1200)])
    assert farewell.answer(399) == []
    assert farewell.answer(400) == [bytes(1200)]


def test_a_token_of_another_address_is_as_none(doq, monkeypatch):
    monkeypatch.setattr(handshakes, "RETRY_FROM", 0)
    (retry,) = datagram(doq.address, initial(doq))
    client = QUICPeer(doq.address, doq.files.authority)
    with client:
        client.quic._peer_token = header(retry).token
        client.quic._peer_cid.cid = header(retry).source_cid
        client.send()
        assert header(client.sock.recv(2000)).packet_type is QuicPacketType.RETRY


def test_a_client_of_another_version_gets_ours(doq):
    packet, expected = probe()
    (answer,) = datagram(doq.address, packet)
    assert answer[1:].startswith(expected)
    assert header(answer).supported_versions == [1, 0x6B3343CF]


def test_a_client_may_use_version_2(doq):
    with doq.connect(original_version=0x6B3343CF) as client:
        assert rcode(client.ask(ask())) == 0


def test_a_connection_that_the_server_does_not_know_is_reset(doq, client):
    known = client.quic._peer_cid
    unknown = known.cid[:-1] + bytes((known.cid[-1] ^ 1,))
    (reset,) = datagram(doq.address, b"\x40" + unknown + bytes(60))
    assert len(reset) < 60
    assert reset[-16:] == doq.listener.demultiplexer._identifiers.reset_token(unknown)
    token = doq.listener.demultiplexer._identifiers.reset_token(known.cid)
    assert known.stateless_reset_token == token


def test_resets_are_limited(doq):
    demultiplexer = doq.listener.demultiplexer
    packet = b"\x40" + demultiplexer._relay.owner + bytes(60)

    def flood():
        answers = [demultiplexer._resets.answer(packet, bytes(12), 1e9) for _ in range(150)]
        demultiplexer._resets._since = 0.0
        return sum(answer is not None for answer in answers)

    assert doq.call(flood) == 100


@pytest.mark.parametrize(
    "data",
    [
        b"\x40" + bytes(30),
        b"\0" + bytes(60),
        b"\xc0\0\0\0\1" + bytes(60),
        b"\xc0\0\0\0\1" + bytes(1300),
        b"\x80\0\0\0\0" + bytes(1300),
        b"\xe0\0\0\0\1\4abcd\4abcd\0" + bytes(1300),
        b"\xc0\0\0\0\1\x21" + bytes(1300),
    ],
)
def test_other_datagrams_get_no_answer(doq, data):
    demultiplexer = doq.listener.demultiplexer
    demultiplexer._resets._left = 0.0
    assert datagram(doq.address, data) == []


def test_destination_ids_are_found_in_any_version():
    assert destination(b"") == destination(b"\x80\0\0") == b""
    assert destination(b"\x80\0\0\0\1\3abcdef") == b"abc"
    assert destination(b"\x40" + bytes(range(20))) == bytes(range(12))


# Addresses that change


def test_a_client_whose_port_changes_keeps_its_connection(doq, client):
    for name in ("before", "after", "later"):
        assert rcode(client.ask(ask(name))) == 0
        before = client.sock.getsockname()
        client.rebind()
        assert client.sock.getsockname() != before
    assert rcode(client.ask(ask("last"))) == 0
    client.until(lambda: newest(doq).quic._network_paths[0].is_validated)
    assert rcode(client.ask(ask("validated"))) == 0
    assert doq.answerer.peers[-1] == client.sock.getsockname()


def test_queries_have_the_address_that_the_client_has_proven(doq, client):
    client.ask(ask("before"))
    proven = client.sock.getsockname()
    client.rebind()
    client.query(ask("forged"))
    client.send()
    wait_until(lambda: len(newest(doq).quic._network_paths) == 2)
    assert doq.answerer.peers[-1] == proven


def test_a_client_uses_another_connection_id(doq, client):
    client.ask(ask("before"))
    client.until(lambda: bool(client.quic._peer_cid_available))
    before = client.quic._peer_cid.cid
    client.quic.change_connection_id()
    assert client.quic._peer_cid.cid != before
    assert rcode(client.ask(ask("after"))) == 0
    assert len(newest(doq).quic._host_cids) <= 4


@pytest.mark.parametrize("size", [8, 20])
def test_a_client_without_an_id_of_its_own_is_answered(doq, size):
    """As browsers are (RFC 9000 section 5.1), whatever the size of the first ID for us."""
    client = QUICPeer(doq.address, doq.files.authority, connection_id_length=0)
    quic: Any = client.quic
    quic._replenish_connection_ids = lambda: None  # aioquic would announce further empty ones
    quic._peer_cid.cid = quic._original_destination_connection_id = bytes(range(size))
    quic._connect(0.0)
    quic._close_at = None
    with client:
        for name in ("before", "after"):
            assert rcode(client.ask(ask(name))) == 0
            client.rebind()


# Loss


@pytest.mark.parametrize("seed", range(3))
def test_lost_and_repeated_datagrams_are_made_up_for(doq, seed):
    chance = random.Random(seed)
    with QUICPeer(doq.address, doq.files.authority, initial_rtt=0.02) as client:
        client.loses = client.misses = lambda _datagram: chance.random() < 0.2
        client.connect()
        streams = [client.query(ask(f"lossy-{index}")) for index in range(30)]
        big = client.query(ask("big"))
        assert [rcode(client.reply(stream)) for stream in streams] == [0] * 30
        assert len(client.reply(big)) > servers.BIG


@pytest.mark.parametrize("seed", range(3))
def test_datagrams_in_another_order_are_sorted(doq, seed):
    chance = random.Random(seed)
    with doq.connect() as client:
        streams = [client.query(ask(f"sorted-{index}-" + "x" * 40)) for index in range(60)]
        sent = [data for data, _ in client.quic.datagrams_to_send(time.monotonic())]
        chance.shuffle(sent)
        for data in sent + sent:
            client.sock.send(data)
        assert [rcode(client.reply(stream)) for stream in streams] == [0] * 60


# Limits


def test_memory_for_data_behind_a_gap_is_bounded(client, doq):
    """aioquic would make room for whatever offset a client sends a byte at."""
    end = 1 << 16
    for stream_id in range(0, 4 * 8, 4):
        stream = client.quic._get_or_create_stream_for_send(stream_id)
        stream.sender._buffer_start = stream.sender._buffer_stop = end
        stream.sender.highest_offset = end
        stream.sender.write(b"x")
    client.until(lambda: client.closed is not None)
    assert client.closed == 3  # FLOW_CONTROL_ERROR


def test_a_handshake_that_is_too_long_is_refused(doq):
    with QUICPeer(doq.address, doq.files.authority) as client:
        sender = client.quic._crypto_streams[Epoch.INITIAL].sender
        sender._buffer_start = sender._buffer_stop = 1 << 16
        sender._pending.subtract(0, 1 << 16)
        sender.write(b"x" * 100)
        assert client.close_code() == 0xD  # CRYPTO_BUFFER_EXCEEDED


def test_a_client_has_half_of_the_connections(tmp_path):
    with running(tmp_path) as doq:
        doq.call(lambda: doq.listener._limit.resize(4, 2))
        clients = [doq.connect() for _ in range(3)]
        assert rcode(clients[2].ask(ask())) == 0
        closed = []
        for it in clients[:2]:
            try:
                it.ask(ask())
            except ClosedError as error:
                closed.append(error.args[0])
        assert closed == [EXCESSIVE]
        for it in clients:
            it.__exit__()


def test_the_end_is_repeated_for_a_client_that_has_not_noticed(doq, client):
    client.misses = lambda _datagram: True
    client.put(b"\0")
    client.send()
    connection = newest(doq)
    wait_until(lambda: connection.quic.has_ended)
    client.misses = lambda _datagram: False
    client.query(ask())
    assert client.close_code() == 2


def test_a_connection_that_is_only_kept_alive_ends(tmp_path):
    with running(tmp_path, "timeouts {\n idle 1s\n}") as doq, doq.connect() as client:
        with suppress(ClosedError):  # on a busy machine, its time is up before it asks

            def is_closed():
                client.quic.send_ping(1)
                return client.closed is not None

            client.ask(ask())
            client.until(is_closed)
        assert client.closed == 0


def test_an_idle_connection_ends(tmp_path):
    with running(tmp_path, "timeouts {\n idle 1s\n}") as doq, doq.connect() as client:
        with suppress(ClosedError):  # on a busy machine, its time is up before it asks
            client.ask(ask())
        wait_until(lambda: not doq.call(lambda: list(doq.listener.connections)))
        assert doq.call(lambda: doq.listener.demultiplexer._by_id) == {}


@settings(max_examples=30)
@given(st.data())
def test_no_datagram_harms_the_server(doq, data):
    """Random ones, and damaged packets of a client."""
    real = initial(doq)
    at = data.draw(st.integers(0, len(real) - 1))
    damaged = real[:at] + data.draw(st.binary(max_size=40)) + real[at:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(doq.address)
        for each in (damaged, damaged[:1200], data.draw(st.binary(max_size=100))):
            sock.send(each)
    assert datagram(doq.address, probe()[0])


def test_a_proxy_states_the_client(tmp_path):
    """Each datagram begins with a header; the replies go to the proxy."""
    with running(tmp_path, "proxyproto {\n allow 127.0.0.1/32\n}") as doq:
        header_of = proxy_header("198.51.100.7", 4711)
        with QUICPeer(doq.address, doq.files.authority) as client:
            client.prefix = header_of
            assert rcode(client.ask(ask())) == 0
        identity = doq.answerer.identities[-1]
        assert host_port(identity.client) == ("198.51.100.7", 4711)
        assert doq.answerer.clients[-1] == identity.client


def proxy_header(host, port):
    """Return a header of version 2 for a datagram."""
    addresses = socket.inet_aton(host) + bytes(4) + port.to_bytes(2, "big") + bytes(2)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c" + addresses
