"""Behaviours of TCP connections, and of datagrams with TC, after which clients retry over TCP."""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import (
    Act,
    Asked,
    End,
    Pause,
    Raw,
    behaviour,
    without_tcp,
)

_MANY = tuple(f"@ 60 A 192.0.2.{number}" for number in range(1, 41))
"""Too large for 512 bytes, small enough for 1232."""

_HUGE = [b"\xc0\x0c\0\1\0\1\0\0\0<\0\4\n%c%c\1" % (n >> 8, n & 255) for n in range(3745)]
"""The records "@ 60 A 10.N.N.1" in wire form."""


def _framed(wire: bytes) -> bytes:
    return len(wire).to_bytes(2, "big") + wire


def _truncated(asked: Asked) -> bytes:
    """Return a reply with two of the 40 records, and TC (RFC 2181 section 9)."""
    return asked.reply(*_MANY[:2], flags="qr ra tc")


@behaviour
def truncates(asked: Asked) -> Iterator[Act]:
    """Truncate every datagram, and send all 40 records over TCP."""
    yield _truncated(asked) if asked.proto == "udp" else asked.reply(*_MANY)


@behaviour
def truncates_empty(asked: Asked) -> Iterator[Act]:
    """Send empty datagrams with TC, and all 40 records over TCP (RFC 7766 section 5)."""
    yield asked.reply(flags="qr ra tc") if asked.proto == "udp" else asked.reply(*_MANY)


@behaviour
def truncates_in_a_record(asked: Asked) -> Iterator[Act]:
    """Set TC and cut the datagram in the middle of a record, as old servers do."""
    yield _truncated(asked)[:-3] if asked.proto == "udp" else asked.reply(*_MANY)


@behaviour
def truncates_over_tcp(asked: Asked) -> Iterator[Act]:
    """Set TC over TCP as well."""
    yield _truncated(asked)


@without_tcp
def truncates_without_tcp(asked: Asked) -> Iterator[Act]:
    """Truncate every datagram; the TCP port is closed."""
    yield _truncated(asked)


@without_tcp
def no_tcp(asked: Asked) -> Iterator[Act]:
    """Answer correctly over UDP; the TCP port is closed."""
    yield asked.good()


@behaviour
def truncates_and_tcp_is_silent(asked: Asked) -> Iterator[Act]:
    """Truncate every datagram; over TCP, accept connections but never answer."""
    if asked.proto == "udp":
        yield _truncated(asked)


@behaviour
def truncates_and_tcp_is_reset(asked: Asked) -> Iterator[Act]:
    """Truncate every datagram; reset each TCP connection at its first query."""
    yield _truncated(asked) if asked.proto == "udp" else End.RESET


@behaviour
def truncates_and_tcp_ends_in_the_answer(asked: Asked) -> Iterator[Act]:
    """Truncate every datagram; close each TCP connection in the middle of the answer."""
    if asked.proto == "udp":
        yield _truncated(asked)
    else:
        yield Raw(_framed(asked.good())[:30])
        yield End.CLOSE


@behaviour
def tcp_is_silent(asked: Asked) -> Iterator[Act]:
    """Answer over UDP only; over TCP, accept connections but never answer."""
    if asked.proto == "udp":
        yield asked.good()


@behaviour
def tcp_is_reset(asked: Asked) -> Iterator[Act]:
    """Answer over UDP only; reset each TCP connection at its first query."""
    yield asked.good() if asked.proto == "udp" else End.RESET


@behaviour
def tcp_is_reset_once(asked: Asked) -> Iterator[Act]:
    """Reset the connection at the first query for each name, as a restarting server does."""
    yield asked.good() if asked.proto == "udp" or asked.before else End.RESET


@behaviour
def tcp_resets_in_the_answer_once(asked: Asked) -> Iterator[Act]:
    """Reset the connection in the middle of the answer to the first query for each name."""
    if asked.proto == "udp" or asked.before:
        yield asked.good()
    else:
        yield Raw(_framed(asked.good())[:30])
        yield End.RESET


@behaviour
def tcp_closes_after_each_answer(asked: Asked) -> Iterator[Act]:
    """Close the connection after each answer, as RFC 1035 servers do."""
    yield asked.good()
    yield End.CLOSE


@behaviour
def tcp_byte_by_byte(asked: Asked) -> Iterator[Act]:
    """Send each byte of a stream in its own packet, including the two bytes of the length."""
    if asked.proto == "udp":
        yield asked.good()
        return
    for byte in _framed(asked.good()):
        yield Raw(bytes((byte,)))
        yield Pause(0)


@behaviour
def tcp_empty_frame_first(asked: Asked) -> Iterator[Act]:
    """Send a message of length 0, then the answer."""
    if asked.proto != "udp":
        yield Raw(b"\0\0")
    yield asked.good()


@behaviour
def huge(asked: Asked) -> Iterator[Act]:
    """Answer with 60,000 bytes over TCP; truncate over UDP."""
    if asked.proto == "udp":
        yield _truncated(asked)
        return
    wire, end = asked.reply(), asked.question_end
    yield wire[:6] + len(_HUGE).to_bytes(2, "big") + wire[8:end] + b"".join(_HUGE) + wire[end:]


@behaviour
def larger_than_asked_for(asked: Asked) -> Iterator[Act]:
    """Send a datagram of 3,000 bytes, regardless of the size that the query allows."""
    yield asked.reply(*(f"@ 60 A 10.{n >> 8}.{n & 255}.1" for n in range(185)))
