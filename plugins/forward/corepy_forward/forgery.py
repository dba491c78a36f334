"""Defences against forged replies over UDP, for one upstream (RFC 5452).

They complement the checks of address, port, ID and question. Cookies (RFC 7873, RFC 9018) and the
random letter case of names are values that an off-path forger cannot know. `Proofs` verifies both
in each reply. `Guesses` counts messages that match no query in flight.
"""

from __future__ import annotations

import os
import re
from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.dns.edns import OPT_SIZE, OPTION_COOKIE, option, parse_options
from corepy.dns.form_error import FormError

if TYPE_CHECKING:
    from corepy_forward.settings import Settings

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

LOWER_CASE: Final = 900.0
"""Seconds for which names are sent in lower case to an upstream that changed the case."""

_CASE: Final = 0x20
_letter: Final = re.compile(rb"[a-z]")

MOST_GUESSES = 100
"""Messages to one port, or for one question, after which questions are sent over TCP."""

REMEMBERED: Final = 600.0
"""Seconds for which a question is sent over TCP, and after which its count starts again."""

_MOST_QUESTIONS: Final = 1024


class Cookies:
    """The client and server cookie for one upstream; times are monotonic, in seconds.

    Each query over UDP has a client cookie of eight random bytes, and the server cookie last
    received from the upstream. Once an upstream has sent a server cookie, each of its replies must
    contain the client cookie; a reply without it is not accepted, and the query is repeated over
    TCP. If that reply has no cookie either, some of the servers behind the address do not support
    cookies, and none is expected for a while.

    An echo of the client cookie without a server cookie is also proof, but creates no expectation:
    CoreDNS copies the client's option into replies from its cache, but other replies contain its
    upstream's option.

    Queries over TLS and HTTPS have no cookies, because the connection authenticates the server.
    Over TCP a forger would have to guess sequence numbers; there cookies are sent only to find out
    whether the upstream supports them.
    """

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


def with_random_case(body: bytes, question: bytes) -> bytes:
    """Return a query with its name in random case.

    An upstream that copies the name in the same case proves that it has received the query
    (draft-vixie-dnsext-dns0x20). Most upstreams do; the others are detected by a query over TCP.
    Label lengths are not affected: they are at most 63, less than the code of any letter.
    """
    start, name = 10, question[:-4]
    mixed = bytearray(body)
    bits = int.from_bytes(os.urandom(32), "big")
    for found in _letter.finditer(name):
        if bits >> found.start() & 1:
            mixed[start + found.start()] ^= _CASE
    return bytes(mixed)


def is_kept(wire: bytes, body: bytes, question: bytes) -> bool:
    """Whether the question of a reply is the same as in the query `body`, including case."""
    return wire[12 : 12 + len(question)] == body[10 : 10 + len(question)]


class Proofs:
    """The cookies and the letter case of one upstream."""

    __slots__ = ("_lower_case_until", "are_wanted", "cookies", "has_random_case")

    def __init__(self, settings: Settings, transport: str) -> None:
        """Take the transport of the upstream; TLS and HTTPS need no further proof."""
        is_plain = transport == "dns"
        self.cookies = Cookies(settings.cookies and is_plain, monotonic())
        self.has_random_case = settings.random_case and is_plain
        """Whether names are sent in random case, as long as the upstream copies it."""

        self.are_wanted = self.has_random_case
        """Whether replies have to be checked."""

        self._lower_case_until = 0.0

    def mixes_case(self, now: float) -> bool:
        """Whether names are currently sent in random case."""
        return self.has_random_case and now >= self._lower_case_until

    def given(self, options: bytes) -> bool:
        """Process the options of a reply; return whether the client cookie is among them."""
        has_cookie = self.cookies.learn(options, monotonic())
        self.are_wanted = self.has_random_case or self.cookies.is_expected
        return has_cookie

    def lacks(self, what: str) -> None:
        """Stop expecting "cookie" or "case", because a reply over TCP lacks it or TCP fails."""
        now = monotonic()
        if what == "case":
            self._lower_case_until = now + LOWER_CASE
        else:
            self.cookies.distrust(now)
        self.are_wanted = self.has_random_case or self.cookies.is_expected

    def check(self, body: bytes, question: bytes, wire: bytes) -> tuple[bytes, str]:
        """Return the reply, as `Cookies.take` does, and "cookie" or "case" if that is missing.

        `body` is the query that was sent, `question` its question section in lower case.
        """
        if self.has_random_case:
            # Case proves nothing if the name was sent in lower case, as in a probe.
            is_mixed = body[10 : 10 + len(question)] != question
            if is_mixed and not is_kept(wire, body, question):
                return wire, "case"
        cookies = self.cookies
        if cookies.is_expected:
            taken = cookies.take(wire)
            if taken is not None:
                return taken, ""
            if cookies.is_in(body):
                return wire, "cookie"
        return wire, ""


class Guesses:
    """Counts messages that match no query in flight, and may be guesses (RFC 5452 section 9.3).

    They are counted by port (in `udp`), and by question section if a query with the question of the
    message is in flight at that port. After a hundred messages the question is sent over TCP, where
    guesses have no effect: a hundred guesses of an ID succeed with a probability of 1 in 655. Times
    are monotonic, in seconds.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[bytes, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def count(self, question: bytes, now: float) -> bool:
        """Count a message; return True if the count has just reached `MOST_GUESSES`."""
        number, since = self._counts.pop(question, (0, now))
        if now - since >= REMEMBERED:
            number, since = 0, now
        number += 1
        if number == MOST_GUESSES:
            since = now
        elif len(self._counts) >= _MOST_QUESTIONS:
            del self._counts[next(iter(self._counts))]
        self._counts[question] = number, since
        return number == MOST_GUESSES

    def are_many(self, question: bytes, now: float) -> bool:
        """Whether the question is to be sent over TCP."""
        number, since = self._counts.get(question, (0, now))
        return number >= MOST_GUESSES and now - since < REMEMBERED

    def tidy(self, now: float) -> None:
        """Remove expired counts."""
        old = [key for key, (_, since) in self._counts.items() if now - since >= REMEMBERED]
        for question in old:
            del self._counts[question]
