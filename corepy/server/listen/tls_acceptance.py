"""`TLSAcceptance`: how a listener encrypts its connections, with the latest certificate."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakValueDictionary

from corepy.dns.identity import TLSFacts
from corepy.net.own_connections import is_own
from corepy.net.sockets import Address
from corepy.net.tls_stream import TLSStream
from corepy.plugin.errors import describe
from corepy.plugin.log import server_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.net.tls_stream import SecuredProtocol
    from corepy.plugin import CertificateSource

    NameCheck = Callable[[Any, str | None, ssl.SSLContext], int | None]

QUIET: Final = 60.0
"""Minimum seconds between two log lines about failed handshakes of a listener."""

_SERVER_NAME: Final = "requested_name"
"""The attribute of an `ssl.SSLObject` with the name that the client asked for."""

_CLOSED: Final = "the client has closed the connection (it may refuse the certificate)"

_EXPLANATIONS: Final = {
    "HTTP_REQUEST": "the client does not use TLS",
    "WRONG_VERSION_NUMBER": "the client does not use TLS",
    "UNSUPPORTED_PROTOCOL": "the client has no TLS 1.2 or newer",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "client_auth demands a certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not know the issuer of the server's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client refuses the server's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client refuses the server's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client refuses the server's certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the client refuses the server's certificate",
}
"""The meaning of reasons of OpenSSL for a server."""

_contexts: WeakValueDictionary[tuple[bytes, tuple[str, ...]], ssl.SSLContext] = (
    WeakValueDictionary()
)
"""The contexts in use by fingerprint and application protocols.

Listeners share them, also those of different generations, so that a client can resume its session
after a reload: the context has the keys of session tickets.
"""


class TLSAcceptance:
    """Creates the TLS side of connections."""

    def __init__(self, source: CertificateSource, protocols: tuple[str, ...], label: str) -> None:
        """`protocols` are negotiated with ALPN; `label` identifies the listener in logs.

        The source may have no certificate yet.
        """
        self._source = source
        self._protocols = protocols
        self._label = label
        self._fingerprint = b""
        self._context: ssl.SSLContext
        self._quiet_until = 0.0
        with suppress(OSError):
            self.context()

    @property
    def is_ready(self) -> bool:
        """Whether there is a certificate."""
        try:
            self.context()
        except OSError:
            return False
        return True

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection; raises OSError without a certificate."""
        fingerprint = self._source.fingerprint
        if fingerprint != self._fingerprint:
            self._context = _shared(self._source, self._protocols)
            self._fingerprint = fingerprint
        return self._context

    def secure(self, connection: SecuredProtocol) -> asyncio.Protocol:
        """Return the protocol for the transport of a new `connection`.

        Without a certificate, it closes the transport.
        """
        try:
            context = self.context()
        except OSError as error:
            self._failed(None, error)
            return _Refusal()
        return cast("asyncio.Protocol", TLSStream(connection, context, self._failed))

    def _failed(self, peer: object, error: Exception) -> None:
        """Log a failed handshake, seldom: any client can cause one.

        The self-check has no certificate for servers that demand one.
        """
        now = monotonic()
        if now >= self._quiet_until and not is_own(peer):
            self._quiet_until = now + QUIET
            client = f" with {Address(*peer[:2])}" if isinstance(peer, tuple) else ""
            message = "%s: a TLS handshake%s failed: %s"
            server_logger().warning(message, self._label, client, _reason(error))


def _reason(error: Exception) -> str:
    """Return the reason of an error of OpenSSL, such as "http request", or any other as it is.

    An explanation follows if the words of OpenSSL alone are known to engineers of it only.
    """
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _CLOSED
    if isinstance(error, ssl.SSLError) and error.reason:
        reason = error.reason.replace("_", " ").lower()
        known = _EXPLANATIONS.get(error.reason)
        return f"{reason} ({known})" if known else reason
    return str(error) or describe(error)


class _Refusal(asyncio.Protocol):
    """Closes a connection that cannot be encrypted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


def facts(tls: ssl.SSLObject) -> TLSFacts:
    """Return the parameters of a connection after its handshake."""
    cipher = tls.cipher()
    return TLSFacts(
        tls.version() or "",
        cipher[0] if cipher else "",
        getattr(tls, _SERVER_NAME, ""),
        tls.selected_alpn_protocol() or "",
        tls.getpeercert(binary_form=True),
    )


def _keep_server_name(tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    """Keep the name that the client asks for (SNI); Python's ssl shows it to this callback only."""
    setattr(tls, _SERVER_NAME, name or "")


def _with_server_name(check: Callable[..., int | None] | None) -> NameCheck:
    """Return a callback that keeps the name, and refuses those that that of the source refuses."""
    if check is None:
        return _keep_server_name

    def keep_and_check(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        _keep_server_name(tls, name, context)
        return check(tls, name, context)

    return keep_and_check


def _shared(source: CertificateSource, protocols: tuple[str, ...]) -> ssl.SSLContext:
    key = source.fingerprint, protocols
    context = _contexts.get(key)
    if context is None:
        context = source.create_context()
        context.set_alpn_protocols(list(protocols))
        context.sni_callback = _with_server_name(context.sni_callback)
        _contexts[key] = context
    return context
