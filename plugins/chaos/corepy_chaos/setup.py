"""Parse the *chaos* directive (CoreDNS: plugin/chaos/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.release import version
from corepy_chaos.chaos import LONGEST, Chaos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.plugin import Controller, Token

AUTHORS: Final = ("the corepy authors",)
"""The default authors; CoreDNS returns the GitHub names of its owners."""


def setup(controller: Controller) -> None:
    """Add the handler; as in CoreDNS, only the first *chaos* of a block counts."""
    controller.next()
    tokens = controller.remaining_tokens()
    controller.options({})
    for token in tokens:
        _warn_if_cut(controller, token)
    version_text = tokens[0].text if tokens else f"corepy-{version()}"
    controller.add_handler(Chaos(_encode(version_text), _authors(tokens[1:])))


def _authors(tokens: Sequence[Token]) -> list[bytes]:
    """Return each author once, in the order of the Corefile."""
    texts = [token.text for token in tokens] or AUTHORS
    return list(dict.fromkeys(_encode(text) for text in texts))


def _encode(text: str) -> bytes:
    """Return the bytes of a text, cut to the length of a character string (RFC 1035 3.3)."""
    return text.encode("utf-8", "surrogateescape")[:LONGEST]


def _warn_if_cut(controller: Controller, token: Token) -> None:
    size = len(token.text.encode("utf-8", "surrogateescape"))
    if size > LONGEST:
        controller.warn(f"the text has {size} bytes; it is cut to {LONGEST}", token)
