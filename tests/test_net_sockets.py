"""Sockets that leave their group without losing a datagram, and where a socket can be reached."""

import socket
from pathlib import Path

import pytest

from corepy.net.sockets import (
    Address,
    BindError,
    address_of,
    bound,
    leave_group,
    open_all,
    open_tcp,
    open_udp,
    own_address,
)
from corepy.testing.netns import isolated, run


def ask_many(host, port, count=50):
    """Send datagrams from as many ports."""
    for number in range(count):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.sendto(b"%d" % number, (host, port))


def queued(sock):
    found = set()
    while True:
        try:
            found.add(sock.recv(99))
        except BlockingIOError:
            return found


def leaves_without_loss(host, asked):
    with open_udp(Address(host, 0)) as old:
        port = old.getsockname()[1]
        ask_many(asked, port)
        with open_udp(Address(host, port)) as new:
            assert leave_group(old)
            ask_many(asked, port)
            assert len(queued(old)) == 50
            assert len(queued(new)) == 50


@pytest.mark.parametrize(
    ("host", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("", "127.0.0.1"), ("", "127.0.0.7"), ("", "::1")],
)
def test_a_socket_that_leaves_keeps_its_queue_and_gets_no_more(host, asked):
    leaves_without_loss(host, asked)


@isolated
def test_leaving_where_ipv6_is_switched_off():
    run("sysctl", "-w", "net.ipv6.conf.all.disable_ipv6=1")
    leaves_without_loss("", "127.0.0.1")


@isolated
def test_an_address_that_is_nowhere():
    with pytest.raises(BindError, match="no interface of this host has this address"):
        open_udp(Address("192.0.2.1", 0))
    udp, tcp = open_all(Address("192.0.2.1", 0), ("udp", "tcp"))
    with udp, tcp:
        assert own_address(udp) is None
        run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
        port = udp.getsockname()[1]
        assert own_address(udp) == own_address(tcp) == ("192.0.2.1", port)


@isolated
def test_where_a_wildcard_socket_is_reached():
    with open_udp(Address("", 0)) as sock:
        port = sock.getsockname()[1]
        assert own_address(sock) == ("127.0.0.1", port)
        run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
        assert own_address(sock)[:2] == ("::1", port)
        run("ip", "addr", "flush", "dev", "lo")
        assert own_address(sock) is None
    with open_udp(Address("::", 0)) as sock:
        assert own_address(sock) is None
        run("ip", "addr", "add", "127.0.0.1/8", "dev", "lo")
        assert own_address(sock) is None
        run("ip", "addr", "add", "::1/128", "dev", "lo", "nodad")
        assert own_address(sock)[:2] == ("::1", sock.getsockname()[1])


@isolated
def test_a_link_local_address_with_its_zone():
    run("ip", "link", "add", "br0.7", "type", "bridge")
    run("ip", "link", "set", "br0.7", "addrgenmode", "none")
    run("ip", "link", "set", "br0.7", "up")
    run("ip", "addr", "add", "fe80::7/64", "dev", "br0.7", "nodad")
    with open_udp(Address("fe80::7%br0.7", 0)) as sock:
        assert own_address(sock) == sock.getsockname()
    run("ip", "link", "property", "add", "dev", "br0.7", "altname", "bridge7")
    index = socket.if_nametoindex("br0.7")
    for zone in ("br0.7", "bridge7", str(index)):
        address = Address(f"fe80::7%{zone}", 0)
        with open_udp(address) as sock:
            opened = address_of(sock)
            assert bound(Address(address.host, opened.port)) == opened
    for zone in ("nowhere", str(index + 7), "9" * 30):
        address = Address(f"fe80::7%{zone}", 53)
        assert bound(address) == address


@isolated
def test_a_port_that_the_system_chooses_has_one_socket():
    """With SO_REUSEPORT set before, Linux gives a UDP socket a port that others have already."""
    run("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40007")
    opened = [open_udp(Address("127.0.0.1", 0)) for _ in range(8)]
    try:
        assert {sock.getsockname()[1] for sock in opened} == set(range(40000, 40008))
        again = open_udp(Address(*opened[0].getsockname()))  # a second process shares it
        opened.append(again)
    finally:
        for sock in opened:
            sock.close()


@isolated
def test_a_port_that_the_system_chooses_has_no_other_server():
    """A server at all addresses would get no connection to the address of the other one."""
    run("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40001")
    with (
        open_udp(Address("127.0.0.1", 40001)),
        open_tcp(Address("127.0.0.1", 40000)),  # such as a server of HTTP
        pytest.raises(BindError, match="tcp :40000: another program"),
    ):
        open_all(Address("", 0), ("udp", "tcp"))
