"""The requests and responses of DNS over HTTPS (RFC 8484), for any version of HTTP.

The message ID is 0, as section 4.1 recommends for HTTP caches.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from corepy_forward.attempt import answers, is_bare
from corepy_forward.failures import HTTP_STATUS, NOT_DNS, OTHER_QUESTION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy_forward.attempt import Attempt
    from corepy_forward.streams import StreamPool

MOST_MESSAGE: Final = 65535
"""Size of the largest DNS message."""

HEADERS: Final = (b":status", b"content-type")
"""The headers of a response that count."""

_TYPE: Final = "application/dns-message"
_LONGEST_TYPE: Final = 80


class RequestForm:
    """The HTTP requests for the queries to one upstream."""

    def __init__(self, pool: StreamPool) -> None:
        settings, target = pool.upstream.settings, pool.upstream.target
        self._with_get = settings.doh_method == "GET"
        self._path = target.path
        name = target.authority or settings.tls_servername or target.server_name or target.address
        self.authority = name if target.port == 443 or ":" in name else f"{name}:{target.port}"

    def request(self, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
        """Return the headers and the body of the request for a query without its ID."""
        wire = b"\0\0" + body
        path, method = self._path, "POST"
        if self._with_get:
            encoded = base64.urlsafe_b64encode(wire).rstrip(b"=").decode()
            path, method = f"{path}?dns={encoded}", "GET"
        headers = [
            (":method", method),
            (":scheme", "https"),
            (":authority", self.authority),
            (":path", path),
            ("accept", _TYPE),
        ]
        if self._with_get:
            return headers, b""
        return [*headers, ("content-type", _TYPE), ("content-length", str(len(wire)))], wire


def take_response(
    attempt: Attempt, headers: Mapping[bytes, bytes], wire: bytes, now: float
) -> None:
    """Process the complete HTTP response to a query; `headers` may have more than `HEADERS`.

    A reply of another media type is used, since CoreDNS uses it, but a captive portal's page is not
    reported as a reply.
    """
    status, media_type = (headers.get(name, b"").decode("ascii", "replace") for name in HEADERS)
    if status != "200":
        attempt.upstream.broke(attempt, HTTP_STATUS + status)
    elif media_type.partition(";")[0].strip().lower() == _TYPE or _fits(wire, attempt):
        take_message(attempt, wire, now)
    else:
        attempt.upstream.broke(attempt, f"{NOT_DNS}: content-type {media_type[:_LONGEST_TYPE]!r}")


def take_message(attempt: Attempt, wire: bytes, now: float) -> None:
    """Process the message on the stream of a query, which is the reply unless it is at fault."""
    if _fits(wire, attempt):
        attempt.upstream.arrived(attempt, wire, now)
    else:
        attempt.upstream.dropped("question")
        attempt.upstream.broke(attempt, OTHER_QUESTION)


def _fits(wire: bytes, attempt: Attempt) -> bool:
    return answers(wire, attempt) or is_bare(wire, attempt)
