"""Headers of the PROXY protocol: the specification's forms, malformed ones, and any bytes."""

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.address import host_port
from corepy.net.proxy_header import (
    MAX_HEADER,
    SIGNATURE_2,
    ProxyHeaderError,
    crc32c,
    header_length,
    stated_client,
    without_header,
)

IPV4 = bytes((198, 51, 100, 7, 192, 0, 2, 1)) + struct.pack("!HH", 4000, 53)
IPV6 = b"".join(socket.inet_pton(socket.AF_INET6, it) for it in ("2001:db8::7", "2001:db8::1"))
IPV6 += struct.pack("!HH", 4000, 53)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")


def version_2(body=IPV4, command=0x21, kind=0x11):
    return SIGNATURE_2 + bytes((command, kind)) + struct.pack("!H", len(body)) + body


def field(kind, value):
    return bytes((kind,)) + struct.pack("!H", len(value)) + value


def with_checksum(body, fields=b"", flip=0):
    header = version_2(body + fields + field(3, bytes(4)))
    return header[:-4] + struct.pack("!I", crc32c(header) ^ flip)


def test_the_checksum_is_crc_32c():
    """RFC 3720 appendix B.4."""
    vectors = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    assert {data: crc32c(data) for data in vectors} == vectors


GOOD = {
    "TCP4": (b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 53\r\n", ("198.51.100.7", 4000)),
    "TCP4, last port": (b"PROXY TCP4 0.0.0.0 0.0.0.0 65535 0\r\n", ("0.0.0.0", 65535)),
    "TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 53\r\n", ("2001:db8::7", 4000)),
    "TCP6, mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4000 53\r\n", ("192.0.2.7", 4000)),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "UNKNOWN with addresses": (b"PROXY UNKNOWN " + b"f" * 89 + b" 1\r\n", None),
    "version 2, IPv4": (version_2(), ("198.51.100.7", 4000)),
    "version 2, IPv6": (version_2(IPV6, kind=0x21), ("2001:db8::7", 4000)),
    "UNIX": (version_2(UNIX, kind=0x31), None),
    "LOCAL": (version_2(b"", 0x20, 0), None),
    "LOCAL with addresses": (version_2(IPV4, 0x20), None),
    "LOCAL with an unknown family": (version_2(b"any bytes", 0x20, 0x77), None),
    "UNSPEC": (version_2(b"any bytes", kind=0), None),
    "fields": (version_2(IPV4 + field(4, b"") + field(0xEA, b"x" * 999)), ("198.51.100.7", 4000)),
    "checksum": (with_checksum(IPV4), ("198.51.100.7", 4000)),
    "checksum after fields": (with_checksum(IPV4, field(1, b"h2")), ("198.51.100.7", 4000)),
    "longest": (
        version_2(IPV4 + field(4, bytes(MAX_HEADER - 16 - 12 - 3))),
        ("198.51.100.7", 4000),
    ),
}


@pytest.mark.parametrize(("header", "client"), GOOD.values(), ids=GOOD)
def test_a_header_and_its_client(header, client):
    assert header_length(header) == header_length(header + b"more") == len(header)
    stated = stated_client(header)
    assert (None if stated is None else host_port(stated)) == client
    assert without_header(header + b"more") == b"more"


@pytest.mark.parametrize("header", [it for it, _ in GOOD.values()], ids=GOOD)
def test_a_header_that_is_not_complete(header):
    """Its length is unknown, or more than there is: no part is mistaken for a message."""
    for end in range(min(len(header), 200)):
        length = header_length(header[:end])
        assert length is None or length == len(header)
        assert without_header(header[:end]) is None


