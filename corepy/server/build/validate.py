"""Validates the handlers that a plugin's setup added, before they become part of a chain.

This reports mistakes at the directive that would otherwise show only in queries, or in the chains
of other blocks.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from corepy.plugin import Cacheability, Handler

if TYPE_CHECKING:
    from corepy.plugin import Controller


class SetupError(Exception):
    """A setup added an object that a chain cannot use."""


def reject_coroutine(result: object) -> None:
    """Reject a coroutine returned by setup, which has not run; raises `SetupError`."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise SetupError("setup is a coroutine function; it must be an ordinary one")


def validate_handlers(controller: Controller) -> None:
    """Validate the handlers that a setup added; raises `SetupError`."""
    seen: list[Handler] = []
    for handler in controller.handlers:
        if not isinstance(handler, Handler):
            raise SetupError(f"added {type(handler).__name__}, which is not a Handler")
        kind = type(handler).__name__
        if not isinstance(getattr(handler, "name", None), str):
            raise SetupError(f"{kind} needs a name: the directive, a str")
        if not isinstance(handler.cacheability, Cacheability):
            raise SetupError(f"the cacheability of {kind} is not a Cacheability")
        if hasattr(handler, "next") or any(handler is other for other in seen):
            # Its `next` would lead queries into another chain, or into a loop.
            raise SetupError(
                f"added a {kind} that is already in a chain; create a new one each time"
            )
        if type(handler).__hash__ is None:
            raise SetupError(f"{kind} has __eq__ but no __hash__, so it cannot be told from others")
        seen.append(handler)
