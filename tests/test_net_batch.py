"""Datagrams in batches: both implementations of the interface, against real sockets."""

import socket
import threading

import pytest

from corepy.net.batch import RECEIVE_SIZE, SEND_SIZE, SLOTS, Batch
from corepy.net.plain import PlainBatch
from corepy.net.sockets import Address, BindError, open_all, open_tcp, open_udp


@pytest.fixture(params=[Batch, PlainBatch])
def batch(request):
    return request.param()


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request):
    """A listening UDP socket and a connected client."""
    server = open_udp(Address(request.param, 0))
    client = socket.socket(server.family, socket.SOCK_DGRAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    client.settimeout(30)
    client.connect(server.getsockname())
    with server, client:
        yield server, client


def test_nothing_to_receive(batch, pair):
    assert batch.receive(pair[0]) == 0


def test_echo_through_the_batch(batch, pair):
    server, client = pair
    sent = [bytes([i]) * (i + 1) for i in range(SLOTS)]
    for data in sent:
        client.send(data)
    assert batch.receive(server) == SLOTS
    for slot in range(SLOTS):
        assert batch.payload(slot) == sent[slot]
        batch.reply(slot, sent[slot][::-1] + b"!", server)
    batch.release(SLOTS)
    assert batch.flush(server) == 0
    assert [client.recv(9999) for _ in sent] == [data[::-1] + b"!" for data in sent]


def test_slots_are_whole_again_after_release(batch, pair):
    server, client = pair
    for _ in range(3):
        client.send(b"x")
        client.send(b"y" * RECEIVE_SIZE)
        assert batch.receive(server) == 2
        assert [batch.payload(0), batch.payload(1)] == [b"x", b"y" * RECEIVE_SIZE]
        batch.release(2)


def test_only_some_slots_are_answered(batch, pair):
    server, client = pair
    for data in (b"a", b"b", b"c"):
        client.send(data)
    assert batch.receive(server) == 3
    batch.reply(2, b"to c", server)
    batch.reply(0, b"to a", server)
    batch.release(3)
    batch.flush(server)
    assert [client.recv(99), client.recv(99)] == [b"to c", b"to a"]


def test_late_replies_and_more_than_fit(batch, pair):
    server, client = pair
    client.send(b"?")
    batch.receive(server)
    address, local = batch.address(0), batch.local(0, b"\0\0")
    batch.release(1)
    replies = [f"{i}".encode() for i in range(SLOTS * 2 + 3)]
    for data in replies:
        batch.queue(data, address, local, server)
    assert batch.flush(server) == 0
    assert [client.recv(99) for _ in replies] == replies


def test_large_datagrams(batch, pair):
    server, client = pair
    client.send(b"?")
    batch.receive(server)
    large = bytes(range(256)) * 200
    assert len(large) > SEND_SIZE
    batch.reply(0, large, server)
    batch.reply(0, b"small", server)
    batch.release(1)
    assert batch.flush(server) == 0
    assert client.recv(65535) == large
    assert client.recv(65535) == b"small"


def test_one_refused_datagram_does_not_stop_the_others(batch, pair):
    server, client = pair
    client.send(b"?")
    batch.receive(server)
    address = batch.address(0)
    batch.queue(b"x" * 70000, address, None, server)
    batch.queue(b"fine", address, None, server)
    assert batch.flush(server) == 1
    assert client.recv(99) == b"fine"


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.9", "::1"])
@pytest.mark.parametrize("late", [False, True])
def test_a_wildcard_socket_answers_from_the_address_that_was_asked(batch, asked, late):
    with open_udp(Address("", 0)) as server:
        family = socket.AF_INET6 if ":" in asked else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            # Connected: the kernel drops a reply that comes from elsewhere.
            client.connect((asked, server.getsockname()[1]))
            client.send(b"?")
            assert batch.receive(server) == 1
            if late:
                local = batch.local(0, b"\0\0")
                batch.queue(b"answer", batch.address(0), local, server)
            else:
                batch.reply(0, b"answer", server)
            batch.release(1)
            assert batch.flush(server) == 0
            assert client.recv(99) == b"answer"


def test_both_protocols_get_one_port():
    udp, tcp = open_all(Address("127.0.0.1", 0), ("udp", "tcp"))
    with udp, tcp:
        assert udp.getsockname()[1] == tcp.getsockname()[1]


def test_reuse_port_lets_a_second_process_in():
    with open_udp(Address("127.0.0.1", 0)) as first:
        open_udp(Address("127.0.0.1", first.getsockname()[1])).close()


def busy_port():
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


def test_a_busy_port_is_explained():
    with busy_port() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            BindError, match=rf"cannot listen on tcp 127.0.0.1:{port}: another program"
        ):
            open_tcp(Address("127.0.0.1", port))


def test_a_foreign_address_is_explained():
    with pytest.raises(BindError, match=r"udp 192.0.2.1:0: no interface of this host"):
        open_udp(Address("192.0.2.1", 0))


def test_addresses_are_printed_as_dns_tools_do():
    assert str(Address("::1", 53)) == "[::1]:53"
    assert str(Address("127.0.0.1", 53)) == "127.0.0.1:53"


def test_a_full_socket_is_waited_for():
    """A pair of local sockets takes a few datagrams; the reader begins a moment later."""
    batch = Batch(patience=20)
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        receiver.settimeout(20)
        got: list[bytes] = []
        reader = threading.Thread(
            target=lambda: got.extend(receiver.recv(99) for _ in range(SLOTS))
        )
        for number in range(SLOTS):
            batch.queue(b"%d" % number, b"", None, sender)
        reader.start()
        assert batch.flush(sender) == 0
        reader.join()
    assert got == [b"%d" % number for number in range(SLOTS)]


def test_a_socket_that_stays_full_loses_the_rest():
    batch = Batch()
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for number in range(SLOTS):
            batch.queue(b"%d" % number, b"", None, sender)
        assert 0 < batch.flush(sender) < SLOTS


def test_what_a_full_queue_has_lost_is_counted(pair):
    """The queue is sent when it is full, and again at the end: one lost each time."""
    batch, (server, client) = Batch(), pair
    client.send(b"?")
    assert batch.receive(server) == 1
    address, large = batch.address(0), b"x" * 70000
    batch.queue(large, address, None, server)
    for _ in range(SLOTS):
        batch.queue(b"late", address, None, server)
    batch.queue(large, address, None, server)
    assert batch.flush(server) == 2
    batch.reply(0, large, server)
    for _ in range(SLOTS):
        batch.reply(0, b"reply", server)
    assert batch.flush(server) == 1
    assert batch.flush(server) == 0
    got = [client.recv(99) for _ in range(2 * SLOTS)]
    assert got == [b"late"] * SLOTS + [b"reply"] * SLOTS
    for number in range(2 * SLOTS + 1):  # it is full twice
        batch.queue(b"late" if number % SLOTS else large, address, None, server)
    assert batch.flush(server) == 3
