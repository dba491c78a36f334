"""Addresses of clients, from real sockets and from raw sockaddrs."""

from __future__ import annotations

import socket
import struct

import pytest

from corepy.dns.address import host_port


def sockaddr_in(host: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))


def sockaddr_in6(host: str, port: int, scope: int = 0) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, host)
    family = struct.pack("=H", socket.AF_INET6)
    return family + struct.pack("!HI16s", port, 0, packed) + struct.pack("=I", scope)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("192.0.2.1", 53), ("192.0.2.1", 53)),
        (("2001:db8::1", 53, 0, 0), ("2001:db8::1", 53)),
        (("::ffff:192.0.2.1", 53, 0, 0), ("192.0.2.1", 53)),
        (("::ffff:0:1", 53, 0, 0), ("::ffff:0:1", 53)),
        (("fe80::1%eth0", 53, 0, 3), ("fe80::1%eth0", 53)),
        (("fe80::1", 53, 0, 1), ("fe80::1%lo", 53)),
        (("fe80::1", 53, 0, 99999), ("fe80::1%99999", 53)),
        (sockaddr_in("192.0.2.1", 5353), ("192.0.2.1", 5353)),
        (bytearray(sockaddr_in("192.0.2.1", 5353)), ("192.0.2.1", 5353)),
        (memoryview(sockaddr_in6("2001:db8::1", 1)), ("2001:db8::1", 1)),
        (sockaddr_in6("::ffff:192.0.2.1", 7), ("192.0.2.1", 7)),
        (sockaddr_in6("fe80::1", 7, 1), ("fe80::1%lo", 7)),
        (None, ("", 0)),
        ("", ("", 0)),
        ((), ("", 0)),
        ((1, 2), ("", 0)),
        (b"", ("", 0)),
        (sockaddr_in("192.0.2.1", 1)[:7], ("", 0)),
        (sockaddr_in6("::1", 1)[:27], ("", 0)),
        (struct.pack("=H", socket.AF_UNIX) + b"/run/x", ("", 0)),
    ],
)
def test_host_port(address: object, expected: tuple[str, int]) -> None:
    assert host_port(address) == expected


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_real_peer(family: socket.AddressFamily, host: str) -> None:
    with (
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.settimeout(30)
        server.bind((host, 0))
        client.bind((host, 0))
        client.sendto(b"x", server.getsockname())
        _, peer = server.recvfrom(1)
        assert host_port(peer) == (host, client.getsockname()[1])
