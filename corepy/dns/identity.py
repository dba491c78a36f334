"""`Identity`: the facts about a client, apart from its address, that came with a query.

Plain DNS queries have the shared `ANONYMOUS`, so they cost nothing: the server tests for it by
identity. A transport creates one for each connection or HTTP request, and all queries of it share
it. An identity is never changed; a query with a TSIG record gets a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from corepy.dns.tsig import TSIG


class Signer(Protocol):
    """Signs the replies to one query; `corepy.dns.finishing.signed` calls it."""

    @property
    def reserved(self) -> int:
        """The number of bytes that `sign` adds to a message."""

    def applies_to(self, message: bytes) -> bool:
        """Return whether `sign` adds anything to this message."""

    def sign(self, message: bytes) -> bytes:
        """Return a complete message with its signature as the last record.

        For a reply of several messages it is called once for each, in the order of sending.
        """


@dataclass(frozen=True, slots=True)
class TLSFacts:
    """A connection's TLS parameters."""

    version: str
    """Such as "TLSv1.3"."""

    cipher: str
    """The cipher suite, such as "TLS_AES_128_GCM_SHA256"."""

    server_name: str = ""
    """The server name that the client asked for (SNI), "" without one."""

    protocol: str = ""
    """The negotiated application protocol (ALPN), such as "dot", "" without one."""

    peer_certificate: bytes | None = None
    """The client's certificate (DER), which the server has verified; None without one."""


@dataclass(frozen=True, slots=True)
class HTTPFacts:
    """The HTTP request that carried a query."""

    method: str
    path: str
    """The path without the query string."""

    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case and values, in the order of the request."""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whose `name` is in lower case; None without one."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a query's transport and its signature show about the client."""

    client: object = None
    """The client's address, as `Request.client`, if it is known not to be the peer's.

    A transport sets it for a connection that a proxy relays.
    """

    tls: TLSFacts | None = None
    """The TLS parameters of the connection; None without TLS."""

    http: HTTPFacts | None = None
    """The HTTP request; None if the query did not come over HTTP."""

    is_early_data: bool = False
    """Whether the query came as TLS early data (0-RTT), which an attacker can replay."""

    tsig: TSIG | None = None
    """The TSIG record of the query with the verdict about it; None for an unsigned query."""

    signer: Signer | None = None
    """Signs the reply, for the server only."""


ANONYMOUS: Final = Identity()
"""The identity of a plain DNS query: only its address is known."""
