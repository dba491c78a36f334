"""Telling clients apart, and which connection leaves when there are too many."""

import ipaddress
import socket
import sys

import pytest

from corepy.net import connection_limit
from corepy.net.connection_limit import SAMPLE, ConnectionLimit, Shares, client_of
from corepy.net.own_connections import connected, is_own


def raw(host, port=5353):
    """Return the sockaddr of an address as the kernel writes it."""
    packed = ipaddress.ip_address(host).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    head = int(family).to_bytes(2, sys.byteorder) + port.to_bytes(2, "big")
    return head + (packed + bytes(8) if len(packed) == 4 else bytes(4) + packed + bytes(4))


CLIENTS = [
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("192.0.2.1", "::ffff:192.0.2.1", True),
    ("2001:db8::1", "2001:db8::2", True),
    ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
    ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ("fe80::1", "fe80::2", False),
    ("fe80::1", "fe80::1", True),
    ("::1", "127.0.0.1", False),
    ("192.0.2.1", "::192.0.2.1", False),
]


@pytest.mark.parametrize("form", [raw, lambda host: (host, 53), lambda host: (host, 53, 0, 0)])
@pytest.mark.parametrize(("one", "other", "same"), CLIENTS)
def test_client_of(one, other, same, form):
    assert (client_of(form(one)) == client_of(raw(other, 1024))) is same


@pytest.mark.parametrize("address", [None, "", b"", (), ("", 0), ("no address", 53), (1, 2), 7])
def test_what_is_no_address_is_nobody(address):
    assert client_of(address) == b""


def test_a_zone_does_not_make_another_client_of_an_address():
    assert client_of(("fe80::1%eth0", 53, 0, 2)) == client_of(("fe80::1", 53))


class Fake:
    """A connection that was last used at a time of the test's."""

    def __init__(self, name, used=0.0, idle=False):
        self.name, self.last_activity, self.is_idle = name, used, idle

    def __repr__(self):
        return self.name


def taken(seats, arrivals):
    """Let clients come one after the other; return who had to leave, by name."""
    names = []
    for number, (client, idle) in enumerate(arrivals):
        evicted = seats.take(client, Fake(f"{client.decode()}{number}", float(number), idle))
        if evicted is not None:
            names.append(evicted.name)
    return names


BUSY, IDLE = False, True


@pytest.mark.parametrize(
    ("most", "of_one", "arrivals", "leavers"),
    [
        (3, 3, [(b"a", BUSY)] * 3, []),
        (3, 3, [(b"a", BUSY)] * 4, ["a0"]),
        (4, 2, [(b"a", BUSY)] * 3, ["a0"]),
        (3, 3, [(b"a", BUSY)] * 3 + [(b"b", BUSY)], ["a0"]),
        (3, 3, [(b"a", BUSY)] * 3 + [(b"b", BUSY)] * 2, ["a0", "b3"]),
        (3, 3, [(b"b", BUSY)] + [(b"a", BUSY)] * 2 + [(b"c", BUSY)], ["a1"]),
        (3, 3, [(b"b", IDLE)] + [(b"a", BUSY)] * 2 + [(b"c", BUSY)], ["a1"]),
        (3, 3, [(b"a", BUSY), (b"a", IDLE), (b"b", BUSY), (b"c", BUSY)], ["a1"]),
        (3, 3, [(b"a", BUSY), (b"b", IDLE), (b"c", BUSY), (b"d", BUSY)], ["b1"]),
        (3, 3, [(b"a", BUSY), (b"b", BUSY), (b"c", BUSY), (b"d", BUSY)], ["a0"]),
        (3, 3, [(b"a", BUSY)] * 2 + [(b"b", BUSY)] + [(b"a", BUSY)] * 2, ["a0", "a1"]),
        (1, 1, [(b"a", BUSY), (b"b", BUSY), (b"b", BUSY)], ["a0", "b1"]),
    ],
    ids=[
        "room", "own", "own, at the cap", "the greediest", "its share", "not the oldest",
        "not the idle one of another", "the idle one of the greediest", "the idle one of equals",
        "the oldest of equals", "the greedy one comes again", "one seat",
    ],
)  # fmt: skip
def test_who_leaves(most, of_one, arrivals, leavers, monkeypatch):
    monkeypatch.setattr(connection_limit, "monotonic", lambda: 1000.0)
    assert taken(ConnectionLimit(most, of_one), arrivals) == leavers