BAD = {
    "no addresses": b"PROXY TCP4\r\n",
    "unknown protocol": b"PROXY UDP4 198.51.100.7 192.0.2.1 4000 53\r\n",
    "two spaces": b"PROXY TCP4  198.51.100.7 192.0.2.1 4000 53\r\n",
    "another word": b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 53 1\r\n",
    "another family": b"PROXY TCP4 2001:db8::7 2001:db8::1 4000 53\r\n",
    "IPv4 as IPv6": b"PROXY TCP6 198.51.100.7 192.0.2.1 4000 53\r\n",
    "short address": b"PROXY TCP4 198.51.100 192.0.2.1 4000 53\r\n",
    "zone": b"PROXY TCP6 fe80::1%eth0 2001:db8::1 4000 53\r\n",
    "bad destination": b"PROXY TCP4 198.51.100.7 there 4000 53\r\n",
    "large port": b"PROXY TCP4 198.51.100.7 192.0.2.1 65536 53\r\n",
    "long port": b"PROXY TCP4 198.51.100.7 192.0.2.1 000004000 53\r\n",
    "leading zero": b"PROXY TCP4 198.51.100.7 192.0.2.1 04000 53\r\n",
    "negative port": b"PROXY TCP4 198.51.100.7 192.0.2.1 -1 53\r\n",
    "bad port of the destination": b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 x\r\n",
    "no word": b"PROXY \r\n",
    "version 1 of version 2": version_2(command=0x11),
    "unknown command": version_2(command=0x22),
    "unknown family": version_2(kind=0x41),
    "unknown protocol of version 2": version_2(kind=0x13),
    "datagram at a connection": version_2(kind=0x12),
    "addresses cut off": version_2(IPV4[:-1]),
    "IPv6 cut off": version_2(IPV4, kind=0x21),
    "UNIX cut off": version_2(UNIX[:-1], kind=0x31),
    "field cut off": version_2(IPV4 + field(4, b"xy")[:-1]),
    "field without length": version_2(IPV4 + b"\4\0"),
    "wrong checksum": with_checksum(IPV4, flip=1),
    "short checksum": version_2(IPV4 + field(3, b"\0\0")),
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD)
def test_a_malformed_header(header):
    assert header_length(header) == len(header)
    with pytest.raises(ProxyHeaderError):
        stated_client(header)


@pytest.mark.parametrize(
    "header",
    [b"PROXY UNKNOWN " + bytes(107 - 14), version_2(bytes(MAX_HEADER - 15))],
    ids=["version 1", "version 2"],
)
def test_a_header_that_is_too_long(header):
    with pytest.raises(ProxyHeaderError):
        header_length(header)
    assert without_header(header) is None


def test_the_longest_line():
    line = b"PROXY UNKNOWN " + b" " * (107 - 16) + b"\r\n"
    assert (len(line), header_length(line)) == (107, 107)
    with pytest.raises(ProxyHeaderError):
        header_length(line[:-1] + b" ")


def test_headers_at_datagrams():
    stated = stated_client(version_2(IPV6, kind=0x22), is_datagram=True)
    assert host_port(stated) == ("2001:db8::7", 4000)
    assert stated_client(version_2(b"", 0x20, 0), is_datagram=True) is None
    for header in (version_2(), GOOD["TCP4"][0]):
        with pytest.raises(ProxyHeaderError):
            stated_client(header, is_datagram=True)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\x1dquery",
        b"\x16\3\1",
        b"PRI * HTTP/2.0\r\n",
        b"POST /",
        b"\r\n\r\n\0\r\nQUIX",
        b"PROXYZ",
    ],
    ids=["DNS", "TLS", "HTTP/2", "HTTP/1.1", "almost version 2", "almost version 1"],
)
def test_data_of_other_protocols(data):
    assert header_length(data) == 0
    assert without_header(data) == data


PREFIXES = st.sampled_from(
    [b"", SIGNATURE_2, SIGNATURE_2 + b"\x21\x11\0", SIGNATURE_2 + b"\x21\x21\0", b"PROXY TCP4 "]
)


@given(PREFIXES, st.binary(max_size=300), st.booleans())
def test_any_bytes(prefix, rest, is_datagram):
    data = prefix + rest
    with suppress(ProxyHeaderError):
        length = header_length(data)
        if length and length <= len(data):
            client = stated_client(data[:length], is_datagram=is_datagram)
            assert client is None or host_port(client)[0]
