"""What the server does now: its threads and its tasks, the counterparts of Go's goroutines."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy_pprof.frames import RawStack, raw_stack
from corepy_pprof.profile import MAX_DEPTH

if TYPE_CHECKING:
    from types import CodeType

CHUNK: Final = 200
"""Tasks between two turns of the event loop, so that queries do not wait for thousands."""

_DEFAULT_NAME: Final = re.compile(r"Task-\d+")


class Activity(NamedTuple):
    """A thread or a task."""

    state: str
    """running (the thread of the event loop, a task in it), thread, or awaiting."""

    name: str
    kind: str
    """"thread" or "task"."""

    stack: RawStack

    @property
    def label(self) -> tuple[str, str] | None:
        """The label of a sample: kind and name. None for a task whose name is only a number."""
        return None if _DEFAULT_NAME.fullmatch(self.name) else (self.kind, self.name)


def threads() -> list[Activity]:
    """Return the threads that run Python code, the one of the event loop first."""
    names = {it.ident: it.name for it in threading.enumerate()}
    own = threading.get_ident()
    found = [
        Activity(
            "running" if ident == own else "thread",
            names.get(ident) or f"thread {ident}",
            "thread",
            raw_stack(frame),
        )
        for ident, frame in sys._current_frames().items()
    ]
    return sorted(found, key=lambda it: it.state != "running")


async def tasks() -> list[Activity]:
    """Return the tasks of the event loop, except those that end meanwhile."""
    found = []
    for number, task in enumerate(asyncio.all_tasks(), 1):
        if not task.done():
            found.append(_activity(task))
        if not number % CHUNK:
            await asyncio.sleep(0)
    return found


def _activity(task: asyncio.Task[Any]) -> Activity:
    state = "running" if task is asyncio.current_task() else "awaiting"
    return Activity(state, task.get_name(), "task", awaited_stack(task.get_coro()))


def awaited_stack(awaitable: object) -> RawStack:
    """Return the position of a coroutine and of what it awaits, the innermost first."""
    codes: list[CodeType] = []
    offsets: list[int] = []
    while awaitable is not None and len(codes) < MAX_DEPTH:
        frame, awaitable = _position(awaitable)
        if frame is not None:
            codes.append(frame.f_code)
            offsets.append(frame.f_lasti)
    return RawStack(tuple(reversed(codes)), tuple(reversed(offsets)))


def _position(awaitable: object) -> tuple[Any, object]:
    """Return the frame of a coroutine or generator, and what it waits for; None for others."""
    for frame, waits_for in (
        ("cr_frame", "cr_await"),
        ("gi_frame", "gi_yieldfrom"),
        ("ag_frame", "ag_await"),
    ):
        if hasattr(awaitable, frame):
            return getattr(awaitable, frame), getattr(awaitable, waits_for)
    return None, None


def thread_count() -> int:
    """Return the number of threads of the process, also those without Python code.

    On platforms without /proc the latter are not counted.
    """
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def entry(stack: RawStack) -> RawStack:
    """Return the outermost frame that is not part of `threading`: the purpose of the thread."""
    outside = [
        index for index, code in enumerate(stack.codes) if code.co_filename != threading.__file__
    ]
    if not outside:
        return stack
    return RawStack((stack.codes[outside[-1]],), (stack.offsets[outside[-1]],))
