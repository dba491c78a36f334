"""Which plugin a piece of running code belongs to: for logs and metrics of what went wrong.

Looked for in a stack, from the inside out: a method of a handler, or a function of a module in a
plugin's package. What the server was doing at the time (`doing`) is the answer where neither is
found, such as in a plugin's import.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from corepy.plugin.handler import Handler
from corepy.plugin.registry import plugin_of_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType, TracebackType

_current: dict[int, str] = {}
"""By thread, the directive whose import, setup or hook is running."""


class Blame(NamedTuple):
    """Who was found."""

    plugin: str
    """The directive; "" if the code is of no plugin."""

    where: str
    """The innermost place in the plugin's code, or in anybody's, as `file:line in function`."""

    handler: Handler | None = None


def blame(stack: Iterable[FrameType]) -> Blame:
    """Return who the innermost code of a plugin in `stack` belongs to; innermost frame first."""
    frames = list(stack)
    for frame in frames:
        owner = _owner(frame)
        if owner is not None:
            return Blame(owner.name, _place(frame), owner)
        plugin = plugin_of_module(frame.f_globals.get("__name__", ""))
        if plugin:
            return Blame(plugin, _place(frame))
    return Blame("", _place(frames[0]) if frames else "")


def of_error(error: BaseException) -> Blame:
    """Return who raised `error`."""
    return blame(reversed(list(_frames_of_traceback(error.__traceback__))))


def of_thread(ident: int) -> Blame:
    """Return whose code the thread `ident` is running."""
    import sys

    found = blame(_frames_of_stack(sys._current_frames().get(ident)))
    return found if found.plugin else found._replace(plugin=_current.get(ident, ""))


def of_coroutine(coroutine: Any) -> Blame:
    """Return whose code a coroutine waits in."""
    return blame(reversed(list(_frames_of_coroutine(coroutine))))


@contextmanager
def doing(directive: str) -> Iterator[None]:
    """Say that what runs in this thread meanwhile is done for a plugin."""
    ident = threading.get_ident()
    before = _current.get(ident)
    _current[ident] = directive
    try:
        yield
    finally:
        if before is None:
            _current.pop(ident, None)
        else:
            _current[ident] = before


def _owner(frame: FrameType) -> Handler | None:
    """Return the handler whose method this is."""
    code = frame.f_code
    if not code.co_argcount or code.co_varnames[0] != "self":
        return None
    owner = frame.f_locals.get("self")
    return owner if isinstance(owner, Handler) else None


def _place(frame: FrameType) -> str:
    code = frame.f_code
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_lineno} in {code.co_name}"


def _frames_of_traceback(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _frames_of_stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _frames_of_coroutine(coroutine: Any) -> Iterator[FrameType]:
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield frame
        awaited = getattr(coroutine, "cr_await", None)
        coroutine = awaited if awaited is not None else getattr(coroutine, "gi_yieldfrom", None)
