"""Requests to a CA: one connection for each, with the response as a whole."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

import dnslib
import h11

from corepy.dns import constants as c
from corepy.dns.message import query
from corepy.dns.names import from_text
from corepy.http.http_client import parse_url
from corepy.net.server_exchange import answers, exchange_tcp, exchange_udp
from corepy.plugin import in_thread

if TYPE_CHECKING:
    import ssl

    from corepy.http.http_client import HTTPTarget

TIMEOUT: Final = 30.0
"""Seconds for a request, with the look-up of the name and all that belongs to it."""

RESOLVER_TIMEOUT: Final = 5.0
LARGEST: Final = 1 << 20
"""Bytes of a response."""

_CHUNK: Final = 16 * 1024
_TRUNCATED: Final = 0x02


class Response(NamedTuple):
    """The response to a request."""

    status: int
    headers: dict[str, str]
    """By names in lower case; of several with one name, the last."""

    body: bytes


class CAConnection:
    """Sends requests to the URLs of a CA."""

    def __init__(self, tls: ssl.SSLContext, resolver: tuple[str, int] | None = None) -> None:
        """Look names up at `resolver`, an IP address and a port; None for the system's resolver."""
        self._tls = tls
        self._resolver = resolver

    async def request(
        self, method: str, url: str, body: bytes = b"", content_type: str = ""
    ) -> Response:
        """Send a request and return the response, whichever status it has; raises OSError."""
        try:
            target = parse_url(url)
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await self._connect(target)
                try:
                    return await _exchange(reader, writer, method, target, body, content_type)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise TimeoutError(f"{url}: no response within {TIMEOUT:g} s") from None
        except (h11.RemoteProtocolError, ValueError) as error:
            raise OSError(f"{url}: {error}") from None
        except OSError as error:
            raise OSError(f"{url}: {_reason(error)}") from None

    async def _connect(
        self, target: HTTPTarget
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = self._tls if target.scheme == "https" else None
        failure = OSError("the name has no addresses")
        addresses = await self._resolve(target.host, target.port)
        for address in addresses:
            try:
                async with asyncio.timeout(TIMEOUT / (len(addresses) + 1)):
                    return await asyncio.open_connection(
                        address, target.port, ssl=tls, server_hostname=target.host if tls else None
                    )
            except TimeoutError:
                failure = OSError(f"no connection to {address}")
            except OSError as error:
                failure = error
        raise failure

    async def _resolve(self, host: str, port: int) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        if self._resolver is not None:
            found = [await _look_up(host, it, self._resolver) for it in (c.TYPE_A, c.TYPE_AAAA)]
            return [address for addresses in found for address in addresses]
        listed = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(address[0]) for *_, address in listed))


def _reason(error: OSError) -> str:
    """Return the system's text, in place of asyncio's "Connect call failed"."""
    if error.errno and (type(error) is OSError or isinstance(error, ConnectionError)):
        return os.strerror(error.errno)
    return str(error.strerror or error)


async def _look_up(host: str, qtype: int, resolver: tuple[str, int]) -> list[str]:
    """Return the addresses of a host from one name server; raises OSError or ValueError."""
    name = from_text(host.rstrip(".") + ".")
    message = query(name, qtype, ident=int.from_bytes(os.urandom(2), "big"))
    reply = await exchange_udp(message, resolver, answers(message, len(message)), RESOLVER_TIMEOUT)
    if reply[2] & _TRUNCATED:
        reply = await exchange_tcp(message, resolver, RESOLVER_TIMEOUT)
    try:
        records = dnslib.DNSRecord.parse(reply).rr
    except dnslib.DNSError:
        raise OSError("the resolver sends a malformed reply") from None
    return [str(record.rdata) for record in records if record.rtype == qtype]


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    target: HTTPTarget,
    body: bytes,
    content_type: str,
) -> Response:
    http = h11.Connection(h11.CLIENT)
    fields = [("Host", target.authority), ("User-Agent", "corepy"), ("Connection", "close")]
    if content_type:
        fields += [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    head = h11.Request(method=method, target=target.path or "/", headers=fields)
    events = (head, h11.Data(data=body), h11.EndOfMessage())
    writer.write(b"".join(http.send(event) or b"" for event in events))
    response, content, received = None, bytearray(), 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK)
            received += len(data)
            if not data and response is None:
                raise OSError("the connection was closed without a response")
            if received > LARGEST:
                raise OSError(f"the response has more than {LARGEST} bytes")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage) and response is not None:
            headers = {
                name.decode("ascii"): value.decode("latin-1") for name, value in response.headers
            }
            return Response(response.status_code, headers, bytes(content))
        elif not isinstance(event, h11.InformationalResponse):
            raise OSError("the connection was closed without a response")
