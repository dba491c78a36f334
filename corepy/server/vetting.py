"""What a plugin's setup made, looked at before it becomes part of a chain.

Mistakes that would show only in queries, or in the chains of other blocks, are said at the
directive instead.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from corepy.plugin import Handler, Purity

if TYPE_CHECKING:
    from corepy.plugin import Controller


class SetupError(Exception):
    """A setup that made something a chain cannot use."""


def settle(result: object) -> None:
    """Take what a setup returned; raises `SetupError` if it has not run at all."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise SetupError("setup is a coroutine function; it has to be an ordinary one")


def vet(controller: Controller) -> None:
    """Look at the handlers that a setup added; raises `SetupError`."""
    seen: list[Handler] = []
    for handler in controller.handlers:
        if not isinstance(handler, Handler):
            raise SetupError(f"added {type(handler).__name__}, which is no Handler")
        kind = type(handler).__name__
        if not isinstance(getattr(handler, "name", None), str):
            raise SetupError(f"{kind} has no name: the directive, as a text")
        if not isinstance(handler.purity, Purity):
            raise SetupError(f"the purity of {kind} is no Purity")
        if hasattr(handler, "next") or any(handler is other for other in seen):
            # It would lead queries of one chain into another, or round and round.
            raise SetupError(f"added a {kind} that stands in a chain already; make one each time")
        if type(handler).__hash__ is None:
            raise SetupError(f"{kind} has __eq__ but no __hash__, so it cannot be told from others")
        seen.append(handler)
