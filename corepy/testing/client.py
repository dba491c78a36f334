"""DNS and HTTP clients for tests, with blocking sockets: one query, one reply."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from http.client import HTTPConnection
from typing import Any, NamedTuple

import dnslib

Address = tuple[str, int]


class Page(NamedTuple):
    """The response of an HTTP endpoint."""

    status: int
    text: str
    content_type: str


def query(name: str, qtype: str = "A", *, do: bool = False, edns: int = 0, **flags: Any) -> bytes:
    """Return the bytes of a query.

    `edns` is the UDP payload size to announce, in bytes (0: no EDNS, or 1232 with `do`); `flags`
    are header fields of dnslib (rd, cd, ad, opcode, ...).
    """
    record = dnslib.DNSRecord.question(name, qtype)
    for field, value in flags.items():
        setattr(record.header, field, value)
    if edns or do:
        record.add_ar(dnslib.EDNS0(flags="do" if do else "", udp_len=edns or 1232))
    return bytes(record.pack())


def reply_of(
    question: dnslib.DNSRecord,
    answer: Iterable[str] = (),
    authority: Iterable[str] = (),
    additional: Iterable[str] = (),
    rcode: int = 0,
    **flags: int,
) -> bytes:
    """Return the bytes of a reply to `question` with these records, each in zone-file form.

    RA and AA are set, unless `flags` has others: `aa=0, tc=1`.
    """
    record = question.reply()
    record.header.rcode = rcode
    for flag, value in flags.items():
        setattr(record.header, flag, value)
    for add, records in (
        (record.add_answer, answer),
        (record.add_auth, authority),
        (record.add_ar, additional),
    ):
        for text in records:
            add(*dnslib.RR.fromZone(text))
    return bytes(record.pack())


def exchange(
    address: Address, wire: bytes, *, tcp: bool = False, timeout: float = 30.0, source: str = ""
) -> bytes:
    """Send a message and return the first one received.

    `source` is the client's IP address, such as "127.0.0.2"; any of this machine by default. Raises
    TimeoutError after `timeout` seconds, and ConnectionError.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        sock.connect(address)
        if not tcp:
            sock.send(wire)
            return sock.recv(65535)
        sock.sendall(struct.pack("!H", len(wire)) + wire)
        return read_frame(sock)


def read_frame(sock: socket.socket) -> bytes:
    """Read one length-prefixed message; raises ConnectionError at the end of the stream."""
    (length,) = struct.unpack("!H", _read(sock, 2))
    return _read(sock, length)


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionError("the server closed the connection")
        data += piece
    return data


def ask(
    address: Address,
    name: str,
    qtype: str = "A",
    *,
    tcp: bool = False,
    timeout: float = 30.0,
    source: str = "",
    **question: Any,
) -> dnslib.DNSRecord:
    """Send one query (see `query`) and return the reply; raises ValueError for a wrong ID.

    See `exchange` for `tcp`, `timeout` and `source`.
    """
    wire = query(name, qtype, **question)
    answer = exchange(address, wire, tcp=tcp, timeout=timeout, source=source)
    if answer[:2] != wire[:2]:
        raise ValueError("the answer has another ID than the question")
    return dnslib.DNSRecord.parse(answer)


def http_get(port: int, path: str, *, timeout: float = 30.0, **headers: str) -> Page:
    """Send a GET to 127.0.0.1; return the page. Raises OSError or http.client.HTTPException."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        return Page(response.status, text, response.headers.get("Content-Type", ""))
    finally:
        connection.close()
