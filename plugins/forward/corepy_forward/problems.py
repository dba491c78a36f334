"""Describes failures of attempts with the messages of Go's net package, which CoreDNS logs.

Alerts and the patterns of *errors* match these messages: `^read udp .* i/o timeout$`, `connect:
connection refused$`. A reason is the part after the address in Go's message, with the system call
in front if one failed ("connect: connection refused"). `go_error` returns the whole line, with
corepy's details between its beginning and its end.
"""

from __future__ import annotations

import errno
import os
import ssl

NO_REPLY = "i/o timeout"
NOT_CONNECTED = "dial: i/o timeout"
NO_HEALTHY = "no healthy proxies"
CLOSED = "EOF"
MALFORMED = "malformed reply"
OTHER_QUESTION = "reply to another question"
TOO_LARGE = "reply is too large"
HTTP_STATUS = "HTTP status "
NO_COOKIE_SENT = "answered BADCOOKIE to a query without a cookie"

_OF_REPLIES = (MALFORMED, OTHER_QUESTION, TOO_LARGE, HTTP_STATUS, NO_COOKIE_SENT)

_OPERATIONS = {"connect": "dial", "dial": "dial", "remote error": "dial", "tls": "dial"}
_OPERATIONS["write"] = "write"

_UNVERIFIED = "tls: failed to verify certificate"
_UNKNOWN_AUTHORITY = frozenset((2, 18, 19, 20, 21))
"""OpenSSL's codes (X509_V_ERR_*) for a chain without a trusted authority."""

_TLS_REASONS = {
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "remote error: tls: handshake failure",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
    "TLSV1_UNRECOGNIZED_NAME": "remote error: tls: unrecognized name",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "remote error: tls: certificate required",
}


def explain(error: Exception, call: str) -> str:
    """Return the reason for an error of TLS or of the system call `call`."""
    if isinstance(error, TimeoutError) and not error.errno:
        return NO_REPLY
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    if isinstance(error, ssl.SSLError):
        return _TLS_REASONS.get(error.reason or "", f"tls: {error.reason or error}".lower())
    number: int = getattr(error, "errno", None) or 0
    if number in errno.errorcode:
        return f"{call}: {os.strerror(number).lower()}"  # asyncio's texts differ from these
    if isinstance(error, OSError) and error.strerror:  # getaddrinfo's numbers are negative
        return f"{call}: {error.strerror.lower()}"
    return (str(error) or type(error).__name__).lower()


def is_of_reply(reason: str) -> bool:
    """Whether the upstream sent a reply, though an unusable one."""
    return reason.startswith(_OF_REPLIES)


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    detail = f"certificate verify failed: {error.verify_message}".lower()
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return f"{_UNVERIFIED} ({detail}): x509: certificate signed by unknown authority"
    return f"{_UNVERIFIED}: x509: {detail}"


def go_error(address: str, proto: str, reason: str, detail: str) -> str:
    """Return a line such as "read udp 192.0.2.1:53 (attempt 1 of 4, 2.001s): i/o timeout"."""
    operation = _OPERATIONS.get(reason.partition(": ")[0], "read")
    network = "udp" if proto == "udp" else "tcp"
    over = "" if proto == network else f"over {proto}, "
    return f"{operation} {network} {address} ({over}{detail}): {reason.removeprefix('dial: ')}"
