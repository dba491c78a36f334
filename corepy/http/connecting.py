"""Connects to HTTP servers: resolves the name, tries its addresses, and begins TLS if need be.

Servers may also listen on sockets of the Unix domain.
"""

from __future__ import annotations

import asyncio
import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from corepy.plugin import in_thread

if TYPE_CHECKING:
    import ssl

    Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)
"""The kernel ends a connection whose peer is gone within about a minute."""


async def connect(
    host: str, port: int, timeout: float, tls: ssl.SSLContext | None, server_name: str | None = None
) -> Streams:
    """Return a connection to a host, over TLS with `tls`.

    `server_name` is the name in the certificate, by default the host. All addresses of the host are
    tried within `timeout` seconds. Raises `OSError` with a text for the operator.
    """
    addresses = await resolve(host, port)
    failure: OSError = ConnectionError("the name has no addresses")
    name = _checked(server_name or host) if tls is not None else None
    for address in addresses:
        try:
            async with asyncio.timeout(timeout / (len(addresses) + 1)):
                return await asyncio.open_connection(address, port, ssl=tls, server_hostname=name)
        except TimeoutError:
            failure = TimeoutError(f"no connection to {address}")
        except OSError as error:
            failure = without_address(error)
    raise failure


def _checked(name: str) -> str:
    """Return a name that TLS accepts; raises OSError before a socket is open, which would leak."""
    try:
        name.encode("idna")
    except UnicodeError:
        raise OSError(f"{name!r} is not a host name") from None
    return name


async def connect_unix(path: str, timeout: float) -> Streams:
    """Return a connection to the socket of the Unix domain with this path.

    Raises `OSError` with a text for the operator.
    """
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.open_unix_connection(path)
    except TimeoutError:
        raise TimeoutError(f"no connection to {path}") from None
    except OSError as error:
        raise without_address(error) from None


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Make the kernel probe an idle connection, so that the loss of the peer ends it."""
    sock = writer.get_extra_info("socket")
    for level, option, value in _KEEPALIVE:
        sock.setsockopt(level, option, value)


def without_address(error: OSError) -> OSError:
    """Return an error with the system's text, in place of asyncio's "Connect call failed"."""
    if error.errno and (type(error) is OSError or isinstance(error, ConnectionError)):
        return OSError(error.errno, os.strerror(error.errno))
    if isinstance(error, ConnectionError) and not str(error):  # asyncio gives no reason
        return ConnectionError("the connection was closed during the TLS handshake")
    return error  # such as an error of TLS, whose number is another one


async def resolve(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host; raises `OSError`."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    try:
        found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except UnicodeError:
        raise OSError(f"{host!r} is not a host name") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
