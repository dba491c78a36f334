"""Rewrites the messages of a reply that consists of several, such as a zone transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.reply import ReplySeries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from corepy.dns import Reply

    Change = Callable[[Reply], Reply]


def rewritten(series: ReplySeries, change: Change) -> ReplySeries:
    """Return a series of the changed messages of `series`, which it replaces."""
    messages: Any = series.take()
    is_async = hasattr(messages, "__aiter__")
    changed = ReplySeries(_later(messages, change) if is_async else _now(messages, change))

    def end(reply: Reply) -> None:
        for callback in series.end():
            callback(reply)

    changed.on_end(end)
    return changed


def _now(messages: Any, change: Change) -> Iterator[Reply]:
    try:
        for message in messages:
            yield change(message)
    finally:
        if hasattr(messages, "close"):
            messages.close()


async def _later(messages: Any, change: Change) -> AsyncIterator[Reply]:
    try:
        async for message in messages:
            yield change(message)
    finally:
        if hasattr(messages, "aclose"):
            await messages.aclose()
