"""What shows that a reply over UDP is from the upstream, beyond address, port, ID and question."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy_forward.cookies import Cookies
from corepy_forward.lettercase import UNTRIED, is_kept

if TYPE_CHECKING:
    from corepy_forward.attempt import Attempt
    from corepy_forward.settings import Settings


class Proofs:
    """The cookies and the case of names of one upstream."""

    __slots__ = ("_lower_case_until", "are_wanted", "cookies", "has_random_case")

    def __init__(self, settings: Settings, transport: str) -> None:
        """`transport` is that of the upstream; TLS and HTTPS need no further proof."""
        is_plain = transport == "dns"
        self.cookies = Cookies(settings.cookies and is_plain, time.monotonic())
        self.has_random_case = settings.random_case and is_plain
        """Whether names are sent in random case, while the upstream keeps it."""

        self.are_wanted = self.has_random_case
        """Whether replies have to be looked at."""

        self._lower_case_until = 0.0

    def mixes_case(self, now: float) -> bool:
        """Whether names are sent in random case."""
        return self.has_random_case and now >= self._lower_case_until

    def given(self, options: bytes) -> bool:
        """Take the options of a reply; return whether our cookie is among them."""
        has_cookie = self.cookies.learn(options, time.monotonic())
        self.are_wanted = self.has_random_case or self.cookies.is_expected
        return has_cookie

    def lacks(self, what: str) -> None:
        """Expect "cookie" or "case" no longer: a reply over TCP has none, or there is no TCP."""
        now = time.monotonic()
        if what == "case":
            self._lower_case_until = now + UNTRIED
        else:
            self.cookies.distrust(now)
        self.are_wanted = self.has_random_case or self.cookies.is_expected

    def check(self, attempt: Attempt, wire: bytes) -> tuple[bytes, str]:
        """Return the reply, as `Cookies.take` does, and what it lacks or ""."""
        if self.has_random_case:
            body, question = attempt.body, attempt.owner.question
            # Case is nothing to go by where the name was sent in lower case, as that of a probe.
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
