"""The reasons for which connections over QUIC end, in the words of other transports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy_forward.failures import CLOSED

if TYPE_CHECKING:
    from aioquic.quic.events import ConnectionTerminated

_NO_ERROR: Final = 0x0
_CRYPTO_ERROR: Final = range(0x100, 0x200)
_ALERTS: Final = {
    0x100 + 42: "tls: failed to verify certificate",
    0x100 + 45: "tls: failed to verify certificate",
    0x100 + 40: "remote error: tls: handshake failure",
    0x100 + 116: "remote error: tls: certificate required",
    0x100 + 120: "remote error: tls: no application protocol",
}
"""Alerts of TLS (RFC 8446 section 6), by error code (RFC 9001 section 4.8)."""


def reason_of(event: ConnectionTerminated, no_error: int) -> str:
    """Return why a connection has ended: a fault of TLS, or an error code.

    `no_error` is the code with which a server of the protocol ends it without a fault.
    """
    text = event.reason_phrase.lower()
    if event.frame_type is not None and event.error_code in _CRYPTO_ERROR:
        reason = _ALERTS.get(event.error_code, "tls")
        name, mismatch, _ = text.removeprefix("hostname ").partition(" doesn't match ")
        if mismatch:  # representations of Python objects follow; these are OpenSSL's words
            text = f"hostname mismatch, certificate is not valid for {name}"
        return f"{reason}: {text}" if text else reason
    if event.error_code in (_NO_ERROR, no_error):
        return CLOSED
    return f"connection closed by error {event.error_code:#x}" + (f" ({text})" if text else "")
