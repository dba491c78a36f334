"""Which socket of a group gets the datagrams of one client, whose hash is always the same."""

import contextlib
import secrets
import socket

import pytest

from corepy.net.reuseport import members, share_by_hash, share_evenly
from corepy.net.sockets import Address, leave_group, open_udp

COUNT = 400
LEAST = 40
"""Of 400 datagrams, each of four sockets gets 100; 40 are seven standard deviations less."""


@contextlib.contextmanager
def group(number, host="127.0.0.1"):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(open_udp(Address(host, 0)))
        address = Address(host, first.getsockname()[1])
        yield [first, *(stack.enter_context(open_udp(address)) for _ in range(number - 1))]


def shares(socks, asked="127.0.0.1"):
    """Send datagrams from one port; return how many each of the sockets got.

    Those of other tests, for an earlier server at the port, do not count.
    """
    family = socket.AF_INET6 if ":" in asked else socket.AF_INET
    found, datagram = [0] * len(socks), secrets.token_bytes(16)
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.connect((asked, socks[0].getsockname()[1]))
        for _ in range(COUNT):
            client.send(datagram)
            for at, sock in enumerate(socks):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        found[at] += sock.recv(99) == datagram
    return found


@pytest.mark.parametrize(
    ("host", "asked"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("", "127.0.0.7"), ("", "::1")]
)
def test_each_member_gets_its_share(host, asked):
    with group(4, host) as socks:
        assert sorted(shares(socks, asked)) == [0, 0, 0, COUNT]
        assert share_evenly(socks[2], 4)
        found = shares(socks, asked)
        assert sum(found) == COUNT
        assert min(found) >= LEAST
        assert share_by_hash(socks[1])
        assert sorted(shares(socks, asked)) == [0, 0, 0, COUNT]


@pytest.mark.parametrize("leaving", range(3))
def test_a_member_that_leaves_gets_no_more(leaving):
    with group(3) as socks:
        assert share_evenly(socks[0], 3)
        assert leave_group(socks[leaving])
        found = shares(socks)
        assert (found[leaving], sum(found)) == (0, COUNT)
        socks.pop(leaving).close()
        assert share_evenly(socks[0], 2)
        found = shares(socks)
        assert sum(found) == COUNT
        assert min(found) >= LEAST


@pytest.mark.parametrize("number", [2, 4])
def test_no_datagram_is_lost_while_the_number_is_wrong(number):
    with group(3) as socks:
        assert share_evenly(socks[0], number)
        assert sum(shares(socks)) == COUNT


@pytest.mark.serial  # servers of other tests may take the same port, and then count
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
def test_the_sockets_at_an_address(host):
    with group(3, host) as socks, group(1, host):
        assert [members(it) for it in socks] == [3, 3, 3]
        assert leave_group(socks[1])
        # Connecting a wildcard socket gives it another address, which takes it out of the group.
        assert members(socks[0]) == (3 if host else 2)
        socks[1].close()
        assert members(socks[0]) == 2
    assert members(socks[0]) == 0


def test_a_socket_that_is_in_no_group():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as alone:
        alone.bind(("127.0.0.1", 0))
        assert not share_evenly(alone, 2)
        assert not share_by_hash(alone)
