"""`Problems`: the present problems with Nomad, each logged once."""

from __future__ import annotations

import time
from typing import Final

from corepy.plugin import plugin_logger

LOG: Final = plugin_logger("nomad")

PASSING: Final = 60.0
"""Seconds between two warnings about namespaces that clients have chosen."""


class Problems:
    """The present problems, by the namespace that is concerned, "" for all."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._passing: tuple[float, str] = (0.0, "")
        """The last problem with a namespace that is not followed, and its end."""

    def report(self, scope: str, text: str) -> None:
        """Record a problem; log it unless it is known, also from another namespace."""
        if text not in self._texts.values():
            LOG.warning("Nomad cannot be read, known services stay: %s", text)
        self._texts[scope] = text

    def solved(self, scope: str) -> None:
        """Record a success; log it if it ends a problem."""
        text = self._texts.pop(scope, None)
        if text is not None and text not in self._texts.values():
            LOG.info("Nomad is read again; the problem was: %s", text)

    def forget(self, scope: str) -> None:
        """Remove a problem that does not matter any more."""
        self._texts.pop(scope, None)

    def not_followed(self, namespace: str, text: str) -> None:
        """Record that a namespace cannot be read for which a client has asked.

        It is shown for a while. Only one is logged in this time, because clients choose the names.
        """
        now = time.monotonic()
        if now >= self._passing[0]:
            self._passing = now + PASSING, text
            LOG.warning("the namespace %s of Nomad cannot be read: %s", namespace, text)

    def concerns(self, scope: str) -> bool:
        """Return whether there is a problem with a namespace."""
        return scope in self._texts

    @property
    def is_present(self) -> bool:
        """Whether there is a problem with a namespace that is followed, or with all."""
        return bool(self._texts)

    @property
    def texts(self) -> list[str]:
        """The problems, each once."""
        until, passing = self._passing
        found = [*self._texts.values(), *([passing] if time.monotonic() < until else [])]
        return list(dict.fromkeys(found))
