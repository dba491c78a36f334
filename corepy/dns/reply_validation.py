"""Validates a plugin's reply to a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy.dns.constants import HEADER_SIZE, MAX_SIZE
from corepy.dns.edns import parse_options
from corepy.dns.form_error import FormError
from corepy.dns.reply import NO_COUNTERS, NOT_SET, Reply

if TYPE_CHECKING:
    from corepy.dns.message import Request

_QR: Final = 0x80
_ONE_QUESTION: Final = b"\0\1"
_SECONDS: Final = frozenset((float, int))
NO_OPTIONS: Final = b""
"""CPython has one empty bytes object, so that identity is the fastest test for no options."""


def reply_problem(request: Request, reply: Any) -> str | None:
    """Return why `reply` is not a valid reply to `request`, or None if it is.

    The message's ID is ignored, because the query's ID is always sent. The message is checked
    unless it has already been validated as a reply to this question.
    """
    if type(reply) is not Reply:
        return f"returned {type(reply).__name__} instead of a Reply"
    if (
        reply.validated is not reply.wire
        or reply.validated_for is not request.asked
        or reply.options is not NO_OPTIONS
    ):
        problem = _message_problem(request, reply)
        if problem is not None:
            return problem
    if (
        reply.deadline is None
        and reply.since == NOT_SET
        and reply.hit_counters is NO_COUNTERS
        and reply.extended_rcode == 0
    ):
        return None  # the usual case, tested by identity
    if (
        (reply.deadline is None or type(reply.deadline) in _SECONDS)
        and type(reply.since) in _SECONDS
        and type(reply.extended_rcode) is int
        and 0 <= reply.extended_rcode <= 255
        and type(reply.hit_counters) is tuple
    ):
        return None
    return _value_problem(reply)


def _message_problem(request: Request, reply: Reply) -> str | None:
    wire, end = reply.wire, request.question_end
    if type(wire) is not bytes or type(reply.options) is not bytes:
        return "returned a reply that is not made of bytes"
    if wire[4:6] != _ONE_QUESTION or not wire[2] & _QR or not end <= len(wire) <= MAX_SIZE:
        return "returned a reply that is not a response message"
    asked, said = request.wire[HEADER_SIZE:end], wire[HEADER_SIZE:end]
    if said != asked and (said[:-4].lower() != request.name_wire or said[-4:] != asked[-4:]):
        return "returned a reply to a different question"
    try:
        if reply.validated is not wire:
            reply.ttl_offsets  # noqa: B018 - parses the records once
        if reply.options:
            parse_options(reply.options)
    except FormError as error:
        return f"returned a malformed reply: {error}"
    reply.validated, reply.validated_for = wire, request.asked
    return None


def _value_problem(reply: Reply) -> str:
    if type(reply.hit_counters) is not tuple:
        return "set the hit counters of its reply to a value that is not a tuple"
    if type(reply.extended_rcode) is not int or not 0 <= reply.extended_rcode <= 255:
        return "set an rcode that is out of range"
    return "set a time of its reply to a value that is not in seconds"
