"""Sends one query and checks the answer: for start-up and correctness, not for load."""

from __future__ import annotations

import secrets
import socket
import time
from typing import TYPE_CHECKING

import dnslib

if TYPE_CHECKING:
    import subprocess

START_LIMIT = 20.0  # seconds until a server has to answer
RETRY = 0.1  # seconds before the first query is repeated


class AnswerError(Exception):
    """A server did not answer, or gave an answer that differs from the zone."""


def free_port() -> int:
    """Return a port that is free for UDP and TCP on every address of this host."""
    for _ in range(100):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind(("", 0))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind(("", port))
            except OSError:
                continue
            return port
    raise AnswerError("no port is free for UDP and TCP")


def ask(address: str, port: int, name: str, *, tcp: bool = False, timeout: float = RETRY) -> str:
    """Return the address that the server answers for `name`; raises `AnswerError` or `OSError`."""
    question = dnslib.DNSRecord.question(name)
    question.header.id = secrets.randbelow(65536)
    wire = bytes(question.pack())
    reply = (_over_tcp if tcp else _over_udp)(address, port, wire, timeout)
    return _address(dnslib.DNSRecord.parse(reply), question)


def wait_for_answer(
    address: str, port: int, name: str, expected: str, process: subprocess.Popen[bytes]
) -> None:
    """Repeat the query until the answer is right.

    Raises `AnswerError` after `START_LIMIT` seconds, or if `process` exits.
    """
    deadline = time.monotonic() + START_LIMIT
    problem: Exception = AnswerError("no answer")
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ask(address, port, name) == expected:
                return
        except (OSError, AnswerError) as error:
            problem = error
        time.sleep(0.001)
    raise AnswerError(f"{address}:{port} did not come up: {problem}")


def verify(address: str, port: int, name: str, expected: str) -> None:
    """Check one answer over UDP and over TCP; raises `AnswerError`."""
    for tcp in (False, True):
        transport = "TCP" if tcp else "UDP"
        try:
            answer = ask(address, port, name, tcp=tcp, timeout=5)
        except OSError as error:
            raise AnswerError(f"{address}:{port}: {name} over {transport}: {error}") from error
        if answer != expected:
            raise AnswerError(
                f"{address}:{port}: {name} over {transport}: {answer}, not {expected}"
            )


def _over_udp(address: str, port: int, wire: bytes, timeout: float) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((address, port))
        sock.send(wire)
        return sock.recv(65535)


def _over_tcp(address: str, port: int, wire: bytes, timeout: float) -> bytes:
    with (
        socket.create_connection((address, port), timeout) as sock,
        sock.makefile("rb") as stream,
    ):
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(stream.read(2), "big")
        return stream.read(length)


def _address(reply: dnslib.DNSRecord, question: dnslib.DNSRecord) -> str:
    if reply.header.id != question.header.id or reply.q != question.q:
        raise AnswerError("the reply is not to the question")
    if reply.header.rcode:
        raise AnswerError(f"rcode {dnslib.RCODE.get(reply.header.rcode)}")
    addresses = [str(record.rdata) for record in reply.rr if record.rtype == dnslib.QTYPE.A]
    if len(addresses) != 1:
        raise AnswerError(f"{len(addresses)} addresses instead of one")
    return addresses[0]
