"""Parses the options of *forward* for validation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from corepy.dns.names import from_text
from corepy_forward.validation.anchor import NegativeAnchor

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token
    from corepy_forward.validation.validation_settings import ValidationSettings

_USAGE: Final = "dnssec validate [FILE...]"
_UNTIL: Final = "until"


class ValidationOptions:
    """Parses the options in the block of one line."""

    def __init__(self, controller: Controller, settings: ValidationSettings) -> None:
        """Parse the tokens of `controller` into `settings`."""
        self._c = controller
        self._settings = settings

    def dnssec(self) -> None:
        """Parse `dnssec validate [FILE...]`."""
        token = self._c.token
        word, *files = self._c.arguments(1, hint=_USAGE)
        if word.text != "validate":
            raise self._c.error(f"dnssec: unknown word {word.text!r}", word, _USAGE)
        self._settings.token = token
        self._settings.files += files

    def trust_anchors_state(self) -> None:
        """Parse `trust_anchors_state FILE`."""
        self._settings.state = self._c.argument("trust_anchors_state FILE")

    def negative_trust_anchors(self) -> None:
        """Parse `negative_trust_anchors ZONE... [until DATE]`."""
        usage = "negative_trust_anchors ZONE... [until DATE]"
        tokens, until = self._c.arguments(1, hint=usage), float("inf")
        if len(tokens) > 1 and tokens[-2].text == _UNTIL:
            until = self._date(tokens[-1])
            del tokens[-2:]
        if not tokens or tokens[-1].text == _UNTIL:
            raise self._c.arg_error(hint=usage)
        for token in tokens:
            for zone in self._c.zones_of(token):
                anchor = NegativeAnchor(from_text(zone).lower(), until)
                self._settings.negative.append((anchor, token))

    def _date(self, token: Token) -> float:
        """Return a date in seconds since 1970; without a zone it is in UTC."""
        try:
            found = datetime.fromisoformat(token.text)
        except ValueError:
            hint = "a date is in UTC, such as 2030-01-31 or 2030-01-31T12:00Z"
            raise self._c.error(f"not a date: {token.text!r}", token, hint) from None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
