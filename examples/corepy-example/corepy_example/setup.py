"""Parse the *example* directive.

Nothing here has side effects: `corepy -check` and every reload rely on that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text, lower

from corepy_example.handler import ExampleHandler, Settings

if TYPE_CHECKING:
    from corepy.plugin import Controller

LONGEST_TEXT: Final = 255  # bytes of a character string (RFC 1035 section 3.3)
LONGEST_TTL: Final = 24 * 60 * 60


def setup(controller: Controller) -> None:
    """Add the handler."""
    settings = Settings()
    options = {
        "text": lambda: _read_text(controller, settings),
        "ttl": lambda: _read_ttl(controller, settings),
    }
    for _ in controller.single():
        _read_zones(controller, settings)
        controller.options(options)
    controller.add_handler(ExampleHandler(settings))


def _read_zones(controller: Controller, settings: Settings) -> None:
    for zone in controller.zones_from(controller.arguments()):
        try:
            settings.zones[lower(from_text(zone))] = zone
        except InvalidName as error:
            raise controller.error(f"not a zone: {error}") from None


def _read_text(controller: Controller, settings: Settings) -> None:
    words = controller.arguments(least=1)
    settings.text = " ".join(word.text for word in words)
    if len(settings.text.encode()) > LONGEST_TEXT:
        raise controller.error(f"text is longer than {LONGEST_TEXT} bytes", words[0])


def _read_ttl(controller: Controller, settings: Settings) -> None:
    token = controller.argument()
    seconds = controller.duration(token)
    if not 0 <= seconds <= LONGEST_TTL or seconds != int(seconds):
        hint = "whole seconds from 0s to 24h"
        raise controller.error(f"ttl {token.text} is not possible", token, hint)
    settings.ttl = int(seconds)
