"""Parse the *reload* directive (CoreDNS: plugin/reload/setup.go)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from corepy_reload.reload import Reload

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

DEFAULT_INTERVAL = 30.0
DEFAULT_JITTER = 15.0
LEAST_INTERVAL = 2.0
LEAST_JITTER = 1.0


def setup(controller: Controller) -> None:
    """Register the hooks; files are read once the server runs."""
    interval, jitter = DEFAULT_INTERVAL, DEFAULT_JITTER
    for _ in controller.single():
        directive = controller.token
        arguments = controller.remaining_tokens()
        if len(arguments) > 2:
            raise controller.arg_error()
        if arguments:
            interval = _interval(controller, arguments[0])
        if len(arguments) > 1:
            jitter = _jitter(controller, arguments[1])
        controller.options({})
    assert directive is not None
    # The chain of imports to the directive begins in the Corefile itself.
    source = (*directive.imports, directive)[0].source
    period = interval + draw_jitter(min(jitter, interval / 2))
    controller.register(Reload(period, source.name, source.text))


def _interval(controller: Controller, token: Token) -> float:
    interval = controller.duration(token)
    if interval < LEAST_INTERVAL:
        message = f"interval value must be greater or equal to {LEAST_INTERVAL:g}s"
        raise controller.error(message, token)
    return interval


def _jitter(controller: Controller, token: Token) -> float:
    jitter = controller.duration(token)
    if jitter and jitter < LEAST_JITTER:
        message = f"jitter value must be 0 or greater or equal to {LEAST_JITTER:g}s"
        raise controller.error(message, token)
    return jitter


def draw_jitter(jitter: float) -> float:
    """Return a random number of seconds between -jitter/2 and +jitter/2, as in setup.go."""
    return jitter * (secrets.randbits(32) / (1 << 32) - 0.5)
