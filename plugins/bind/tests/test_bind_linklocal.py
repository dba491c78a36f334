"""A link-local address with its network interface, served for real."""

import socket

import dnslib
import pytest

from corepy.plugin import StartupError
from corepy.testing import serve
from corepy.testing.client import read_frame
from corepy.testing.netns import isolated, run


def ask(host: str, kind: socket.SocketKind) -> dnslib.DNSRecord:
    found = socket.getaddrinfo(host, 53, type=kind, flags=socket.AI_NUMERICHOST)
    query = bytes(dnslib.DNSRecord.question("example.org").pack())
    with socket.socket(socket.AF_INET6, kind) as sock:
        sock.settimeout(20)
        sock.connect(found[0][4])
        if kind == socket.SOCK_DGRAM:
            sock.send(query)
            return dnslib.DNSRecord.parse(sock.recv(4096))
        sock.sendall(len(query).to_bytes(2, "big") + query)
        return dnslib.DNSRecord.parse(read_frame(sock))


@isolated
def test_served_at_a_link_local_address() -> None:
    run("ip", "link", "add", "d0", "type", "bridge")
    run("ip", "link", "set", "d0", "up")
    run("ip", "addr", "add", "fe80::53/64", "dev", "d0", "nodad")
    for zone in ("d0", socket.if_nametoindex("d0")):
        with serve(f".:53 {{\nbind fe80::53%{zone}\nwhoami\n}}"):
            assert ask("fe80::53%d0", socket.SOCK_DGRAM).ar
            assert ask("fe80::53%d0", socket.SOCK_STREAM).ar


@isolated
def test_an_interface_that_is_not_there_is_named() -> None:
    text = ".:53 {\nbind fe80::53%wlan9\nwhoami\n}"
    with (
        pytest.raises(StartupError, match=r"fe80::53%wlan9\]:53: network interface 'wlan9'"),
        serve(text),
    ):
        pass
