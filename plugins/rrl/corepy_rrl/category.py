"""Finds the category of a response, which selects its account and its rate.

As BIND's response rate limiting and github.com/coredns/rrl (plugins/rrl/rrl.go): an attacker must
not get more responses by varying names that do not exist, or queries that are errors.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import NOERROR, NXDOMAIN, TYPE_NS
from corepy.dns.names import InvalidName, from_text, lower
from corepy.dns.wire import AUTHORITY, read_name, walk

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

_WILDCARD: Final = "zone/wildcard"
"""The label of metadata with the wildcard that a response was made from."""


class Category(IntEnum):
    """The kind of a response."""

    RESPONSE = 0
    NODATA = 1
    NXDOMAIN = 2
    REFERRAL = 3
    ERROR = 4


Token = tuple[int, int, bytes]
"""Category, type and name: responses to one network with equal ones share an account."""


def token_of(request: Request, reply: Reply) -> Token:
    """Return what the responses of an account have in common; raises FormError."""
    if reply.ancount:
        return Category.RESPONSE, request.qtype, _name(request)
    rcode = reply.rcode
    if rcode == NXDOMAIN:
        return Category.NXDOMAIN, 0, _first_authority(reply)[0]
    if rcode != NOERROR:
        return Category.ERROR, 0, b""
    owner, rtype = _first_authority(reply)
    if rtype == TYPE_NS:
        return Category.REFERRAL, request.qtype, owner
    return Category.NODATA, 0, _name(request)


def _name(request: Request) -> bytes:
    """Return the name of the query, or the name below which a wildcard has answered it."""
    wildcard = request.metadata.get(_WILDCARD) if request.metadata else None
    if wildcard is not None:
        try:
            return lower(from_text(wildcard.removeprefix("*.") or "."))
        except InvalidName:
            pass  # the plugin that has set it
    return request.name_wire


def _first_authority(reply: Reply) -> tuple[bytes, int]:
    """Return owner and type of the first authority record; (b"", 0) without one."""
    wire = reply.wire
    for section, rtype, _, _, _, _, owner, _ in walk(wire):
        if section == AUTHORITY:
            return lower(read_name(wire, owner)[0]), rtype
    return b"", 0
