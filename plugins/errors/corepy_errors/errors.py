"""The handler that logs the error of a reply (CoreDNS: plugin/errors/errors.go)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from corepy.plugin import ObservingHandler, hookimpl
from corepy_errors.consolidation import LOG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request
    from corepy_errors.consolidation import Consolidation


class Errors(ObservingHandler):
    """Logs replies with an error.

    The packet cache never stores such replies, so this observer needs no notice of repetitions.
    """

    name: ClassVar[str] = "errors"

    def __init__(self, consolidations: Sequence[Consolidation] = ()) -> None:
        """Each error is counted by the first of `consolidations` that matches it."""
        self._consolidations = consolidations
        self._stopped = False

    def observe(self, request: Request, reply: Reply) -> None:
        """Log the error, if there is one. The server itself logs the errors of its own replies."""
        if reply.error is not None and not reply.is_substitute:
            self._log(request, reply, printable(reply.error))

    def _log(self, request: Request, reply: Reply, error: str) -> None:
        level = logging.ERROR
        for consolidation in self._consolidations:
            if consolidation.matches(error):
                if not self._stopped and consolidation.consolidate():
                    return
                level = consolidation.level
                break
        LOG.log(level, "%d %s %s: %s", reply.rcode, request.name, request.type, error)

    @hookimpl
    def shutdown(self) -> None:
        """Log the counts; later errors, of queries that still drain, are logged individually."""
        self._stopped = True
        for consolidation in self._consolidations:
            consolidation.summarise()


def printable(text: str) -> str:
    """Return `text` on one line, with control characters and lone surrogates escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
