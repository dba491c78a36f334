"""Parse the *cancel* directive into the block's configuration (CoreDNS: plugin/cancel/cancel.go).

There is no handler: the server cancels queries (`corepy.plugin.QueryTimeout`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import QueryTimeout

if TYPE_CHECKING:
    from corepy.plugin import Controller

DEFAULT: Final = 5.001
"""Seconds: slightly more than the 5 seconds after which most clients give up."""


def setup(controller: Controller) -> None:
    """Store the time limit; if the directive is used several times, the last one counts."""
    seconds = DEFAULT
    for _ in controller.occurrences():
        seconds = DEFAULT
        for token in controller.arguments(0, 1):
            seconds = controller.duration(token)
            if seconds <= 0:
                message = f"the time limit {token.text!r} is not positive"
                hint = "use a duration such as 5s, or remove cancel for the limit of the server"
                raise controller.error(message, token, hint)
        controller.options({})
    controller.configure(QueryTimeout(seconds))
