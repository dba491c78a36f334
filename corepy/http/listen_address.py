"""Parses and resolves listen addresses, "host:port" in a Corefile."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from corepy.net.sockets import Address, BindError

if TYPE_CHECKING:
    from corepy.plugin import Controller

_MAX_PORT: Final = 65535

RESOLVE_TIMEOUT: Final = 5.0
"""Timeout of a name lookup in seconds."""


def split_address(text: str) -> tuple[str, str]:
    """Return the host ("" for all addresses) and the port of "host:port" (Go: net.SplitHostPort).

    Raise ValueError with the reason if it is invalid. The port may be the name of a service.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise ValueError(f"address {text}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"address {text}: too many colons in address")
    if "[" in host or "]" in host:
        raise ValueError(f"address {text}: unexpected bracket in address")
    return host, port


def read_address(controller: Controller, default: str) -> str:
    """Return the directive's only argument, a "host:port", or `default` without arguments.

    Raises `CorefileError`. The host is resolved when the server starts.
    """
    for argument in controller.arguments(0, 1):
        try:
            check_address(argument.text)
        except ValueError as error:
            raise controller.error(str(error), argument, f"such as {default}") from None
        return argument.text
    return default


def check_address(text: str) -> None:
    """Raise `ValueError` for an invalid "host:port"; CoreDNS reports it only at start.

    A host name is not resolved.
    """
    host, port = split_address(text)
    if port.isdecimal():
        if int(port) > _MAX_PORT:
            raise ValueError(f"address {text}: port {port} is outside 0 to {_MAX_PORT}")
    elif port:
        try:
            socket.getservbyname(port, "tcp")
        except OSError:
            raise ValueError(f"address {text}: {port!r} is neither a port nor a service") from None
    try:
        ip_address(host or "::")
    except ValueError:
        numeric = host.rpartition(".")[2].isdecimal()
        if numeric or not all(char.isalnum() or char in "-_.%:" for char in host):
            raise ValueError(f"address {text}: no IP address or host name: {host!r}") from None


async def resolve(text: str) -> Address:
    """Return the address of "host:port"; IPv4 is preferred among a name's addresses, as in Go."""
    host, service = split_address(text)
    try:
        port = int(service) if service.isdecimal() else _port_of(service)
        if not 0 <= port <= 65535:
            raise OSError(f"{port} is not a port")
        if not host:
            return Address("", port)
        try:
            return Address(str(ip_address(host)), port)
        except ValueError:
            pass
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
        reason = getattr(error, "strerror", None) or str(error) or "the name cannot be resolved"
        raise BindError(getattr(error, "errno", None), f"cannot listen on {text}: {reason}") from (
            error
        )
    families = {family: sockaddr[0] for family, _, _, _, sockaddr in reversed(found)}
    name = families.get(socket.AF_INET) or next(iter(families.values()))
    return Address(str(name), port)


def _port_of(service: str) -> int:
    return socket.getservbyname(service, "tcp") if service else 0
