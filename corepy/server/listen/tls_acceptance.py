"""`TLSAcceptance`: how a listener encrypts its connections, with the latest certificate."""

from __future__ import annotations

import ssl
from time import monotonic
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from corepy.net.tls_stream import BUFFER_SIZE, TLSStream
from corepy.plugin.errors import describe
from corepy.plugin.log import server_logger

if TYPE_CHECKING:
    from corepy.net.tls_stream import SecuredProtocol
    from corepy.plugin import CertificateSource

QUIET: Final = 60.0
"""Minimum seconds between two log lines about failed handshakes of a listener."""

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

        Raises OSError if there is no usable certificate.
        """
        self._source = source
        self._protocols = protocols
        self._label = label
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._fingerprint = b""
        self._context: ssl.SSLContext
        self._quiet_until = 0.0
        self.context()

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection; raises OSError without a certificate."""
        fingerprint = self._source.fingerprint
        if fingerprint != self._fingerprint:
            self._context = _shared(self._source, self._protocols)
            self._fingerprint = fingerprint
        return self._context

    def secure(self, connection: SecuredProtocol) -> TLSStream:
        """Return the protocol for the transport of a new `connection`; raises OSError."""
        return TLSStream(connection, self.context(), self._buffer, self._failed)

    def _failed(self, peer: object, error: Exception) -> None:
        """Log a failed handshake, seldom: any client can cause one."""
        now = monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            reason = getattr(error, "reason", None) or describe(error)
            server_logger().warning(
                "%s: a TLS handshake with %s failed: %s", self._label, peer, reason
            )


def _shared(source: CertificateSource, protocols: tuple[str, ...]) -> ssl.SSLContext:
    key = source.fingerprint, protocols
    context = _contexts.get(key)
    if context is None:
        context = source.create_context()
        context.set_alpn_protocols(list(protocols))
        _contexts[key] = context
    return context
