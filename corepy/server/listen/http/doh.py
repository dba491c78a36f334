"""DNS over HTTPS without a version of HTTP (RFC 8484): requests to queries, replies to responses.

The statuses are those of CoreDNS (core/dnsserver/server_https.go, plugin/pkg/doh/doh.go): 404 for
another path, 400 for a request that carries no query, 500 for a query without a reply. All other
replies have 200, whatever their rcode (RFC 8484 section 4.2.1).
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode
from re import compile as re_compile
from typing import TYPE_CHECKING, Final, NamedTuple, final
from urllib.parse import unquote, unquote_plus

from corepy.dns import FormError, HTTPFacts, Request, accept
from corepy.dns.constants import (
    FORMERR,
    HEADER_SIZE,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    TYPE_OPT,
    TYPE_SOA,
)
from corepy.dns.wire import AUTHORITY, counts, read_ttl, walk

if TYPE_CHECKING:
    from corepy.plugin.metrics import Metric, Value

    Fields = tuple[tuple[str, str], ...]

PATH: Final = "/dns-query"
MEDIA_TYPE: Final = "application/dns-message"
TEXT: Final = "text/plain; charset=utf-8"

MAX_CONTENT: Final = 65_536
"""Bytes of the content of a POST request, and of the message in the URL of a GET request."""

MAX_TARGET: Final = 2 * MAX_CONTENT
"""Characters of a request target: a message in base64, of which a few are escaped."""

_MAX_BASE64: Final = (MAX_CONTENT * 8 + 5) // 6

OK: Final = 200
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
NO_REPLY: Final = 500

DEFAULT_AGE: Final = 5
"""Seconds for which replies without a TTL, and those with an error, may be cached."""

MAX_AGE: Final = 3600
"""Seconds for which any reply may be cached."""

_TEXTS: Final = {NOT_FOUND: b"\n", BAD_REQUEST: b"invalid request\n", NO_REPLY: b"No response\n"}
_is_base64: Final = re_compile(r"[A-Za-z0-9_-]*").fullmatch
_with_scheme: Final = re_compile(r"(?i)https?://[^/?]*").match


@final
class DoHRequest:
    """A request whose content may still arrive."""

    __slots__ = ("_content", "_message", "_size", "facts", "status")

    def __init__(self, method: str, target: str, headers: Fields) -> None:
        """Take the head of a request; the names of `headers` are in lower case.

        `target` is a path with a query string (":path" in HTTP/2 and HTTP/3), or a URL.
        """
        host = _with_scheme(target)
        path, _, query = target[host.end() if host else 0 :].partition("?")
        self.facts = HTTPFacts(method, path, headers)
        self._content: list[bytes] = []
        self._size = 0
        self._message = b""
        self.status = OK
        """The status of the response if the request is refused, else 200."""
        if (unquote(path) if "%" in path else path) != PATH:
            self.status = NOT_FOUND
        elif method == "GET":
            self._message = _message_in(query)
            if not self._message:
                self.status = BAD_REQUEST
        elif method != "POST":
            self.status = BAD_REQUEST

    @property
    def takes_content(self) -> bool:
        """Whether the content is that of the query; any other content is ignored."""
        return self.status == OK and self.facts.method == "POST"

    def receive(self, content: bytes) -> None:
        """Take a piece of the content."""
        if not self.takes_content:
            return
        self._size += len(content)
        self._content.append(content)
        if self._size > MAX_CONTENT:
            self.status = BAD_REQUEST
            self._content.clear()

    def message(self) -> bytes:
        """Return the query of a complete request; empty if the request is refused.

        `status` is then that of the response.
        """
        if self.takes_content:
            self._message = b"".join(self._content)
        if self.status == OK and not is_query(self._message):
            self.status = BAD_REQUEST
        return self._message if self.status == OK else b""


def _message_in(query: str) -> bytes:
    """Return the message in a query string, empty without exactly one that can be decoded."""
    values = [value for name, _, value in _parameters(query) if unquote_plus(name) == "dns"]
    if len(values) != 1:
        return b""
    text = unquote_plus(values[0])
    # 4n + 1 characters are never base64; padding is not allowed (RFC 8484 section 6).
    if len(text) > _MAX_BASE64 or len(text) % 4 == 1 or not _is_base64(text):
        return b""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _parameters(query: str) -> list[tuple[str, str, str]]:
    return [it.partition("=") for it in query.split("&") if "dns" in it or "%" in it]


def is_query(message: bytes) -> bool:
    """Return whether there is a DNS reply to `message`: it has a header, and is not a reply."""
    return len(message) >= HEADER_SIZE and not message[2] & 0x80


class DoHResponse(NamedTuple):
    """A response, without the fields of a version of HTTP."""

    status: int
    fields: Fields
    """The fields in lower case, with the length and the date."""

    content: bytes


def response(message: bytes, reply: bytes) -> DoHResponse:
    """Return the response with the `reply` to `message`.

    It is an error if the reply is empty, because a plugin has dropped the query, and if the message
    is one that the server refuses without asking a plugin.
    """
    if not reply:
        return refusal(NO_REPLY)
    if is_refused(message, reply):
        return refusal(BAD_REQUEST)
    return DoHResponse(OK, fields(MEDIA_TYPE, len(reply), max_age(reply)), reply)


def is_refused(message: bytes, reply: bytes) -> bool:
    """Return whether `reply` comes from the server itself: no plugin was asked for `message`."""
    return reply[3] & 15 in (FORMERR, NOTIMP) and type(accept(message)) is not Request


def refusal(status: int) -> DoHResponse:
    """Return the response to a request that carries no query, or whose query got no reply."""
    text = _TEXTS[status]
    extra = ("x-content-type-options", "nosniff")
    return DoHResponse(status, (*fields(TEXT, len(text)), extra), text)


def fields(media_type: str, size: int, age: int | None = None) -> Fields:
    """Return the fields of a response whose content has `size` bytes."""
    found = (("content-type", media_type), ("content-length", str(size)), ("date", date()))
    return found if age is None else (*found, ("cache-control", f"max-age={age}"))


_date: list[tuple[int, str]] = [(0, "")]


def date() -> str:
    """Return the time of day as HTTP writes it (RFC 9110 section 5.6.7)."""
    now = int(time.time())  # time of day: for the caches of clients
    if _date[0][0] != now:
        _date[0] = now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
    return _date[0][1]


def max_age(reply: bytes) -> int:
    """Return the seconds for which HTTP caches may use `reply`.

    That is its least TTL, at most an hour (plugin/pkg/dnsutil/ttl.go): caches must not answer for
    longer than a record lives (RFC 8484 section 5.1).
    """
    try:
        return _max_age(reply)
    except FormError:
        return DEFAULT_AGE


def _max_age(reply: bytes) -> int:
    rcode = reply[3] & 15
    _, answers, authorities, _ = counts(reply)
    if rcode not in (NOERROR, NXDOMAIN):
        return DEFAULT_AGE
    ttls, is_denial = [], False
    for section, rtype, _, ttl_offset, *_ in walk(reply):
        if rtype != TYPE_OPT:
            ttls.append(read_ttl(reply, ttl_offset))
        is_denial = is_denial or (section == AUTHORITY and rtype == TYPE_SOA)
    is_referral = rcode == NOERROR and not answers and authorities > 0 and not is_denial
    if not ttls or is_referral:
        return DEFAULT_AGE
    return min(*ttls, MAX_AGE)


class ResponseCounter:
    """Counts the responses of one server by their status."""

    __slots__ = ("_children", "_label", "_metric")

    def __init__(self, metric: Metric[Value], server: str) -> None:
        """Take a metric with the labels "server" and "status"."""
        self._metric, self._label = metric, server
        self._children: dict[int, Value] = {}

    def __getitem__(self, status: int) -> Value:
        """Return the counter of responses with a status."""
        child = self._children.get(status)
        if child is None:
            child = self._children[status] = self._metric.labels(self._label, str(status))
        return child
