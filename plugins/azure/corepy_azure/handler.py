"""The handler of *azure* (CoreDNS: plugin/azure)."""

from __future__ import annotations

from typing import ClassVar

from corepy.zone.polled_handler import PolledHandler


class Azure(PolledHandler):
    """Answers from the zones of all *azure* directives of a server block."""

    name: ClassVar[str] = "azure"
