"""The span of a client that a query continues, from headers of its HTTP request.

B3 in both forms (github.com/openzipkin/b3-propagation) and Trace Context (W3C, `traceparent`) are
understood. A header that does not follow the specification is ignored: the client decides what is
in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from corepy.dns.identity import HTTPFacts

_B3: Final = re.compile(
    r"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d])(?:-([0-9a-f]{16}))?)?"
)
_TRACEPARENT: Final = re.compile(
    r"(?:00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
    r"|(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?)"
)
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
_DENIED: Final = ("0", "false")


class Parent(NamedTuple):
    """A client's span."""

    trace: int
    """The ID of the trace, 0 if the client has only decided about sampling."""

    span: int = 0
    above: int = 0
    """The ID of the parent of `span`, 0 if it is not known."""

    is_sampled: bool = True
    """False if the client does not want the trace to be recorded."""


def parent_of(http: HTTPFacts) -> Parent | None:
    """Return the client's span, or None if no valid header describes one."""
    single = http.header("b3")
    if single is not None:
        return _from_single(single)
    found = _from_several(http)
    if found is None and (text := http.header("traceparent")) is not None:
        found = _from_traceparent(text)
    return found


def _from_single(text: str) -> Parent | None:
    if text == "0":
        return Parent(0, is_sampled=False)
    match = _B3.fullmatch(text)
    if match is None:
        return None
    trace, span, sampled, above = match.groups()
    return _parent(trace, span, above, is_sampled=sampled != "0")


def _from_several(http: HTTPFacts) -> Parent | None:
    is_sampled = (http.header("x-b3-sampled") or "").lower() not in _DENIED
    trace = (http.header("x-b3-traceid") or "").lower()
    span = (http.header("x-b3-spanid") or "").lower()
    if _TRACE_ID.fullmatch(trace) and _SPAN_ID.fullmatch(span):
        above = (http.header("x-b3-parentspanid") or "").lower()
        above = above if _SPAN_ID.fullmatch(above) else "0"
        return _parent(trace, span, above, is_sampled=is_sampled)
    return None if is_sampled else Parent(0, is_sampled=False)


def _from_traceparent(text: str) -> Parent | None:
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    trace, span, flags = filter(None, match.groups())
    return _parent(trace, span, "0", is_sampled=bool(int(flags, 16) & 1))


def _parent(trace: str, span: str, above: str | None, *, is_sampled: bool) -> Parent | None:
    ids = int(trace, 16), int(span, 16), int(above or "0", 16)
    return Parent(*ids, is_sampled=is_sampled) if ids[0] and ids[1] else None
