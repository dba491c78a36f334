"""DNS cookies towards one upstream (RFC 7873, RFC 9018): what a forger off the path cannot know.

Every query over UDP carries eight random bytes, and what the upstream has given us in return. An
upstream that has once answered with a cookie of its own has to send ours back every time; a reply
without it is not believed but asked for again over TCP. If it is missing there as well, some of the
servers behind the address have no cookies, and nothing is expected of it for a while.

A mere echo of our cookie proves as much, but obliges to nothing: CoreDNS sends back what the client
sent if the reply comes from its cache, and what its own upstream said if not.

Over TLS and HTTPS there are none: the connection itself shows who answers. Over TCP a forger would
have to guess sequence numbers, so they are sent there only to see whether the upstream has any.
"""

from __future__ import annotations

import os
from typing import Final

from corepy.dns.edns import OPT_SIZE, OPTION_COOKIE, option, parse_options
from corepy.dns.errors import FormError

CLIENT_SIZE: Final = 8
SERVER_SIZES: Final = range(8, 33)

RENEWED: Final = 86_400.0
"""Seconds after which our cookie becomes another one, so that it does not name us for ever."""

UNTRIED: Final = 900.0
"""Seconds for which queries go without a cookie after they seem to have failed for it."""

UNSURE: Final = 3600.0
"""Seconds for which no cookie is expected of an upstream that sent some replies without."""

_HEADER: Final = 4  # of an option
_OPT_NAME_TYPE: Final = b"\0\0\x29"
_TAIL: Final = OPT_SIZE - 2  # where it begins in an OPT record
_CODE: Final = OPTION_COOKIE.to_bytes(2, "big")
_NO_OPTIONS: Final = b"\0\0"


class Cookies:
    """See the module. Times are in monotonic seconds."""

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
        """Whether a reply without our cookie is not to be believed."""

        self._renew(now)

    def _renew(self, now: float) -> None:
        self._made = now
        self._client = os.urandom(CLIENT_SIZE)
        self._use(b"")

    def _use(self, server: bytes) -> None:
        """Send the upstream's part of the cookie from now on."""
        self._server = server
        self.option = b""
        """The option to send; empty if there is to be none."""

        if self._is_enabled and not self._untried_until:
            self.option = option(OPTION_COOKIE, self._client + server)
        self.tail = len(self.option).to_bytes(2, "big") + self.option
        """The end of an OPT record with this option and no other: its length, the option."""

    def is_in(self, wire: bytes) -> bool:
        """Whether our cookie is in a message; nobody else puts these bytes there."""
        return self._client in wire

    def take(self, wire: bytes) -> bytes | None:
        """Return a reply that has our cookie, None for one that has not.

        In the usual reply OPT is the last record and the cookie its only option: it is taken off,
        so that the reply is as quickly read as one without. Most upstreams give the same cookie
        again for at least a second.
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
        """Take the options of a reply; return whether our cookie is among them."""
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
        """Expect none for a while: some replies have it, some have not."""
        self.is_expected = False
        self._unsure_until = now + UNSURE

    def refused(self, now: float) -> None:
        """Send none for a while: a query was answered only without."""
        if not self.is_expected:
            self._untried_until = now + UNTRIED
            self._use(b"")

    def tidy(self, now: float) -> None:
        """Begin to send cookies again; change ours from time to time."""
        if self._untried_until and now >= self._untried_until:
            self._untried_until = 0.0
            self._use(b"")
        if now - self._made >= RENEWED:
            self._renew(now)
