"""Parse the *https3* directive into the block's configuration (CoreDNS: plugin/https3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import HTTPS3Limits

if TYPE_CHECKING:
    from corepy.plugin import Controller

OPTIONS: Final = ("max_streams", "max_connections")


def setup(controller: Controller) -> None:
    """Store the limits; each may be given once, also in several occurrences."""
    limits: dict[str, int] = {}
    for _ in controller.occurrences():
        controller.arguments(0, 0)
        while controller.next_block():
            option = controller.token
            if option is None or option.text not in OPTIONS:
                raise controller.unknown_option(OPTIONS)
            number = _not_negative(controller, option.text)
            if option.text in limits:
                message = f"{option.text} already defined for this server block"
                raise controller.error(message, option)
            limits[option.text] = number
    controller.configure(HTTPS3Limits(**limits))


def _not_negative(controller: Controller, option: str) -> int:
    token = controller.argument()
    number = controller.integer(token)
    if number < 0:
        message = f"{option} must be a non-negative integer: {number}"
        raise controller.error(message, token)
    return number
