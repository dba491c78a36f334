"""The coroutines of `corepy.plugin.pending`.

They are in a module of their own that is not compiled (docs/design.md), because the server finds
the plugin in which a query waits by the frames of its coroutines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

    from corepy.dns import Reply, Request

    RequestStep = Callable[[Request, Reply | None], Reply | None]


def until_done(self: Any) -> Generator[Any, None, Reply]:
    """Wait for a `Pending`. `corepy.server.contain.attribution` looks for its name `self`."""
    self._asyncio_future_blocking = True
    yield self
    reply: Reply = self.result()
    return reply


async def step_later(
    answer: Coroutine[Any, Any, Reply], step: RequestStep, request: Request
) -> Reply:
    """Apply `step` to the reply of a coroutine; see `corepy.plugin.pending.apply_step`."""
    try:
        reply = await answer
    except GeneratorExit:
        raise  # the query was abandoned
    except BaseException:
        step(request, None)
        raise
    changed = step(request, reply)
    if changed is None:
        raise lost_by(step)
    return changed


def lost_by(step: RequestStep) -> TypeError:
    """Return the exception for a step that returned None in place of a reply."""
    return TypeError(f"the step {step!r} returned None in place of a reply")
