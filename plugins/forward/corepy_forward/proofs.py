"""Verifies by cookie and letter case that a reply over UDP comes from the upstream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy_forward.cookies import Cookies
from corepy_forward.lettercase import UNTRIED, is_kept

if TYPE_CHECKING:
    from corepy_forward.attempt import Attempt
    from corepy_forward.settings import Settings


class Proofs:
    """The cookies and the letter case of one upstream.

    They complement the checks of address, port, ID and question.
    """

    __slots__ = ("_lower_case_until", "are_wanted", "cookies", "has_random_case")

    def __init__(self, settings: Settings, transport: str) -> None:
        """Take the transport of the upstream; TLS and HTTPS need no further proof."""
        is_plain = transport == "dns"
        self.cookies = Cookies(settings.cookies and is_plain, time.monotonic())
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
        has_cookie = self.cookies.learn(options, time.monotonic())
        self.are_wanted = self.has_random_case or self.cookies.is_expected
        return has_cookie

    def lacks(self, what: str) -> None:
        """Stop expecting "cookie" or "case", because a reply over TCP lacks it or TCP fails."""
        now = time.monotonic()
        if what == "case":
            self._lower_case_until = now + UNTRIED
        else:
            self.cookies.distrust(now)
        self.are_wanted = self.has_random_case or self.cookies.is_expected

    def check(self, attempt: Attempt, wire: bytes) -> tuple[bytes, str]:
        """Return the reply, as `Cookies.take` does, and "cookie" or "case" if that is missing."""
        if self.has_random_case:
            body, question = attempt.body, attempt.owner.question
            # Case proves nothing if the name was sent in lower case, as in a probe.
            is_mixed = body[10 : 10 + len(question)] != question
            if is_mixed and not is_kept(wire, body, question):
                return wire, "case"
        cookies = self.cookies
        if cookies.is_expected:
            taken = cookies.take(wire)
            if taken is not None:
                return taken, ""
            if cookies.is_in(attempt.body):
                return wire, "cookie"
        return wire, ""