def test_one_that_has_just_come_is_not_taken_for_idle(monkeypatch):
    """Its question is on the way: else a client that keeps all its seats busy shuts itself out."""
    monkeypatch.setattr(connection_limit, "monotonic", lambda: 2.0 + connection_limit.GRACE / 2)
    arrivals = [(b"a", BUSY)] * 2 + [(b"a", IDLE)] * 2
    assert taken(ConnectionLimit(3, 3), arrivals) == ["a0"]


def test_a_seat_is_free_after_its_owner_has_left():
    seats: ConnectionLimit[Fake] = ConnectionLimit(2, 2)
    first, second, third = Fake("1"), Fake("2"), Fake("3")
    assert seats.take(b"a", first) is None
    assert seats.take(b"a", second) is None
    seats.remove(first)
    seats.remove(first)
    assert seats.take(b"b", third) is None
    assert seats.take(b"c", Fake("4")) is second


def test_a_thousand_clients_leave_nothing_behind():
    seats: ConnectionLimit[Fake] = ConnectionLimit(10, 5)
    for number in range(1000):
        seats.take(b"%d" % number, Fake("x", number))
    assert len(seats._taken) == len(seats._clients) == 10


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_questions_to_oneself_are_known_until_they_end(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            with connected(sock, listener.getsockname()):
                stream, peer = listener.accept()
                assert is_own(peer)
                assert not is_own((peer[0], peer[1] ^ 1))
                assert not is_own(None)
            assert not is_own(peer)
            stream.close()


def test_a_refused_question_to_oneself_is_an_error_and_forgotten():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
    with (
        socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock,
        pytest.raises(ConnectionRefusedError),
        connected(sock, address),
    ):
        sock.send(b"x")
    assert not is_own(("127.0.0.1", 0))


def filled(most, arrivals):
    """Let clients take places of a room until they get none; return what each has."""
    shares, taken_places = Shares(), 0
    for client in arrivals:
        if shares.take(client, most - taken_places):
            taken_places += 1
    return shares.held


@pytest.mark.parametrize(
    ("most", "arrivals", "held"),
    [
        (1000, [b"a"] * 5000, {b"a": 750}),
        (1000, [b"a"] * 5000 + [b"b"] * 5000, {b"a": 750, b"b": 188}),
        (1000, [b"a", b"b"] * 5000, {b"a": 429, b"b": 429}),
        (1000, [b"a", b"b", b"c", b"d"] * 5000, {b"a": 231, b"b": 231, b"c": 231, b"d": 231}),
        (1000, [b"a"] * 5000 + [b"x%d" % n for n in range(100)],
         {b"a": 750} | {b"x%d" % n: 1 for n in range(100)}),
        (2, [b"a"] * 5, {b"a": 2}),
        (1, [b"a", b"b"], {b"a": 1}),
        (0, [b"a"], {}),
        (1000, [b""] * 5000, {b"": 1000}),
        (1000, [b"a"] * 5000 + [b""] * 5000, {b"a": 750, b"": 250}),
    ],
    ids=["one", "one, then another", "two", "four", "one, then many", "few places", "one place",
         "no place", "the server itself", "one, then the server itself"],
)  # fmt: skip
def test_shares(most, arrivals, held):
    assert filled(most, arrivals) == held


def test_places_that_are_given_back_are_free_for_the_same_client():
    shares = Shares()
    assert [shares.take(b"a", free) for free in (4, 3, 2, 1)] == [True, True, True, False]
    shares.give_back(b"a")
    assert shares.take(b"a", 2)
    for _ in range(3):
        shares.give_back(b"a")
    assert shares.held == {}


def test_only_the_oldest_connections_are_compared_if_one_of_them_is_idle():
    seats: ConnectionLimit[Fake] = ConnectionLimit(200, 200)
    many = [Fake(str(number), 2.0, True) for number in range(200)]
    many[SAMPLE - 1].last_activity, many[150].last_activity = 1.0, 0.0
    for fake in many:
        assert seats.take(b"a", fake) is None
    assert seats.take(b"a", Fake("b")) is many[SAMPLE - 1]
    for fake in many[: SAMPLE + 1]:
        fake.is_idle = False
    assert seats.take(b"a", Fake("c")) is many[150]
