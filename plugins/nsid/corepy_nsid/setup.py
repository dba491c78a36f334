"""Parse the *nsid* directive (CoreDNS: plugin/nsid/setup.go)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from corepy_nsid.nsid import Nsid

if TYPE_CHECKING:
    from corepy.plugin import Controller

LONGEST: Final = 512
"""Maximum bytes of the identifier; a longer one might leave no room for records in a reply."""


def setup(controller: Controller) -> None:
    """Add the handler."""
    for _ in controller.single():
        arguments = controller.remaining_tokens()
        text = " ".join(argument.text for argument in arguments) or _host_name()
        data = text.encode("utf-8", "surrogateescape")
        if len(data) > LONGEST:
            message = f"the identifier has {len(data)} bytes, more than {LONGEST}"
            raise controller.error(message, arguments[0])
        controller.options({})
    controller.add_handler(Nsid(data))


def _host_name() -> str:
    try:
        return socket.gethostname() or "localhost"
    except OSError:
        return "localhost"
