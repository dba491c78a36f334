"""DNS cookies for one upstream (RFC 7873, RFC 9018), which an off-path forger cannot know.

Each query over UDP has a client cookie of eight random bytes, and the server cookie last received
from the upstream. Once an upstream has sent a server cookie, each of its replies must contain the
client cookie; a reply without it is not accepted, and the query is repeated over TCP. If that reply
has no cookie either, some of the servers behind the address do not support cookies, and none is
expected for a while.

An echo of the client cookie without a server cookie is also proof, but creates no expectation:
CoreDNS copies the client's option into replies from its cache, but other replies contain its
upstream's option.

Queries over TLS and HTTPS have no cookies, because the connection authenticates the server. Over
TCP a forger would have to guess sequence numbers; there cookies are sent only to find out whether
the upstream supports them.
"""

from __future__ import annotations

import os
from typing import Final

from corepy.dns.edns import OPT_SIZE, OPTION_COOKIE, option, parse_options
from corepy.dns.form_error import FormError

CLIENT_SIZE: Final = 8
SERVER_SIZES: Final = range(8, 33)

RENEWED: Final = 86_400.0
"""Seconds after which the client cookie is replaced, so that it cannot be used for tracking."""

UNTRIED: Final = 900.0
"""Seconds for which queries have no cookie after a query that probably failed because of it."""

UNSURE: Final = 3600.0
"""Seconds for which no cookie is expected from an upstream after a reply without one."""

_HEADER: Final = 4  # of an option
_OPT_NAME_TYPE: Final = b"\0\0\x29"
_TAIL: Final = OPT_SIZE - 2  # offset of RDLENGTH in an OPT record
_CODE: Final = OPTION_COOKIE.to_bytes(2, "big")
_NO_OPTIONS: Final = b"\0\0"


class Cookies:
    """The client and server cookie for one upstream; times are monotonic, in seconds."""

    __slots__ = (
        "_client",
        "_is_enabled",
        "_made",
        "_server",
        "_unsure_until",
        "_untried_until",
        "is_expected",
        "option",
        "tail",
    )

    def __init__(self, is_enabled: bool, now: float) -> None:
        self._is_enabled = is_enabled
        self._unsure_until = self._untried_until = 0.0
        self.is_expected = False
        """Whether a reply without the client cookie is to be rejected."""

        self._renew(now)

    def _renew(self, now: float) -> None:
        self._made = now
        self._client = os.urandom(CLIENT_SIZE)
        self._use(b"")

    def _use(self, server: bytes) -> None:
        """Use `server` as the server cookie in further queries."""
        self._server = server
        self.option = b""
        """The EDNS option to send; empty if queries are sent without a cookie."""

        if self._is_enabled and not self._untried_until:
            self.option = option(OPTION_COOKIE, self._client + server)
        self.tail = len(self.option).to_bytes(2, "big") + self.option
        """The end of an OPT record with only this option: RDLENGTH and the option."""

    def is_in(self, wire: bytes) -> bool:
        """Whether a message contains the bytes of the client cookie."""
        return self._client in wire

    def take(self, wire: bytes) -> bytes | None:
        """Return a reply that contains the client cookie, or None if it does not.

        In the usual reply, OPT is the last record and the cookie its only option. The cookie is
        removed then, so that parsing the reply is as fast as without one. The same cookie as in the
        query is checked first, because most upstreams repeat a server cookie for at least a second.
        """
        start = len(wire) - len(self.tail)
        if (
            self.option
            and wire.endswith(self.tail)
            and wire.startswith(_OPT_NAME_TYPE, start - _TAIL)
        ):
            return wire[:start] + _NO_OPTIONS
        return self._take_new(wire)

    def _take_new(self, wire: bytes) -> bytes | None:
        at = wire.rfind(self._client)
        if at < 0:
            return None
        start, size = at - _HEADER, len(wire) - at
        head = wire[start - OPT_SIZE : at]
        if (
            head[:3] == _OPT_NAME_TYPE
            and head[OPT_SIZE - 2 :]
            == (size + _HEADER).to_bytes(2, "big") + _CODE + size.to_bytes(2, "big")
            and size - CLIENT_SIZE in SERVER_SIZES
        ):
            server = wire[at + CLIENT_SIZE :]
            if server != self._server:
                self._use(server)
            return wire[: start - 2] + _NO_OPTIONS
        return wire

    def learn(self, options: bytes, now: float) -> bool:
        """Process the options of a reply; return whether the client cookie is among them."""
        try:
            given = [data for code, data in parse_options(options) if code == OPTION_COOKIE]
        except FormError:
            return False
        if not given or not given[0].startswith(self._client):
            return False
        server = given[0][CLIENT_SIZE:]
        if len(server) in SERVER_SIZES:
            self._use(server)
            self.is_expected = self._is_enabled and now >= self._unsure_until
        return True

    def distrust(self, now: float) -> None:
        """Expect no cookie for a while, because only some replies have one."""
        self.is_expected = False
        self._unsure_until = now + UNSURE

    def refused(self, now: float) -> None:
        """Send no cookie for a while, because a query was only answered without one."""
        if not self.is_expected:
            self._untried_until = now + UNTRIED
            self._use(b"")

    def tidy(self, now: float) -> None:
        """Send cookies again after `UNTRIED`; replace the client cookie after `RENEWED`."""
        if self._untried_until and now >= self._untried_until:
            self._untried_until = 0.0
            self._use(b"")
        if now - self._made >= RENEWED:
            self._renew(now)
