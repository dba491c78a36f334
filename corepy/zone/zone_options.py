"""Options that the directives of zone files have in common: *file* and *auto*."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy.plugin import Controller


def read_reload(controller: Controller) -> float:
    """Return the seconds between two checks of the files, 0 for none; raises `CorefileError`.

    As in CoreDNS, further words have no effect; there is a warning about them.
    """
    token, *surplus = controller.arguments(1)
    seconds = controller.duration(token)
    if seconds < 0:
        message = f"negative duration for reload {token.text!r}"
        raise controller.error(message, token, "0 disables the reload")
    if surplus:
        message = f"{surplus[0].text!r} is ignored: reload takes one duration"
        controller.warn(message, surplus[0])
    return seconds


def ignore_upstream(controller: Controller) -> None:
    """Ignore an option of old releases of CoreDNS."""
    controller.warn("upstream is ignored: aliases are always looked up by this server")
    controller.arguments(0)
