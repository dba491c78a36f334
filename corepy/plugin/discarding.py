"""Discards a reply of the handlers below that is not needed after all."""

from __future__ import annotations

from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any


def discard(answer: Any) -> None:
    """Close a coroutine that `begin_dns` or `serve_dns` returned.

    A coroutine that has not started may have received others to await, such as the guard of a
    handler. `close` leaves these to the garbage collector, which warns that they were never
    awaited, so they are discarded first.
    """
    if type(answer) is not CoroutineType:
        return
    frame = answer.cr_frame
    if frame is not None and getcoroutinestate(answer) == CORO_CREATED:
        for argument in frame.f_locals.values():
            discard(argument)
    answer.close()
