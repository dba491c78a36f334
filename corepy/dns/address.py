"""Formats socket addresses, tuples or raw sockaddrs, as text."""

from __future__ import annotations

import sys
from functools import lru_cache
from socket import AF_INET, AF_INET6, if_indextoname, inet_ntop, inet_pton
from typing import Final

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
_MAPPED_TEXT: Final = "::ffff:"
_SOCKADDR_IN: Final = 16
_SOCKADDR_IN6: Final = 28


def host_port(address: object) -> tuple[str, int]:
    """Return (IP address, port) of a (host, port, ...) tuple or of a raw IPv4 or IPv6 sockaddr.

    A zone is kept (`fe80::1%eth0`), and an IPv4-mapped IPv6 address is returned as IPv4. Other
    values give ("", 0).
    """
    if isinstance(address, tuple):
        return _from_tuple(address)
    if isinstance(address, bytes | bytearray | memoryview):
        return _from_sockaddr(bytes(address))
    return "", 0


def _from_tuple(address: tuple[object, ...]) -> tuple[str, int]:
    if len(address) < 2 or not isinstance(address[0], str) or not isinstance(address[1], int):
        return "", 0
    host, port = address[0], address[1]
    if host.startswith(_MAPPED_TEXT) and "." in host:
        return host.removeprefix(_MAPPED_TEXT), port
    scope = address[3] if len(address) == 4 else 0
    if isinstance(scope, int) and scope and "%" not in host:
        host += "%" + _zone(scope)
    return host, port


def _from_sockaddr(raw: bytes) -> tuple[str, int]:
    family = int.from_bytes(raw[:2], sys.byteorder)
    port = int.from_bytes(raw[2:4], "big")
    if family == AF_INET and len(raw) >= 8:
        return _ipv4(raw[4:8]), port
    if family != AF_INET6 or len(raw) < 28:
        return "", 0
    if raw.startswith(_MAPPED, 8):
        return _ipv4(raw[20:24]), port
    host = _ipv6(raw[8:24])
    scope = int.from_bytes(raw[24:28], sys.byteorder)
    return (f"{host}%{_zone(scope)}" if scope else host), port


@lru_cache(maxsize=1024)
def _ipv4(raw: bytes) -> str:
    return "{}.{}.{}.{}".format(*raw)


@lru_cache(maxsize=1024)
def _ipv6(raw: bytes) -> str:
    return inet_ntop(AF_INET6, raw)


def _zone(scope: int) -> str:
    try:
        return if_indextoname(scope)
    except OSError:  # the interface is gone; use its number
        return str(scope)


def packed(text: str) -> bytes | None:
    """Return the bytes of an IP address without a zone; None if the text is no address."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None


def canonical(text: str) -> str | None:
    """Return an IP address as `host_port` writes it, None if the text is no address."""
    host, percent, zone = text.partition("%")
    raw = packed(host)
    if raw is None:
        return None
    raw = _unmapped(raw)
    return (_ipv4(raw) if len(raw) == 4 else _ipv6(raw)) + percent + zone


def address_bytes(address: object) -> bytes:
    """Return the IP address of a socket address in network byte order: 4 or 16 bytes.

    An IPv4-mapped IPv6 address is an IPv4 address, a zone is left out. Any value that is not the
    address of an IP socket gives b"".
    """
    if type(address) is bytes:
        if len(address) == _SOCKADDR_IN:
            return address[4:8]
        return _unmapped(address[8:24]) if len(address) == _SOCKADDR_IN6 else b""
    return _bytes_of(host_port(address)[0])


def _unmapped(raw: bytes) -> bytes:
    return raw[12:] if raw.startswith(_MAPPED) else raw


@lru_cache(maxsize=1024)
def _bytes_of(host: str) -> bytes:
    raw = packed(host.partition("%")[0])
    return b"" if raw is None else _unmapped(raw)
