"""Parse the *local* directive (CoreDNS: plugin/local/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy_local.local import Local

if TYPE_CHECKING:
    from corepy.plugin import Controller

_SWITCH: Final = {"on": True, "off": False}


def setup(controller: Controller) -> None:
    """Add one handler for all *local* directives of the block; the last option counts."""
    handler = Local()

    def localhost_prefix() -> None:
        token = controller.argument()
        if token.text not in _SWITCH:
            message = f"localhost_prefix is 'on' or 'off', not {token.text!r}"
            raise controller.error(message, token)
        handler.with_prefix = _SWITCH[token.text]

    for _ in controller.occurrences():
        controller.arguments(0, 0)
        controller.options({"localhost_prefix": localhost_prefix})
    controller.add_handler(handler)
